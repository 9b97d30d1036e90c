"""The letters of every kind of tokenizer, compared with its own decode."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders
from transformers import ByT5Tokenizer, MistralCommonBackend

import charembed
from charembed import check, spelling_report
from charembed import tokenizers as reading
from charembed.check import load_tokenizer
from charembed.tokenizers import byte_level_alphabet, token_bytes
from tests.messages import raises, says
from tests.plugin.kinds import (
    KINDS,
    KINDS_WITH_FILES,
    another_sign,
    gemma,
    id_of,
    made,
    small_tiktoken,
    wrapped,
)

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


def test_an_added_token_that_is_a_piece_too_is_read_as_the_piece() -> None:
    """Gemma 3 and Gemini: 30 runs of spaces, 5 % of the tokens of source code."""
    tokenizer, _ = gemma()
    ids = tokenizer.encode("the    a\n\nthe").ids
    for one in (tokenizer, wrapped(tokenizer)):
        spellings = token_bytes(one)
        assert b"".join(spellings[i] or b"" for i in ids) == b"the    a\n\nthe"


def test_an_added_character_changes_no_other_byte_of_byt5() -> None:
    tokenizer = ByT5Tokenizer()
    before = token_bytes(tokenizer)
    tokenizer.add_tokens(["é", "ж"])  # the first is the name of the byte E9
    changed = [i for i, one in enumerate(before) if token_bytes(tokenizer)[i] != one]
    assert changed in ([], [0xE9 + 3])


def test_an_added_token_has_the_letters_of_its_normalized_text() -> None:
    tokenizer, _ = gemma()
    tokenizer.add_tokens([AddedToken("x y", normalized=True), AddedToken("▁z", normalized=False)])
    for one in (tokenizer, wrapped(tokenizer)):
        first, second = token_bytes(one)[-2:]
        assert (first, second) == (b"x y", b" z")
    assert "".join(charembed.spell(tokenizer, len(token_bytes(tokenizer)) - 2)) == "x y"


def test_a_sign_is_found_without_a_decoder() -> None:
    tokenizer, letters = another_sign(decoder=False)
    spellings = token_bytes(tokenizer)
    assert {piece: spellings[id_of(tokenizer, piece)] for piece in letters} == letters
    report = charembed.check_spellings(tokenizer)
    assert (report.compared, report.agrees) == (0, True)
    assert "decoder" in report.note


def test_a_decoder_in_python_is_asked() -> None:
    class Spaces:
        def decode_chain(self, tokens: list[str]) -> list[str]:
            return [token.replace("_", " ") for token in tokens]

    tokenizer, letters = another_sign(decoder=False)
    tokenizer.decoder = decoders.Decoder.custom(Spaces())
    spellings = token_bytes(tokenizer)
    assert {piece: spellings[id_of(tokenizer, piece)] for piece in letters} == letters
    assert charembed.check_spellings(tokenizer).agrees


class Holder:
    """An object with a tokenizer in one of its attributes, as dashscope's and llama-models'."""

    def __init__(self, tokenizer: Any, shift: int = 0) -> None:
        self.inner, self.shift, self.kind = tokenizer, shift, type(tokenizer)

    def decode(self, ids: list[int]) -> str:
        return str(self.inner.decode([i - self.shift for i in ids]))


def test_a_tokenizer_inside_an_object_is_found_if_both_number_the_ids_alike() -> None:
    encoding, _ = KINDS["tiktoken"]()
    held = Holder(encoding)
    assert token_bytes(held) == token_bytes(Holder(held)) == token_bytes(encoding)
    assert charembed.check_spellings(held).agrees
    assert charembed.spell(held, 257) == ["t", "h", "e"]
    other, _ = KINDS["byte-level"]()
    with raises(charembed.SpellingError, "Holder"):
        token_bytes(Holder(encoding, shift=10))
    two = Holder(encoding)
    two.other = other  # type: ignore[attr-defined]
    with raises(charembed.SpellingError, "Holder"):
        token_bytes(two)


class Trie:
    """The part of RWKV's TRIE_TOKENIZER that is read: ids start at 1."""

    def __init__(self) -> None:
        self.idx2token = {i + 1: bytes([i]) for i in range(256)} | {257: b" the", 300: b"\xe6\x97"}

    def decodeBytes(self, tokens: list[int]) -> bytes:
        return b"".join(self.idx2token[i] for i in tokens)


