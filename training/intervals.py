"""Rows of measured values, and differences between arms with their intervals and p-values.

The report and the verdict are made from these rows alone; `report.verdict` writes the sentences.

A run gives all arms of a seed the same questions, and each seed has its own questions. Questions
are nested in seeds, and a difference between two arms varies with both. Its interval is therefore
the wider of two on either side, and its p-value the larger of two:

- over the means of the seeds, Student's. If all seeds have the same number of questions, this is
  the interval of the one-way random-effects model (Searle, Casella & McCulloch 1992, ch. 3), and of
  a mixed model fitted by REML. It assumes normal seeds, and two or three of them can agree by
  chance, with an interval of no width;
- over all questions, as if there were one seed: the uncertainty that remains even if seeds make no
  difference.

The splits of words and tokens are the same in every seed, so these intervals do not cover the
choice of the dictionary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

_CONFIDENCE = 0.95
ALPHA = 1 - _CONFIDENCE
# If the whole interval of a difference lies within its margin of zero, the arms are alike: a share
# of answers, and nats per token.
MARGINS = {"exact_match": 0.05, "loss_nats": 0.02}
_COMPARED = ("exact_match", "loss_nats", "bits_per_byte")  # metrics with means and differences
# The score of each question, in order, by arm, seed, task and split.
Marks = dict[tuple[str, int, str, str], list[bool]]
Bounds = tuple[float | None, float | None, float | None]  # low, high, p


@dataclass(frozen=True)
class Row:
    """One measured value.

    Row("lstm", 0, "reverse", "unseen_tokens", "exact_match", 0.85, 0.80, 0.89, 250, 0.004)

    Attributes:
        seed: the seed of a run, or "mean" for a value over all seeds.
        low, high: 95 % interval; None if there is none.
        n: sample size, such as the number of questions.
        majority: the majority baseline of a share of answers.
        p: of a difference, p-value of the hypothesis that there is none.
        p_holm: the same, corrected for all differences of the run that are judged.
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
    p: float | None = None
    p_holm: float | None = None


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a results.json."""
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): wilson(8, 10) -> (0.490, 0.943)."""
    interval = stats.binomtest(hits, n).proportion_ci(_CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def share_row(
    arm: str, seed: int, task: str, split: str, metric: str, hits: int, n: int,
    majority: float | None,
) -> Row:  # fmt: skip
    """Return the row of a share, hits / n, with its Wilson interval."""
    return Row(arm, seed, task, split, metric, hits / n, *wilson(hits, n), n, majority)


def over_seeds(values: Sequence[float]) -> Bounds:
    """95 % interval of a mean over seeds, and the p-value of a mean of zero (Student 1908).

    over_seeds([1.0, 2.0, 3.0]) -> (-0.48, 4.48, 0.074). One seed has no interval.
    """
    if len(set(values)) == 1:
        # equal values do not show how far another seed can lie, but several zeros are no difference
        return (0.0, 0.0, 1.0) if len(values) > 1 and values[0] == 0 else (None, None, None)
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * error
    return mean - reach, mean + reach, 2 * float(stats.t.sf(abs(mean) / error, len(values) - 1))


def over_questions(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean of paired differences (1, 0 or -1) over questions, all of one seed.

    over_questions([1] * 5 + [0] * 3) -> (-0.03, 0.92). The wider of two on either side: Bonett &
    Price's adjusted interval, and the inverted exact sign test (Clopper & Pearson 1934, on the
    share of the questions on which the arms differ). It excludes zero if and only if `sign_test`
    is below 0.05.
    """
    n, gained, lost = _counts(differences)
    if gained == lost == 0:
        # the arms agree on every question: the exact bound of the share on which they can differ
        slack = float(stats.binomtest(0, n).proportion_ci(_CONFIDENCE, method="exact").high)
        return -slack, slack
    middle, variance = _bonett_price(n, gained, lost)
    reach = float(stats.norm.ppf(1 - ALPHA / 2)) * math.sqrt(variance)
    share = stats.binomtest(gained, gained + lost).proportion_ci(_CONFIDENCE, method="exact")
    exact = [(gained + lost) / n * (2 * float(bound) - 1) for bound in (share.low, share.high)]
    return max(-1.0, min(middle - reach, exact[0])), min(1.0, max(middle + reach, exact[1]))


def sign_test(differences: Sequence[float]) -> float:
    """p-value of equally likely gains and losses: the exact McNemar test over questions.

    sign_test([1] * 5 + [0] * 3) -> 0.0625
    """
    _, gained, lost = _counts(differences)
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def over_runs(differences: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """95 % interval and p-value of a mean of paired differences, one list per seed.

    over_runs([[1, 0, 0, 0, 0, 0, 0, 0]] * 3) -> (-0.05, 0.28, 0.25). Seeds that agree on every
    question do not make a difference certain; see the head of this file.
    """
    pooled = [difference for run in differences for difference in run]
    low, high, p = *over_questions(pooled), sign_test(pooled)
    least, most, chance = over_seeds([float(np.mean(run)) for run in differences])
    if least is None or most is None or chance is None:
        return low, high, p
    return max(-1.0, min(low, least)), min(1.0, max(high, most)), max(p, chance)


def share_over_runs(hits: Sequence[int], ns: Sequence[int]) -> tuple[float, float]:
    """95 % interval of a mean share over seeds: share_over_runs([8, 8], [8, 8]) -> (0.81, 1.0).

    Like `over_runs`, the wider of two: Student's over seeds and Wilson's over all questions.
    """
    low, high = wilson(sum(hits), sum(ns))
    least, most, _ = over_seeds([hit / n for hit, n in zip(hits, ns, strict=True)])
    if least is None or most is None:
        return low, high
    return max(0.0, min(low, least)), min(1.0, max(high, most))


def few_questions(n: int) -> bool:
    """Whether even n equal answers cannot show that two arms are alike.

    few_questions(71) -> True, few_questions(72) -> False, with a margin of 5 points.
    """
    return bool((1 - MARGINS["exact_match"]) ** n > ALPHA / 2)


def summarise(rows: list[Row], control: str, arms: Sequence[str], right: Marks) -> list[Row]:
    """Means over seeds, and each arm minus the control, paired by seed and question.

    The p-values of all differences in exact match and in nats are corrected together (Holm 1979).

    Arguments:
        right: the scores of all questions.
    """
    cells: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.metric in _COMPARED:
            by_arm = cells.setdefault((row.task, row.split, row.metric), {arm: [] for arm in arms})
            by_arm[row.arm].append(row)
    summary = []
    for by_arm in cells.values():
        for arm, found in by_arm.items():
            summary.append(mean_row(found, is_share=found[0].metric == "exact_match"))
            if arm != control:
                summary.append(_difference(found, by_arm[control], right))
    return _corrected(summary)


def mean_row(found: Sequence[Row], *, is_share: bool) -> Row:
    """Return the mean of a cell's rows, one per seed; shares vary with their questions too."""
    values, ns = [row.value for row in found], [row.n for row in found]
    low, high = (
        share_over_runs([round(row.value * row.n) for row in found], ns)
        if is_share
        else over_seeds(values)[:2]
    )
    # each seed has its own questions, and so its own baseline
    majorities = [row.majority for row in found if row.majority is not None]
    majority = float(np.mean(majorities)) if majorities else None
    return replace(
        found[0], seed="mean", value=float(np.mean(values)), low=low, high=high, n=sum(ns),
        majority=majority,
    )  # fmt: skip


def _difference(found: list[Row], against: list[Row], right: Marks) -> Row:
    """Subtract the control's rows of a cell from an arm's, paired by seed."""
    ours, theirs, pairs = found[0], against[0], list(zip(found, against, strict=True))
    values = [row.value - other.value for row, other in pairs]
    low, high, p = (
        over_runs([_paired(right, *pair) for pair in pairs])
        if ours.metric == "exact_match"
        else over_seeds(values)
    )
    # bits per byte are nats in another unit: a p-value would count one comparison twice
    return Row(
        f"{ours.arm} - {theirs.arm}", "mean", ours.task, ours.split, f"{ours.metric}_difference",
        float(np.mean(values)), low, high, sum(row.n for row in found), None,
        None if ours.metric == "bits_per_byte" else p,
    )  # fmt: skip


def _paired(right: Marks, row: Row, other: Row) -> list[float]:
    """Subtract the scores of the control from those of an arm, on the questions of one seed."""
    ours, theirs = (right[one.arm, int(one.seed), one.task, one.split] for one in (row, other))
    return [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]


def _corrected(summary: list[Row]) -> list[Row]:
    """Add `p_holm` to every row with a p."""
    judged = [number for number, row in enumerate(summary) if row.p is not None]
    if judged:
        adjusted = multipletests([summary[number].p for number in judged], ALPHA, method="holm")[1]
        for number, p_holm in zip(judged, adjusted, strict=True):
            summary[number] = replace(summary[number], p_holm=float(p_holm))
    return summary


def _counts(differences: Sequence[float]) -> tuple[int, int, int]:
    """Count the questions, those with only the arm right, and those with only the control right."""
    return len(differences), sum(d > 0 for d in differences), sum(d < 0 for d in differences)


def _bonett_price(n: int, gained: int, lost: int) -> tuple[float, float]:
    """Mean and variance of a paired difference of shares, with one gain and one loss added.

    Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", Journal of Educational and Behavioral Statistics 37.
    """
    middle = (gained - lost) / (n + 2)
    return middle, ((gained + lost + 2) / (n + 2) - middle**2) / (n + 2)
