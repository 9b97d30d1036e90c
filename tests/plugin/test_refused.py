"""Models that cannot be attached to: the error tells why, and the model is unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import charembed
from charembed import AttachError, CharEmbedding, CharEmbedError, SpellingError, SpellingTable
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GEMMA3,
    GPT2,
    NANOGPT,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_of,
)


def test_a_refused_attach_changes_nothing(host: Host) -> None:
    model = host()
    before, keys = dict(model.named_modules()), list(model.state_dict())
    with raises(SpellingError, "261 260"):
        charembed.attach(model, [*VOCABULARY, b"x"], module=host.path)
    with raises(SpellingError, "str"):
        charembed.attach(model, "gpt2", module=host.path)
    with raises(AttachError, "embed module="):
        charembed.attach(model, VOCABULARY, module="embed")
    with raises(AttachError, "1 260"):
        charembed.attach(model, SpellingTable.from_bytes([b"a"]), module=host.path)
    with raises(AttachError, "init quiet zero parent"):
        charembed.attach(model, VOCABULARY, module=host.path, init="quiet")
    with raises(AttachError, "hidden_size 0 1"):
        charembed.attach(model, VOCABULARY, module=host.path, hidden_size=0)
    assert dict(model.named_modules()) == before
    assert list(model.state_dict()) == keys
    host.attach(model)
    embedding = char_embedding(model)
    with raises(AttachError, "CharEmbedding"):
        charembed.attach(model, VOCABULARY, module=host.path)
    assert char_embedding(model) is embedding


def test_pruned_and_parametrized_embeddings_are_refused() -> None:
    pruned = prune.l1_unstructured(nn.Embedding(V, 8), "weight", amount=3)
    for odd in (pruned, nn.utils.parametrizations.weight_norm(nn.Embedding(V, 8))):
        with raises(AttachError, "parametrizations"):
            charembed.attach(nn.Sequential(odd), VOCABULARY, module="0")


def test_a_module_at_two_paths_is_one() -> None:
    model = nn.Module()
    model.tok = nn.Embedding(V, 8)
    model.wte = model.tok
    charembed.attach(model, VOCABULARY, module="wte")
    assert model.tok is model.wte
    assert isinstance(model.wte, CharEmbedding)
    with raises(AttachError, "charembed.CharEmbedding.from_embedding"):
        charembed.attach(nn.Embedding(V, 8), VOCABULARY, module="")


def test_weights_that_are_not_there_are_named() -> None:
    with torch.device("meta"):
        model = DECODER.attach(DECODER.build(True))
    with raises(AttachError, "meta"):
        charembed.fold(model)
    model.to_empty(device="cpu")
    char_embedding(model).encoder.to("meta")
    with raises(CharEmbedError, "meta"):
        logits_of(model)
    model = DECODER.attach(DECODER(False))
    char_embedding(model).weight = nn.Parameter(torch.zeros(V + 2, 16))
    with raises(AttachError, "262 num_embeddings 260"):
        charembed.fold(model)


def test_models_that_cannot_be_attached_to_say_why() -> None:
    with raises(AttachError, "GPT2Model nn.Embedding transformer.wte"):
        charembed.attach(GPT2(), VOCABULARY, module="transformer")
    with raises(AttachError, "Decoder get_input_embeddings() wte wpe"):
        charembed.attach(DECODER(), VOCABULARY)
    with raises(AttachError, "Linear get_input_embeddings nn.Embedding"):
        charembed.attach(nn.Linear(2, 2), VOCABULARY)
    with raises(AttachError, "DataParallel"):
        charembed.attach(nn.DataParallel(NANOGPT()), VOCABULARY, module="module.transformer.wte")
    with raises(AttachError, "max_norm=1.0"):
        CharEmbedding(nn.Embedding(2, 2, max_norm=1.0), nn.Identity())
    with raises(AttachError, "torch.int8 floating-point"):
        CharEmbedding(
            nn.Embedding.from_pretrained(torch.ones(2, 2, dtype=torch.int8)), nn.Identity()
        )
    with raises(AttachError, "Linear"):
        CharEmbedding(nn.Linear(2, 2), nn.Identity())
    placed = nn.Embedding(2, 2)
    placed._hf_hook = object()
    with raises(AttachError, "accelerate"):
        CharEmbedding(placed, nn.Identity())
    patched = nn.Embedding(2, 2)
    patched.forward = lambda ids: ids
    with raises(AttachError, "forward"):
        CharEmbedding(patched, nn.Identity())
    with raises(AttachError, "CharEmbedding"):
        charembed.update_spellings(GPT2(), VOCABULARY)


@pytest.mark.parametrize("host", [DECODER, GEMMA3], ids=lambda host: host.name)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("token_id", [V, -1])
def test_an_id_outside_the_table_is_named(host: Host, training: bool, token_id: int) -> None:
    embedding = char_embedding(host.attach(host(False)).train(training))
    with raises(CharEmbedError, f"{token_id} {V}"):
        embedding(torch.tensor([[1, token_id]]))
