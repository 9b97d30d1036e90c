"""Stop a run safely: after Ctrl-C, SIGTERM or a closed terminal it ends its step and saves.

Signal handlers belong to the whole process, so a process has one `Stop`. Nested calls of
`listening` share it. Standard library only: this module is imported before torch, which takes
seconds.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .errors import STOPPED, Interrupted, exit_status, lost_process

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECONDS = 1  # between two looks at the launcher


class Stop:
    """A request to stop.

    Attributes:
        asked: a signal has arrived.
        number: the first signal that has arrived; 0 for none.
        deferrals: the number of `deferred` blocks that are open. If there are none, the first
            signal raises KeyboardInterrupt in the main thread; else it only sets `asked`.
        at_once: nothing has begun, so a signal ends the process at once.
        ended: the process does nothing else, so signals are ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self.number = 0
        self.deferrals = 0
        self.at_once = False
        self.ended = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        # Only the first signal raises: a second one must not break what the first one began.
        again, self.asked = self.asked, True
        self.number = self.number or number
        if self.at_once:
            # Not an exception: a module that is being imported could catch it.
            if not self.others_tell:
                os.write(2, b"Stopped before anything began.\n")
            os._exit(STOPPED)
        if not self.deferrals and not again:
            raise KeyboardInterrupt

    def check(self, done: str) -> None:
        """Raise Interrupted after a signal. `done` says which work is saved."""
        if self.asked:
            raise Interrupted(done)

    @property
    def others_tell(self) -> bool:
        """Whether the first process of the run has got the same Ctrl-C and prints its sentence."""
        # another signal may be of this process alone: torchrun sends SIGTERM if a process has died
        first = os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"
        return self.number == signal.SIGINT and not first

    def end(self) -> None:
        """Ignore all signals until the process has ended."""
        self.ended = True
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


_stop: Stop | None = None


@contextmanager
def listening(*, at_once: bool = False, deferrals: int = 0) -> Iterator[Stop]:
    """Handle SIGINT, SIGTERM and SIGHUP by a `Stop`, which starts with these values.

    If SIGHUP is ignored already, as under nohup, it stays ignored. Python runs handlers in the main
    thread only, so nothing is handled if this is called in another thread.
    """
    global _stop
    if _stop is not None:  # a nested call: the outermost one owns the handlers
        yield _stop
        return
    _stop = Stop()
    _stop.at_once, _stop.deferrals = at_once, deferrals
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            # A script that starts `command &` ignores SIGINT for it; it must be handled all the same.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _stop.handle)
    try:
        # A process that `held_back` protected while it started inherits the blocked signals.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        yield _stop
    finally:
        for number, handler in before.items() if not _stop.ended else ():
            signal.signal(number, handler)
        _stop = None


def run_program(program: Callable[[Stop], None], *, last: bool = False) -> int:
    """Run a program and return its exit status.

    A Ctrl-C ends the process at once until the program sets `stop.at_once` to False, after its
    imports, which take seconds. `last`: the process has nothing else to do afterwards. If torchrun
    started this process and has died, that counts as a Ctrl-C.
    """
    with listening(at_once=True) as stop, _ending_with_launcher():

        def ran() -> int:
            try:
                program(stop)
            except (Interrupted, KeyboardInterrupt) as error:
                if stop.others_tell or getattr(error, "others_tell", False):
                    return STOPPED
                raise
            except Exception as error:
                # After a Ctrl-C each process may be the first to leave.
                if stop.number != signal.SIGINT or not lost_process(error):
                    raise
                if stop.others_tell:
                    return STOPPED
                raise Interrupted from None
            return 0

        status = exit_status(ran)
        if last:
            stop.end()
        return status


@contextmanager
def _ending_with_launcher() -> Iterator[None]:
    """Send this process a SIGINT if torchrun dies that started it.

    torchrun starts each process in a session of its own, so that nothing else would end them:
    they would go on for hours.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    launcher, done = os.getppid(), threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS):
            if os.getppid() != launcher:
                os.kill(os.getpid(), signal.SIGINT)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def deferred() -> Iterator[Stop]:
    """Record signals instead of acting on them. Raise Interrupted at the end if nothing did."""
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
    """Block signals here, and in a process that is started meanwhile until it calls `listening`."""
    with listening() as stop:
        # Subtle: the mask is of this thread alone, and a signal may arrive in another thread.
        stop.deferrals += 1
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            stop.deferrals -= 1
        if stop.asked and not stop.deferrals:
            raise KeyboardInterrupt
