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
            summary.append(
                Row(
                    arm,
                    "mean",
                    task,
                    split,
                    metric,
                    float(np.mean(values)),
                    low,
                    high,
                    sum(row.n for row in found),
                    float(np.mean(majorities)) if majorities else None,
                )
            )
            if arm != control:
                summary.append(_difference(task, split, metric, arm, control, found, by_arm[control], right))
    return summary


def _difference(
    task: str, split: str, metric: str, arm: str, control: str, found: list[Row], against: list[Row], right: dict[tuple[str, int, str, str], list[bool]]
) -> Row:
    values = [ours.value - theirs.value for ours, theirs in zip(found, against, strict=True)]
    low: float | None = None
    high: float | None = None
    if len(values) > 1:
        low, high = over_seeds(values)
    elif metric == "exact_match":
        pair = zip(right[arm, int(found[0].seed), task, split], right[control, int(found[0].seed), task, split], strict=True)
        low, high = over_questions([float(ours) - float(theirs) for ours, theirs in pair])
    if metric == "exact_match" and low is not None and high is not None:
        low, high = max(-1.0, low), min(1.0, high)
    return Row(f"{arm} - {control}", "mean", task, split, f"{metric}_difference", float(np.mean(values)), low, high, sum(row.n for row in found), None)


PLACES = {
    "unseen_tokens": "On words with a token that no question had contained",
    "unseen_words": "On new words made of familiar tokens",
    "longer_words": "On words longer than any trained on",
    "seen": "On the training words themselves",
}
JUDGEMENTS = ("better", "worse", "no difference shown")


def verdict(summary: list[Row], arm: str, control: str, seeds: int) -> list[str]:
    """What the letters were worth, in plain words, from the rows alone."""
    value = {(row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"}
    differences = [row for row in summary if row.arm == f"{arm} - {control}"]
    sentences = []
    for split, place in PLACES.items():
        found = [row for row in differences if row.split == split and row.metric == "exact_match_difference"]
        parts = []
        for judgement in JUDGEMENTS:
            named = [
                f"{row.task} ({value[arm, row.task, split]:.0%} against {value[control, row.task, split]:.0%}, {_span(row, 100, '.0f')} points)".replace(
                    "%", " %"
                )
                for row in found
                if _judge(row) == judgement
            ]
            if named:
                parts.append(f"{judgement} at {' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))}")
        if parts:
            sentences.append(f"{place}, {arm} against {control}: {'; '.join(parts)}.")
    for row in differences:
        if row.metric == "loss_nats_difference":
            judged = "one pair, so no interval" if row.low is None else {"better": "worse", "worse": "better"}.get(_judge(row), _judge(row))
            sentences.append(f"{row.task.capitalize()}, {arm} has {_span(row, 1, '.3f')} nats per token ({judged}).")
    if control == "matched" and any(row.metric == "loss_nats_difference" for row in differences):
        sentences.append("A gain on text over matched may be the cost of its second table, not the worth of letters: --arms plain,lstm tells them apart.")
    over = "over the questions of one pair: train more seeds before you believe a small difference" if seeds == 1 else f"over {seeds} pairs"
    sentences.append(f"Differences are {arm} minus {control}; the intervals are of 95 %, {over}.")
    return sentences


def _judge(row: Row) -> str:
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "no difference shown"
    return "better" if row.value > 0 else "worse"


def _span(row: Row, scale: int, form: str) -> str:
    """+85 [+80 to +90]"""
    between = "" if row.low is None or row.high is None else f" [{format(scale * row.low, '+' + form)} to {format(scale * row.high, '+' + form)}]"
    return format(scale * row.value, "+" + form) + between
