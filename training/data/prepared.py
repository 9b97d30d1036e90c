"""A tokenized corpus, made once: a later start maps its ids and reads no text.

Files in the cache:

    corpus-KEY.json        which vocabulary and which ids belong to some files of text, read in some way
    vocabulary-KEY.json    a vocabulary that was trained here
    text-KEY.safetensors   token ids; see ids.py
    files-KEY.json         hashes of large files, valid as long as their times and sizes are the same
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import filelock
import numpy as np
import torch
from torch import Tensor

from training.errors import BadInput, tell
from training.files import CACHED, clear_left_overs, read_record, sha256, write_record
from training.interrupts import held_back
from training.progress import Bars, no_bars

from .corpus import PARTS, TRAIN, VALIDATION, Corpus, Piece, joined
from .documents import Source
from .encode import encoded
from .encodings import kept_encoding, load_encoding
from .hashes import file_hashes, remembered
from .ids import Writer, check_ids, mapped_ids, writing
from .tokenizers import Tiktoken, Tokenizer

SAMPLE = 100_000_000  # bytes of text that a vocabulary is trained on, at most
_PIECE = 10_000  # characters of a piece of the sample
_FORMAT = 1  # of corpus-KEY.json
SEPARATORS = ("auto", "blank_line", "end_token")


class Vocabulary(NamedTuple):
    """A vocabulary to be trained on the corpus."""

    size: int
    alphabet: str


@dataclass(frozen=True, eq=False)
class Tokenized:
    """The token ids of a corpus.

    Attributes:
        ids: "train" and "validation", int32, mapped to memory.
        counts: of each id in "train", int64.
        sha256: of the text.
        validation_bytes: the bytes of the text of "validation".
    """

    tokenizer: Tokenizer
    ids: dict[str, Tensor]
    counts: Tensor
    sha256: str
    validation_bytes: int

    def counts_of(self, num_rows: int) -> Tensor:
        """The counts of `num_rows` tokens, the number of rows of a model's embedding."""
        counts = torch.zeros(max(num_rows, len(self.counts)), dtype=torch.long)
        counts[: len(self.counts)] = self.counts
        return counts


def tokenized(
    corpus: Corpus,
    by: Tokenizer | Vocabulary,
    cache: Path,
    separator: str = "auto",
    bars: Bars = no_bars,
) -> Tokenized:
    """The token ids of a corpus, from the cache if the same files were read in the same way.

    Otherwise the corpus is read, `by` a tokenizer or with a vocabulary that is trained on it.
    Processes that do so at the same time wait for the first one.

    Raises BadInput for a corpus that cannot be read, Damaged for a damaged file of the cache.
    """
    corpus = _with_known_version(corpus, cache)
    source = corpus.source
    ends = _ends_documents(source, by, separator)
    how = [
        _FORMAT, source.kind if source.kind in ("lines", "parquet", "dataset", "stream") else "text",
        source.column, source.documents, source.version, source.name if source.version else "",
        corpus.alphabet, corpus.validation_by, ends,
        by.name if not isinstance(by, Vocabulary) else [by.size, by.alphabet],
        file_hashes(source.files, cache),
    ]  # fmt: skip
    record = cache / f"corpus-{sha256(json.dumps(how))[:16]}.json"
    if (found := _kept(record, by, cache)) is None:
        with _alone(record, source.name):
            found = _kept(record, by, cache) or _make(record, corpus, by, ends, cache, bars)
    return found


def _with_known_version(corpus: Corpus, cache: Path) -> Corpus:
    """The corpus with the commit of its last use, if it is on the hub and the hub does not answer.

    The nodes of a cluster often have no network, and the ids may be prepared.
    """
    source, memo = corpus.source, cache / f"hub-{sha256(corpus.source.name)[:16]}.json"
    if source.version:
        if not memo.exists() or read_record(memo, CACHED)["version"] != source.version:
            write_record(memo, {"version": source.version})
    elif source.kind == "stream" and not source.files and memo.exists():
        return replace(corpus, source=replace(source, version=read_record(memo, CACHED)["version"]))
    return corpus


