"""Files and folders that people have: kinds of columns, compressions, links, hidden and mixed files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.messages import raises, says
from training.data import readers
from training.data.corpus import Corpus, read_documents
from training.data.documents import find_source
from training.data.prepared import Vocabulary, tokenized
from training.errors import BadInput

ROWS = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two", None, " "))


def zstd(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
    ".GZ": gzip.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("long", [False, True])
def test_every_compression_gives_the_same_documents(
    suffix: str, long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if long:  # read in pieces, the byte order mark included
        monkeypatch.setattr(readers, "WHOLE", 1)
        monkeypatch.setattr(readers, "_PIECE", 3)
    compress = COMPRESSED[suffix]
    (tmp_path / f"a.jsonl{suffix}").write_bytes(compress(b"\xef\xbb\xbf" + ROWS.encode()))
    assert read_documents(str(tmp_path / f"a.jsonl{suffix}")) == ["one", "two"]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / f"a.txt{suffix}").write_bytes(compress("ein жук\r\n🍓".encode(encoding)))
        assert read_documents(str(tmp_path / f"a.txt{suffix}")) == ["ein жук\n🍓"], encoding
    # two streams one after the other, as parallel compressors write them
    (tmp_path / f"a.txt{suffix}").write_bytes(compress(b"one, ") + compress(b"two"))
    assert read_documents(str(tmp_path / f"a.txt{suffix}")) == ["one, two"]
    if suffix:
        cut = compress(os.urandom(10_000).hex().encode())[:-20]
        (tmp_path / f"a.txt{suffix}").write_bytes(cut)
        with raises(BadInput, f"a.txt{suffix} cannot be read"):
            read_documents(str(tmp_path / f"a.txt{suffix}"))
    if suffix == ".GZ":  # the case of a suffix does not count
        (tmp_path / "A.JSONL").write_text(ROWS)
        assert read_documents(str(tmp_path / "A.JSONL")) == ["one", "two"]


def columns() -> dict[str, tuple[Any, str]]:
    texts = ["one", "two", None, " "]
    large = pyarrow.array(texts, pyarrow.large_string())
    return {
        "string": (pyarrow.array(texts), ""),
        "large": (large, ""),
        "view": (pyarrow.array(texts, pyarrow.string_view()), ""),
        "dictionary": (pyarrow.array(texts).dictionary_encode(), ""),
        "large dictionary": (large.dictionary_encode(), ""),
        "list": (pyarrow.array([["one"], ["two"]]), "list<"),
        "large list": (
            pyarrow.array([["one"]], pyarrow.large_list(pyarrow.string())),
            "large_list<",
        ),
        "numbers": (pyarrow.array([1, 2]).dictionary_encode(), "int64"),
        "binary": (pyarrow.array([b"one"]), "binary"),
        "struct": (pyarrow.array([{"text": "one"}]), "struct<"),
        "nulls": (pyarrow.nulls(2), "null"),
    }


@pytest.mark.parametrize("kind", columns())
def test_columns_of_text_are_read_and_others_are_named(kind: str, tmp_path: Path) -> None:
    column, seen = columns()[kind]
    file = tmp_path / "a.parquet"
    # names that a reader of nested columns could take for this one
    others = {"text.raw": ["no"] * len(column), "x": [{"text": "no"}] * len(column)}
    pyarrow.parquet.write_table(pyarrow.table({**others, "text": column}), file)
    if seen:
        with raises(BadInput, f"a.parquet 'text' {seen} not text"):
            list(find_source(str(file)).read())
    else:
        assert list(find_source(str(file)).read()) == ["one", "two"]


def test_bytes_that_are_no_text_are_named_with_their_row(tmp_path: Path) -> None:
    ends = pyarrow.py_buffer(b"".join(i.to_bytes(4, "little") for i in (0, 1, 2, 4)))
    wrong = pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [None, ends, pyarrow.py_buffer(b"abc\xff")]
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": wrong}), tmp_path / "a.parquet")
    with raises(BadInput, "row 2 a.parquet 'text' 0xff byte 1 UTF-8"):
        read_documents(str(tmp_path / "a.parquet"))
    (tmp_path / "a.jsonl").write_bytes(ROWS.encode("utf-16"))
    with raises(BadInput, "line 1 a.jsonl 0xff save UTF-8"):
        read_documents(str(tmp_path / "a.jsonl"))


def test_links_are_followed_once_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "texts", tmp_path / "elsewhere"
    for path, text in {
        "a.txt": "one", "deep/b.txt": "two", ".c.txt": "hidden", "._a.txt": "\0\5\26\7",
        ".ipynb_checkpoints/a-checkpoint.txt": "a copy",
    }.items():  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    elsewhere.mkdir()
    (elsewhere / "d.txt").write_text("three")
    (folder / "e").symlink_to(elsewhere)
    (folder / "f.txt").symlink_to(elsewhere / "d.txt")
    (elsewhere / "back").symlink_to(folder)
    assert read_documents(str(folder)) == ["one", "two", "three", "three"]
    (tmp_path / "link").symlink_to(folder)
    assert read_documents(str(tmp_path / "link")) == ["one", "two", "three", "three"]
    # a name that begins with a dot is a name all the same
    (elsewhere / ".g.txt").write_text("four")
    assert read_documents(str(elsewhere / ".g.txt")) == ["four"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_subfolder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "closed").mkdir(0o000)
    with raises(BadInput, "closed cannot be read"):
        find_source(str(tmp_path))


def test_files_of_other_kinds_beside_the_texts_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("the cat sat on the mat " * 300)
    (tmp_path / "texts" / "notes.md").write_text("of no kind that is read")
    corpus, by, cache = str(tmp_path / "texts"), Vocabulary(260, "bytes"), tmp_path / "cache"
    tokenized(Corpus(find_source(corpus)), by, cache)
    assert not capsys.readouterr().err
    for name in ("a.jsonl", "b.jsonl.zst", "c.txt.gz"):
        (tmp_path / "texts" / name).write_bytes(b"not read")
    (tmp_path / "texts" / "a.txt").write_text("the dog lay by the door " * 300)
    for _ in range(2):  # the second start prepares nothing
        tokenized(Corpus(find_source(corpus)), by, cache)
    (line,) = capsys.readouterr().err.splitlines()
    says(line, "texts 1 .jsonl .jsonl.zst .txt.gz not read")
