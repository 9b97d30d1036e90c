"""Rows of measured values, and the intervals and p-values of means over seeds and samples.

The report and the verdict are made from these rows alone. `training.differences` compares arms.

**Answers.** A run gives all arms of a seed the same questions, and each seed has its own questions.
Questions are nested in seeds, and a difference between two arms varies with both. Its interval is
therefore the wider of two on either side, and its p-value the larger of two:

- over the means of the seeds, Student's. If all seeds have the same number of questions, this is
  the interval of the one-way random-effects model (Searle, Casella & McCulloch 1992, ch. 3), and of
  a mixed model fitted by REML. It assumes normal seeds, and two or three of them can agree by
  chance, with an interval of no width;
- over all questions, as if there were one seed: the uncertainty that remains even if seeds make no
  difference.

**Text.** All arms and seeds read the same held-out windows: windows are crossed with seeds, not
nested in them, and both are samples. The interval of a loss is the wider of Student's over seeds,
and the one over seeds and windows together (`over_windows`).

One seed has the intervals over its questions and windows alone. They hold for its models, and do
not cover another seed. The splits of words and tokens are the same in every seed, so no interval
covers the choice of the dictionary, and none covers another corpus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
ALPHA = 1 - _CONFIDENCE
# If the whole interval of a difference lies within its margin of zero, the arms are alike: a share
# of answers, and nats per token.
MARGINS = {"exact_match": 0.05, "loss_nats": 0.02}
# The score of each question, in order, by arm, seed, task and split.
Marks = dict[tuple[str, int, str, str], list[bool]]
# low, high, p; None, None, None for values that have no interval
Bounds = tuple[float, float, float] | tuple[None, None, None]


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
        controls: of a judged difference, the number of controls. The one whose value is subtracted
            is the strongest of them. None for other rows: differences between any two arms are
            there to be read, and are neither judged nor corrected.
        covers: the sources of chance that the interval of a difference covers, such as "seeds and
            questions".
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
    controls: int | None = None
    covers: str = ""

    @property
    def saved(self) -> dict[str, Any]:
        """The fields as a file holds them; those of later versions only if they have a value."""
        later = {"controls": None, "covers": ""}
        return {name: each for name, each in vars(self).items() if later.get(name, ...) != each}


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


def over_seeds(values: Sequence[float], alpha: float = ALPHA) -> Bounds:
    """Interval of a mean over seeds, and the p-value of a mean of zero (Student 1908).

    over_seeds([1.0, 2.0, 3.0]) -> (-0.48, 4.48, 0.074). One seed has no interval. The interval
    covers 1 - `alpha`, by default 95 %.
    """
    if len(set(values)) == 1:
        # equal values do not show how far another seed can lie, but several zeros are no difference
        return (0.0, 0.0, 1.0) if len(values) > 1 and values[0] == 0 else (None, None, None)
    return _student(float(np.mean(values)), float(stats.sem(values)), len(values) - 1, alpha)


def _student(mean: float, error: float, freedom: float, alpha: float) -> tuple[float, float, float]:
    """Interval and p-value of a mean from its standard error and degrees of freedom."""
    reach = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    return mean - reach, mean + reach, 2 * float(stats.t.sf(abs(mean) / error, freedom))


def over_windows(differences: Sequence[Sequence[float]], alpha: float = ALPHA) -> Bounds:
    """Interval and p-value of a mean over windows of text; one list per seed, the same windows.

    over_windows([[1.0, 2.0, 3.0]]) -> (-0.48, 4.48, 0.074): one seed has Student's over its windows.

    With several seeds both are samples. The squared standard errors of the mean over seeds and over
    windows are added, with Satterthwaite's degrees of freedom: min F' (Clark 1973, "The language-
    as-fixed-effect fallacy", Journal of Verbal Learning and Verbal Behavior 12). The result is the
    wider of this and Student's over the seeds, and the larger p-value: with two or three seeds, the
    degrees of freedom are themselves uncertain.
    """
    table_SW = np.asarray(differences, dtype=float)  # S seeds, W windows
    seeds, windows = table_SW.shape
    alone = over_seeds(table_SW.mean(1).tolist(), alpha)
    if windows == 1:
        return alone
    if seeds == 1:
        return over_seeds(table_SW[0].tolist(), alpha)
    parts = [float(stats.sem(table_SW.mean(axis)) ** 2) for axis in (1, 0)]
    if (variance := sum(parts)) == 0:
        return alone
    freedoms = zip(parts, (seeds - 1, windows - 1), strict=True)
    freedom = variance**2 / sum(part**2 / number for part, number in freedoms)
    both = _student(float(table_SW.mean()), math.sqrt(variance), freedom, alpha)
    return _wider(both, alone)


def over_questions(differences: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of a mean of paired differences (1, 0 or -1) over questions, all of one seed.

    over_questions([1] * 5 + [0] * 3) -> (-0.03, 0.92). The wider of two on either side: Bonett &
    Price's adjusted interval, and the inverted exact sign test (Clopper & Pearson 1934, on the
    share of the questions on which the arms differ). It excludes zero if and only if `sign_test`
    is below `alpha`.
    """
    return _exact_bounds(*_counts(differences), alpha)


def sign_test(differences: Sequence[float]) -> float:
    """p-value of equally likely gains and losses: the exact McNemar test over questions.

    sign_test([1] * 5 + [0] * 3) -> 0.0625
    """
    _, gained, lost = _counts(differences)
    return _exact_p(gained, lost)


@cache  # the same few counts come again in a run of many arms, and exact bounds are slow
def _exact_bounds(n: int, gained: int, lost: int, alpha: float) -> tuple[float, float]:
    if gained == lost == 0:
        # the arms agree on every question: the exact bound of the share on which they can differ
        slack = float(stats.binomtest(0, n).proportion_ci(1 - alpha, method="exact").high)
        return -slack, slack
    middle, variance = _bonett_price(n, gained, lost)
    reach = float(stats.norm.ppf(1 - alpha / 2)) * math.sqrt(variance)
    share = stats.binomtest(gained, gained + lost).proportion_ci(1 - alpha, method="exact")
    exact = [(gained + lost) / n * (2 * float(bound) - 1) for bound in (share.low, share.high)]
    return max(-1.0, min(middle - reach, exact[0])), min(1.0, max(middle + reach, exact[1]))


@cache
def _exact_p(gained: int, lost: int) -> float:
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def over_runs(
    differences: Sequence[Sequence[float]], alpha: float = ALPHA
) -> tuple[float, float, float]:
    """Interval and p-value of a mean of paired differences over questions, one list per seed.

    over_runs([[1, 0, 0, 0, 0, 0, 0, 0]] * 3) -> (-0.05, 0.28, 0.25). Seeds that agree on every
    question do not make a difference certain; see the head of this file.
    """
    pooled = [difference for run in differences for difference in run]
    of_questions = *over_questions(pooled, alpha), sign_test(pooled)
    of_seeds = over_seeds([float(np.mean(run)) for run in differences], alpha)
    low, high, p = _wider(of_questions, of_seeds)
    return max(-1.0, low), min(1.0, high), p


def _wider(one: tuple[float, float, float], other: Bounds) -> tuple[float, float, float]:
    """Return the wider of two intervals on either side, and the larger p-value."""
    low, high, p = other
    if low is None or high is None or p is None:
        return one
    return min(one[0], low), max(one[1], high), max(one[2], p)


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
