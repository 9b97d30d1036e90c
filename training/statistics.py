"""Long rows, and the differences between arms with their intervals.

Everything the report and the verdict say is made from rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


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
    """95 % interval of a mean over seeds (Student 1908). Needs two values; equal values give an interval of width 0."""
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
    result = stats.bootstrap((np.asarray(differences, dtype=float),), np.mean, confidence_level=CONFIDENCE, n_resamples=2000, rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def summarise(rows: list[Row], control: str, arms: Sequence[str], right: dict[tuple[str, int, str, str], list[bool]]) -> list[Row]:
    """Means over seeds, and each arm minus the control, paired by seed and question.

    `right[arm, seed, task, split]` holds the marks, question by question. With one seed the interval of a difference is
    over the questions; with more it is over the seeds, which are what a new run would draw again.
    """
    summary = []
    cells = list(dict.fromkeys((row.task, row.split, row.metric) for row in rows if row.metric in ("exact_match", "loss_nats", "bits_per_byte")))
    for task, split, metric in cells:
        by_arm = {arm: [row for row in rows if (row.arm, row.task, row.split, row.metric) == (arm, task, split, metric)] for arm in arms}
        for arm, found in by_arm.items():
            values = [row.value for row in found]
            low, high = (found[0].low, found[0].high) if len(values) == 1 else over_seeds(values)
            if metric == "exact_match" and low is not None and high is not None:
                low, high = max(0.0, low), min(1.0, high)
            majorities = [row.majority for row in found if row.majority is not None]
            summary.append(Row(arm, "mean", task, split, metric, float(np.mean(values)), low, high, sum(row.n for row in found), float(np.mean(majorities)) if majorities else None))
            if arm != control:
                summary.append(_difference(task, split, metric, arm, control, found, by_arm[control], right))
    return summary


def _difference(task: str, split: str, metric: str, arm: str, control: str, found: list[Row], against: list[Row], right: dict[tuple[str, int, str, str], list[bool]]) -> Row:
    values = [ours.value - theirs.value for ours, theirs in zip(found, against, strict=True)]
    low: float | None = None
    high: float | None = None
    if len(values) > 1:
        low, high = over_seeds(values)
    elif metric == "exact_match":
        pair = zip(right[arm, int(found[0].seed), task, split], right[control, int(found[0].seed), task, split], strict=True)
        low, high = over_questions([float(ours) - float(theirs) for ours, theirs in pair])
    return Row(f"{arm} - {control}", "mean", task, split, f"{metric}_difference", float(np.mean(values)), low, high, sum(row.n for row in found), None)


def verdict(summary: list[Row], arm: str, control: str, seeds: int) -> list[str]:
    """What the letters were worth, in plain words, from the rows alone."""
    name = f"{arm} - {control}"
    sentences = []
    where = {
        "unseen_tokens": "on words with a token that no question had contained",
        "unseen_words": "on new words made of familiar tokens",
        "longer_words": "on words longer than any trained on",
        "seen": "on the training words themselves",
    }
    for split, words in where.items():
        parts = []
        for row in summary:
            if (row.arm, row.split, row.metric) == (name, split, "exact_match_difference"):
                mean = {r.arm: r.value for r in summary if (r.task, r.split, r.metric) == (row.task, split, "exact_match")}
                parts.append(f"{row.task} {_judge(row)} ({mean[control]:.0%} to {mean[arm]:.0%}, {_points(row)})")
        if parts:
            sentences.append(f"{words.capitalize()}: " + "; ".join(parts) + ".")
    for row in summary:
        if row.arm == name and row.metric == "loss_nats_difference":
            between = f", 95 % interval {row.low:+.3f} to {row.high:+.3f}" if row.low is not None else ""
            judged = "no difference shown" if row.low is None or row.low <= 0 <= (row.high or 0) else ("better" if row.value < 0 else "worse")
            sentences.append(f"{row.task.capitalize()}: {row.value:+.3f} nats per token{between} ({judged if row.low is not None else 'one seed: no interval'}).")
    over = "over the questions of one pair; train more seeds before you believe a small one" if seeds == 1 else f"over {seeds} pairs"
    sentences.append(f"Differences are {arm} minus {control}, in points of exact match; intervals of 95 % {over}.")
    return sentences


def _judge(row: Row) -> str:
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "no difference shown"
    return "gained" if row.value > 0 else "lost"


def _points(row: Row) -> str:
    return f"{100 * row.value:+.0f} points, {100 * (row.low or 0):+.0f} to {100 * (row.high or 0):+.0f}"
