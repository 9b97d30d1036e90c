"""Hashes of large files, kept as long as the files do not change: files-KEY.json in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.errors import BadInput
from training.files import sha256, write_json

from .readers import WHOLE

_SETTLED = 2_000_000_000  # ns; see `remembered`


def file_hashes(files: Sequence[Path], cache: Path) -> list[str]:
    """The SHA-256 of files. A large file is read again only if its size or times have changed.

    Raises BadInput for a file that cannot be read.
    """

    def of(path: Path) -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        return remembered(files, cache, of)
    except OSError as error:
        raise BadInput(
            f"the corpus file {error.filename!r} cannot be read ({error.strerror}): restore it, or "
            "name another corpus."
        ) from None


def remembered(
    files: Sequence[Path], cache: Path, find: Callable[[Path], str], settled: int = _SETTLED
) -> list[str]:
    """`find` of each file; of large files that have not changed, as it was found before.

    It is noted for files that had not changed for `settled` nanoseconds: within the grain of the
    clock a file may change twice and have the same times.
    """
    stats = [os.stat(path) for path in files]
    if sum(stat.st_size for stat in stats) < WHOLE:
        return [find(path) for path in files]
    names = [str(path.absolute()) for path in files]
    memo, known = cache / f"files-{sha256(json.dumps(names))[:16]}.json", dict[str, Any]()
    with suppress(OSError, ValueError):
        known = json.loads(memo.read_bytes())
    found, values = dict[str, list[Any]](), list[str]()
    for path, name, stat in zip(files, names, stats, strict=True):
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        *before, value = known.get(name, [None])
        age = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns)
        values.append(value if before == seen else find(path))
        if age >= settled or before == seen:
            found[name] = [*seen, values[-1]]
    if found != known:
        with suppress(OSError):  # a cache that is full or read-only costs time alone
            write_json(memo, found)
    return values
