"""Attached, and lived with: updates, copies, moves, other sizes of vocabulary, and what is refused."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn

import charembed
from charembed import AttachError, CharEmbedding, CharEmbedError, LSTMEncoder, SpellingError, SpellingTable, registry
from tests.hosts import DECODER, GEMMA3, GPT2, HOSTS, IDS, NANOGPT, VOCABULARY, Host, V, char_embedding, logits_and_loss, logits_of

hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
hugging_face = pytest.mark.parametrize("host", [host for host in HOSTS if host.hugging_face], ids=lambda host: host.name)
two = pytest.mark.parametrize("host", [DECODER, GPT2], ids=lambda host: host.name)
TABLE = SpellingTable.from_bytes(VOCABULARY)


def spelled(embedding: CharEmbedding, token_id: int) -> Tensor:
    """What the letters add to one token's vector."""
    with torch.no_grad():
        return embedding.encoder(torch.tensor([token_id]))[0]


# Evaluation and training say the same.


@two
def test_evaluation_follows_every_update(host: Host) -> None:
    model = host.attach(host(False), init="loud")
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
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.05, fused=True)  # moves no version counter
    char_embedding(model)(torch.arange(V)).square().sum().backward()
    optimizer.step()


def sparse_fused_step(model: nn.Module) -> None:
    """One row of the token table moves, which no small sample of its values would show."""
    weight = char_embedding(model).weight
    optimizer = torch.optim.SGD([weight], lr=0.5, fused=True)
    char_embedding(model)(IDS[:1, :1]).sum().backward()
    optimizer.step()


def averaged_weights(model: nn.Module) -> None:
    for parameter in charembed.parameters(model):
        parameter.data.copy_(parameter.data * 0.5)


def merged_weights(model: nn.Module) -> None:
    char_embedding(model).weight.data += 0.1


@two
@pytest.mark.parametrize("update", [fused_step, sparse_fused_step, averaged_weights, merged_weights])
def test_evaluation_and_fold_follow_updates_that_leave_no_trace(host: Host, update: Callable[[nn.Module], None]) -> None:
    """All in evaluation mode, without any call of train() or eval()."""
    model = host.attach(host(False), init="loud").eval()
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
    model = DECODER.attach(DECODER(False), init="loud").eval()
    with torch.no_grad():
        logits_of(model)
        char_embedding(model).weight.data[IDS[0, 0], 3] += 1.0  # one value, written where nothing looks
        truth = logits_of(copy.deepcopy(model))
    assert torch.equal(logits_of(charembed.fold(model)), truth)


@hosts
def test_evaluation_with_gradients_gives_the_gradients_of_training(host: Host) -> None:
    model = host.attach(host(False), init="loud").eval()  # no dropout
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
    model = GPT2.attach(GPT2(), init="loud").eval()
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
def test_padding_gets_no_gradient_but_others_get_their_letters(padding_idx: int | None) -> None:
    table = SpellingTable.from_bytes([b"a", b"b", b"c"])
    embedding = CharEmbedding(nn.Embedding(3, 4, padding_idx=padding_idx), LSTMEncoder(table, 4, init="loud"))
    embedding(torch.tensor([[2, 1]])).sum().backward()
    assert torch.equal(embedding.encoder.projection.bias.grad, torch.full((4,), 1.0 if padding_idx == 2 else 2.0))
    assert embedding.weight.grad.sum(1).tolist() == [0.0, 4.0, 0.0 if padding_idx == 2 else 4.0]


def test_padding_at_a_high_id_costs_no_memory() -> None:
    """Rows are not allocated up to the padding's id."""
    embedding = CharEmbedding(nn.Embedding(10**6, 1, padding_idx=10**6 - 1), nn.Embedding(10**6, 1))
    with torch.profiler.profile(profile_memory=True) as profile:
        embedding(torch.tensor([[2, 1]]))
    assert max(event.self_cpu_memory_usage for event in profile.key_averages()) < 10_000


@two
def test_a_batch_without_any_letter_trains(host: Host) -> None:
    model = host.attach(host(False), init="loud")
    logits_of(model, torch.full((1, 3), V - 1)).sum().backward()
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in charembed.parameters(model))


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


# Moves and copies.


def test_a_tree_that_went_to_another_process_has_a_name_of_its_own() -> None:
    """What `spawn` does to a model: in the other process its tree may carry a name that another tree has there."""
    encoder = LSTMEncoder(TABLE, 16, init="loud")
    rebuild, parts = encoder._tree.__reduce__()
    tree = rebuild(*parts)
    assert tree.key != encoder._tree.key
    assert registry.find(tree.key) is tree
    expected = encoder(torch.arange(V))
    encoder._tree = tree
    assert torch.equal(encoder(torch.arange(V)), expected)
    with pytest.raises(CharEmbedError, match="looks for 'PrefixTree -1', which is not in this process: fold the model before"):
        registry.find("PrefixTree -1")


