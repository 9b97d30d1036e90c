"""The bytes of each id, for every kind of tokenizer: joined, they are the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import charembed
from charembed import SpellingError, SpellingTable
from charembed.spelling import characters
from charembed.tokenizers import byte_level_alphabet, remembered_bytes, token_bytes
from tests.messages import raises
from training.data.encodings import FILES, published_encoding

TEXT = [
    "the cat and the dog",
    "über café naïve",
    "strawberry raspberry blueberry",
    "ein Hund, zwei Hunde; 3 Katzen!",
] * 3


def joined(tokenizer: Any, ids: list[int]) -> bytes:
    spellings = token_bytes(tokenizer)
    return b"".join(spellings[i] or b"" for i in ids)


# tiktoken


@pytest.fixture(scope="session")
def encodings(cache: Path) -> dict[str, tiktoken.Encoding]:
    return {name: published_encoding(name, cache) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_every_id_of_a_published_encoding_has_its_bytes(
    name: str, encodings: dict[str, tiktoken.Encoding]
) -> None:
    encoding = encodings[name]
    table, spellings = SpellingTable.from_tokenizer(encoding), token_bytes(encoding)
    assert table.num_tokens == len(spellings) == encoding.n_vocab
    text, spoken = "".join(chr(table.alphabet[i]) for i in table.chars_S.tolist()), 0
    for token_id, length in enumerate(table.lengths_V.tolist()):
        spelling = text[spoken : spoken + length].encode("utf-8", "surrogateescape")
        spoken += length
        if spellings[token_id] is None:
            assert length == 0
        else:
            assert spelling == spellings[token_id] == encoding.decode_single_token_bytes(token_id)
    assert {i for i, spelling in enumerate(spellings) if spelling is None} >= set(
        encoding._special_tokens.values()
    )
    assert sum(spelling is not None for spelling in spellings) == len(encoding.token_byte_values())


def test_gpt2s_oddities_are_as_known(encodings: dict[str, tiktoken.Encoding]) -> None:
    """344 of its 50,257 tokens are not valid UTF-8 and the longest has 128 bytes; o200k has 1,562
    invalid."""
    for name, invalid, longest in (("gpt2", 344, 128), ("o200k_base", 1562, 128)):
        spellings = [spelling for spelling in token_bytes(encodings[name]) if spelling]
        assert (
            sum(
                any(0xDC80 <= ord(c) < 0xDD00 for c in characters(spelling))
                for spelling in spellings
            )
            == invalid
        )
        assert max(map(len, spellings)) == longest


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_spellings_of_gpt2_join_to_the_text(
    text: str, encodings: dict[str, tiktoken.Encoding]
) -> None:
    for encoding in encodings.values():
        assert (
            b"".join(map(encoding.decode_single_token_bytes, encoding.encode_ordinary(text)))
            == text.encode()
        )
    gpt2 = encodings["gpt2"]  # remembered: reading it for each text would take most of the time
    spellings = remembered_bytes(gpt2)
    assert b"".join(spellings[i] or b"" for i in gpt2.encode_ordinary(text)) == text.encode()


def test_a_token_is_spelled_for_display(encodings: dict[str, tiktoken.Encoding]) -> None:
    gpt2 = encodings["gpt2"]
    assert (
        charembed.spell(gpt2, gpt2.encode(" strawberry")[0])
        == [" ", *"strawberry"][: len(gpt2.decode([gpt2.encode(" strawberry")[0]]))]
    )
    assert charembed.spell(gpt2, gpt2.encode("🍓")[0]) == ["<0xF0>", "<0x9F>"]
    assert charembed.spell(gpt2, 9891) == [" ", *"cheese"]
    assert charembed.spell(gpt2, 50256) == []
    with raises(SpellingError, "50257 0 50256"):
        charembed.spell(gpt2, 50257)
    with raises(
        SpellingError, "None 50257"
    ):  # convert_tokens_to_ids returns None for an unknown piece
        charembed.spell(gpt2, None)
    with raises(SpellingError, "straw"):
        charembed.spell(gpt2, " straw")
    with raises(ValueError, "gpt5 gpt2 cl100k_base o200k_base"):
        published_encoding("gpt5")


# Hugging Face: trained here, small, of each kind


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """Train a tokenizer like Llama's.

    "▁" is a space, one is put before the text, and an unknown character is written as bytes.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", *pieces], show_progress=False),
    )
    # the trainer knows byte pieces only as special tokens; a Llama vocabulary has them as ordinary
    # ones
    vocabulary = tokenizer.get_vocab()
    merges = [
        (left, piece[len(left) :])
        for piece in vocabulary
        for left in [piece[:k] for k in range(1, len(piece))]
        if piece[len(left) :] in vocabulary
    ]
    merges = [
        (left, right)
        for left, right in merges
        if left in vocabulary and not left.startswith("<") and left + right in vocabulary
    ]
    merges.sort(key=lambda pair: vocabulary[pair[0] + pair[1]])
    again = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    again.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return again


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        TEXT,
        trainers.UnigramTrainer(
            vocab_size=80, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        ),
    )
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(
        TEXT,
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False),
    )
    return tokenizer


