"""Train the arms of one run or of several: one after the other, or side by side in processes."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from training.errors import (
    BAD_INPUT,
    STOPPED,
    BadInput,
    Broke,
    Interrupted,
    sentence,
    tell,
    user_errors,
)
from training.interrupts import deferred, held_back
from training.models.arms import import_path, is_added
from training.progress import Bars, Mirror, in_terminal, no_bars

from .arm import train_arm
from .machine import Machine
from .run import ArmRun

_ROOT = Path(__file__).parent.parent.parent  # where `training` is imported from


class Failure(NamedTuple):
    """An arm that could not be trained or evaluated, and the reason in a sentence."""

    arm: ArmRun
    message: str
    bad_input: bool = False


def train_all(arms: Sequence[ArmRun], machine: Machine, *, isolated: bool = False) -> list[Failure]:
    """Train and evaluate every arm that is not finished.

    train_all(run.arms(), machine) -> []

    Arguments:
        isolated: an arm that fails does not keep the others from being trained. The failures are
            returned, in the order of the arms; without this there are none to return.

    Raises Interrupted for a Ctrl-C, after all arms have saved their state. Unless `isolated`, raises
    Broke or BadInput if an arm failed.
    """
    # Finished arms do not need a process, whose imports take seconds.
    missing, failed = _missing(arms, isolated)
    places = machine.side_by_side
    if local := [one.name for one in missing if is_added(one.name) and not import_path(one.name)]:
        if places > 1:
            tell(
                f"The arm {local[0]} was added by this script, which a process of its own does not "
                "run: the arms are trained one after the other, as with --jobs 1. Define its class "
                "in a module that the script imports to train them side by side."
            )
        places = 1
    if places == 1 or len(missing) < 2:
        for arm in missing:
            failed += _trained_here(arm, machine, isolated)
    else:
        failed += _trained_side_by_side(missing, machine, places, isolated)
    order = {arm: place for place, arm in enumerate(arms)}
    return sorted(failed, key=lambda one: order[one.arm])


def _missing(arms: Sequence[ArmRun], isolated: bool) -> tuple[list[ArmRun], list[Failure]]:
    """The arms that are not finished, and those whose files are damaged if `isolated`."""
    missing, failed = list[ArmRun](), list[Failure]()
    for arm in arms:
        try:
            if not arm.is_finished:
                missing.append(arm)
        except BadInput as error:
            if not isolated:
                raise
            failed.append(failure_of(arm, error))
    return missing, failed


def failure_of(arm: ArmRun, error: Exception) -> Failure:
    """Print the failure of an arm that stops no other, and return it. Call it in an `except`."""
    reason = sentence(error)
    if reason is None:  # a defect: its place is in the traceback
        tell(traceback.format_exc().rstrip())
        reason = f"{type(error).__name__}: {error}"
    failure = Failure(arm, _broke_off(arm.title, reason), isinstance(error, user_errors()))
    tell(f"{failure.message} The other arms go on.")
    return failure


def _broke_off(title: str, reason: str) -> str:
    return f"The arm {title} broke off: {reason}"


def _trained_here(arm: ArmRun, machine: Machine, isolated: bool) -> list[Failure]:
    """Train an arm in this process. Return its failure, if it has one and is isolated."""
    try:
        train_arm(arm, machine, _bars(arm, machine))
    except Interrupted:
        raise
    except Exception as error:
        if not isolated:
            raise
        return [failure_of(arm, error)]
    return []


def _trained_side_by_side(
    arms: Sequence[ArmRun], machine: Machine, places: int, isolated: bool
) -> list[Failure]:
    """Train arms in processes. Return the failures if they are isolated, else raise one error."""
    crew = _Crew(machine, isolated)
    try:
        crew.work(arms, places)
    except KeyboardInterrupt:
        crew.stopped = True
    finally:
        # A second Ctrl-C must not leave processes behind.
        with deferred() as stop:
            crew.end()
            if crew.stopped or stop.asked:
                who = "Every other arm" if crew.failed else "Every arm"
                raise Interrupted(" ".join([*crew.messages, f"{who} saved its state."]))
    if crew.failed and not isolated:
        kind = BadInput if crew.failed[-1].bad_input else Broke
        raise kind(
            f"{' '.join(crew.messages)} Nothing that was saved is lost: --resume goes on from "
            "there."
        )
    return crew.failed


def _bars(arm: ArmRun, machine: Machine, place: int = 0) -> Bars:
    return in_terminal(arm.title.replace(",", ""), place) if machine.progress else no_bars


class _Crew:
    """The processes that train arms, at most one at each place.

    Attributes:
        running: the processes by place; the place is the line of the progress bar.
        isolated: a failure does not stop the other arms.
        failed: the failures, in their order.
        stopped: an arm was stopped by a signal and saved its state.
    """

    def __init__(self, machine: Machine, isolated: bool = False) -> None:
        self.machine = machine
        self.isolated = isolated
        self.running: dict[int, _Worker] = {}
        self.failed: list[Failure] = []
        self.stopped = False

    @property
    def messages(self) -> list[str]:
        """One sentence for each failure."""
        return [one.message for one in self.failed]

    @property
    def gives_up(self) -> bool:
        """Whether no further arm is begun."""
        return bool(self.failed) and not self.isolated

    def work(self, arms: Sequence[ArmRun], places: int) -> None:
        """Keep `places` processes busy until no arm is left, one was stopped, or one has failed."""
        waiting = list(arms)
        with selectors.DefaultSelector() as selector:
            while self.running or waiting:
                while waiting and len(self.running) < places and not self.gives_up:
                    place = min(set(range(places)) - self.running.keys())
                    # No signal may come between the start of a process and the note that it runs.
                    with held_back():
                        worker = _Worker(waiting.pop(0), self.machine, place)
                        self.running[place] = worker
                    selector.register(worker.messages, selectors.EVENT_READ, place)
                for key, _ in selector.select():
                    # One message a time, so that a talkative arm does not delay another one.
                    if not self.running[key.data].listen():
                        selector.unregister(key.fileobj)
                        self._dismiss(key.data)
                if self.stopped or (self.gives_up and not self.running):
                    return

    def end(self) -> None:
        """Stop the processes that still run, and wait until all of them have saved their state."""
        for worker in self.running.values():
            worker.process.terminate()
        for place, worker in list(self.running.items()):
            while worker.listen():  # a full pipe would keep the process from ending
                pass
            self._dismiss(place)

    def _dismiss(self, place: int) -> None:
        worker = self.running.pop(place)
        status = worker.process.wait()
        worker.close()
        if status == STOPPED:
            self.stopped = True
        elif status:
            failure = Failure(worker.arm, worker.failure(status), status == BAD_INPUT)
            self.failed.append(failure)
            if self.running or self.isolated:
                tell(f"{failure.message} The other arms go on.")


class _Worker:
    """A process that trains one arm."""

    def __init__(self, arm: ArmRun, machine: Machine, place: int) -> None:
        self.arm, self.title = arm, arm.title
        self.error = ""
        self.mirror = Mirror(_bars(arm, machine, place))
        # The paths of this process: from them it imported the modules of added encoders.
        paths = [str(_ROOT), *filter(None, [*sys.path, os.environ.get("PYTHONPATH")])]
        which = [str(arm.run.folder), "--seed", str(arm.seed), "--arm", arm.name]
        for name in filter(is_added, arm.run.config.arms):  # the process reads the whole config
            which += ["--encoder", import_path(name)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.run.process", *which, *machine.flags],
            stdin=subprocess.PIPE,  # its end tells the child that this process has died
            stdout=subprocess.PIPE,  # messages; standard error is shared with this process
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        assert self.process.stdout is not None
        self.messages: IO[bytes] = self.process.stdout

    def listen(self) -> bool:
        """Read one message. Return False at the end of the messages."""
        line = self.messages.readline()
        if not line:
            return False
        message = line.decode("utf-8")
        if message.startswith('{"error"'):
            self.error = json.loads(message)["error"]
        elif message.endswith("\n"):  # else the process was killed in the middle of a message
            self.mirror.show(message)
        return True

    def close(self) -> None:
        self.mirror.close()
        for pipe in (self.process.stdin, self.messages):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def failure(self, status: int) -> str:
        """Return the message for an exit status that is not 0."""
        if status < 0:
            name = next(
                (known.name for known in signal.Signals if known == -status), f"signal {-status}"
            )
            # Linux kills a process with SIGKILL if memory runs out.
            memory = "; most likely the machine ran out of memory, and --jobs 1 needs less"
            reason = memory if -status == signal.SIGKILL else ""
            return f"The arm {self.title} was killed from outside by {name}{reason}."
        return _broke_off(self.title, self.error or "its error is printed above.")
