"""The arms of one run or of several, one after the other or side by side, each in a process of its own that
starts afresh.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from training.config.config import CompareConfig
from training.data.prepare import Data
from training.errors import BAD_INPUT, STOPPED, BadInput, Broke, Interrupted, tell
from training.interrupts import deferred, held_back
from training.progress import Bars, Mirror, in_terminal, no_bars

from .arm import RunOptions, run_arm
from .finished import is_finished
from .folder import arm_folder
from .identity import identity

ROOM = Path(__file__).parent.parent.parent  # where `training` is imported from


@dataclass(frozen=True, eq=False)
class Job:
    """One arm to train and ask: of which run, with which data, and in which run folder.

    Attributes:
        run: what the run is called where several are at work; "" where there is one.
    """

    config: CompareConfig
    seed: int
    arm: str
    out: Path
    data: Data
    run: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.run, f"seed {self.seed}", self.arm)))

    @property
    def folder(self) -> Path:
        return arm_folder(self.out, self.seed, self.arm)

    @property
    def finished(self) -> bool:
        return is_finished(self.folder, identity(self.config, self.seed, self.arm, self.data.facts))

    def bars(self, options: RunOptions, place: int = 0) -> Bars:
        return in_terminal(self.name.replace(",", ""), place) if options.progress else no_bars


def run_all(jobs: Sequence[Job], options: RunOptions, side_by_side: int) -> None:
    """Train and ask every arm that is not finished.

    Raises Interrupted when stopped, once all have saved, and Broke when an arm failed.
    """
    jobs = [job for job in jobs if not job.finished]
    if side_by_side == 1 or len(jobs) < 2:
        for job in jobs:
            run_arm(job.config, job.seed, job.arm, job.folder, options, job.data, job.bars(options))
        return
    crew = Crew(options)
    try:
        crew.work(jobs, side_by_side)
    except KeyboardInterrupt:
        crew.stopped = True
    finally:
        with deferred() as stop:
            crew.end()
            if crew.stopped or stop.asked:
                who = "Every other arm" if crew.failed else "Every arm"
                raise Interrupted(" ".join([*crew.failed, f"{who} saved its state."]))
    if crew.failed:
        kind = BadInput if crew.bad_input else Broke
        raise kind(
            f"{' '.join(crew.failed)} Nothing that was saved is lost: --resume goes on from there."
        )


class Crew:
    """The processes that work on arms, at most one at each place.

    Attributes:
        failed: a sentence for each arm that broke off.
        bad_input: the last of them for what the user can mend.
        stopped: someone asked an arm to stop, and it did.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.bad_input = False
        self.running: dict[int, Worker] = {}
        self.failed: list[str] = []
        self.stopped = False

    def work(self, jobs: Sequence[Job], places: int) -> None:
        """Keep so many processes busy until no job is left, or one has failed or was stopped."""
        waiting = list(jobs)
        with selectors.DefaultSelector() as selector:
            while self.running or waiting:
                while waiting and len(self.running) < places and not self.failed:
                    place = min(set(range(places)) - self.running.keys())
                    with (
                        held_back()
                    ):  # no signal between the start of a process and the note that it runs
                        worker = Worker(waiting.pop(0), self.options, place)
                        self.running[place] = worker
                    selector.register(worker.messages, selectors.EVENT_READ, place)
                for key, _ in selector.select():
                    if not self.running[key.data].listen():
                        selector.unregister(key.fileobj)
                        self._dismiss(key.data)
                if self.stopped or (self.failed and not self.running):
                    return

    def end(self) -> None:
        """Ask whoever is still at work to save and stop, and wait until all have."""
        for worker in self.running.values():
            worker.process.terminate()
        for place, worker in list(self.running.items()):
            while worker.listen():
                pass
            self._dismiss(place)

    def _dismiss(self, place: int) -> None:
        worker = self.running.pop(place)
        status = worker.process.wait()
        worker.close()
        if status == STOPPED:
            self.stopped = True
        elif status:
            self.bad_input = status == BAD_INPUT
            self.failed.append(worker.what_happened(status))
            if self.running:
                tell(f"{self.failed[-1]} The others go on.")


class Worker:
    """A process that works on one arm."""

    def __init__(self, job: Job, options: RunOptions, place: int) -> None:
        self.name = job.name
        self.error = ""
        self.mirror = Mirror(job.bars(options, place))
        paths = [str(ROOM), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.run.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        told = {
            "config": job.config.as_dict(),
            "facts": job.data.facts,
            "seed": job.seed,
            "arm": job.arm,
            "folder": str(job.folder),
            "options": asdict(options) | {"cache": str(options.cache)},
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.messages: IO[bytes] = self.process.stdout
        with suppress(BrokenPipeError):  # it is dead already; its exit status tells
            self.process.stdin.write(json.dumps(told).encode() + b"\n")
            self.process.stdin.flush()

    def listen(self) -> bool:
        """Take one message; False when there will be no more."""
        line = self.messages.readline()
        if not line:
            return False
        message = line.decode("utf-8")
        if message.startswith('{"error"'):
            self.error = json.loads(message)["error"]
        elif message.endswith("\n"):
            self.mirror.show(message)
        return True

    def close(self) -> None:
        self.mirror.close()
        for pipe in (self.process.stdin, self.messages):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def what_happened(self, status: int) -> str:
        if status < 0:
            name = next(
                (known.name for known in signal.Signals if known == -status), f"signal {-status}"
            )
            memory = "; most likely the machine ran out of memory, and --jobs 1 needs less"
            reason = memory if -status == signal.SIGKILL else ""
            return f"The arm {self.name} was killed from outside by {name}{reason}."
        return f"The arm {self.name} broke off: {self.error or 'its error stands above.'}"
