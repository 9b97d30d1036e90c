"""attach: updates, evaluation and training afterwards, and the smaller functions."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn

import charembed
from charembed import AttachError, CharEmbedding, LSTMEncoder, SpellingTable
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GPT2,
    IDS,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)

two = pytest.mark.parametrize("host", [DECODER, GPT2], ids=lambda host: host.name)


# Evaluation and training give the same vectors.


@two
def test_evaluation_follows_every_update(host: Host) -> None:
    model = host.attach(host(False), init="normal")
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.1)
    ids, embedding = torch.arange(V), char_embedding(model)
    for _ in range(2):
        model.eval()
        with torch.no_grad():
            embedding(ids)  # fills the cache
        model.train()
        embedding(ids).square().sum().backward()
        optimizer.step()
        for parameter in embedding.encoder.parameters():
            parameter.data.mul_(0.9)  # leaves no trace in the version counter
        trained = embedding(ids).detach()
        model.eval()
        torch.testing.assert_close(embedding(ids).detach(), trained, rtol=1e-5, atol=1e-5)


def fused_step(model: nn.Module) -> None:
    optimizer = torch.optim.AdamW(
        charembed.parameters(model), lr=0.05, fused=True
    )  # moves no version counter
    char_embedding(model)(torch.arange(V)).square().sum().backward()
    optimizer.step()


def sparse_fused_step(model: nn.Module) -> None:
    """Change one row of the token table, which a small sample of its values would not show."""
    weight = char_embedding(model).weight
    optimizer = torch.optim.SGD([weight], lr=0.5, fused=True)
    char_embedding(model)(IDS[:1, :1]).sum().backward()
    optimizer.step()


def fused_step_after_an_evaluation(model: nn.Module) -> None:
    """Build the table between the backward pass and the step."""
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.05, fused=True)
    char_embedding(model)(torch.arange(V)).square().sum().backward()
    with torch.no_grad():
        logits_of(model)
    optimizer.step()


def fused_step_between_evaluations(model: nn.Module) -> None:
    """Build the table between forward and backward pass, and clear the gradients before the
    next."""
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.05, fused=True)
    loss = char_embedding(model)(torch.arange(V)).square().sum()
    with torch.no_grad():
        logits_of(model)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def halved_weights(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(0.5)


def exchanged_weights(model: nn.Module) -> None:
    for parameter in charembed.parameters(model):
        parameter.data = parameter.data * 0.5


def merged_weights(model: nn.Module) -> None:
    char_embedding(model).weight.data += 0.1


UPDATES = [
    fused_step,
    fused_step_after_an_evaluation,
    fused_step_between_evaluations,
    sparse_fused_step,
    halved_weights,
    exchanged_weights,
    merged_weights,
]


@two
@pytest.mark.parametrize("update", UPDATES)
def test_evaluation_and_fold_follow_updates_that_leave_no_trace(
    host: Host, update: Callable[[nn.Module], None]
) -> None:
    """All in evaluation mode, without any call of train() or eval()."""
    model = host.attach(host(False), init="normal").eval()
    with torch.no_grad():
        before = logits_of(model)
    update(model)
    with torch.no_grad():
        after = logits_of(model)
        truth = logits_of(copy.deepcopy(model))
    assert not torch.equal(after, before)
    assert torch.equal(after, truth)
    assert torch.equal(logits_of(charembed.fold(model)), truth)


def test_fold_trusts_no_cache() -> None:
    model = DECODER.attach(DECODER(False), init="normal").eval()
    with torch.no_grad():
        logits_of(model)
        char_embedding(model).weight.data[IDS[0, 0], 3] += (
            1.0  # one value, written without a change of version
        )
        truth = logits_of(copy.deepcopy(model))
    assert torch.equal(logits_of(charembed.fold(model)), truth)


def test_evaluation_with_gradients_gives_the_gradients_of_training(host: Host) -> None:
    model = host.attach(host(False), init="normal").eval()  # no dropout
    gradients = []
    for training in (True, False):
        model.zero_grad()
        char_embedding(model).train(training)
        logits_and_loss(model)[1].backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) >= len(charembed.parameters(model))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_evaluation_in_inference_mode_and_out_of_it() -> None:
    model = GPT2.attach(GPT2(), init="normal").eval()
    with torch.inference_mode():
        within = logits_of(model).clone()
    loss = logits_and_loss(model)[1]
    loss.backward()
    assert torch.equal(within, logits_of(model))
    with torch.inference_mode():
        charembed.fold(model)
    assert torch.equal(within, logits_of(model))
    logits_and_loss(model)[1].backward()


@pytest.mark.parametrize("padding_idx", [None, 0, 2])
def test_padding_gets_no_gradient_but_other_tokens_do(padding_idx: int | None) -> None:
    table = SpellingTable.from_bytes([b"a", b"b", b"c"])
    embedding = CharEmbedding(
        nn.Embedding(3, 4, padding_idx=padding_idx), LSTMEncoder(table, 4, init="normal")
    )
    embedding(torch.tensor([[2, 1]])).sum().backward()
    assert torch.equal(
        embedding.encoder.projection.bias.grad, torch.full((4,), 1.0 if padding_idx == 2 else 2.0)
    )
    assert embedding.weight.grad.sum(1).tolist() == [0.0, 4.0, 0.0 if padding_idx == 2 else 4.0]


def test_padding_at_a_high_id_costs_no_memory() -> None:
    """No rows are allocated up to the padding id."""
    embedding = CharEmbedding(nn.Embedding(10**6, 1, padding_idx=10**6 - 1), nn.Embedding(10**6, 1))
    with torch.profiler.profile(profile_memory=True) as profile:
        embedding(torch.tensor([[2, 1]]))
    assert max(event.self_cpu_memory_usage for event in profile.key_averages()) < 10_000


@two
def test_a_batch_without_any_character_trains(host: Host) -> None:
    model = host.attach(host(False), init="normal")
    logits_of(model, torch.full((1, 3), V - 1)).sum().backward()
    assert all(
        torch.equal(parameter.grad, torch.zeros_like(parameter))
        for parameter in charembed.parameters(model)
    )


def test_sparse_gradients_and_frequency_scaling_stay_the_hosts() -> None:
    for kwargs in ({"sparse": True}, {"scale_grad_by_freq": True}):
        plain = nn.Embedding(V, 4, **kwargs)
        attached = CharEmbedding.from_embedding(copy.deepcopy(plain), TABLE)
        for embedding in (plain, attached):
            embedding(torch.tensor([3, 3, 5])).sum().backward()
        assert plain.weight.grad.is_sparse == attached.weight.grad.is_sparse == ("sparse" in kwargs)
        assert torch.equal(plain.weight.grad.to_dense(), attached.weight.grad.to_dense())


def test_hooks_on_the_embedding_stay_while_attached_and_after() -> None:
    model, seen = GPT2(), []
    early = GPT2.embedding(model).register_forward_hook(lambda *_: seen.append("early"))
    GPT2.attach(model)
    late = GPT2.embedding(model).register_forward_pre_hook(lambda *_: seen.append("late"))
    logits_of(model)
    assert seen == ["late", "early"]
    charembed.detach(model)
    logits_of(model)
    assert seen == ["late", "early"] * 2
    early.remove()
    late.remove()
    logits_of(model)
    assert len(seen) == 4


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_full_backward_hooks_stay_too() -> None:
    model, seen = GPT2(), []
    GPT2.embedding(model).register_full_backward_hook(lambda *_: seen.append("early"))
    GPT2.attach(model)
    logits_and_loss(model)[1].backward()
    charembed.detach(model)
    logits_and_loss(model)[1].backward()
    assert seen == ["early"] * 2


# Smaller functions.


def test_from_embedding_serves_hosts_that_attach_does_not_know() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ParameterDict({"x": nn.Parameter(torch.ones(2))})
            self.embed = nn.Embedding(V, 8)

    odd = Odd()
    expected = odd.embed(IDS)
    odd.embed = CharEmbedding.from_embedding(odd.embed, TABLE)
    assert torch.equal(odd.embed(IDS), expected)
    assert len(charembed.parameters(odd)) == 7
    with raises(AttachError, "260 9 num_tokens=9"):
        CharEmbedding.from_embedding(nn.Embedding(9, 8), TABLE)


def test_an_encoder_of_your_own() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 16)

        def forward(self, ids_U: Tensor) -> Tensor:
            return self.linear(TABLE.lengths_V[ids_U].float()[:, None])

    model = charembed.attach(GPT2(), VOCABULARY, encoder=Counts())
    logits_and_loss(model)[1].backward()
    with raises(AttachError, "Counts"):
        charembed.update_spellings(model, VOCABULARY)
    expected = logits_of(model.eval())
    assert torch.equal(logits_of(charembed.fold(model)), expected)


def test_trainable_parameters_are_printed_as_peft_prints_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = GPT2.attach(GPT2(), char_dim=4, hidden_size=4)
    model.requires_grad_(False)
    for parameter in charembed.parameters(model)[1:]:
        parameter.requires_grad_()
    charembed.print_trainable_parameters(model)
    letters = sum(p.numel() for p in charembed.parameters(model)[1:])
    total = sum(p.numel() for p in model.parameters())
    share = f"{100 * letters / total:.4f}"
    line = f"trainable params: {letters:,} || all params: {total:,} || trainable%: {share} || "
    out = capsys.readouterr().out
    assert out.startswith(line)
    assert out.endswith(f" {letters:,}\n")


def test_nothing_keeps_a_detached_encoder_alive() -> None:
    model = DECODER.attach(DECODER())
    gone = weakref.ref(char_embedding(model).encoder)
    charembed.detach(model)
    assert gone() is None


def test_parameters_that_were_exchanged_are_not_kept_alive() -> None:
    model = DECODER.attach(DECODER())
    old = weakref.ref(char_embedding(model).weight)
    model.to_empty(device="meta").to_empty(device="cpu")
    logits_of(model)
    assert old() is None


def test_attaching_within_inference_mode_leaves_parameters_that_train() -> None:
    model = GPT2()
    with torch.inference_mode():
        GPT2.attach(model, init="normal")
    logits_and_loss(model)[1].backward()
    assert all(parameter.grad is not None for parameter in charembed.parameters(model))


def test_an_encoders_dropout_is_off_in_the_table() -> None:
    encoder = nn.Sequential(LSTMEncoder(TABLE, 16, init="normal"), nn.Dropout(0.5))
    model = charembed.attach(GPT2(), VOCABULARY, encoder=encoder).train()
    state = torch.get_rng_state()
    tables = [char_embedding(model).table() for _ in range(2)]
    assert torch.equal(*tables)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training


def test_folding_leaves_a_shared_config_alone() -> None:
    config = transformers.GPT2Config(
        vocab_size=V, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    one, other = transformers.GPT2LMHeadModel(config), transformers.GPT2LMHeadModel(config)
    charembed.fold(GPT2.attach(one))
    assert (one.config.tie_word_embeddings, one.transformer.config.tie_word_embeddings) == (
        False,
        False,
    )
    assert one.config is one.transformer.config
    assert other.config.tie_word_embeddings is True
