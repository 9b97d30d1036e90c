"""Progress bars, in the terminal or as messages to the parent process, which draws them.

`Bars` makes a bar: bars("pretrain", total=400, done=200); a total of 0 is unknown. A bar has tqdm's
methods `update(n)`, `set_postfix_str(text)` and `close()`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any, Protocol, TextIO

from tqdm import tqdm

_PAUSE = 0.1  # seconds between two messages about one bar


class Bars(Protocol):
    def __call__(self, what: str, total: int, done: int = 0) -> Any: ...


class _Terminal:
    """Standard error. Writing does nothing if it is closed: a run outlives its terminal."""

    def write(self, text: str) -> None:
        # sys.stderr is looked up here, as tests and notebooks replace it.
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def no_bars(what: str, total: int, done: int = 0) -> Any:
    return tqdm(total=total, initial=done, disable=True)


def in_terminal(label: str, position: int = 0) -> Bars:
    """Return bars that share one line of the terminal, each with the label before it."""

    def bar(what: str, total: int, done: int = 0) -> Any:
        return tqdm(
            total=total or None,
            initial=done,
            desc=f"{label} {what}".strip(),
            position=position,
            leave=False,  # the line is free for the next bar
            file=_Terminal(),
            dynamic_ncols=True,
        )

    return bar


def in_messages(channel: TextIO) -> Bars:
    """Return bars that are written as lines of JSON, for `Mirror`."""
    return lambda what, total, done=0: _Messages(channel, what, total, done)


class _Messages:
    def __init__(self, channel: TextIO, what: str, total: int, done: int) -> None:
        self.channel, self.what, self.total, self.done = channel, what, total, done
        self.note, self.last = "", 0.0

    def update(self, n: int = 1) -> None:
        self.done += n
        # Always the last one, so that the bar ends full.
        if (now := time.monotonic()) - self.last >= _PAUSE or self.done == self.total:
            self.last = now
            facts = {"what": self.what, "total": self.total, "done": self.done, "note": self.note}
            print(json.dumps(facts), file=self.channel, flush=True)

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        self.note = note

    def close(self) -> None:
        pass

    def __enter__(self) -> _Messages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mirror:
    """Draws the bars of another process from its messages."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.shown: Any = None
        self.key: tuple[str, int] | None = None

    def show(self, message: str) -> None:
        """Draw one line of JSON from `in_messages`."""
        facts = json.loads(message)
        key = facts["what"], facts["total"]
        if key != self.key:  # another phase has begun
            self.close()
            self.shown, self.key = self.bars(*key, facts["done"]), key
        self.shown.set_postfix_str(facts["note"], refresh=False)
        # tqdm adds, the message holds the total number.
        self.shown.update(facts["done"] - self.shown.n)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.close()
        self.shown = self.key = None
