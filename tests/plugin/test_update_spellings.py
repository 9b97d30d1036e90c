"""Vocabularies of other sizes, before and after attaching, and spellings of new tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import charembed
from charembed import CharEmbedError, SpellingError, SpellingTable
from tests.messages import raises
from tests.plugin.hosts import (
    GPT2,
    IDS,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    char_vector,
    in_transformers,
    logits_and_loss,
    logits_of,
)


def without_characters(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with charembed.disabled(model):
        vectors: torch.Tensor = model.get_input_embeddings()(ids)
    return vectors


@in_transformers
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "first", [True, False], ids=["resized_then_attached", "attached_then_resized"]
)
def test_a_grown_vocabulary_gets_its_characters_by_update_spellings(
    host: Host, tie: bool, first: bool
) -> None:
    model, grown = host(tie), [*VOCABULARY, b"the", "ж".encode(), None]
    if first:
        model.resize_token_embeddings(V + 3, mean_resizing=False)
        charembed.attach(model, VOCABULARY, init="normal")
    else:
        charembed.attach(model, VOCABULARY, init="normal")
        model.resize_token_embeddings(V + 3, mean_resizing=False)
    embedding, new = char_embedding(model), torch.tensor([[V, V + 1, V + 2]])
    old = {i: char_vector(embedding, i) for i in (97, 256, V - 1)}
    assert embedding.weight.shape[0] == embedding.num_embeddings == V + 3
    for training in (True, False):
        assert torch.equal(
            model.train(training).get_input_embeddings()(new), without_characters(model, new)
        )  # no characters yet
    assert charembed.update_spellings(model, grown) is model
    assert torch.equal(char_vector(embedding, V), old[256])
    assert char_vector(embedding, V + 1).abs().sum() > 0
    assert torch.equal(char_vector(embedding, V + 2), torch.zeros_like(old[97]))
    assert all(torch.equal(char_vector(embedding, i), value) for i, value in old.items())
    model.eval()
    with torch.no_grad():
        expected = logits_of(model, new)
        model.train()
        torch.testing.assert_close(
            embedding(new), model.eval().get_input_embeddings()(new), rtol=1e-5, atol=1e-5
        )
    assert torch.equal(logits_of(charembed.fold(model), new), expected)


@in_transformers
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_a_shrunk_vocabulary_keeps_its_characters(host: Host, tie: bool) -> None:
    model = host.attach(host(tie), init="normal").eval()
    ids = IDS.clamp(max=99)
    with torch.no_grad():
        expected = model.get_input_embeddings()(ids)
        model.resize_token_embeddings(100)
        assert torch.equal(model.get_input_embeddings()(ids), expected)
    with raises(SpellingError, "260 100"):
        charembed.update_spellings(model, VOCABULARY)
    charembed.update_spellings(model, VOCABULARY[:100])
    with torch.no_grad():
        assert torch.equal(model.get_input_embeddings()(ids), expected)
    with raises(CharEmbedError, "100"):
        model(torch.tensor([[100]]))
    model.resize_token_embeddings(
        V, mean_resizing=False
    )  # grown again after update_spellings, the new rows have no characters
    assert torch.equal(char_vector(char_embedding(model), 256), torch.zeros(16))
    model.resize_token_embeddings(100)
    original = model.get_input_embeddings()
    charembed.detach(model)
    assert model.get_input_embeddings() is original
    assert original.num_embeddings == 100


def test_new_characters_depend_on_the_character_alone() -> None:
    one, other = (GPT2.attach(GPT2(), init="normal") for _ in range(2))
    for model, added in ((one, ["ж", "я"]), (other, ["я", "ж"])):
        model.resize_token_embeddings(V + 2, mean_resizing=False)
        charembed.update_spellings(model, [*VOCABULARY, *(text.encode() for text in added)])
    assert torch.equal(
        char_vector(char_embedding(one), V), char_vector(char_embedding(other), V + 1)
    )
    assert not torch.equal(
        char_vector(char_embedding(one), V), char_vector(char_embedding(one), V + 1)
    )


def test_update_spellings_takes_a_table_and_leaves_no_gradient_of_the_old_shape() -> None:
    model = GPT2.attach(GPT2(), init="normal")
    logits_and_loss(model)[1].backward()
    model.resize_token_embeddings(V + 1, mean_resizing=False)
    grown = SpellingTable.from_bytes([*VOCABULARY, "ж".encode()])
    with raises(SpellingError, "260 codepoint 261"):
        charembed.update_spellings(model, TABLE)
    charembed.update_spellings(model, grown)
    assert char_embedding(model).spellings.spell(V) == ["ж"]
    assert char_embedding(model).spellings.fingerprint == grown.fingerprint
    model.transformer.wte.weight.grad = None
    logits_and_loss(model)[1].backward()


def test_special_tokens_without_a_row_are_left_out() -> None:
    """Gemma 3's text models have no row for the image token of their tokenizer."""
    assert (
        SpellingTable.from_tokenizer([*VOCABULARY, None, None], V).fingerprint == TABLE.fingerprint
    )
    GPT2.attach(GPT2())
    charembed.attach(GPT2(), [*VOCABULARY, None])


def test_a_vocabulary_shrunk_to_tokens_without_characters_still_works() -> None:
    model = charembed.attach(GPT2(), [None, None, *VOCABULARY[2:]], init="normal")
    model.resize_token_embeddings(2)
    embedding = char_embedding(model)
    ids = torch.tensor([[0, 1]])
    for training in (True, False):
        assert torch.equal(
            model.train(training).get_input_embeddings()(ids), without_characters(model, ids)
        )
    embedding.train()(ids).sum().backward()
    charembed.fold(model)
