"""Readers of files and datasets: text, JSON lines, Parquet, and the rows of `datasets`.

Text and JSON lines are read here and not by `datasets`, whose readers are not byte-exact: a
carriage return splits a line or vanishes, and a column of dates becomes timestamps. These readers
also name the file and the line of a fault. Parquet is read by pyarrow, and a dataset by
`datasets`, from its local files or as a stream.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from synthetic_tasks.errors import byte_order_mark, decode_text
from training.errors import BadInput
from training.models.hub import first_line, load_dataset

WHOLE = 2**25  # bytes; a larger text file is read in pieces
_PIECE = 2**20  # bytes of such a piece
_ROWS = 1000  # rows of Parquet or of a dataset read at once


def _open_zstd(path: Path, mode: str) -> Any:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


_OPENERS: dict[str, Callable[..., Any]] = {
    "": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zstd
}  # fmt: skip
COMPRESSIONS = tuple(filter(None, _OPENERS))


def unreadable(file: Path, error: OSError) -> str:
    """The message for a file of a corpus that cannot be read to its end."""
    reason = error.strerror or first_line(error)
    return (
        f"the corpus file {str(file)!r} cannot be read ({reason}): restore it, or name another "
        "corpus."
    )


def compression(file: Path) -> str:
    """The suffix of a compression: "a.jsonl.GZ" -> ".gz", "a.jsonl" -> ""."""
    suffix = file.suffix.lower()
    return suffix if suffix in _OPENERS else ""


def plain_suffix(file: Path) -> str:
    """The suffix before that of a compression: "a.jsonl.gz" -> ".jsonl"."""
    return (file.with_suffix("") if compression(file) else file).suffix.lower()


@dataclass(frozen=True, eq=False)
class LongText:
    """A document that is a large text file; `pieces` reads it anew, a megabyte at a time."""

    path: Path

    def pieces(self) -> Iterator[str]:
        """The text in pieces. Raises BadInput, with the place, if it is no text."""
        nulls, length = 0, 0
        try:
            for piece in _decoded(self.path):
                nulls, length = nulls + piece.count("\0"), length + len(piece)
                yield piece
        except OSError as error:
            raise BadInput(unreadable(self.path, error)) from None
        # UTF-16 without a byte order mark: see decode_text
        if nulls > length // 4:
            raise BadInput(
                f"the corpus file {str(self.path)!r} holds {nulls} null characters, as UTF-16 "
                "does. Save it as UTF-8 again."
            )


Document = str | LongText


def read_text(path: Path, what: str) -> str:
    """Read a text file; `what` names its purpose in messages, such as "the corpus".

    UTF-16 and UTF-32 are read if the file begins with their byte order mark. Raises BadInput for a
    file that is missing, unreadable or not UTF-8.
    """
    seen = f"{what} {str(path)!r}"
    try:
        with _opened(path) as file:
            content = file.read()
        # StringIO makes every line end "\n", as text mode does
        return io.StringIO(decode_text(content), newline=None).read()
    except OSError as error:
        raise BadInput(
            f"{seen} cannot be read ({error.strerror or first_line(error)}): name another one."
        ) from None
    except ValueError as error:
        raise BadInput(f"{seen} {error}") from None


class _CutShort(OSError):
    """A compressed file that ends in the middle, or holds other bytes."""


class _opened:
    """An open file, decompressed; damage of a compressed one becomes an OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> IO[bytes]:
        file: IO[bytes] = _OPENERS[compression(self.path)](self.path, "rb")
        self.file = file
        return file

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.file.close()
        if isinstance(error, EOFError | zlib.error | lzma.LZMAError):
            raise _CutShort(f"it is damaged or cut short: {first_line(error)}") from None


def text_file(path: Path, column: str) -> Iterator[Document]:
    """A text file is one document."""
    # text shrinks to a third or a quarter; the size is known when it is read
    if path.stat().st_size * (4 if compression(path) else 1) <= WHOLE:
        yield read_text(path, "the corpus")
        return
    long = LongText(path)
    if any(map(str.strip, long.pieces())):
        yield long


def _decoded(path: Path) -> Iterator[str]:
    """The text of a file in pieces, with every line end as "\\n". Raises BadInput with the place."""
    with _opened(path) as file:
        begin = file.read(4)  # not every compressed file can go back
        mark, encoding = byte_order_mark(begin)
        begin = begin[len(mark) :]
        decoder = codecs.getincrementaldecoder(encoding)()
        lines, place = io.IncrementalNewlineDecoder(decoder, translate=True), len(mark)
        while True:
            content, begin = begin + file.read(_PIECE), b""
            # the bytes of a character that has begun count for the place of a fault
            begun = len(decoder.getstate()[0])
            try:
                if piece := lines.decode(content, final=not content):
                    yield piece
            except UnicodeDecodeError as error:
                at = place - begun + error.start
                raise BadInput(
                    f"the corpus file {str(path)!r} is not {encoding.upper()}: the bytes from {at} "
                    f"on ({error.object[error.start : error.start + 1].hex()} ...) are no "
                    "character. Convert it: iconv -f latin1 -t utf-8 FILE > NEW"
                ) from None
            if not content:
                return
            place += len(content)


