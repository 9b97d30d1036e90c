"""CLIP's pieces, and caching of a vocabulary's bytes."""

from __future__ import annotations

from typing import Any

import pytest
import tiktoken
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

import charembed
from charembed import tokenizers as reading
from charembed.tokenizers import token_bytes
from tests.messages import raises
from tests.plugin.test_tokenizers import Duck, byte_level, sentencepiece_bpe, word_piece

TEXT = [
    "the cat and the dog",
    "strawberry raspberry blueberry über café naïve",
    "don't 3 cats!",
] * 3


def clip() -> Tokenizer:
    """Train byte-level pieces that end a word with "</w>"; spaces are removed before."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=650,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def without_backend(tokenizer: Tokenizer) -> Any:
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    duck = Duck(pieces)
    duck.all_special_ids = [0, 1]
    return duck


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: PreTrainedTokenizerFast(tokenizer_object=t), without_backend]
)
def test_clips_pieces_are_bytes_and_ends_of_words(wrap: Any) -> None:
    tokenizer = clip()
    spellings = token_bytes(wrap(tokenizer))
    ids = tokenizer.encode("The strawberry über naïve don't").ids
    assert (
        b"".join(spellings[i] or b"?" for i in ids) == "the strawberry über naïve don 't ".encode()
    )
    assert spellings[0] is spellings[1] is None
    assert not any(b"</w>" in spelling for spelling in spellings if spelling)
    assert spellings[tokenizer.token_to_id("the</w>")] == b"the "


def test_other_vocabularies_without_parts_are_read_as_with_them() -> None:
    for tokenizer in (byte_level(), sentencepiece_bpe(), word_piece(), clip()):
        duck, ours = without_backend(tokenizer), token_bytes(tokenizer)
        theirs = token_bytes(duck)
        assert theirs[2:] == ours[2:]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the tokenizers whose vocabulary is loaded."""
    seen: list[Any] = []
    monkeypatch.setattr(
        reading,
        "token_bytes",
        lambda tokenizer: (seen.append(tokenizer), token_bytes(tokenizer))[1],
    )
    return seen


def test_spell_reads_a_vocabulary_once(reads: list[Any]) -> None:
    encoding = tiktoken.Encoding(
        "x",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={},
    )
    for tokenizer in (encoding, PreTrainedTokenizerFast(tokenizer_object=byte_level())):
        reads.clear()
        for token_id in range(20):
            charembed.spell(tokenizer, token_id)
        assert len(reads) == 1
    rows = [b"a", b"b"]
    assert charembed.spell(rows, 1) == ["b"]
    rows[1] = b"c"
    assert charembed.spell(rows, 1) == ["c"]


def test_spell_notices_what_was_added_and_what_became_special(reads: list[Any]) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level())
    the, new = tokenizer.convert_tokens_to_ids("Ġthe"), len(tokenizer)
    assert charembed.spell(tokenizer, the) == [" ", "t", "h", "e"]
    with raises(charembed.SpellingError, "313 312"):
        charembed.spell(tokenizer, new)
    tokenizer.add_tokens([AddedToken("straw", special=False)])
    assert charembed.spell(tokenizer, new) == [*"straw"]
    tokenizer.add_special_tokens({"pad_token": "Ġthe"})  # the number of tokens stays
    assert charembed.spell(tokenizer, the) == []
    assert len(reads) == 3


def test_two_tokenizers_are_not_taken_for_each_other() -> None:
    one, other = ([b"a", b"b"], [b"c", b"d"])
    assert charembed.spell(one, 0) + charembed.spell(other, 0) == ["a", "c"]
    encodings = [
        tiktoken.Encoding(
            "same",
            pat_str=r"\S+",
            mergeable_ranks={bytes([i + k]): i for i in range(9)},
            special_tokens={},
        )
        for k in (97, 107)
    ]
    assert [charembed.spell(encoding, 0) for encoding in encodings] == [["a"], ["k"]]
