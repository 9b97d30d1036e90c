"""From what the arms wrote to what the run says: rows, differences, verdict, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from synthetic_tasks import Task
from training.config.config import CompareConfig
from training.data.prepare import Data
from training.files import write_atomically, write_json
from training.intervals import Row, summarise
from training.run.run import RESULTS, Run
from training.train.state import METRICS

from .page import print_table
from .report import answer_table, write_report
from .steps_to_loss import steps_to_loss_rows
from .verdict import comparisons, headline, how_judged, verdict


def finish(run: Run, console: Console) -> None:
    """Results, metrics and report of the whole run; and a table for the terminal.

    The rows are all that it rests on.
    """
    config, data, out = run.config, run.data, run.folder
    arms, control = config.arms, config.arms[0]
    rows, metrics, answers = run.rows(), run.metrics(), run.answers()
    run.assert_same_batches()
    rows += steps_to_loss_rows(metrics, arms, [(phase.name, phase.kind) for phase in config.phases])
    summary = summarise(rows, control, arms, _marks(answers))
    write_atomically(out / METRICS, "".join(json.dumps(row) + "\n" for row in metrics))
    write_json(out / RESULTS, [vars(row) for row in rows + summary])
    write_report(
        out,
        run.record,
        setting(config, data),
        arms=arms,
        tasks=data.tasks,
        phases=config.phases,
        rows=rows,
        summary=summary,
        metrics=metrics,
        answers=answers,
    )
    table = answer_table(arms, data.tasks, summary)
    print_table(console, table, "Exact match of freely generated answers", comparisons(summary))
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


def _marks(answers: list[dict[str, Any]]) -> dict[tuple[str, int, str, str], list[bool]]:
    marks: dict[tuple[str, int, str, str], list[bool]] = {}
    for answer in answers:
        marks.setdefault(
            (answer["arm"], answer["seed"], answer["task"], answer["split"]), []
        ).append(answer["right"])
    return marks
