from __future__ import annotations

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from charembed import SpellingTable
from charembed.spelling import characters
from charembed.tokenizers import token_bytes


def test_characters_are_code_points_and_lone_bytes() -> None:
    assert characters(b"h\xc3\xa9") == "hé"
    assert characters(b"h\xc3") == "h\udcc3"
    assert characters("🍓".encode()) == "🍓"
    assert characters("é".encode(), unit="byte") == "\xc3\xa9"


@given(st.binary(max_size=40))
def test_characters_lose_no_byte(spelling: bytes) -> None:
    assert characters(spelling).encode("utf-8", errors="surrogateescape") == spelling


def test_table_of_a_small_vocabulary() -> None:
    table = SpellingTable.from_bytes([b"the", b"he", None])
    assert "".join(map(chr, table.alphabet)) == "eht"
    assert table.chars_VC.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert table.lengths_V.tolist() == [3, 2, 0]


def test_lone_bytes_bring_all_lone_bytes_and_show_as_hex() -> None:
    table = SpellingTable.from_bytes([b"a", b"\xe6", " é".encode()])
    assert table.num_chars == 3 + 128
    assert table.spell(1) == ["<0xE6>"]
    assert table.spell(2) == [" ", "é"]


def test_bytes_as_unit() -> None:
    table = SpellingTable.from_bytes(["é".encode()], unit="byte")
    assert table.num_chars == 256
    assert table.spell(0) == ["<0xC3>", "<0xA9>"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_spellings_of_a_tiktoken_encoding_join_to_the_text(text: str, encoding: tiktoken.Encoding) -> None:
    spellings = token_bytes(encoding)
    assert b"".join(spellings[i] or b"" for i in encoding.encode_ordinary(text)) == text.encode()


def byte_level_tokenizer(text: str) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator([text], BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_spellings_of_a_hugging_face_tokenizer_join_to_the_text(text: str) -> None:
    tokenizer = byte_level_tokenizer("the cat and the dog, über café")
    spellings = token_bytes(tokenizer)
    assert b"".join(spellings[i] or b"" for i in tokenizer.encode(text)) == text.encode()


def test_special_tokens_have_no_letters() -> None:
    tokenizer = byte_level_tokenizer("the cat")
    table = SpellingTable.from_tokenizer(tokenizer)
    assert table.lengths_V[tokenizer.eos_token_id] == 0
    encoding = tiktoken.Encoding("x", pat_str=r"\S+|\s+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={"<|end|>": 256})
    assert token_bytes(encoding)[256] is None


def test_sentencepiece_style_pieces_are_read_as_bytes() -> None:
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁the", -1.0), ("<0xE6>", -2.0), ("ca", -3.0)], unk_id=0, byte_fallback=True))
    assert token_bytes(PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>"))[1:] == [b" the", b"\xe6", b"ca"]


def test_word_pieces_begin_with_a_space_unless_they_continue() -> None:
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "straw": 1, "##berry": 2}, unk_token="[UNK]"))
    assert token_bytes(PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]")) == [None, b" straw", b"berry"]


def test_padding_adds_letterless_rows() -> None:
    table = SpellingTable.from_tokenizer([b"a", b"b"], num_tokens=4)
    assert table.lengths_V.tolist() == [1, 1, 0, 0]


def test_shuffling_keeps_the_spellings_and_the_special_tokens(table: SpellingTable) -> None:
    with_special = SpellingTable.from_bytes([b"ab", None, b"c", b"def", None, b"g"])
    shuffled = with_special.shuffled(torch.Generator().manual_seed(1))
    assert (shuffled.lengths_V == 0).tolist() == (with_special.lengths_V == 0).tolist()
    assert sorted(map(str, map(shuffled.spell, range(6)))) == sorted(map(str, map(with_special.spell, range(6))))
    assert table.shuffled(torch.Generator().manual_seed(1)).fingerprint != table.fingerprint


def test_fingerprint_tells_spellings_apart() -> None:
    assert SpellingTable.from_bytes([b"ab", b"c"]).fingerprint == SpellingTable.from_bytes([b"ab", b"c"]).fingerprint
    assert SpellingTable.from_bytes([b"ab", b"c"]).fingerprint != SpellingTable.from_bytes([b"ab", b"a"]).fingerprint
    assert SpellingTable.from_bytes([b"a"]).fingerprint != SpellingTable.from_bytes([b"b"]).fingerprint


@pytest.mark.parametrize(
    ("spellings", "message"),
    [([], "vocabulary is empty"), ([None, b""], "none of the 2 tokens has a letter")],
)
def test_vocabularies_without_letters_are_refused(spellings: list[bytes | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpellingTable.from_bytes(spellings)


def test_other_bad_input_is_refused(table: SpellingTable) -> None:
    with pytest.raises(ValueError, match="unit is 'word'; choose"):
        SpellingTable.from_bytes([b"a"], unit="word")
    with pytest.raises(ValueError, match="cannot read spellings from int"):
        token_bytes(3)
    with pytest.raises(ValueError, match="token id 512 is outside the spelling table of 512 tokens"):
        table.spell(512)
    with pytest.raises(ValueError, match="has 3 tokens, but the embedding has 2 rows"):
        SpellingTable.from_tokenizer([b"a", b"b", b"c"], num_tokens=2)
