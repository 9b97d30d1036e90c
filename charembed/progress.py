"""A progress bar on standard error, shown only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, int], object]
_WIDTH = 30  # characters of the bar
_DELAY = 0.5  # seconds before it appears: short work needs none


@contextmanager
def bar(label: str) -> Iterator[Advance]:
    """Yield a function of the finished and of all units, which draws the bar.

    with bar("Reading the spellings") as advance:
        advance(4096, 262144)     # Reading the spellings [##......] 1 %

    The line is removed at the end.
    """
    start, drawn = time.monotonic(), False

    def advance(done: int, total: int) -> None:
        nonlocal drawn
        if terminal() and time.monotonic() - start > _DELAY:
            share = done / max(total, 1)
            filled = "#" * round(share * _WIDTH)
            sys.stderr.write(f"\r{label} [{filled:.<{_WIDTH}}] {share:4.0%}")
            sys.stderr.flush()
            drawn = True

    try:
        yield advance
    finally:
        if drawn:
            sys.stderr.write("\r\033[K")  # back to the first column, clear the line
            sys.stderr.flush()


def terminal() -> bool:
    """True if standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()
