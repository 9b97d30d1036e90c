"""The plugin law, on the project's decoder and on a Hugging Face GPT-2."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import charembed
from charembed import CharEmbedding, LSTMEncoder, SpellingTable
from training.decoder import Decoder, DecoderConfig

VOCABULARY = [*(bytes([i]) for i in range(256)), b"the", b"then", b"there", None]
V = len(VOCABULARY)
IDS = torch.randint(V, (2, 9), generator=torch.Generator().manual_seed(3))


def decoder(tie: bool) -> nn.Module:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(vocab_size=V, context=16, n_layer=2, n_head=2, n_embd=16, tie=tie))


def gpt2(tie: bool) -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=tie, bos_token_id=None, eos_token_id=None)
    )


def logits_of(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    output = model(ids)
    return output if isinstance(output, Tensor) else output.logits


def attach(model: nn.Module, **kwargs: object) -> nn.Module:
    return charembed.attach(model, VOCABULARY, module="wte" if isinstance(model, Decoder) else None, **kwargs)


Host = Callable[[bool], nn.Module]
hosts = pytest.mark.parametrize("host", [decoder, gpt2])
ties = pytest.mark.parametrize("tie", [True, False])


@hosts
@ties
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_off_is_identical(host: Host, tie: bool, training: bool, dtype: torch.dtype) -> None:
    plain = host(tie).to(dtype).train(training)
    attached = attach(copy.deepcopy(plain))
    results = []
    for model in (plain, attached):
        torch.manual_seed(7)  # dropout
        logits = logits_of(model)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), IDS.flatten())
        loss.backward()
        results.append((logits.detach(), loss.detach(), torch.get_rng_state()))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))
    others = dict(attached.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(others[name], parameter)
        assert torch.equal(others[name].grad, parameter.grad), name


@hosts
def test_a_loud_encoder_is_not_identical(host: Host) -> None:
    """The negative control of the law: a contribution is seen."""
    assert not torch.equal(logits_of(host(False).eval()), logits_of(attach(host(False), init="loud").eval()))


@hosts
def test_attaching_leaves_the_random_state_alone(host: Host) -> None:
    model = host(True)
    before = torch.get_rng_state()
    attach(model)
    assert torch.equal(before, torch.get_rng_state())


def test_generated_ids_are_identical() -> None:
    plain, attached = gpt2(True).eval(), attach(gpt2(True)).eval()
    kwargs = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(IDS)}
    assert torch.equal(plain.generate(IDS, **kwargs), attached.generate(IDS, **kwargs))


@hosts
@ties
def test_the_embedding_keeps_its_weight_its_key_and_its_type(host: Host, tie: bool) -> None:
    model = host(tie)
    keys, weight = set(model.state_dict()), model.get_submodule("wte" if host is decoder else "transformer.wte").weight
    attach(model)
    embedding = model.get_submodule("wte" if host is decoder else "transformer.wte")
    assert isinstance(embedding, CharEmbedding)
    assert isinstance(embedding, nn.Embedding)
    assert embedding.weight is weight
    assert {key for key in model.state_dict() if ".encoder." not in key} == keys
    assert any(p is weight for p in (model.lm_head.weight,)) == tie


@hosts
@ties
def test_detach_restores_the_original_module(host: Host, tie: bool) -> None:
    model = host(tie)
    expected, original = logits_of(model.eval()), model.get_submodule("wte" if host is decoder else "transformer.wte")
    attach(model, init="loud")
    assert charembed.detach(charembed.detach(model)) is model
    assert model.get_submodule("wte" if host is decoder else "transformer.wte") is original
    assert torch.equal(logits_of(model.eval()), expected)


@hosts
@ties
def test_fold_computes_the_same_bits_and_leaves_nothing_behind(host: Host, tie: bool) -> None:
    model = attach(host(tie), init="loud").eval()
    with_gradient = logits_of(model)
    with torch.no_grad():
        expected = logits_of(model)
    head = model.lm_head.weight.detach().clone()
    keys = set(host(tie).state_dict())
    folded = charembed.fold(charembed.fold(model))
    assert torch.equal(logits_of(folded), expected)
    assert torch.equal(with_gradient, expected)
    assert torch.equal(folded.lm_head.weight, head)
    assert set(folded.state_dict()) == keys
    assert not any("charembed" in type(module).__module__ for module in folded.modules())
    if host is gpt2:
        assert folded.config.tie_word_embeddings is False


def test_a_folded_gpt2_loads_where_charembed_cannot_be_imported(tmp_path: Path) -> None:
    model = attach(gpt2(True), init="loud").eval()
    with torch.no_grad():
        expected = logits_of(model)
    charembed.fold(model).save_pretrained(tmp_path)
    script = (
        "import sys; sys.modules['charembed'] = None\n"
        "import torch; from transformers import AutoModelForCausalLM; from safetensors.torch import save_file\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}).eval()\n"
        f"with torch.no_grad(): save_file({{'logits': model(torch.tensor({IDS.tolist()})).logits}}, {str(tmp_path / 'out.safetensors')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "out.safetensors")["logits"], expected)


@hosts
def test_fold_refuses_a_table_that_is_not_finite_and_changes_nothing(host: Host) -> None:
    model = attach(host(True), init="loud")
    embedding = next(module for module in model.modules() if isinstance(module, CharEmbedding))
    with torch.no_grad():
        embedding.weight[5, 0] = float("nan")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="vector of token 5 is not finite, so nothing was folded"):
        charembed.fold(model)
    assert any(module is embedding for module in model.modules())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


@hosts
def test_evaluation_follows_every_update(host: Host) -> None:
    model = attach(host(False), init="loud")
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.1)
    ids = torch.arange(V)
    embedding = next(module for module in model.modules() if isinstance(module, CharEmbedding))
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


@hosts
def test_evaluation_with_gradients_gives_the_gradients_of_training(host: Host) -> None:
    model = attach(host(False), init="loud")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    gradients = []
    for training in (True, False):
        model.zero_grad()
        logits_of(model.train(training)).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) == len(list(model.parameters()))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding_idx", [None, 0, 2])
def test_padding_gets_no_token_gradient_but_others_get_their_letters(padding_idx: int | None) -> None:
    table = SpellingTable.from_bytes([b"a", b"b", b"c"])
    embedding = CharEmbedding(nn.Embedding(3, 4, padding_idx=padding_idx), LSTMEncoder(table, 4, init="loud"))
    embedding(torch.tensor([[2, 1]])).sum().backward()
    bias = embedding.encoder.projection.bias.grad
    assert torch.equal(bias, torch.full((4,), 2.0))


@hosts
@ties
def test_every_trainable_parameter_is_in_exactly_one_group(host: Host, tie: bool) -> None:
    model = attach(host(tie))
    groups = charembed.param_groups(model, lr=1.0, char_lr=0.5, weight_decay=0.2)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    by_name = {group["name"]: group for group in groups}
    assert {id(p) for p in by_name["char"]["params"]} == {id(p) for p in charembed.parameters(model)}
    assert (by_name["char"]["lr"], by_name["char"]["weight_decay"], by_name["base"]["weight_decay"]) == (0.5, 0.0, 0.2)
    for parameter in charembed.parameters(model):
        parameter.requires_grad_(False)
    assert [group["name"] for group in charembed.param_groups(model, lr=1.0)] == ["base", "base_vectors"]


@hosts
def test_a_deep_copy_is_independent(host: Host) -> None:
    model = attach(host(True), init="loud").eval()
    with torch.no_grad():
        expected = logits_of(model)
        twin = copy.deepcopy(model)
        for parameter in charembed.parameters(twin):
            parameter.zero_()
        assert torch.equal(logits_of(model), expected)
        assert not torch.equal(logits_of(twin), expected)


@hosts
def test_a_state_dict_goes_there_and_back(host: Host) -> None:
    model, twin = attach(host(True), init="loud").eval(), attach(host(True), seed=9).eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits_of(model), logits_of(twin))


def test_a_refused_attach_changes_nothing() -> None:
    model = gpt2(True)
    before = dict(model.named_modules())
    with pytest.raises(ValueError, match=r"tokenizer has 261 tokens, but the embedding has 260 rows"):
        charembed.attach(model, [*VOCABULARY, b"x"])
    with pytest.raises(ValueError, match=r"no module 'embed': name the embedding with module=..., one of 'transformer.wte', 'transformer.wpe'"):
        charembed.attach(model, VOCABULARY, module="embed")
    with pytest.raises(ValueError, match=r"is a GPT2Model, not an nn.Embedding"):
        charembed.attach(model, VOCABULARY, module="transformer")
    with pytest.raises(ValueError, match="spelling table has 1 tokens, but the embedding has 260 rows"):
        charembed.attach(model, SpellingTable.from_bytes([b"a"]))
    assert dict(model.named_modules()) == before
    with pytest.raises(ValueError, match="already has a CharEmbedding"):
        charembed.attach(charembed.attach(model, VOCABULARY), VOCABULARY)
    with pytest.raises(ValueError, match=r"Decoder has no get_input_embeddings\(\): name the embedding with module=..., one of 'wte', 'wpe'"):
        charembed.attach(decoder(False), VOCABULARY)
    with pytest.raises(ValueError, match=r"has max_norm=1\.0"):
        CharEmbedding(nn.Embedding(2, 2, max_norm=1.0), nn.Identity())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("token_id", [V, -1])
def test_an_id_outside_the_table_is_named(training: bool, token_id: int) -> None:
    model = attach(decoder(False)).train(training)
    with pytest.raises(ValueError, match=f"token id {token_id} is outside the embedding of {V} tokens: use the tokenizer"):
        model(torch.tensor([[1, token_id]]))