def lines(path: Path, column: str) -> Iterator[str]:
    """The column of each object of a file of JSON lines."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                text = _from_line(line, column, f"line {number} of the corpus file {str(path)!r}")
                if text is not None:
                    yield text


def _from_line(line: bytes, column: str, seen: str) -> str | None:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{seen} is not UTF-8: byte {error.start} of the line is {line[error.start]:#x}. Save "
            "the file as UTF-8 again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{seen} is no JSON object ({first_line(error)}): write one object per line."
        ) from None
    if not isinstance(row, dict):
        raise BadInput(f"{seen} holds {_kind(row)}, not an object: write one object per line.")
    if column not in row:
        raise BadInput(_no_column(seen, column, list(row)))
    text: object = row[column]
    if text is None:
        return None
    if not isinstance(text, str):
        raise BadInput(
            f"{seen} has {_kind(text)} in the column {column!r}, not text: name another --column."
        )
    # JSON may escape one half of a character, which no encoding of text can hold
    if b"\\u" in line:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(
                f"{seen} has half of a character (\\u{ord(text[error.start]):x}) in the column "
                f"{column!r}: correct it, or remove the line."
            ) from None
    return text


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")


def _no_column(seen: str, column: str, there: list[str]) -> str:
    listed = ", ".join(there[:10]) or "none"
    return f"{seen} has no column {column!r}, only {listed}: name one of them with --column."


def parquet(path: Path, column: str) -> Iterator[str]:
    """A column of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    seen = f"the corpus file {str(path)!r}"
    with open(path, "rb") as file:
        row = 0
        try:
            table = pyarrow.parquet.ParquetFile(file)
            _check_column(
                seen,
                column,
                dict(zip(table.schema_arrow.names, table.schema_arrow.types, strict=True)),
            )
            for batch in table.iter_batches(_ROWS, columns=[column]):
                for value in batch.column(0):
                    if (text := value.as_py()) is not None:
                        yield text
                    row += 1
        except UnicodeDecodeError as error:
            raise BadInput(
                f"row {row} of {seen} is not UTF-8 in the column {column!r}: byte {error.start} of "
                f"the text is {error.object[error.start]:#x}. Write the file again as UTF-8."
            ) from None
        except (pyarrow.ArrowException, OSError) as error:
            raise BadInput(
                f"{seen} cannot be read from row {row} on ({first_line(error)}): restore it."
            ) from None


def _check_column(seen: str, column: str, kinds: dict[str, Any]) -> None:
    """Raise BadInput if a table has no such column, or one of another type than text."""
    if column not in kinds:
        raise BadInput(_no_column(seen, column, list(kinds)))
    kind = kinds[column]
    if hasattr(kind, "index_type"):  # a dictionary; a list has a value type too
        kind = kind.value_type
    name = str(getattr(kind, "dtype", kind))
    if name not in ("string", "large_string", "string_view"):
        raise BadInput(f"the column {column!r} of {seen} holds {name}, not text: name another one.")


# Datasets


def parts_of(name: str) -> tuple[str, str | None]:
    """The name of a dataset and its configuration: "hf:org/name:config" -> ("org/name", "config")."""
    path = name.partition(":")[2]
    if not path.strip():
        raise BadInput(f"there is no name after {name!r}: name a dataset, as in 'hf:NAME'.")
    if os.path.exists(path):
        return path, None
    path, _, config = path.partition(":")
    return path, config or None


def downloaded_files(name: str) -> tuple[Path, ...]:
    """The local files of a dataset of the hub. Raises BadInput if there are none."""
    path, config = parts_of(name)
    rows = load_dataset(path, "dataset with a split 'train'", name=config, split="train")
    return tuple(Path(each["filename"]) for each in rows.cache_files)


def dataset_rows(name: str, streaming: bool, version: str, column: str) -> Iterator[str]:
    """The column of the split "train" of a dataset."""
    path, config = parts_of(name)
    seen = f"the dataset {path!r}"
    options: dict[str, Any] = {"revision": version} if version else {}
    options |= {"streaming": True} if streaming else {}
    rows = load_dataset(path, "dataset with a split 'train'", name=config, split="train", **options)
    # a dataset of images or numbers loads without an error; a stream may not know its columns
    if rows.features is not None:
        _check_column(seen, column, dict(rows.features))
    number = 0
    try:
        for table in rows.with_format("arrow").iter(batch_size=_ROWS):
            if column not in table.column_names:
                raise BadInput(_no_column(seen, column, table.column_names))
            for text in table.column(column).to_pylist():
                if text is not None and not isinstance(text, str):
                    raise BadInput(
                        f"row {number} of {seen} has {_kind(text)} in the column {column!r}, not "
                        "text: name another --column."
                    )
                number += 1
                if text is not None and text.strip():
                    yield text
    except BadInput:
        raise
    except Exception as error:  # the libraries have no common class for their errors
        raise BadInput(
            f"{seen} cannot be read from row {number} on ({first_line(error)}): start again, or "
            "name another one."
        ) from None
