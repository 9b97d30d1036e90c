"""Differences between the arms of a run, and which of them are judged.

The rows of any two arms can be read; the judged ones are those of an arm and the strongest control
of the run: on each task and split, the control with the best mean there. The choice comes after
the scores, so p-value and interval account for it (`_judged`). `report.verdict` writes the
sentences; `training.intervals` has the intervals over seeds, questions and windows of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
from statsmodels.stats.multitest import multipletests

from training.intervals import (
    ALPHA,
    Bounds,
    Marks,
    Row,
    mean_row,
    over_runs,
    over_seeds,
    over_windows,
)

_COMPARED = ("exact_match", "loss_nats", "bits_per_byte")  # metrics with means and differences
# The loss of each held-out window in nats per token, in order, by arm, seed and task.
Windows = dict[tuple[str, int, str], list[float]]


def summarise(
    rows: list[Row], controls: str | Sequence[str], arms: Sequence[str], right: Marks,
    windows: Windows | None = None,
) -> list[Row]:  # fmt: skip
    """Means over seeds, and the difference between any two arms, paired by seed and question.

    The arm "lstm - plain" has the values of lstm minus those of plain. An arm that is no control is
    judged on each task and split against the strongest control: this row has `controls`, the p-value
    of `_judged`, and `p_holm`, corrected for all judged differences in exact match and in nats
    together (Holm 1979). The rows of all other pairs have an interval and a p-value of their own.

    Arguments:
        controls: the arms that the others are judged against, one name or several.
        right: the scores of all questions.
        windows: the losses of all held-out windows. Without those of a task, the intervals of its
            loss cover the seeds alone.
    """
    controls = [controls] if isinstance(controls, str) else list(controls)
    cells: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.metric in _COMPARED:
            by_arm = cells.setdefault((row.task, row.split, row.metric), {arm: [] for arm in arms})
            by_arm[row.arm].append(row)
    summary = []
    for by_arm in cells.values():
        for found in by_arm.values():
            summary.append(mean_row(found, is_share=found[0].metric == "exact_match"))
            if table := _window_table(found, windows or {}):
                low, high, _ = over_windows(table)
                summary[-1] = replace(summary[-1], low=low, high=high)
        summary += _of_cell(by_arm, controls, right, windows or {})
    return corrected(summary)


def _of_cell(
    by_arm: dict[str, list[Row]], controls: Sequence[str], right: Marks, windows: Windows
) -> list[Row]:
    """Return the rows of all pairs of a cell, the judged ones in place of their own."""
    made: dict[tuple[str, str], _Pair] = {}
    for one, other in combinations(by_arm, 2):
        # the later arm minus the earlier one, but a control is always the one that is subtracted
        pair = (one, other) if other in controls and one not in controls else (other, one)
        made[pair] = _pair(by_arm[pair[0]], by_arm[pair[1]], right, windows)
    rows = {pair: each.row for pair, each in made.items()}
    for arm in by_arm:
        if arm not in controls:
            control, row = _judged({control: made[arm, control] for control in controls})
            rows[arm, control] = row
    return list(rows.values())


def differences_between(summary: Sequence[Row], first: str, second: str) -> list[Row]:
    """Return all differences `first` minus `second` of a summary, judged or not.

    differences_between(summary, "lstm", "gru")[0].arm -> "lstm - gru". Both must be arms of the run;
    else the list is empty.
    """
    there, back = f"{first} - {second}", f"{second} - {first}"
    return [
        row if row.arm == there else _turned(row, there)
        for row in summary
        if row.arm in (there, back)
    ]


def _turned(row: Row, arm: str) -> Row:
    """The same difference in the other direction."""
    low, high = (None if bound is None else -bound for bound in (row.high, row.low))
    return replace(row, arm=arm, value=-row.value, low=low, high=high)


@dataclass(frozen=True)
class _Pair:
    """The difference between two arms in a cell: its row, and its bounds at any alpha."""

    row: Row
    bounds: Callable[[float], Bounds]


def _pair(found: list[Row], against: list[Row], right: Marks, windows: Windows) -> _Pair:
    """Subtract the rows of another arm in a cell from an arm's, paired by seed."""
    ours, theirs, pairs = found[0], against[0], list(zip(found, against, strict=True))
    values = [row.value - other.value for row, other in pairs]
    table, others = (_window_table(rows, windows) for rows in (found, against))
    bounds: Callable[[float], Bounds] = partial(over_seeds, values)
    covers = ["seeds"] * (len(pairs) > 1)
    if ours.metric == "exact_match":
        bounds = partial(over_runs, [_paired(right, *pair) for pair in pairs])
        covers.append("questions")
    elif table and others:
        bounds = partial(over_windows, np.subtract(table, others).tolist())
        covers += ["windows"] * (len(table[0]) > 1)  # a single one has no interval of its own
    low, high, p = bounds(ALPHA)
    # bits per byte are nats in another unit: a p-value would count one comparison twice
    row = Row(
        f"{ours.arm} - {theirs.arm}", "mean", ours.task, ours.split, f"{ours.metric}_difference",
        float(np.mean(values)), low, high, sum(row.n for row in found), None,
        None if ours.metric == "bits_per_byte" else p, covers=" and ".join(covers),
    )  # fmt: skip
    return _Pair(row, bounds)


