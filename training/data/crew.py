"""Encode a long text by several processes; the ids come in the order of the text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.errors import Broke
from training.interrupts import held_back

from .encode import Pieces
from .tokenizers import Ids, Tokenizer

CHARACTERS = 500_000  # of text in a batch
SMALL = 32  # batches; a shorter text is encoded here, before the processes would have started
_OUTSTANDING = 2  # batches that a process has at once, so that it never waits for the next one
_ROOT = Path(__file__).parent.parent.parent  # where `training` is imported from


def num_cores() -> int:
    """The cores that this process may use."""
    # a container or a batch system may give a process fewer cores than the machine has
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_batches(pieces: Iterable[str | None]) -> Iterator[Pieces]:
    """Collect pieces of text into batches of about CHARACTERS characters."""
    batch: list[str | None] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece or "x")
        if size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encoded(tokenizer: Tokenizer, pieces: Iterable[str | None]) -> Iterator[Ids]:
    """The ids of pieces of text, in order, in arrays of some 100,000; None is an end token.

    Raises Broke if a process was killed.
    """
    batches = in_batches(pieces)
    first = list(islice(batches, SMALL))
    if len(first) < SMALL or num_cores() == 1:
        for batch in chain(first, batches):
            yield tokenizer.encode_pieces(batch)
        return
    with _started(num_cores(), tokenizer.recipe()) as processes:
        waiting: deque[_Process] = deque()
        for number, batch in enumerate(chain(first, batches)):
            process = processes[number % len(processes)]
            process.send(batch)
            waiting.append(process)
            if len(waiting) > _OUTSTANDING * len(processes) - 1:
                yield waiting.popleft().receive()
        while waiting:
            yield waiting.popleft().receive()


class _Process:
    def __init__(self, recipe: dict[str, Any]) -> None:
        paths = [str(_ROOT), *filter(None, [*sys.path, os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.data.encode"],
            stdin=subprocess.PIPE,  # its end tells the child that this process has died
            stdout=subprocess.PIPE,
            # one thread each: the processes already use every core
            env=os.environ | {
                "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false",
                "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            },
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout
        self.send(recipe)

    def send(self, content: object) -> None:
        try:
            self.input.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")
            self.input.flush()
        except BrokenPipeError:
            self._raise()

    def receive(self) -> Ids:
        """The ids of the oldest batch that was sent."""
        size = self.output.read(8)
        content = self.output.read(4 * int.from_bytes(size, "little")) if len(size) == 8 else b""
        if len(size) < 8 or len(content) != 4 * int.from_bytes(size, "little"):
            self._raise()
        return np.frombuffer(content, np.int32)

    def _raise(self) -> None:
        status = self.process.wait()
        killed = "; most likely the machine ran out of memory" if status == -9 else ""
        raise Broke(
            f"A process that encodes the corpus ended with status {status}{killed}. Start again: "
            "the corpus is prepared anew."
        )


@contextmanager
def _started(number: int, recipe: dict[str, Any]) -> Iterator[list[_Process]]:
    processes: list[_Process] = []
    try:
        for _ in range(number):
            # the child inherits the blocked signals: a Ctrl-C is handled here alone
            with held_back():
                processes.append(_Process(recipe))
        yield processes
    finally:
        for each in processes:
            # killed, not asked: what it still encodes is of no use
            each.process.kill()
            for pipe in (each.input, each.output):
                with suppress(BrokenPipeError):
                    pipe.close()
            each.process.wait()
