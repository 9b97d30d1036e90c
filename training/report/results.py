"""The results of a finished run: rows, their summary, losses and answers of all arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple

from synthetic_tasks import Task
from training.config.phase import Phase
from training.differences import Windows, summarise
from training.intervals import Marks, Row
from training.run.run import Run, TextsByRun

from .breakdowns import BinRow, breakdown
from .verdict import controls_of

STEPS_TO_LOSS = "steps_to_control_loss"
_WINDOW = 25  # steps in the mean of a loss; replay steps between the questions do not count


class Results(NamedTuple):
    """The results of a run.

    Attributes:
        arms: names in ARMS, in the order of the config.
        phases: in the order of training.
        rows: of each arm and seed; `summary`: their means over seeds, and the differences of
            any two arms.
        metrics: {arm, seed, phase, step, kind, loss_nats, seconds} of every step.
        answers: {arm, seed, task, split, key, prompt, expected, given, right} of every question;
            older runs have no key.
        windows: losses of every window of held-out text; None if the run was not read from files.
        by_word: exact match by properties of the words; see breakdowns.py.
        curves, texts: see Run.curves and Run.text_losses; empty for runs of earlier versions.
    """

    arms: Sequence[str]
    tasks: Sequence[Task]
    phases: Sequence[Phase]
    rows: list[Row]
    summary: list[Row]
    metrics: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    windows: Windows | None = None
    by_word: Sequence[BinRow] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    texts: TextsByRun = MappingProxyType({})

    @classmethod
    def of(cls, run: Run) -> Results:
        """Read the files of all arms and compare the arms. Raises Damaged for a changed file."""
        arms, phases = run.config.arms, run.config.phases
        rows, metrics, answers = run.rows(), run.metrics(), run.answers()
        rows += steps_to_loss_rows(metrics, arms, [(phase.name, phase.kind) for phase in phases])
        scores: Marks = {}
        for one in answers:
            cell = one["arm"], one["seed"], one["task"], one["split"]
            scores.setdefault(cell, []).append(one["right"])
        texts = run.text_losses()
        windows: Windows = {
            (arm, seed, task): losses.window_nats
            # an arm of an earlier version has no losses of single windows
            for (arm, seed), own in texts.items()
            for task, losses in own.items()
        }
        summary = summarise(rows, controls_of(arms), arms, scores, windows)
        words = breakdown(answers, run.data)
        return cls(
            arms, run.data.tasks, phases, rows, summary, metrics, answers,
            windows, words, run.curves(), texts,
        )  # fmt: skip

    @property
    def controls(self) -> list[str]:
        """The arms that the others are judged against."""
        return controls_of(self.arms)

    @property
    def judged_arms(self) -> list[str]:
        return [arm for arm in self.arms if arm not in self.controls]

    @property
    def seeds(self) -> list[int | str]:
        return list(dict.fromkeys(row.seed for row in self.rows))


def losses_of(
    metrics: Iterable[Mapping[str, Any]], phase: str, kind: str
) -> dict[tuple[str, int], dict[int, float]]:
    """Return the loss in nats by (arm, seed) and step, of the steps of one kind in a phase."""
    losses: dict[tuple[str, int], dict[int, float]] = {}
    for row in metrics:
        if (row["phase"], row["kind"]) == (phase, kind):
            losses.setdefault((row["arm"], row["seed"]), {})[row["step"]] = row["loss_nats"]
    return losses


def steps_to_loss_rows(
    metrics: Sequence[Mapping[str, Any]], arms: Sequence[str], phases: Iterable[tuple[str, str]]
) -> list[Row]:
    """Return a row for each arm, seed and phase in which the arm reaches the first arm's final loss.

    The value is the first step at which the mean loss of the last 25 steps is at most the first
    arm's at its end. The first arm always reaches it. A phase with fewer steps has no row.

    Arguments:
        phases: (name, kind); only steps of this kind count.
    """
    rows = []
    for phase, kind in phases:
        losses = losses_of(metrics, phase, kind)
        means = {run: _means(list(of.items())) for run, of in losses.items() if len(of) >= _WINDOW}
        for (arm, seed), of_run in means.items():
            goal = means[arms[0], seed][-1][1]  # of the same seed: seeds end at different losses
            reached = next((step for step, mean in of_run if mean <= goal), None)
            if reached is not None:
                place = (arm, seed, phase, "all", STEPS_TO_LOSS)
                rows.append(Row(*place, reached, None, None, _WINDOW, None))
    return rows


def _means(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(step, mean of the last 25 losses), from the 25th step on."""
    # running sums: a mean over each window would take 25 times as long
    sums = [0.0, *accumulate(loss for _, loss in losses)]
    return [
        (losses[last - 1][0], (sums[last] - sums[last - _WINDOW]) / _WINDOW)
        for last in range(_WINDOW, len(losses) + 1)
    ]
