"""The letters of every kind of tokenizer, compared with its own decode."""

from __future__ import annotations

from pathlib import Path

import pytest

import charembed
from charembed.tokenizers import token_bytes
from tests.plugin.kinds import KINDS, KINDS_WITH_FILES, id_of, made, wrapped

NAMES = [*KINDS, *KINDS_WITH_FILES]


@pytest.mark.parametrize("name", NAMES)
def test_the_letters_of_every_kind_are_those_of_decode(name: str, tmp_path: Path) -> None:
    tokenizer, letters = made(name, tmp_path)
    for one in {id(tokenizer): tokenizer, 1: wrapped(tokenizer)}.values():
        spellings = token_bytes(one)
        for piece, expected in letters.items():
            assert (spellings[id_of(tokenizer, piece)] or b"") == expected, piece
            shown = charembed.spell(one, id_of(tokenizer, piece))
            assert len(shown) == len(expected.decode(errors="surrogateescape"))
        report = charembed.check_spellings(one)
        assert report.agrees, report
        assert report.compared == sum(map(bool, spellings)), report
