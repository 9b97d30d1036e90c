"""From what the arms wrote to what the run says: rows, differences, verdict, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from synthetic_tasks import Task
from training.config.config import CompareConfig
from training.data.prepare import Data
from training.files import write_atomically, write_json
from training.intervals import Row, summarise
from training.run.finished import ANSWERS, RESULTS, finished_lines, finished_rows, read_batches
from training.run.folder import arm_folder, read_facts
from training.train.state import METRICS

from .report import write_report
from .steps_to_loss import steps_to_loss_rows
from .verdict import headline, how_judged, print_table, verdict


def finish(config: CompareConfig, out: Path, data: Data, console: Console) -> None:
    """Results, metrics and report of the whole run; and a table for the terminal.

    The rows are all that it rests on.
    """
    arms, control = config.arms, config.arms[0]
    rows = [row for folder in _folders(config, out) for row in finished_rows(folder)]
    metrics, answers = _lines(config, out, METRICS), _lines(config, out, ANSWERS)
    assert_same_batches(config, out)
    rows += steps_to_loss_rows(metrics, arms, [(phase.name, phase.kind) for phase in config.phases])
    summary = summarise(rows, control, arms, _marks(answers))
    write_atomically(out / METRICS, "".join(json.dumps(row) + "\n" for row in metrics))
    write_json(out / RESULTS, [vars(row) for row in rows + summary])
    facts = read_facts(out)
    write_report(
        out,
        facts,
        setting(config, data),
        arms=arms,
        tasks=data.tasks,
        phases=config.phases,
        rows=rows,
        summary=summary,
        metrics=metrics,
        answers=answers,
    )
    print_table(console, arms, data.tasks, summary)
    for sentence in _sentences(summary, data.tasks, arms, config.seeds):
        console.print(sentence, highlight=False, markup=False)
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def _sentences(
    summary: list[Row], tasks: Sequence[Task], arms: Sequence[str], seeds: int
) -> list[str]:
    """What the terminal says: the headline, the verdict on each arm, and how to read both."""
    first, (control, *others) = headline(summary, tasks, arms, seeds), arms
    judged = [sentence for arm in others for sentence in verdict(summary, tasks, arm, control)]
    return [first.sentence, first.basis, *judged, *(how_judged(summary, seeds) if others else [])]


def setting(config: CompareConfig, data: Data) -> str:
    """One sentence about the model and its text.

    "A decoder of 3 layers, 128 wide, with a vocabulary of 4,096 tokens, on the corpus sotu (2,542,281
    tokens)."
    """
    model = config.model
    built = f"A decoder of {model.layers} layers, {model.width} wide,"
    size = f"The pretrained model {model.model}" if model.pretrained else built
    text = f"the corpus {config.data.corpus} ({data.facts['train_tokens']:,} tokens)"
    return f"{size} with a vocabulary of {data.facts['tokens']:,} tokens, on {text}."


def assert_same_batches(config: CompareConfig, out: Path) -> None:
    """The arms' law: within a seed, all arms read the same batches in every phase."""
    for seed in config.seed_range:
        seen = {arm: tuple(read_batches(arm_folder(out, seed, arm)).items()) for arm in config.arms}
        assert len(set(seen.values())) == 1, (
            f"the arms of seed {seed} saw different batches: {seen}"
        )


def _folders(config: CompareConfig, out: Path) -> list[Path]:
    return [arm_folder(out, seed, arm) for seed in config.seed_range for arm in config.arms]


def _lines(config: CompareConfig, out: Path, name: str) -> list[dict[str, Any]]:
    """The rows that each arm wrote to a file, with arm and seed before them."""
    found: list[dict[str, Any]] = []
    for seed in config.seed_range:
        for arm in config.arms:
            lines = finished_lines(arm_folder(out, seed, arm), name)
            found += [{"arm": arm, "seed": seed, **line} for line in lines]
    return found


def _marks(answers: list[dict[str, Any]]) -> dict[tuple[str, int, str, str], list[bool]]:
    marks: dict[tuple[str, int, str, str], list[bool]] = {}
    for answer in answers:
        marks.setdefault(
            (answer["arm"], answer["seed"], answer["task"], answer["split"]), []
        ).append(answer["right"])
    return marks
