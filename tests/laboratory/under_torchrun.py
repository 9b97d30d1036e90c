"""The command in one of the processes of torchrun, which sends a signal at a chosen moment.

    torchrun ... -m tests.laboratory.under_torchrun MOMENT SIGNAL WHO WAY FLAGS

MOMENT: "step" (the 23rd of pretraining), "save" (of step 30), "question" (the first answers), or
"never". WHO gets the signal: "torchrun", or the process of that rank. WAY: "ddp" or "fsdp2".
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.laboratory import pairs
from training import compare
from training.interrupts import listening
from training.run import arm as arm_of
from training.run.processes import accelerator_of
from training.train import loop, shards


def disturb(name: str, who: str) -> None:
    """Send the signal; only one process does, so that torchrun gets it once."""
    number = signal.Signals[name]
    if who == "torchrun" and pairs.rank() == 0:
        os.kill(os.getppid(), number)
        with listening() as stop:
            # a tiny run would be at its end before the signal arrives
            while not stop.asked:
                time.sleep(0.01)
    elif who == str(pairs.rank()):
        os.kill(os.getpid(), number)


def at(calls: int, act: Callable[[], None], then: Callable[..., Any]) -> Callable[..., Any]:
    """Return `then`, which calls `act` before its own call of this number."""
    seen = [0]

    def wrapped(*given: Any, **named: Any) -> Any:
        seen[0] += 1
        if seen[0] == calls:
            act()
        return then(*given, **named)

    return wrapped


def main(moment: str, name: str, who: str, way: str, *flags: str) -> int:
    def act() -> None:
        disturb(name, who)

    if moment == "step":
        loop.take_step = at(23, act, loop.take_step)
    elif moment == "save":
        # each process hashes its shard in the middle of a save; the third one is of step 30
        shards._sha256 = at(3, act, shards._sha256)
    elif moment == "question":
        arm_of.evaluate_arm = at(1, act, arm_of.evaluate_arm)
    if way == "fsdp2":
        arm_of.accelerator_of = lambda *given: pairs.forged_again(accelerator_of, *given)  # type: ignore
    return compare.main([*flags], last=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