@hosts
def test_a_deep_copy_is_independent(host: Host) -> None:
    model = host.attach(host(), init="loud").eval()
    with torch.no_grad():
        expected = logits_of(model)
        twin = copy.deepcopy(model)
        for parameter in charembed.parameters(twin):
            parameter.zero_()
        assert torch.equal(logits_of(model), expected)
        assert not torch.equal(logits_of(twin), expected)
        shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}
        assert not shared
        charembed.detach(twin)
        assert torch.equal(logits_of(twin), logits_of(charembed.detach(copy.deepcopy(model))))


@hosts
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_state_dicts_go_to_the_plain_host_and_back(host: Host, tie: bool) -> None:
    model = host.attach(host(tie), init="loud").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    twin = host.attach(host(tie), seed=9).eval()
    assert twin.load_state_dict(model.state_dict(), strict=True) == ([], [])
    assert torch.equal(logits_of(model), logits_of(twin))

    plain = host(tie).eval()
    base = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{host.path}.encoder.")}
    plain.load_state_dict(base, strict=True)
    expected = logits_of(charembed.detach(copy.deepcopy(model)))
    assert torch.equal(logits_of(plain), expected)

    before = [parameter.clone() for parameter in charembed.parameters(twin)]
    twin.load_state_dict(host(tie).state_dict(), strict=True)  # a plain checkpoint leaves the encoder as it is
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(charembed.parameters(twin), before, strict=True))
    assert torch.equal(logits_of(charembed.detach(twin)), logits_of(host(tie).eval()))


def test_a_state_dict_with_half_an_encoder_is_refused() -> None:
    model = DECODER.attach(DECODER())
    half = {name: value for name, value in model.state_dict().items() if "projection" not in name}
    with pytest.raises(RuntimeError, match=r"Missing key.*wte.encoder.projection.weight"):
        model.load_state_dict(half, strict=True)


@hosts
def test_half_and_to_move_everything(host: Host) -> None:
    model = host.attach(host(), init="loud").eval()
    expected = logits_of(model)
    for dtype in (torch.bfloat16, torch.float16):
        moved = copy.deepcopy(model).to(dtype)
        assert {p.dtype for p in moved.parameters()} == {dtype}
        assert logits_of(moved).dtype == dtype
        torch.testing.assert_close(logits_of(moved).float(), expected, rtol=0.1, atol=0.1)
    assert torch.equal(logits_of(copy.deepcopy(model).double().float()), expected)


def test_the_encoder_keeps_float32_where_the_host_has_half_precision() -> None:
    model = GPT2.attach(GPT2().bfloat16(), init="loud")
    assert {p.dtype for p in charembed.parameters(model)} == {torch.float32}
    logits_and_loss(model)[1].backward()
    assert logits_of(model).dtype == torch.bfloat16
    assert {p.grad.dtype for p in charembed.parameters(model)} == {torch.float32}


@hosts
def test_built_on_meta_and_materialised_the_spellings_are_right(host: Host) -> None:
    """Memory is filled with garbage on the way, as `to_empty` may do."""
    with torch.device("meta"):
        model = host.build(True)
        host.attach(model, init="loud")
    assert all(p.is_meta for p in model.parameters())
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(77)
    char_embedding(model).encoder.reset_parameters()
    real = host.attach(host(), init="loud")
    ids = torch.arange(V)
    assert torch.equal(char_embedding(model).encoder(ids), char_embedding(real).encoder(ids))
    if not list(host().buffers()):
        model.load_state_dict(host().state_dict())
        assert torch.equal(logits_of(model.eval()), logits_of(real.eval()))


def test_a_default_device_does_not_reach_the_spellings() -> None:
    with torch.device("meta"):
        table = SpellingTable.from_bytes(VOCABULARY)
        tree = LSTMEncoder(table, 4)._tree
    assert {tensor.device.type for tensor in (table.chars_S, table.lengths_V, table.starts_V, tree.nodes_V, tree.parents_N)} == {"cpu"}
    assert table.fingerprint == TABLE.fingerprint


# Other sizes of vocabulary.


