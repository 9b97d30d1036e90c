"""Scores of all arms of a run on words that became single tokens after training.

    python -m benchmarks.added_tokens RUN --words 200

RUN is a finished run of the decoder (preset quick). 200 of its unseen words, each of several
familiar tokens, become one token each: no training data can have contained it. The ways to fill the
row of a new token:

- `in pieces`: the word keeps its tokens, a reference.
- `mean of pieces`: the mean of the rows of its former tokens.
- `from spelling`: the row that a ridge regression predicts from the spelling, as
  `charembed.add_tokens` does.

An arm with a character encoder adds the character vector of the new token to the row. Nothing is
trained. The scores are exact match on all tasks of the run, in mean over its seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from training.ask.added_tokens import IN_PIECES, MEAN, SPELLED, ask_about_words, new_words
from training.errors import BadInput, exit_status
from training.run.run import ArmRun, Run

WAYS = {"in pieces": IN_PIECES, "mean of pieces": MEAN, "from spelling": SPELLED}


def scores(arm: ArmRun, words: Sequence[str], way: str, questions: int) -> dict[str, float]:
    """Exact match by task on questions about these words; `way` is a key of WAYS."""
    given = arm.model(), arm.data, arm.name, arm.seed, words, WAYS[way], questions
    rows = ask_about_words(*given).rows
    return {row.task: row.value for row in rows if row.metric == "exact_match"}


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--questions", type=int, default=250, help="per task")
    parser.add_argument("--arms", help="some arms of the run, with commas between [all]")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    run = Run.open(options.run, options.cache)
    if run.config.model.pretrained:
        raise BadInput(f"{options.run} is a run of a pretrained model: use benchmarks.new_tokens.")
    if run.data.splits is None:
        raise BadInput(f"{options.run} has no task about words: name another run.")
    words = new_words(run.data, options.words)
    print(machine())
    print(f"{len(words)} new tokens: {', '.join(words[:6])}, ...")
    tasks = [task.name for task in run.data.tasks]
    table = Table("arm", "row of a new token", *tasks)
    for name in options.arms.split(",") if options.arms else run.config.arms:
        for way in WAYS:
            found = [
                scores(run.arm(name, seed), words, way, options.questions)
                for seed in run.config.seed_range
            ]
            means = [f"{np.mean([one[task] for one in found]):.2f}" for task in tasks]
            table.add_row(name, way, *means)
            print(name, way, *means, flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
