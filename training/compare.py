"""Compare a model that sees the characters of its tokens with one that does not.

    python -m training.compare                  # preset quick: one pair
    python -m training.compare --seeds 5        # five pairs, intervals
    python -m training.compare --preset parent  # the parent experiment
    python -m training.compare --vocab-size 8192 --arms matched,lstm,shuffled
    # a pretrained model
    python -m training.compare --model FOLDER --steps 0 --finetune-lr 1e-4
    # other tasks
    python -m training.compare --tasks path_star:2x5 --objective reversed

An arm is one condition of the experiment: the model with one kind of input
embedding. All arms of a seed start from the same weights and are trained on the
same batches.

A run has its own folder: config.json, metrics.jsonl, results.json, report.html,
and a folder per seed and arm with weights and all answers. Ctrl-C saves the
state. The same command with --resume goes on to the same result, and --seeds 5
in the folder of a smaller run trains the missing pairs. `accelerate launch -m
training.compare ...` spreads each arm over several processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .interrupts import Stop, run_program

if TYPE_CHECKING:  # see `main`: nothing that imports torch is imported here
    from .config.config import CompareConfig


def main(argv: Sequence[str] | None = None, *, last: bool = False) -> int:
    """Run a comparison.

    Returns 0, or 2 for bad input, 1 for a run that broke, 130 for a stopped one. `last`: the
    process has nothing else to do afterwards.
    """

    def program(stop: Stop) -> None:
        # Imported here: torch takes seconds, in which a Ctrl-C must end in one sentence.
        from .config.flags import parse

        config, options = parse(argv, __doc__)
        # From here a signal raises an exception, so that files and child processes are closed.
        stop.at_once = False
        compare(config, options)

    return run_program(program, last=last)


def compare(config: CompareConfig, options: argparse.Namespace) -> None:
    """Train and evaluate all arms of all seeds, then write and print the results."""
    from rich.console import Console

    from .report.report import finish
    from .run.identity import short_name
    from .run.machine import Machine
    from .run.run import Run
    from .run.workers import train_all

    machine = Machine.of(options)
    folder = options.out or Path("runs") / f"{options.preset}-{short_name(config)}"
    begun = Run.begin(folder, config, machine, preset=options.preset, resume=options.resume)
    with begun as run:
        train_all(run.arms(), machine)
        # accelerate runs this program in several processes; one of them writes.
        if machine.state.is_main_process:
            finish(run, Console())


if __name__ == "__main__":
    sys.exit(main(last=True))