@hugging_face
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("first", [True, False], ids=["resized_then_attached", "attached_then_resized"])
def test_a_grown_vocabulary_gets_its_letters_by_respelling(host: Host, tie: bool, first: bool) -> None:
    model, grown = host(tie), [*VOCABULARY, b"the", "ж".encode(), None]
    if first:
        model.resize_token_embeddings(V + 3, mean_resizing=False)
        charembed.attach(model, VOCABULARY, init="loud")
    else:
        charembed.attach(model, VOCABULARY, init="loud")
        model.resize_token_embeddings(V + 3, mean_resizing=False)
    embedding, new = char_embedding(model), torch.tensor([[V, V + 1, V + 2]])
    old = {i: spelled(embedding, i) for i in (97, 256, V - 1)}
    assert embedding.weight.shape[0] == embedding.num_embeddings == V + 3
    for training in (True, False):
        assert torch.equal(model.train(training).get_input_embeddings()(new), embedding.look_up(embedding.weight, new))  # no letters yet
    assert charembed.respell(model, grown) is model
    assert torch.equal(spelled(embedding, V), old[256])
    assert spelled(embedding, V + 1).abs().sum() > 0
    assert torch.equal(spelled(embedding, V + 2), torch.zeros_like(old[97]))
    assert all(torch.equal(spelled(embedding, i), value) for i, value in old.items())
    model.eval()
    with torch.no_grad():
        expected = logits_of(model, new)
        model.train()
        torch.testing.assert_close(embedding(new), model.eval().get_input_embeddings()(new), rtol=1e-5, atol=1e-5)
    assert torch.equal(logits_of(charembed.fold(model), new), expected)


@hugging_face
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_a_shrunk_vocabulary_keeps_its_letters(host: Host, tie: bool) -> None:
    model = host.attach(host(tie), init="loud").eval()
    ids = IDS.clamp(max=99)
    with torch.no_grad():
        expected = model.get_input_embeddings()(ids)
        model.resize_token_embeddings(100)
        assert torch.equal(model.get_input_embeddings()(ids), expected)
    with pytest.raises(SpellingError, match="the tokenizer has 260 tokens, but the embedding has 100 rows"):
        charembed.respell(model, VOCABULARY)
    charembed.respell(model, VOCABULARY[:100])
    with torch.no_grad():
        assert torch.equal(model.get_input_embeddings()(ids), expected)
    with pytest.raises(CharEmbedError, match="token id 100 is outside the embedding of 100 tokens"):
        model(torch.tensor([[100]]))
    model.resize_token_embeddings(V, mean_resizing=False)  # grown again, the new rows have no letters
    assert torch.equal(spelled(char_embedding(model), 256), torch.zeros(16))
    model.resize_token_embeddings(100)
    original = GPT2.embedding(model) if host is GPT2 else None
    charembed.detach(model)
    assert model.get_input_embeddings().num_embeddings == 100
    assert original is None or original.host is model.get_input_embeddings()


def test_new_characters_depend_on_the_character_alone() -> None:
    one, other = (GPT2.attach(GPT2(), init="loud") for _ in range(2))
    for model, added in ((one, ["ж", "я"]), (other, ["я", "ж"])):
        model.resize_token_embeddings(V + 2, mean_resizing=False)
        charembed.respell(model, [*VOCABULARY, *(text.encode() for text in added)])
    assert torch.equal(spelled(char_embedding(one), V), spelled(char_embedding(other), V + 1))
    assert not torch.equal(spelled(char_embedding(one), V), spelled(char_embedding(one), V + 1))


def test_respelling_takes_a_table_and_leaves_no_gradient_of_the_old_shape() -> None:
    model = GPT2.attach(GPT2(), init="loud")
    logits_and_loss(model)[1].backward()
    model.resize_token_embeddings(V + 1, mean_resizing=False)
    grown = SpellingTable.from_bytes([*VOCABULARY, "ж".encode()])
    with pytest.raises(SpellingError, match="the spelling table has 260 tokens in unit 'codepoint', the embedding 261 rows"):
        charembed.respell(model, TABLE)
    charembed.respell(model, grown)
    assert char_embedding(model).spellings.spell(V) == ["ж"]
    assert char_embedding(model).spellings.fingerprint == grown.fingerprint
    model.transformer.wte.weight.grad = None
    logits_and_loss(model)[1].backward()


def test_special_tokens_without_a_row_are_left_out() -> None:
    """As in Gemma 3's models of text, whose tokenizer has an image's token beyond the embedding."""
    assert SpellingTable.from_tokenizer([*VOCABULARY, None, None], V).fingerprint == TABLE.fingerprint
    GPT2.attach(GPT2())
    charembed.attach(GPT2(), [*VOCABULARY, None])


