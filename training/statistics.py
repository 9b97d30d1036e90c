"""Long rows, and the differences between arms with their intervals.

Everything the report and the verdict say is made from rows alone. Numbers only: words are in prose.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
COMPARED = (
    "exact_match",
    "loss_nats",
    "bits_per_byte",
)  # the metrics whose means and differences are reported
Marks = dict[
    tuple[str, int, str, str], list[bool]
]  # by arm, seed, task and split: right or wrong, by question


@dataclass(frozen=True)
class Row:
    """One measured value. `low` and `high` bound its 95 % interval, `n` is what it is the mean of.

    Row("lstm", 0, "reverse", "unseen_tokens", "exact_match", 0.85, 0.80, 0.89, 250, 0.004)
    """

    arm: str
    seed: int | str
    task: str
    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    majority: float | None


def read_rows(path: Path) -> list[Row]:
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): wilson(8, 10) -> (0.490, 0.943)."""
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean over seeds (Student 1908).

    Needs two values; equal values give an interval of width 0.
    """
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def over_questions(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean of paired differences, by resampling the questions (Efron 1987, BCa)."""
    if len(set(differences)) == 1:
        # Nothing to resample: all questions agree. The exact interval of the share that could have differed.
        n, value = len(differences), float(differences[0])
        slack = float(stats.binomtest(0, n).proportion_ci(CONFIDENCE, method="exact").high)
        return max(-1.0, value - slack), min(1.0, value + slack)
    result = stats.bootstrap(
        (np.asarray(differences, dtype=float),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=2000,
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def summarise(rows: list[Row], control: str, arms: Sequence[str], right: Marks) -> list[Row]:
    """Means over seeds, and each arm minus the control, paired by seed and question.

    `right` holds the marks, question by question. With one seed the interval of a difference is over the
    questions; with more it is over the seeds, which are what a new run would draw again.
    """
    cells: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.metric in COMPARED:
            by_arm = cells.setdefault((row.task, row.split, row.metric), {arm: [] for arm in arms})
            by_arm[row.arm].append(row)
    summary = []
    for by_arm in cells.values():
        for arm, found in by_arm.items():
            summary.append(_mean(found))
            if arm != control:
                summary.append(_difference(found, by_arm[control], right))
    return summary


def _mean(found: list[Row]) -> Row:
    """One arm's rows of a cell, a row per seed, as one."""
    first, values = found[0], [row.value for row in found]
    low, high = (first.low, first.high) if len(found) == 1 else over_seeds(values)
    if first.metric == "exact_match":
        low, high = _within(0.0, low, high)
    majorities = [row.majority for row in found if row.majority is not None]
    majority = float(np.mean(majorities)) if majorities else None
    n = sum(row.n for row in found)
    return replace(
        first, seed="mean", value=float(np.mean(values)), low=low, high=high, n=n, majority=majority
    )


def _difference(found: list[Row], against: list[Row], right: Marks) -> Row:
    """An arm's rows of a cell minus the control's, paired."""
    ours, theirs = found[0], against[0]
    values = [row.value - other.value for row, other in zip(found, against, strict=True)]
    low: float | None = None
    high: float | None = None
    if len(values) > 1:
        low, high = over_seeds(values)
    elif ours.metric == "exact_match":
        marks = (right[row.arm, int(row.seed), row.task, row.split] for row in (ours, theirs))
        low, high = over_questions([float(a) - float(b) for a, b in zip(*marks, strict=True)])
    if ours.metric == "exact_match":
        low, high = _within(-1.0, low, high)
    return Row(
        f"{ours.arm} - {theirs.arm}", "mean", ours.task, ours.split, f"{ours.metric}_difference",
        float(np.mean(values)), low, high, sum(row.n for row in found), None,
    )  # fmt: skip


def _within(least: float, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Bounds of a share cannot leave `least` to 1."""
    return (low, high) if low is None or high is None else (max(least, low), min(1.0, high))
