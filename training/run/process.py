"""Train one arm in a process of its own: python -m training.run.process RUN --seed 0 --arm lstm

workers.py starts it; RUN must hold its config.json. At the end of standard input this process ends:
the parent process keeps the pipe open as long as it lives. Messages go to standard output as lines
of JSON: progress, and at last an error. All other output goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TextIO

from training.errors import STOPPED, Interrupted
from training.interrupts import Stop, listening

_ORPHANED = 3  # exit status; the parent that could read it is dead


def main() -> int:
    """Train the arm. Returns 0, 1 or 2 for an error that was sent as a message, 130 for a stop."""
    flags = _parse()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Standard output becomes standard error: a library that prints must not break a message.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Deferred to the end: training itself asks between two steps whether it shall stop.
    with listening(deferrals=1) as stop:
        status = _work(flags, channel, stop)
        stop.end()
    return status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.run.process", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=MODULE:CLASS")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--measures", type=int, default=12)
    parser.add_argument("--quiet", action="store_true")
    parser.set_defaults(jobs=1)
    return parser.parse_args()


def _work(flags: argparse.Namespace, channel: TextIO, stop: Stop) -> int:
    # Imported here: signals that arrive in these seconds are recorded, not lost.
    from charembed import ENCODERS
    from training.errors import BAD_INPUT, BROKE, sentence, user_errors
    from training.progress import in_messages, no_bars

    from .arm import train_arm
    from .machine import Machine
    from .run import Run

    try:
        stop.check("Nothing had begun.")
        for added in flags.encoder:
            name, _, place = added.partition("=")
            module, _, path = place.partition(":")
            ENCODERS[name] = attrgetter(path)(import_module(module))
        machine = Machine.of(flags)
        arm = Run.open(flags.run, machine.cache).arm(flags.arm, flags.seed)
        train_arm(arm, machine, in_messages(channel) if machine.progress else no_bars)
    except Interrupted:
        return STOPPED
    except BrokenPipeError:  # the parent does not read the messages any more
        os._exit(_ORPHANED)
    except Exception as error:
        message = sentence(error)
        if message is None:  # a defect: the traceback goes to standard error
            raise
        print(json.dumps({"error": message}), file=channel, flush=True)
        return BAD_INPUT if isinstance(error, user_errors()) else BROKE
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    # sys.exit would end this thread alone. What is saved is complete, as all files are renamed.
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