def test_attaching_within_inference_mode_leaves_parameters_that_train() -> None:
    model = GPT2()
    with torch.inference_mode():
        GPT2.attach(model, init="loud")
    logits_and_loss(model)[1].backward()
    assert all(parameter.grad is not None for parameter in charembed.parameters(model))


def test_an_encoders_dropout_is_off_in_the_table() -> None:
    encoder = nn.Sequential(LSTMEncoder(TABLE, 16, init="loud"), nn.Dropout(0.5))
    model = charembed.attach(GPT2(), VOCABULARY, encoder=encoder).train()
    state = torch.get_rng_state()
    tables = [char_embedding(model).compute_table() for _ in range(2)]
    assert torch.equal(*tables)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training


def test_folding_leaves_a_shared_config_alone() -> None:
    config = transformers.GPT2Config(vocab_size=V, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None)
    one, other = transformers.GPT2LMHeadModel(config), transformers.GPT2LMHeadModel(config)
    charembed.fold(GPT2.attach(one))
    assert (one.config.tie_word_embeddings, one.transformer.config.tie_word_embeddings) == (False, False)
    assert one.config is one.transformer.config
    assert other.config.tie_word_embeddings is True


# The smaller parts.


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
    with pytest.raises(AttachError, match="spelling table has 260 tokens, but the embedding has 9 rows: build it with num_tokens=9"):
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
    with pytest.raises(AttachError, match="the encoder is a Counts"):
        charembed.respell(model, VOCABULARY)
    expected = logits_of(model.eval())
    assert torch.equal(logits_of(charembed.fold(model)), expected)


def test_trainable_parameters_are_printed_as_peft_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    model = GPT2.attach(GPT2(), char_dim=4, hidden_size=4)
    model.requires_grad_(False)
    for parameter in charembed.parameters(model)[1:]:
        parameter.requires_grad_()
    charembed.print_trainable_parameters(model)
    letters = sum(p.numel() for p in charembed.parameters(model)[1:])
    total = sum(p.numel() for p in model.parameters())
    line = f"trainable params: {letters:,} || all params: {total:,} || trainable%: {100 * letters / total:.4f} || of the trainable, letters: {letters:,}\n"
    assert capsys.readouterr().out == line


def test_nothing_keeps_a_detached_embedding_alive() -> None:
    model = DECODER.attach(DECODER())
    gone = weakref.ref(char_embedding(model))
    charembed.detach(model)
    assert gone() is None


def test_parameters_that_were_exchanged_are_not_kept_alive() -> None:
    model = DECODER.attach(DECODER())
    old = weakref.ref(char_embedding(model).weight)
    model.to_empty(device="meta").to_empty(device="cpu")
    logits_of(model)
    assert old() is None


# What is refused, and that it changes nothing.


@hosts
def test_a_refused_attach_changes_nothing(host: Host) -> None:
    model = host()
    before, keys = dict(model.named_modules()), list(model.state_dict())
    with pytest.raises(SpellingError, match=r"tokenizer has 261 tokens, but the embedding has 260 rows"):
        charembed.attach(model, [*VOCABULARY, b"x"], module=host.path)
    with pytest.raises(SpellingError, match=r"cannot read spellings from str"):
        charembed.attach(model, "gpt2", module=host.path)
    with pytest.raises(AttachError, match=r"no module 'embed': name the embedding with module=..., one of '"):
        charembed.attach(model, VOCABULARY, module="embed")
    with pytest.raises(AttachError, match="spelling table has 1 tokens, but the embedding has 260 rows"):
        charembed.attach(model, SpellingTable.from_bytes([b"a"]), module=host.path)
    with pytest.raises(AttachError, match="init is 'quiet'; choose one of zero, loud, parent"):
        charembed.attach(model, VOCABULARY, module=host.path, init="quiet")
    with pytest.raises(AttachError, match="hidden_size is 0; it must be at least 1"):
        charembed.attach(model, VOCABULARY, module=host.path, hidden_size=0)
    assert dict(model.named_modules()) == before
    assert list(model.state_dict()) == keys
    host.attach(model)
    embedding = char_embedding(model)
    with pytest.raises(AttachError, match="already has a CharEmbedding"):
        charembed.attach(model, VOCABULARY, module=host.path)
    assert char_embedding(model) is embedding


class Biased(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1.0


class Dropping(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(input), 0.5, self.training)


class Normed(nn.Embedding):
    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)


