"""The files of lines that training appends to: metrics.jsonl and the curve of a phase."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from .state import METRICS, Position, check_curve, check_metrics


def curve_file(phase: str) -> str:
    """Return the name of the file of a phase's learning curve."""
    return f"{phase}.curve.jsonl"


class Lines:
    """A file of JSON lines with the running hash of its content."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file, self._digest = file, digest

    def write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row).encode() + b"\n"
        self._file.write(line)
        self._digest.update(line)

    def sync(self) -> tuple[int, str]:
        """Put all lines on the disk. Return the length of the file and its hash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell(), self._digest.hexdigest()


class Record:
    """Both files of a phase.

    Attributes:
        metrics: one line for each step.
        curve: one line for each set that was measured at a step.
    """

    def __init__(self, metrics: Lines, curve: Lines) -> None:
        self.metrics, self.curve = metrics, curve

    @classmethod
    @contextmanager
    def open(cls, folder: Path, position: Position, *, writes: bool) -> Iterator[Record]:
        """Cut both files at a position and open them. With `writes` False nothing is written.

        Raises Damaged if the content up to the position has changed.
        """
        names = METRICS, curve_file(position.phase)
        with ExitStack() as files:

            def lines(path: Path | str, digest: Any) -> Lines:
                return Lines(files.enter_context(open(path, "ab")), digest)

            if not writes:
                yield cls(*(lines(os.devnull, hashlib.sha256()) for _ in names))
                return
            folder.mkdir(parents=True, exist_ok=True)
            paths = [folder / name for name in names]
            # both are checked before one is opened, which would create it
            digests = [
                check(path, position, cut=True)
                for check, path in zip((check_metrics, check_curve), paths, strict=True)
            ]
            yield cls(*map(lines, paths, digests))

    def sync(self, position: Position) -> Position:
        """Put all lines on the disk, and return the position with their lengths and hashes."""
        metrics_bytes, metrics_sha256 = self.metrics.sync()
        curve_bytes, curve_sha256 = self.curve.sync()
        return replace(
            position,
            metrics_bytes=metrics_bytes,
            metrics_sha256=metrics_sha256,
            curve_bytes=curve_bytes,
            curve_sha256=curve_sha256,
        )
