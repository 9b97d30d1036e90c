"""One arm in a process of its own: `python -m training.arm_process`, started by workers.py alone.

Standard input brings the job, one line of JSON, and stays open as long as the process that started this one
lives: at its end this one ends too. Standard output takes messages about progress and, before the end, one
about what went wrong; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from .interrupts import STOPPED, Interrupted, ending, listening

ORPHANED = 3


def main() -> int:
    """Run the arm. Returns 0, 1 for a failure that was told, or 130 for a stop."""
    job = json.loads(sys.stdin.buffer.readline() or "null")
    if job is None:
        return ORPHANED
    threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with listening(deferrals=1) as stop:  # to the end: the arm itself asks whether it shall stop
        from pathlib import Path

        from .config import CompareConfig
        from .errors import BROKE, sentence
        from .progress import in_messages, silent
        from .run import RunOptions, run_arm

        options = RunOptions(**job["options"] | {"cache": Path(job["options"]["cache"])})
        bars = in_messages(channel) if options.progress else silent
        try:
            stop.check("Nothing had begun.")
            config = CompareConfig.from_dict(job["config"])
            run_arm(config, job["seed"], job["arm"], Path(job["folder"]), options, bars=bars)
        except Interrupted:
            return STOPPED
        except Exception as error:
            told = sentence(error)
            if told is None:
                raise
            print(json.dumps({"error": told}), file=channel, flush=True)
            return BROKE
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    status = main()
    ending()
    sys.exit(status)