def _ends_documents(source: Source, by: Tokenizer | Vocabulary, separator: str) -> bool:
    """Whether an end token ends each document, and not a blank line."""
    end = None if isinstance(by, Vocabulary) else by.end
    if separator == "end_token" and end is None:
        raise BadInput(
            "separator is 'end_token', and the tokenizer has no token that ends a text: use "
            "'blank_line'."
        )
    # earlier versions put a blank line between the documents of these
    usual = source.kind in ("packaged", "text", "dataset")
    return separator == "end_token" or (separator == "auto" and end is not None and not usual)


def _kept(record: Path, by: Tokenizer | Vocabulary, cache: Path) -> Tokenized | None:
    """What the record names, or None if a file of it is missing."""
    if not record.exists():
        return None
    facts = read_record(record, CACHED)
    tokenizer: Tokenizer | Vocabulary = by
    if isinstance(by, Vocabulary):
        if (encoding := kept_encoding(facts["tokenizer"], cache)) is None:
            return None
        tokenizer = Tiktoken(encoding)
    assert not isinstance(tokenizer, Vocabulary)
    path = cache / facts["ids"]
    if not path.exists():
        return None
    remembered([path], cache, lambda path: check_ids(path, facts["facts"]))
    return _mapped(path, tokenizer, facts)


def _mapped(path: Path, tokenizer: Tokenizer, facts: dict[str, Any]) -> Tokenized:
    tensors = mapped_ids(path)
    ids = {part: tensors[part] for part in PARTS}
    return Tokenized(tokenizer, ids, tensors["counts"], facts["corpus"], facts["validation_bytes"])


@contextmanager
def _alone(record: Path, name: str) -> Iterator[None]:
    """Wait until no other process prepares the same corpus. Leave nothing behind but its files."""
    cache, new = record.parent, not record.parent.exists()
    # the system frees the lock if its process is killed
    place = record.with_name(f".{record.name}.lock")
    lock = filelock.FileLock(place, timeout=0)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            with held_back():  # a Ctrl-C between its file and the lock would leave the file
                lock.acquire()
        except filelock.Timeout:
            tell(f"Another process prepares the corpus {name!r}; this one waits for it.")
            new = _wait(lock)
        # what killed processes left; that of this record also if they ran on another machine
        clear_left_overs(cache)
        for left in cache.glob(f".{record.name}.*.part"):
            left.unlink(missing_ok=True)
        yield
    finally:
        with held_back():
            # a process that waits looks for the record first, so it need not find this file
            if lock.is_locked:
                place.unlink(missing_ok=True)
            lock.release()
            if new:
                with suppress(OSError):  # it is not empty
                    cache.rmdir()


def _wait(lock: filelock.BaseFileLock) -> bool:
    """Wait for a lock. Return True if its folder was made anew."""
    new = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=-1)
        except FileNotFoundError:
            # the first process has failed, and removed the folder that it had made
            new = True
    return new


# Make the ids


def _make(
    record: Path, corpus: Corpus, by: Tokenizer | Vocabulary, ends: bool, cache: Path, bars: Bars
) -> Tokenized:
    if left := corpus.source.left:
        tell(
            f"The folder {corpus.source.name!r} also holds other files ({left}), which are not read: "
            "its .txt files are the corpus."
        )
    tokenizer: Tokenizer | Vocabulary = by
    if isinstance(by, Vocabulary):
        # the sample has no name, so that its memory is free for the next step
        tokenizer = Tiktoken(
            load_encoding(_sample(_shown(corpus, bars, "read")), by.size, by.alphabet, cache)
        )
    assert not isinstance(tokenizer, Vocabulary)
    pieces, tally = _shown(corpus, bars, "tokenize"), _Tally()
    # the bytes of a temporary file without a name go with its process
    with writing(record) as writer, tempfile.TemporaryFile(dir=cache) as kept:
        _write(writer, TRAIN, tokenizer, _set_aside(pieces, kept), ends, tally)
        tally.end_part()
        _write(writer, VALIDATION, tokenizer, _read_back(kept), ends, tally)
        # the facts and the name are those of earlier versions, so that their caches stay valid
        writer.facts = {"corpus": tally.sha256, "encoding": tokenizer.name}
        writer.facts |= {"separator": "end_token"} if ends else {}
        key = " ".join([tokenizer.name, tally.sha256, *["end_token"] * ends])
        writer.path = cache / f"text-{sha256(key)[:16]}.safetensors"
    found = {
        "corpus": tally.sha256, "tokenizer": tokenizer.name, "ids": writer.path.name,
        "facts": writer.facts, "validation_bytes": tally.bytes,
    }  # fmt: skip
    write_record(record, found)
    # nobody else has written this file, however new it is
    remembered([writer.path], cache, lambda path: writer.digest, settled=0)
    return _mapped(writer.path, tokenizer, found)


