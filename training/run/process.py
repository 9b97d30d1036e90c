"""One arm in a process of its own: `python -m training.run.process`, started by workers.py alone.

Standard input brings the job, one line of JSON, and stays open as long as the process that started this one
lives: at its end this one ends too. Standard output takes messages about progress and, before the end, one
about what went wrong; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from training.errors import STOPPED, Interrupted
from training.interrupts import Stop, listening

ORPHANED = 3


def main() -> int:
    """Run the arm. Returns 0, 1 or 2 for a failure that was told, or 130 for a stop."""
    job = json.loads(sys.stdin.buffer.readline() or "null")
    if job is None:
        return ORPHANED
    threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with listening(deferrals=1) as stop:  # to the end: the arm itself asks whether it shall stop
        status = _work(job, channel, stop)
        stop.end()
    return status


def _work(job: dict[str, Any], channel: TextIO, stop: Stop) -> int:
    from training.config.config import CompareConfig
    from training.data.prepare import prepare
    from training.errors import BAD_INPUT, BROKE, sentence, user_errors
    from training.progress import in_messages, no_bars

    from .arm import RunOptions, run_arm
    from .identity import check_data

    options = RunOptions(**job["options"] | {"cache": Path(job["options"]["cache"])})
    bars = in_messages(channel) if options.progress else no_bars
    folder = Path(job["folder"])
    try:
        stop.check("Nothing had begun.")
        config = CompareConfig.from_dict(job["config"])
        run = folder.parent.parent
        data = prepare(config, options.cache, run)
        check_data(run, job["facts"], data.facts)
        run_arm(config, job["seed"], job["arm"], folder, options, data, bars)
    except Interrupted:
        return STOPPED
    except BrokenPipeError:  # nobody reads the messages any more
        os._exit(ORPHANED)
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        print(json.dumps({"error": told}), file=channel, flush=True)
        return BAD_INPUT if isinstance(error, user_errors()) else BROKE
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
