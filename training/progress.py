"""Progress bars: in the terminal, or as messages to the process that has the terminal.

`Bars` makes a bar: bars("pretrain", total=400, done=200). A bar can `update(n)`, `set_postfix_str(text)` and
`close()`, as tqdm's can.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any, Protocol, TextIO

from tqdm import tqdm

PAUSE = 0.1  # seconds between two messages about one bar


class Bars(Protocol):
    def __call__(self, what: str, total: int, done: int = 0) -> Any: ...


class _Terminal:
    """Standard error, where it is still there to be written to."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def no_bars(what: str, total: int, done: int = 0) -> Any:
    return tqdm(total=total, initial=done, disable=True)


def in_terminal(label: str, position: int = 0) -> Bars:
    """Bars in one line of the terminal, each behind the label."""

    def bar(what: str, total: int, done: int = 0) -> Any:
        return tqdm(
            total=total,
            initial=done,
            desc=f"{label} {what}",
            position=position,
            leave=False,
            file=_Terminal(),
            dynamic_ncols=True,
        )

    return bar


def in_messages(channel: TextIO) -> Bars:
    """Bars as lines of JSON; `Mirror` shows them."""
    return lambda what, total, done=0: _Messages(channel, what, total, done)


class _Messages:
    def __init__(self, channel: TextIO, what: str, total: int, done: int) -> None:
        self.channel, self.facts, self.note, self.last = (
            channel,
            {"what": what, "total": total},
            "",
            0.0,
        )
        self.done = done

    def update(self, n: int = 1) -> None:
        self.done += n
        if (now := time.monotonic()) - self.last >= PAUSE or self.done == self.facts["total"]:
            self.last = now
            message = self.facts | {"done": self.done, "note": self.note}
            print(json.dumps(message), file=self.channel, flush=True)

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        self.note = note

    def close(self) -> None:
        pass

    def __enter__(self) -> _Messages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mirror:
    """Shows the bars that another process writes as messages."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.shown: Any = None
        self.key: tuple[str, int] | None = None

    def show(self, message: str) -> None:
        """One line of JSON that `in_messages` wrote."""
        facts = json.loads(message)
        key = facts["what"], facts["total"]
        if key != self.key:
            self.close()
            self.shown, self.key = self.bars(*key, facts["done"]), key
        self.shown.set_postfix_str(facts["note"], refresh=False)
        self.shown.update(facts["done"] - self.shown.n)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.close()
        self.shown = self.key = None