def _judged(by_control: Mapping[str, _Pair]) -> tuple[str, Row]:
    """Return the strongest control and its row, from the differences of an arm to all k controls.

    The strongest control has the best mean, the first of equal ones. It is chosen after the scores
    are seen, so its own p-value would find too many arms worse than it. Therefore:

    - better: the arm must be better than every control. The p-value is the largest of all, without
      a correction (intersection-union test: Berger 1982, "Multiparameter hypothesis testing and
      acceptance sampling", Technometrics 24);
    - worse: k times the p-value against the strongest one, at most 1 (Bonferroni), because any of
      them could have been chosen.

    The interval ends where these two tests do. The bound that better must pass is the one furthest
    out of all k intervals; the other is the strongest control's, at 1 - 0.05 / k. It covers the
    difference from the named control, and from the one that is strongest in truth. With one
    control, p-value and interval are its own.
    """
    first, k = next(iter(by_control.values())), len(by_control)
    sign = 1 if first.row.metric == "exact_match_difference" else -1  # a smaller loss is better
    # rounded: controls with equal means are equal for every arm, whatever the last digits are
    control = min(by_control, key=lambda name: round(sign * by_control[name].row.value, 12))
    row = replace(by_control[control].row, controls=k)
    lows, highs, ps = zip(*(pair.bounds(ALPHA) for pair in by_control.values()), strict=True)
    low, high, p = by_control[control].bounds(ALPHA / k)
    if p is None or None in ps:  # such as equal losses in all seeds of an old run
        return control, replace(row, low=None, high=None, p=None)
    low, high = (min(lows), high) if sign > 0 else (low, max(highs))
    p = max(ps) if sign * row.value > 0 else min(1.0, k * p)
    return control, replace(row, low=low, high=high, p=None if row.p is None else p)


def _paired(right: Marks, row: Row, other: Row) -> list[float]:
    """Subtract the scores of another arm from those of an arm, on the questions of one seed."""
    ours, theirs = (right[one.arm, int(one.seed), one.task, one.split] for one in (row, other))
    return [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]


def _window_table(found: Sequence[Row], windows: Windows) -> list[list[float]]:
    """Losses of all windows, a list per seed, in the unit of the rows; empty if a seed has none."""
    of_seeds = [windows.get((row.arm, int(row.seed), row.task), []) for row in found]
    if not all(of_seeds) or found[0].metric not in ("loss_nats", "bits_per_byte"):
        return []
    # bits per byte are nats times a constant of the text
    units = [row.value / float(np.mean(each)) for row, each in zip(found, of_seeds, strict=True)]
    return [[unit * loss for loss in each] for unit, each in zip(units, of_seeds, strict=True)]


def corrected(summary: list[Row]) -> list[Row]:
    """Add `p_holm` to every judged row with a p: Holm 1979, over all of them together."""
    judged = [k for k, row in enumerate(summary) if row.controls and row.p is not None]
    if judged:
        adjusted = multipletests([summary[k].p for k in judged], ALPHA, method="holm")[1]
        for k, p_holm in zip(judged, adjusted, strict=True):
            summary[k] = replace(summary[k], p_holm=float(p_holm))
    return summary
