"""Encode a long text by several threads; the ids come in the order of the text."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from .tokenizers import Ids, Pieces, Tokenizer

CHARACTERS = 500_000  # of text in a batch
_OUTSTANDING = 2  # batches that a thread has at once, so that it never waits for the next one
_MOST = 16  # threads; one thread reads the text for all, and could not keep more of them busy


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

    Threads are enough: tiktoken and tokenizers leave Python's lock while they encode.
    """
    threads = min(num_cores(), _MOST)
    waiting: deque[Future[Ids]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in in_batches(pieces):
                waiting.append(pool.submit(tokenizer.encode_pieces, batch))
                if len(waiting) >= _OUTSTANDING * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # after an error or Ctrl-C nobody needs the batches that still wait
            pool.shutdown(cancel_futures=True)
