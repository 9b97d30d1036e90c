"""Asked to stop (Ctrl-C, SIGTERM, a closed terminal), a run finishes its step and saves before it does.

Handlers belong to the whole process, so there is one `Stop`, and whoever listens inside of somebody who
listens already gets the same. Standard library only: this is imported before what takes seconds to import.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .errors import STOPPED, Interrupted, exit_status

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether someone asked to stop.

    While anybody defers, a signal is only noted; else the first one raises KeyboardInterrupt in the main
    thread. Before there is anything to save (`at_once`), it ends the process.
    """

    def __init__(self) -> None:
        self.asked = False
        self.deferrals = 0
        self.at_once = False
        self.ended = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if self.at_once:
            os.write(2, b"Stopped before anything began.\n")
            os._exit(STOPPED)
        if not self.deferrals and not again:
            raise KeyboardInterrupt

    def check(self, done: str) -> None:
        """Raise Interrupted if someone asked to stop; `done` says what stands where."""
        if self.asked:
            raise Interrupted(done)

    def end(self) -> None:
        """Nothing is left to be stopped: from here on the process ends by itself, and no signal is heard."""
        self.ended = True
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


_stop: Stop | None = None


@contextmanager
def listening(*, at_once: bool = False, deferrals: int = 0) -> Iterator[Stop]:
    """Hear SIGINT, SIGTERM and SIGHUP; a SIGHUP that was ignored when the program began (nohup) stays so.

    `at_once` and `deferrals` are where the new Stop begins. Outside of the main thread nothing is heard.
    """
    global _stop
    if _stop is not None:
        yield _stop
        return
    _stop = Stop()
    _stop.at_once, _stop.deferrals = at_once, deferrals
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _stop.hear)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `held_back`
        yield _stop
    finally:
        for number, handler in before.items() if not _stop.ended else ():
            signal.signal(number, handler)
        _stop = None


def run_program(program: Callable[[Stop], None], *, last: bool = False) -> int:
    """Run a program whose imports take seconds, and a Ctrl-C may come before they are done: it ends the
    process with a sentence, until the program sets `stop.at_once` to False.

    Returns what `errors.exit_status` does. `last`: the process has nothing else to do.
    """
    with listening(at_once=True) as stop:

        def ran() -> int:
            program(stop)
            return 0

        status = exit_status(ran)
        if last:
            stop.end()
        return status


@contextmanager
def deferred() -> Iterator[Stop]:
    """Note a signal, do not act on it. Raises Interrupted at the end if one came and nobody acted."""
    with listening() as stop:
        stop.deferrals += 1
        try:
            yield stop
        finally:
            stop.deferrals -= 1
        if not stop.deferrals:
            stop.check("")


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back, here and in a process that is started meanwhile, until that one listens."""
    with listening() as stop:
        stop.deferrals += (
            1  # the mask is of this thread, and a signal may come by way of another one
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            stop.deferrals -= 1
        if stop.asked and not stop.deferrals:
            raise KeyboardInterrupt