@pytest.mark.parametrize(
    "wrap",
    [lambda t: t, lambda t: PreTrainedTokenizerFast(tokenizer_object=t)],
    ids=["tokenizers", "transformers"],
)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_byte_level_spellings_join_to_the_text(text: str, wrap: Any) -> None:
    tokenizer = byte_level()
    assert joined(wrap(tokenizer), tokenizer.encode(text).ids) == text.encode()


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(
        st.characters(blacklist_characters="▁", blacklist_categories=["Cs"]),
        min_size=1,
        max_size=60,
    )
)
def test_sentencepiece_spellings_with_byte_fallback_join_to_the_text(text: str) -> None:
    tokenizer = sentencepiece_bpe()
    assert (
        joined(
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"),
            tokenizer.encode(text).ids,
        )
        == b" " + text.encode()
    )


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.text("abcdehinortuwy", min_size=1, max_size=8), min_size=1, max_size=6))
def test_unigram_and_word_piece_spellings_join_to_the_words(words: list[str]) -> None:
    text = " ".join(words)
    for tokenizer in (unigram(), word_piece()):
        ids = tokenizer.encode(text).ids
        assert tokenizer.token_to_id("<unk>") not in ids
        if tokenizer.token_to_id("[UNK]") not in ids:
            assert joined(tokenizer, ids) == b" " + text.encode()


def test_the_tables_of_different_tokenizers_agree_on_a_word() -> None:
    """ "Ġthe", "▁the" and WordPiece's "the" have one spelling, with a space."""
    for tokenizer, piece in (
        (byte_level(), "Ġthe"),
        (sentencepiece_bpe(), "▁the"),
        (word_piece(), "the"),
    ):
        assert charembed.spell(tokenizer, tokenizer.token_to_id(piece)) == [" ", "t", "h", "e"]


def test_special_tokens_have_no_characters_but_added_ones_do() -> None:
    for wrap in (lambda t: t, lambda t: PreTrainedTokenizerFast(tokenizer_object=t)):
        raw = byte_level()
        raw.add_special_tokens(["<|endoftext|>"])
        tokenizer = wrap(raw)
        tokenizer.add_tokens([AddedToken("straw berry é", special=False)])
        spellings = token_bytes(tokenizer)
        assert spellings[tokenizer.get_vocab()["<|endoftext|>"]] is None
        assert spellings[tokenizer.get_vocab()["straw berry é"]] == "straw berry é".encode()
    named = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(), eos_token="<|end|>", additional_special_tokens=["<|tool|>"]
    )
    spellings = token_bytes(named)
    assert [spellings[named.convert_tokens_to_ids(token)] for token in ("<|end|>", "<|tool|>")] == [
        None,
        None,
    ]


def test_gaps_in_the_numbering_have_no_characters() -> None:
    encoding = tiktoken.Encoding(
        "x",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={"<|end|>": 300},
    )
    assert token_bytes(encoding)[256:] == [None] * 45


def test_one_stray_piece_does_not_change_how_the_others_are_read() -> None:
    tokenizer = byte_level()
    vocabulary = {
        **tokenizer.get_vocab(),
        "日本": tokenizer.get_vocab_size(),
        "##": tokenizer.get_vocab_size() + 1,
    }
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    stray = Tokenizer(models.BPE(vocabulary, merges))
    stray.pre_tokenizer = tokenizer.pre_tokenizer
    assert charembed.spell(stray, vocabulary["Ġthe"]) == [" ", "t", "h", "e"]
    assert charembed.spell(stray, vocabulary["日本"]) == ["日", "本"]
    assert charembed.spell(stray, vocabulary["##"]) == ["#", "#"]


def test_an_end_of_word_is_a_space() -> None:
    model = models.BPE({"he": 0, "l": 1, "lo</w>": 2, "</w>": 3}, [], end_of_word_suffix="</w>")
    assert token_bytes(Tokenizer(model)) == [b"he", b"l", b"lo ", b" "]


class Duck:
    """A slow tokenizer, which has no parts to look at."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces, self.all_special_ids = pieces, [0]

    def get_vocab(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces)}

    def convert_ids_to_tokens(self, i: int) -> str:
        return self.pieces[i]


def test_a_tokenizer_without_parts_is_inferred_from_its_pieces() -> None:
    for pieces, expected in (
        (["<s>", *"abcdefgh" * 20, "Ġthe", "Ã©", "日"], [b" the", "é".encode(), "日".encode()]),
        (["[UNK]", "the", "##re", "##"], [b" the", b"re", b" ##"]),
        (["<unk>", "▁the", "<0xE6>", "\ud800"], [b" the", b"\xe6", b"\xed\xa0\x80"]),
        (["<unk>", "the</w>", "th", "e</w>"], [b"the ", b"th", b"e "]),
    ):
        unique = [
            piece if pieces.index(piece) == i else f"{piece}{i}" for i, piece in enumerate(pieces)
        ]
        spellings = token_bytes(Duck(unique))
        assert spellings[0] is None
        assert spellings[-3:] == expected


def test_pieces_that_only_look_like_bytes_are_characters() -> None:
    model = models.Unigram(
        [("<unk>", 0.0), ("▁the", -1.0), ("<0xE6>", -2.0), ("<0xZZ>", -3.0), ("<0xe6>", -3.0)],
        unk_id=0,
        byte_fallback=False,
    )
    assert token_bytes(Tokenizer(model))[1:] == [b" the", b"\xe6", b"<0xZZ>", b"<0xe6>"]


def test_the_stand_in_alphabet_is_the_one_of_the_tokenizers_library() -> None:
    assert sorted(byte_level_alphabet().values()) == sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize("wrong", [3, "gpt2", None, ["the"], {"the": 0}])
def test_other_objects_are_no_tokenizers(wrong: Any) -> None:
    with raises(SpellingError, f"{type(wrong).__name__} tiktoken.Encoding"):
        token_bytes(wrong)
