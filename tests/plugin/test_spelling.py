from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charembed import SpellingError, SpellingTable
from charembed.spelling import characters
from tests.messages import raises


def test_characters_are_code_points_and_lone_bytes() -> None:
    assert characters(b"h\xc3\xa9") == "hé"
    assert characters(b"h\xc3") == "h\udcc3"
    assert characters("🍓".encode()) == "🍓"
    assert characters("é".encode(), unit="byte") == "\xc3\xa9"


@given(st.binary(max_size=40))
def test_characters_lose_no_byte(spelling: bytes) -> None:
    assert characters(spelling).encode("utf-8", errors="surrogateescape") == spelling


@given(
    st.lists(st.none() | st.binary(min_size=1, max_size=9)), st.sampled_from(["codepoint", "byte"])
)
def test_a_table_gives_back_the_bytes_that_it_was_made_of(
    spellings: list[bytes | None], unit: str
) -> None:
    spellings = [b"a", *spellings]
    assert SpellingTable.from_bytes(spellings, unit).to_bytes() == spellings


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


def test_padding_adds_rows_without_characters() -> None:
    table = SpellingTable.from_tokenizer([b"a", b"b"], num_tokens=4)
    assert table.lengths_V.tolist() == [1, 1, 0, 0]


def test_shuffling_keeps_the_spellings_and_the_special_tokens(table: SpellingTable) -> None:
    with_special = SpellingTable.from_bytes([b"ab", None, b"c", b"def", None, b"g"])
    shuffled = with_special.shuffled(torch.Generator().manual_seed(1))
    assert (shuffled.lengths_V == 0).tolist() == (with_special.lengths_V == 0).tolist()
    assert sorted(map(str, map(shuffled.spell, range(6)))) == sorted(
        map(str, map(with_special.spell, range(6)))
    )
    assert table.shuffled(torch.Generator().manual_seed(1)).fingerprint != table.fingerprint


def test_fingerprint_tells_spellings_apart() -> None:
    assert (
        SpellingTable.from_bytes([b"ab", b"c"]).fingerprint
        == SpellingTable.from_bytes([b"ab", b"c"]).fingerprint
    )
    assert (
        SpellingTable.from_bytes([b"ab", b"c"]).fingerprint
        != SpellingTable.from_bytes([b"ab", b"a"]).fingerprint
    )
    assert (
        SpellingTable.from_bytes([b"a"]).fingerprint != SpellingTable.from_bytes([b"b"]).fingerprint
    )


@pytest.mark.parametrize(
    ("spellings", "message"),
    [([], "vocabulary empty"), ([None, b""], "2")],
)
def test_vocabularies_without_characters_are_refused(
    spellings: list[bytes | None], message: str
) -> None:
    with raises(ValueError, message):
        SpellingTable.from_bytes(spellings)


@pytest.mark.parametrize("wrong", [None, 3, ["a"], [1], [b"a", "b"], {b"a": 1}, [b"a", 0]])
def test_spellings_that_are_no_bytes_are_refused(wrong: Any) -> None:
    with raises(SpellingError, "bytes", "list"):
        SpellingTable.from_bytes(wrong)


def test_other_bad_input_is_refused(table: SpellingTable) -> None:
    with raises(ValueError, "unit word"):
        SpellingTable.from_bytes([b"a"], unit="word")
    with raises(ValueError, "512"):
        table.spell(512)
    with raises(ValueError, "3 2"):
        SpellingTable.from_tokenizer([b"a", b"b", b"c"], num_tokens=2)
