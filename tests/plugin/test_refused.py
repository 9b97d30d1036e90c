"""What cannot be attached to says why, and is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import charembed
from charembed import AttachError, CharEmbedding, CharEmbedError, SpellingError, SpellingTable
from tests.plugin.hosts import (
    DECODER,
    GEMMA3,
    GPT2,
    HOSTS,
    NANOGPT,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_of,
)

hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


@hosts
def test_a_refused_attach_changes_nothing(host: Host) -> None:
    model = host()
    before, keys = dict(model.named_modules()), list(model.state_dict())
    with pytest.raises(
        SpellingError, match=r"tokenizer has 261 tokens, but the embedding has 260 rows"
    ):
        charembed.attach(model, [*VOCABULARY, b"x"], module=host.path)
    with pytest.raises(SpellingError, match=r"cannot read spellings from str"):
        charembed.attach(model, "gpt2", module=host.path)
    with pytest.raises(
        AttachError, match=r"no module 'embed': name the embedding with module=..., one of '"
    ):
        charembed.attach(model, VOCABULARY, module="embed")
    with pytest.raises(
        AttachError, match="spelling table has 1 tokens, but the embedding has 260 rows"
    ):
        charembed.attach(model, SpellingTable.from_bytes([b"a"]), module=host.path)
    with pytest.raises(AttachError, match="init is 'quiet'; choose one of zero, normal, parent"):
        charembed.attach(model, VOCABULARY, module=host.path, init="quiet")
    with pytest.raises(
        AttachError, match="hidden_size is 0; it must be a whole number of 1 or more"
    ):
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
        with pytest.raises(
            AttachError, match=f"{type(odd).__name__}.forward is not linear in the weight"
        ):
            charembed.attach(model, VOCABULARY, module="0")
        assert model[0] is odd
        assert torch.equal(torch.get_rng_state(), state)
    for odd in (Normed(V, 8), nn.utils.parametrizations.weight_norm(nn.Embedding(V, 8))):
        with pytest.raises(AttachError, match="with modules or parametrizations of its own"):
            charembed.attach(nn.Sequential(odd), VOCABULARY, module="0")


def test_a_module_that_stands_in_two_places_is_one() -> None:
    model = nn.Module()
    model.tok = nn.Embedding(V, 8)
    model.wte = model.tok
    charembed.attach(model, VOCABULARY, module="wte")
    assert model.tok is model.wte
    assert isinstance(model.wte, CharEmbedding)
    with pytest.raises(
        AttachError,
        match=r"the model is the embedding itself: use charembed.CharEmbedding.from_embedding",
    ):
        charembed.attach(nn.Embedding(V, 8), VOCABULARY, module="")


def test_weights_that_are_not_there_are_named() -> None:
    with torch.device("meta"):
        model = DECODER.attach(DECODER.build(True))
    with pytest.raises(AttachError, match="the weights are on the meta device: load them first"):
        charembed.fold(model)
    model.to_empty(device="cpu")
    char_embedding(model).encoder.to("meta")
    with pytest.raises(
        CharEmbedError, match="the encoder's parameters are on the meta device: fill them"
    ):
        logits_of(model)
    model = DECODER.attach(DECODER(False))
    char_embedding(model).weight = nn.Parameter(torch.zeros(V + 2, 16))
    with pytest.raises(
        AttachError, match="the weight has 262 rows, but num_embeddings is 260: set it to 262"
    ):
        charembed.fold(model)


def test_models_that_cannot_be_attached_to_say_why() -> None:
    with pytest.raises(
        AttachError,
        match=r"is a GPT2Model, not an nn.Embedding: name the embedding with .*'transformer.wte', ",
    ):
        charembed.attach(GPT2(), VOCABULARY, module="transformer")
    with pytest.raises(
        AttachError,
        match=r"Decoder has no get_input_embeddings\(\): name the embedding with .*, one of 'wte', 'wpe'",
    ):
        charembed.attach(DECODER(), VOCABULARY)
    with pytest.raises(
        AttachError, match=r"Linear has no get_input_embeddings.*holds no nn.Embedding at all"
    ):
        charembed.attach(nn.Linear(2, 2), VOCABULARY)
    with pytest.raises(
        AttachError,
        match="wrapped in DataParallel, which would not see new parameters: attach first",
    ):
        charembed.attach(nn.DataParallel(NANOGPT()), VOCABULARY, module="module.transformer.wte")
    with pytest.raises(AttachError, match=r"has max_norm=1\.0"):
        CharEmbedding(nn.Embedding(2, 2, max_norm=1.0), nn.Identity())
    with pytest.raises(
        AttachError, match=r"weight is torch.int8: charembed needs a floating-point table"
    ):
        CharEmbedding(
            nn.Embedding.from_pretrained(torch.ones(2, 2, dtype=torch.int8)), nn.Identity()
        )
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
        charembed.update_spellings(GPT2(), VOCABULARY)


@pytest.mark.parametrize("host", [DECODER, GEMMA3], ids=lambda host: host.name)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("token_id", [V, -1])
def test_an_id_outside_the_table_is_named(host: Host, training: bool, token_id: int) -> None:
    embedding = char_embedding(host.attach(host(False)).train(training))
    with pytest.raises(
        CharEmbedError,
        match=f"token id {token_id} is outside the embedding of {V} tokens: use the tokenizer",
    ):
        embedding(torch.tensor([[1, token_id]]))
