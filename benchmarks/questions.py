"""Measure the rate of examples that are generated, tokenised and masked, per second and core.

    python -m benchmarks.questions             # the presets and every word task, a minute
    python -m benchmarks.questions --presets   # the presets alone

The table also gives the mean number of tokens of the answers. Rates are per second of CPU time, with
64 examples a batch, after a first batch that builds the lists of words. Each rate is the fastest of
several rounds, because other programs on the same chip only slow a round down; for the presets the
slowest round is beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from synthetic_tasks import ANSWER_FORMS, WORD_TASKS, WORDINGS, Material, build_task
from training.config.flags import changed
from training.config.presets import preset
from training.data.prepare import Data, prepare

ROUNDS = 8
EXAMPLES, FEWER = 3_200, 640  # in a round: of a preset, of a word task
BATCH = 64


def rates(data: Data, examples: int) -> list[float]:
    """Return examples per second of CPU time, the fastest round first."""
    batch_at = data.questions().batches(BATCH, "benchmark")
    batch_at(0)
    found = []
    for first in range(ROUNDS):
        began = time.process_time()
        for k in range(examples // BATCH):
            batch_at(first * examples // BATCH + k)
        found.append(examples / (time.process_time() - began))
    return sorted(found, reverse=True)


def answer_tokens(data: Data, examples: int = 200) -> float:
    """Return the mean number of tokens of an answer, with its end mark."""
    questions = data.questions()
    return sum(len(questions.item("benchmark", i)[2]) for i in range(examples)) / examples


def show_presets(cache: Path) -> None:
    for name in ("quick", "parent"):
        for wording in ("compact", "sentences"):
            config = changed(preset(name), wording=wording, finetune_context=256)
            best, *_, worst = rates(prepare(config, cache), EXAMPLES)
            print(
                f"{name}, {wording}: {best:,.0f} examples per second of one core, {best / 3000:.1f} times "
                f"the parent's 3,000 (the slowest of {ROUNDS} rounds: {worst:,.0f})"
            )


def show_tasks(cache: Path) -> None:
    shown = Table(title="the quick preset's words, one task at a time")
    for heading in ("task", "compact", "sentences", *(f"{form}: tokens" for form in ANSWER_FORMS)):
        shown.add_column(heading, justify="left" if heading == "task" else "right")
    configs = {
        wording: changed(preset("quick"), tasks=WORD_TASKS, wording=wording, finetune_context=512)
        for wording in WORDINGS
    }
    data = {wording: prepare(config, cache) for wording, config in configs.items()}

    def one_task(task: str, wording: str, form: str) -> Data:
        """Return the data of all tasks, held-out tokens included, restricted to one task."""
        known, config = data[wording], changed(configs[wording], tasks=(task,), answer_form=form)
        tasks = (build_task(task, Material(known.splits, wording, form)),)
        return replace(known, config=config, tasks=tasks)

    for task in WORD_TASKS:
        best = [
            f"{rates(one_task(task, wording, 'spelled'), FEWER)[0]:,.0f}" for wording in WORDINGS
        ]
        tokens = [f"{answer_tokens(one_task(task, 'compact', form)):.1f}" for form in ANSWER_FORMS]
        shown.add_row(task, *best, *tokens)
    Console().print(shown)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", action="store_true", help="leave the single tasks out")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    print(machine())
    show_presets(options.cache)
    if not options.presets:
        show_tasks(options.cache)


if __name__ == "__main__":
    main()
