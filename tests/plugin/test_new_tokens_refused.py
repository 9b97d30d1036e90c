"""add_tokens: words that are refused, and interruptions. The model stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

import charembed
from charembed import AttachError, SpellingError
from tests.laboratory import pretrained
from tests.messages import raises
from tests.plugin.hosts import NanoGPT
from tests.plugin.test_new_tokens import TEXT, attached


def state(model: Any, tokenizer: Any) -> tuple[Any, ...]:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return (
        tensors,
        len(tokenizer),
        model.config.vocab_size,
        model.get_input_embeddings().spellings.fingerprint,
    )


def assert_unchanged(model: Any, tokenizer: Any, before: tuple[Any, ...]) -> None:
    now = state(model, tokenizer)
    assert now[1:] == before[1:]
    assert now[0].keys() == before[0].keys()
    for name, tensor in before[0].items():
        assert torch.equal(now[0][name], tensor), name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "''"),
        ("  ", "letters"),
        (7, "7"),
        ("a<|end|>b", "a<|end|>b <|end|>"),
        ("h\udcc3", "character"),
    ],
)
def test_bad_words_are_refused_and_nothing_changes(word: Any, message: str) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = attached(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    with raises(SpellingError, message):
        charembed.add_tokens(model, tokenizer, ["cloudberry", word])
    assert_unchanged(model, tokenizer, before)


def test_words_that_the_tokenizer_cannot_hold_are_refused() -> None:
    """Byte-level BPE writes the byte 0xE9 as "é", and its decoder takes "été" for three bytes."""
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = attached(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    for word, message in (
        (
            "é",
            "é",
        ),
        ("Ġthe", "Ġthe"),
        ("été", "été tokenizer"),
    ):
        with raises(SpellingError, message):
            charembed.add_tokens(model, tokenizer, ["cloudberry", word], space=False)
        assert_unchanged(model, tokenizer, before)
    ids = charembed.add_tokens(model, tokenizer, ["é", "été"])
    text = "un été à é"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert ["".join(model.get_input_embeddings().spellings.spell(token)) for token in ids] == [
        " é",
        " été",
    ]


def test_a_tokenizer_of_another_model_is_refused() -> None:
    tokenizer, other = (
        pretrained.train_tokenizer(TEXT),
        pretrained.train_tokenizer(TEXT, "metaspace"),
    )
    model = attached(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    with raises(SpellingError, "tokens"):
        charembed.add_tokens(model, other, ["cloudberry"])
    assert_unchanged(model, tokenizer, before)


def test_special_tokens_of_all_kinds_are_no_words() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    kind = type(next(iter(tokenizer.added_tokens_decoder.values())))
    tokenizer.add_tokens([kind("<|im_start|>", special=True)])  # not among its named special tokens
    model = attached(tokenizer, len(tokenizer))
    with raises(SpellingError, "special <|im_start|>"):
        charembed.add_tokens(model, tokenizer, ["<|im_start|>"])


@pytest.mark.parametrize("spare", [0, 40])
@pytest.mark.parametrize("place", ["update_spellings", "resize_token_embeddings"])
def test_an_interruption_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, spare: int, place: str
) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = attached(tokenizer, len(tokenizer) + spare, tie_word_embeddings=False)
    before, head = state(model, tokenizer), model.get_output_embeddings()
    owner: Any = type(model.get_input_embeddings()) if place == "update_spellings" else type(model)
    genuine, calls = getattr(owner, place), []

    def interrupted(*args: Any, **options: Any) -> Any:
        result = genuine(*args, **options)
        calls.append(place)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, place, interrupted)
        if place == "resize_token_embeddings" and spare:
            charembed.add_tokens(model, tokenizer, ["cloudberry"])
            assert not calls, "there was room"
            return
        with pytest.raises(KeyboardInterrupt):
            charembed.add_tokens(model, tokenizer, ["cloudberry", "жук"])
    assert_unchanged(model, tokenizer, before)
    assert model.get_output_embeddings() is head, "an optimizer has its weight"
    assert charembed.add_tokens(model, tokenizer, ["cloudberry"]) == [before[1]]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_at_the_tokenizer_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = attached(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    genuine = type(tokenizer).add_tokens

    def interrupted(self: Any, tokens: Any) -> int:
        added: int = genuine(self, tokens) if self is not tokenizer or when == "after" else 0
        if self is tokenizer:
            raise KeyboardInterrupt
        return added

    with monkeypatch.context() as patched:
        patched.setattr(type(tokenizer), "add_tokens", interrupted)
        with pytest.raises(KeyboardInterrupt):
            charembed.add_tokens(model, tokenizer, ["cloudberry"])
    if when == "before":
        assert_unchanged(model, tokenizer, before)
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    assert token == before[1] == tokenizer.convert_tokens_to_ids(" cloudberry")
    embedding: Any = model.get_input_embeddings()
    assert embedding.num_embeddings == len(tokenizer) == token + 1
    assert "".join(embedding.spellings.spell(token)) == " cloudberry"


def test_a_model_that_cannot_be_resized_is_refused() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    with raises(AttachError, "NanoGPT resize_token_embeddings()"):
        charembed.add_tokens(NanoGPT(tie=True), tokenizer, ["cloudberry"])


def test_a_tokenizer_that_cannot_grow_is_refused() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = attached(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    for other, words, message in (
        ([b"a", b"b"], ["cloudberry"], "list tokens"),
        (
            pretrained.train_tokenizer(TEXT + "zq " * 99),
            ["cloudberry"],
            "embedding rows",
        ),
        (tokenizer, "cloudberry", "cloudberry list"),
        (tokenizer, None, "None list"),
    ):
        with raises(SpellingError, message):
            charembed.add_tokens(model, other, words)
    assert_unchanged(model, tokenizer, before)


def byte_level(unused: set[int], placeholders: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes whose ids leave out `unused`, or give them to placeholders."""
    letters = iter(sorted(ByteLevel.alphabet()))
    ids = (i for i in range(1000) if i not in unused)
    vocabulary = {letter: i for letter, i in zip(letters, ids, strict=False)}
    if placeholders:
        vocabulary |= {f"<unused{i}>": i for i in unused}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("unused", [{200, 201, 204}, {0}, {255}])
def test_a_vocabulary_with_unused_ids_is_named_as_the_cause(unused: set[int]) -> None:
    tokenizer = byte_level(unused, placeholders=False)
    model = attached(tokenizer, 300)
    before = state(model, tokenizer)
    with raises(SpellingError, f"zebra 256 {len(unused)} {min(unused)} placeholder") as raised:
        charembed.add_tokens(model, tokenizer, ["zebra"])
    assert "space" not in str(raised.value)
    assert_unchanged(model, tokenizer, before)
    filled = byte_level(unused, placeholders=True)
    (token,) = charembed.add_tokens(attached(filled, 300), filled, ["zebra"])
    assert filled.decode([token]) == " zebra"
