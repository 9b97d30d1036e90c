"""Token ids in a file: written as they come, read by mapping the file to memory.

The file is a safetensors file, so that any reader of the format opens it: int32 tensors "train" and
"validation", and "counts", the number of times that each id is in "train". Its metadata holds the
facts and the hash that `training.files.read_tensors` checks.

Axes: B rows, T tokens per row.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charembed.files import temporary_name
from training.errors import Damaged
from training.files import CACHED, hash_with_facts

from .tokenizers import Ids

_HEADER = 4096  # bytes kept for the header, which is known when everything else is written
_READ = 2**20
# Linux reserves memory for a private map, and so refuses one of a file that is larger than the memory
_FLAGS = mmap.MAP_PRIVATE | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
_DTYPES = {"I32": torch.int32, "I64": torch.int64}


class _Map(mmap.mmap):
    """A mapped file. `file` is open as long as the map, so that windows can be read from it."""

    file: int

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.file)  # an argument, as at the end of Python `os` goes before this object


# by the address of their first byte, which the storage of each tensor of the map has too
_MAPS: weakref.WeakValueDictionary[int, _Map] = weakref.WeakValueDictionary()


class Writer:
    """Writes the ids of one part after the other, and counts those of "train".

    `path` and `facts` may be set until the end: they may depend on all of the text. `digest` is the
    hash of the finished file.
    """

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path, self.facts = file, path, dict[str, Any]()
        self.counts = np.zeros(0, np.int64)
        self.sizes, self.digest = dict[str, int](), ""

    def write(self, part: str, ids: Ids) -> None:
        self.file.write(ids.tobytes())
        self.sizes[part] = self.sizes.get(part, 0) + len(ids)
        if part == "train" and len(ids):
            counts = np.bincount(ids, minlength=len(self.counts))
            counts[: len(self.counts)] += self.counts
            self.counts = counts


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Write a file of ids: complete at the end of the `with` block, or absent.

    Raises OSError, with the path, if it cannot be written, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "w+b") as file:
            file.write(bytes(_HEADER))
            writer = Writer(file, path)
            yield writer
            _finish(file, writer)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, writer.path)
    except OSError as error:
        # a failed write has no file name
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _finish(file: Any, writer: Writer) -> None:
    """Write the counts, and the header into its place."""
    sizes = [writer.sizes.get(part, 0) for part in ("train", "validation")]
    tensors = [("train", "I32", sizes[0]), ("validation", "I32", sizes[1])]
    # the format allows no gap, and counts begin at a multiple of their eight bytes
    tensors += [("padding", "I32", 1)] * (sum(sizes) % 2) + [("counts", "I64", len(writer.counts))]
    file.write(bytes(sum(sizes) % 2 * 4) + writer.counts.tobytes())
    file.flush()
    header, end = dict[str, Any](), 0
    for name, dtype, size in tensors:
        begin, end = end, end + size * (8 if dtype == "I64" else 4)
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [begin, end]}
    text = json.dumps(writer.facts)
    writer.digest = hash_with_facts(_hash(file, _HEADER, header), text)
    metadata = {"facts": text, "sha256": writer.digest}
    content = json.dumps({"__metadata__": metadata, **header}).encode()
    assert len(content) <= _HEADER - 8, len(content)
    file.seek(0)
    # spaces at the end of the header are part of the format
    file.write((_HEADER - 8).to_bytes(8, "little") + content.ljust(_HEADER - 8))


def _hash(file: Any, start: int, header: Mapping[str, Any]) -> str:
    """`hash_tensors` of the tensors of a file, without having them in memory."""
    digest = hashlib.sha256()
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        digest.update(
            f"{name} {_DTYPES[header[name]['dtype']]} {tuple(header[name]['shape'])}".encode()
        )
        file.seek(start + begin)
        for place in range(begin, end, _READ):
            digest.update(file.read(min(_READ, end - place)))
    file.seek(0, os.SEEK_END)
    return digest.hexdigest()


def _header(file: Any, size: int) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The place of the data, the tensors and the metadata. Raises ValueError, KeyError or TypeError."""
    file.seek(0)
    start = 8 + int.from_bytes(file.read(8), "little")
    if start > size:
        raise ValueError("its header is longer than the file")
    header = json.loads(file.read(start - 8))
    metadata = header.pop("__metadata__")
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        each = _DTYPES[tensor["dtype"]].itemsize
        if not 0 <= begin <= end <= size - start or tensor["shape"] != [(end - begin) // each]:
            raise ValueError(f"{name} does not fit into the file")
    return start, header, metadata


def check_ids(path: Path, facts: Mapping[str, Any]) -> str:
    """The hash of a file of ids, read from end to end. Raises Damaged if it has other content."""
    try:
        with open(path, "rb") as file:
            start, header, metadata = _header(file, os.fstat(file.fileno()).st_size)
            seen = hash_with_facts(_hash(file, start, header), metadata["facts"])
            saved, written = json.loads(metadata["facts"]), metadata["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged ({error}): {CACHED}.") from None
    if seen != written:
        raise Damaged(f"{path} is damaged (its content is not what was saved): {CACHED}.")
    if saved != facts:
        raise Damaged(f"{path} is damaged (it holds another text): {CACHED}.")
    return seen


def mapped_ids(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `check_ids` accepted, mapped to memory: nothing is read yet."""
    with open(path, "rb") as file:
        start, header, _ = _header(file, os.fstat(file.fileno()).st_size)
        # private: torch knows no memory that cannot be written, and the file must stay as it is
        whole = _Map(file.fileno(), 0, flags=_FLAGS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        whole.file = os.dup(file.fileno())
    content = torch.frombuffer(whole, dtype=torch.uint8)
    _MAPS[content.data_ptr()] = whole
    found = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        found[name] = content[start + begin : start + end].view(_DTYPES[tensor["dtype"]])
    return found


def windows(ids: Tensor, starts: Tensor, length: int) -> Tensor:
    """Rows of `length` ids from each start on, int64 (B, T).

    windows(tensor([5, 6, 7, 8]), tensor([0, 2]), 2) -> [[5, 6], [7, 8]]
    """
    whole = _MAPS.get(ids.untyped_storage().data_ptr()) if ids.dtype == torch.int32 else None
    if whole is None:
        # ids are int32 to halve the memory; torch indexes with int64
        return ids[starts[:, None] + torch.arange(length)].long()
    # Read from the file: the pages of a map count as memory of the process as long as it is mapped,
    # and windows at random places would soon touch every page.
    rows = np.empty((len(starts), length), np.int32)
    for row, start in zip(rows, starts.tolist(), strict=True):
        place = 4 * (ids.storage_offset() + start)
        if os.preadv(whole.file, [row.data], place) != row.nbytes:
            raise Damaged(f"the file of the token ids was cut short while it was used: {CACHED}.")
    return torch.from_numpy(rows).long()