def test_a_mapping_from_ids_to_bytes_is_read() -> None:
    spellings = token_bytes(Trie())
    assert (spellings[0], spellings[1], spellings[257], spellings[258]) == (
        None,
        b"\0",
        b" the",
        None,
    )
    assert charembed.check_spellings(Trie()).agrees
    assert charembed.spell(Trie(), 300) == ["<0xE6>", "<0x97>"]


class SimpleTokenizer:
    """The parts of CLIP's first tokenizer (open_clip) that are read."""

    def __init__(self) -> None:
        tokenizer, _ = KINDS["CLIP"]()
        self.decoder = {i: piece for piece, i in tokenizer.get_vocab().items()}
        self.byte_decoder = {letter: byte for byte, letter in byte_level_alphabet().items()}

    def decode(self, tokens: list[int]) -> str:
        text = "".join(self.decoder[i] for i in tokens)
        letters = bytearray(self.byte_decoder[letter] for letter in text)
        return letters.decode(errors="replace").replace("</w>", " ")


def test_clips_first_tokenizer_is_read() -> None:
    spellings = token_bytes(SimpleTokenizer())
    assert spellings == token_bytes(KINDS["CLIP"]()[0])
    assert charembed.check_spellings(SimpleTokenizer()).agrees


@pytest.fixture
def tekken(tmp_path: Path) -> Path:
    """A folder with a small tekken.json."""
    library = pytest.importorskip("mistral_common.tokens.tokenizers.tekken")
    special = list(library.Tekkenizer.DEPRECATED_SPECIAL_TOKENS)
    words = [*(bytes([i]) for i in range(256)), b"th", b"the", b" the", b"\xe6\x97"]
    vocab = [
        {"rank": i, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
        for i, word in enumerate(words)
    ]
    config = {
        "pattern": r"(?s:.+)",
        "num_vocab_tokens": len(words),
        "default_vocab_size": len(words) + 25,
        "default_num_special_tokens": 25,
        "version": "v3",
    }
    content = {"config": config, "vocab": vocab, "special_tokens": special}
    (tmp_path / "tekken.json").write_text(json.dumps(content))
    return tmp_path


def test_a_tekken_file_keeps_all_its_bytes(tekken: Path) -> None:
    """Its strings have one text for all tokens that are no UTF-8."""
    tokenizer = load_tokenizer(str(tekken))
    spellings = token_bytes(tokenizer)
    assert spellings[:25] == [None] * 25
    assert spellings[25 + 0xC3] == b"\xc3"
    assert spellings[-2:] == [b" the", b"\xe6\x97"]
    assert charembed.check_spellings(tokenizer).agrees
    # its check of the version of mistral-common is at the first use
    try:
        backend = MistralCommonBackend.from_pretrained(tekken)
    except ImportError:
        pytest.skip("transformers needs a later mistral-common")
    assert token_bytes(backend) == spellings
    assert charembed.spell(backend, 25 + 0xC3) == ["<0xC3>"]


def test_letters_that_decode_does_not_give_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, _ = KINDS["tiktoken"]()
    wrong = token_bytes(encoding)
    wrong[257], wrong[258] = b"thy", b"the"
    monkeypatch.setattr(spelling_report, "token_bytes", lambda _: wrong)
    report = charembed.check_spellings(encoding)
    assert [(one.token_id, one.letters, one.decoded) for one in report.differences] == [
        (257, "thy", "the"),
        (258, "the", " the"),
    ]
    says(report, "257 thy the")


def test_ids_that_no_text_produces_are_found() -> None:
    tokenizer, _ = gemma()
    report = charembed.check_spellings(tokenizer)
    nobodys = {id_of(tokenizer, "<0x61>"), id_of(tokenizer, "<0xFF>")}  # "a" has a piece of its own
    assert nobodys <= set(report.unproduced)
    assert not {id_of(tokenizer, piece) for piece in ("▁▁", "the", "<0x7A>")} & set(
        report.unproduced
    )


# the command


def test_the_command_prints_the_report(tmp_path: Path, capsys: Any) -> None:
    tokenizer, _ = gemma()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for argument in (tmp_path / "tokenizer.json", tmp_path):
        assert check.main([str(argument)]) == 0
        says(capsys.readouterr().out, str(len(token_bytes(tokenizer))))
    ranks = [base64.b64encode(bytes([i])) + f" {i}\n".encode() for i in range(256)]
    (tmp_path / "small.tiktoken").write_bytes(b"".join(ranks))
    assert check.main([str(tmp_path / "small.tiktoken"), "--no-texts"]) == 0
    says(capsys.readouterr().out, "256 0")


def test_the_command_fails_if_letters_disagree(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _ = gemma()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    wrong = [*token_bytes(tokenizer)[:-1], b"?"]
    monkeypatch.setattr(spelling_report, "token_bytes", lambda _: wrong)
    assert check.main([str(tmp_path / "tokenizer.json")]) == 1
    says(capsys.readouterr().out, "1 ? ab")


def test_a_search_that_was_left_out_finds_no_number(tmp_path: Path, capsys: Any) -> None:
    gemma()[0].save(str(tmp_path / "tokenizer.json"))
    assert check.main(["--no-texts", str(tmp_path)]) == 0
    says(capsys.readouterr().out, "produces: not searched")
    assert "not searched" in str(charembed.check_spellings([b"a", None]))
    assert "not searched" not in str(charembed.check_spellings(gemma()[0]))


def test_ctrl_c_ends_the_command_in_words(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    gemma()[0].save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(check, "check_spellings", stopped)
    assert check.main([str(tmp_path)]) == 130
    says(capsys.readouterr().err, "stopped")


def test_a_missing_file_is_named(capsys: Any) -> None:
    assert check.main(["no/such/tokenizer.json"]) == 2
    says(capsys.readouterr().err, "no file", "no/such/tokenizer.json")


def test_a_vocabulary_with_one_token_of_several_letters_is_compared() -> None:
    tokenizer, _ = small_tiktoken()
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256}
    kind = type(tokenizer)
    one = kind("one", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={})
    assert charembed.check_spellings(one).compared == 257


@pytest.mark.parametrize("name", ["empty", "broken.json", "broken.model", "no/such-tokenizer"])
def test_what_is_no_tokenizer_is_refused_in_words(name: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("sentencepiece")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.model").write_bytes(b"\xff\xfe")
    path = tmp_path / name
    argument = str(path) if path.exists() else name
    assert check.main([argument]) == 2
    said = capsys.readouterr().err
    says(said, name, "tokenizer.json")
    assert "Traceback" not in said


# spell, many times


def test_spell_reads_no_vocabulary_of_a_bare_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, _ = gemma()
    monkeypatch.setattr(reading, "token_bytes", None)
    assert charembed.spell(tokenizer, id_of(tokenizer, "▁▁")) == [" ", " "]
    assert charembed.spell(tokenizer, 0) == []
    tokenizer.add_tokens(["zz"])
    assert charembed.spell(tokenizer, id_of(tokenizer, "zz")) == ["z", "z"]
    tokenizer.decoder = decoders.Metaspace("t")
    assert charembed.spell(tokenizer, id_of(tokenizer, "the")) == [" ", "h", "e"]


def test_spell_reads_one_entry_of_a_list() -> None:
    class Rows(list[bytes]):
        def __iter__(self) -> Any:
            raise AssertionError("the whole list is read")

    assert charembed.spell(Rows([b"a", b"b"]), 1) == ["b"]


@pytest.mark.parametrize("token_id", [-1, 10**12, 2, None])
def test_other_ids_are_refused(token_id: Any) -> None:
    with raises(charembed.SpellingError, f"{token_id} 0 1"):
        charembed.spell([b"a", b"b"], token_id)


@pytest.mark.parametrize("token_id", [-1, 10**12, 1_000, None])
def test_ids_outside_a_bare_tokenizer_are_refused(token_id: Any) -> None:
    tokenizer, _ = gemma()
    with raises(charembed.SpellingError, f"{token_id} 0 {len(token_bytes(tokenizer)) - 1}"):
        charembed.spell(tokenizer, token_id)


def test_the_guide_shows_the_check() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "tokenizers.md").read_text()
    (block,) = re.findall("```python\n(.*?)```", guide, re.DOTALL)
    exec(block, {"charembed": charembed, "tokenizer": gemma()[0]})