def test_embeddings_that_are_more_than_a_table_are_refused() -> None:
    for odd in (Biased(V, 8), Dropping(V, 8)):
        model, state = nn.Sequential(odd), torch.get_rng_state()
        with pytest.raises(AttachError, match=f"{type(odd).__name__}.forward is not linear in the weight"):
            charembed.attach(model, VOCABULARY, module="0")
        assert model[0] is odd
        assert torch.equal(torch.get_rng_state(), state)
    for odd in (Normed(V, 8), nn.utils.parametrizations.weight_norm(nn.Embedding(V, 8))):
        with pytest.raises(AttachError, match="with modules or parametrizations of its own"):
            charembed.attach(nn.Sequential(odd), VOCABULARY, module="0")


def test_embeddings_that_share_a_weight_are_refused_and_shared_modules_replaced() -> None:
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=V, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    with pytest.raises(AttachError, match=r"shares its weight with 'encoder.embed_tokens', 'decoder.embed_tokens', which would stay without letters"):
        charembed.attach(t5, VOCABULARY)
    model = nn.Module()
    model.tok = nn.Embedding(V, 8)
    model.wte = model.tok
    charembed.attach(model, VOCABULARY, module="wte")
    assert model.tok is model.wte
    assert isinstance(model.wte, CharEmbedding)
    with pytest.raises(AttachError, match=r"the model is the embedding itself: use charembed.CharEmbedding.from_embedding"):
        charembed.attach(nn.Embedding(V, 8), VOCABULARY, module="")


def test_weights_that_are_not_there_are_named() -> None:
    with torch.device("meta"):
        model = DECODER.attach(DECODER.build(True))
    with pytest.raises(AttachError, match="the weights are on the meta device: load them first"):
        charembed.fold(model)
    model.to_empty(device="cpu")
    char_embedding(model).encoder.to("meta")
    with pytest.raises(CharEmbedError, match="the encoder's parameters are on the meta device: fill them"):
        logits_of(model)
    model = DECODER.attach(DECODER(False))
    char_embedding(model).weight = nn.Parameter(torch.zeros(V + 2, 16))
    with pytest.raises(AttachError, match="the weight has 262 rows, but num_embeddings is 260: set it to 262"):
        charembed.fold(model)


def test_models_that_cannot_be_attached_to_say_why() -> None:
    with pytest.raises(
        AttachError, match=r"is a GPT2Model, not an nn.Embedding: name the embedding with module=..., one of 'transformer.wte', 'transformer.wpe'"
    ):
        charembed.attach(GPT2(), VOCABULARY, module="transformer")
    with pytest.raises(AttachError, match=r"Decoder has no get_input_embeddings\(\): name the embedding with module=..., one of 'wte', 'wpe'"):
        charembed.attach(DECODER(), VOCABULARY)
    with pytest.raises(AttachError, match=r"Linear has no get_input_embeddings.*holds no nn.Embedding at all"):
        charembed.attach(nn.Linear(2, 2), VOCABULARY)
    with pytest.raises(AttachError, match="wrapped in DataParallel, which would not see new parameters: attach first"):
        charembed.attach(nn.DataParallel(NANOGPT()), VOCABULARY, module="module.transformer.wte")
    with pytest.raises(AttachError, match=r"has max_norm=1\.0"):
        CharEmbedding(nn.Embedding(2, 2, max_norm=1.0), nn.Identity())
    with pytest.raises(AttachError, match=r"weight is torch.int8: charembed needs a floating-point table"):
        CharEmbedding(nn.Embedding.from_pretrained(torch.ones(2, 2, dtype=torch.int8)), nn.Identity())
    with pytest.raises(AttachError, match="the embedding is a Linear"):
        CharEmbedding(nn.Linear(2, 2), nn.Identity())
    placed = nn.Embedding(2, 2)
    placed._hf_hook = object()
    with pytest.raises(AttachError, match="already placed by accelerate"):
        CharEmbedding(placed, nn.Identity())
    patched = nn.Embedding(2, 2)
    patched.forward = lambda ids: ids
    with pytest.raises(AttachError, match="forward was replaced on the instance"):
        CharEmbedding(patched, nn.Identity())
    with pytest.raises(AttachError, match="no CharEmbedding to respell"):
        charembed.respell(GPT2(), VOCABULARY)


@pytest.mark.parametrize("host", [DECODER, GEMMA3], ids=lambda host: host.name)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("token_id", [V, -1])
def test_an_id_outside_the_table_is_named(host: Host, training: bool, token_id: int) -> None:
    embedding = char_embedding(host.attach(host(False)).train(training))
    with pytest.raises(CharEmbedError, match=f"token id {token_id} is outside the embedding of {V} tokens: use the tokenizer"):
        embedding(torch.tensor([[1, token_id]]))