class _Tally:
    """The hash of both parts, and the bytes of the last one."""

    def __init__(self) -> None:
        self.digest, self.bytes = hashlib.sha256(), 0

    def add(self, text: str) -> str:
        content = text.encode()
        self.digest.update(content)
        self.bytes += len(content)
        return text

    def end_document(self) -> None:
        self.digest.update(b"\0")

    def end_part(self) -> None:
        self.digest.update(b"\0")
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()


def _shown(corpus: Corpus, bars: Bars, doing: str) -> Iterator[Piece]:
    """The pieces of a corpus, with a bar that counts megabytes of text."""
    total = -(-(corpus.source.num_bytes or 0) // 10**6)
    with bars(f"{doing} the corpus (MB)", total) as bar:
        read = shown = 0
        for piece in corpus.pieces():
            yield piece
            read += len(piece[1])
            if read // 10**6 > shown:
                bar.update(read // 10**6 - shown)
                shown = read // 10**6


def _sample(pieces: Iterable[Piece]) -> str:
    """The training text, or of a text above SAMPLE bytes evenly spread pieces of it.

    Every piece is kept, then every second, every fourth, ...: the text is read once, and half of
    SAMPLE or more is left.
    """
    kept, size, stride = list[str](), 0, 1
    texts = joined((text, first) for part, text, first in pieces if part == TRAIN)
    for number, piece in enumerate(_equal_pieces(texts)):
        if number % stride == 0:
            kept.append(piece)
            size += len(piece.encode())
        if size > SAMPLE:
            kept, stride = kept[::2], 2 * stride
            size = sum(len(each.encode()) for each in kept)
    return "".join(kept)


def _equal_pieces(texts: Iterable[str]) -> Iterator[str]:
    rest = ""
    for text in texts:
        text = rest + text
        whole = len(text) - len(text) % _PIECE
        yield from (text[i : i + _PIECE] for i in range(0, whole, _PIECE))
        rest = text[whole:]
    if rest:
        yield rest


def _set_aside(pieces: Iterable[Piece], kept: IO[bytes]) -> Iterator[tuple[str, bool]]:
    """The training text; the other text goes into a file, for it comes behind all of the first."""
    for part, text, first in pieces:
        if part == TRAIN:
            yield text, first
        else:
            content = text.encode()
            kept.write((2 * len(content) + first).to_bytes(8, "little") + content)


def _read_back(kept: IO[bytes]) -> Iterator[tuple[str, bool]]:
    kept.seek(0)
    while head := kept.read(8):
        size, first = divmod(int.from_bytes(head, "little"), 2)
        yield kept.read(size).decode(), bool(first)


def _write(
    writer: Writer, part: str, tokenizer: Tokenizer, texts: Iterator[tuple[str, bool]], ends: bool,
    tally: _Tally,
) -> None:  # fmt: skip
    pieces: Iterator[str | None]
    whole = map(tally.add, joined(texts))
    pieces = _ended(tokenizer, texts, tally) if ends else tokenizer.pieces(whole)
    for ids in encoded(tokenizer, pieces):
        writer.write(part, ids)


def _ended(
    tokenizer: Tokenizer, texts: Iterator[tuple[str, bool]], tally: _Tally
) -> Iterator[str | None]:
    """Pieces of documents, each encoded on its own, and None at the end of each."""
    number = 0

    def numbered() -> Iterator[tuple[int, str]]:
        nonlocal number
        for text, first in texts:
            number += first
            if text:
                yield number, text

    for _, document in groupby(numbered(), key=itemgetter(0)):
        yield from tokenizer.pieces(tally.add(text) for _, text in document)
        tally.end_document()
        yield None


def count_tokens(corpus: Corpus, tokenizer: Tokenizer) -> Tensor:
    """The number of times that each token is in the training text, int64; nothing is written."""
    counts = np.zeros(len(tokenizer.spellings), np.int64)
    texts = joined((text, first) for part, text, first in corpus.pieces() if part == TRAIN)
    for ids in encoded(tokenizer, tokenizer.pieces(texts)):
        counts += np.bincount(ids, minlength=len(counts))
    return torch.from_numpy(counts)
