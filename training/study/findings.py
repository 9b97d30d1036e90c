"""What the rows of a study say: its thresholds and shares, a table, sentences and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from training.intervals import Row, over_seeds, share_over_runs
from training.report.figures import Spot, share_curves, threshold_plot
from training.report.formats import percent

from .thresholds import LEVEL, Line, Threshold, fitted_line, threshold

Cells = dict[tuple[Any, ...], list[Row]]  # by place in the grid, a row for each seed


class Measured(NamedTuple):
    """A row of a run of the study, and where in the grid that run stands: {"d": 8, "m": 4}."""

    at: Mapping[str, Any]
    row: Row


@dataclass(frozen=True)
class Picture:
    """`name` is that of its file, without .svg."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        headline: the page's first sentence.
        sentences: how to read it, and what was left out.
        headings, lines: one table, of text.
        rows: what was computed beyond the rows of the runs, for results.json.
    """

    headline: str
    sentences: Sequence[str]
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    pictures: Sequence[Picture]
    rows: Sequence[Mapping[str, Any]] = field(default=())


def counting(measured: list[Measured]) -> Findings:
    """Accuracy over m for each width d on sequences kept out of training, m_thr(d) and its line."""
    cells = _cells(measured, "fresh", "exact_match", ("d", "m"))
    widths, symbols = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    found = {width: _thresholds(cells, width) for width in widths}
    told = [(float(d), t.value) for d in widths for t in found[d].values() if t.value is not None]
    ends = [
        (float(d), float(t.bound.split()[1]), t.bound.startswith("above"))
        for d in widths
        for t in found[d].values()
        if t.value is None
    ]
    line = fitted_line(told)
    slopes = _slopes(found)
    rows = [
        {"d": d, "seed": seed, "metric": "m_thr", "value": t.value, "bound": t.bound}
        for d in widths
        for seed, t in found[d].items()
    ]
    if line is not None:
        rows.append(
            {"metric": "m_thr_slope", "value": line.slope, "low": line.low, "high": line.high}
        )
        rows.append({"metric": "m_thr_intercept", "value": line.intercept})
    curves = {
        f"d = {d}": [_spot(m, cells[d, m]) for m in symbols if (d, m) in cells] for d in widths
    }
    level = (f"{100 * LEVEL:.0f} %", [(float(symbols[0]), LEVEL), (float(symbols[-1]), LEVEL)])
    label = "Share of new sequences that are counted rightly, over the number of symbols m."
    pictures = [
        Picture(
            "accuracy",
            "New sequences counted rightly, over the number of different symbols m, for each width d; thin "
            "lines are 95 % intervals.",
            share_curves(
                "accuracy", label, curves, "different symbols m", reference=level, log=True
            ),
        ),
        Picture(
            "threshold",
            f"m_thr, the m at which accuracy falls to {100 * LEVEL:.0f} %, over the width d, a point for "
            "each seed. A grey triangle points to where it lies outside of what was measured.",
            threshold_plot(
                "threshold",
                _line_told(line),
                told,
                None if line is None else (line.slope, line.intercept),
                ends,
                "model width d",
                "m_thr, different symbols",
            ),
        ),
    ]
    return Findings(
        _threshold_headline(found, slopes),
        _threshold_sentences(line, slopes, bool(ends)),
        ["width", *(f"m = {m}" for m in symbols), "m_thr"],
        [
            [
                f"d = {d}",
                *(f"{_mean(cells[d, m]):.2f}" if (d, m) in cells else "" for m in symbols),
                _thresholds_told(list(found[d].values())),
            ]
            for d in widths
        ],
        pictures,
        rows,
    )


def _thresholds(cells: Cells, width: int) -> dict[int, Threshold]:
    """By seed."""
    by_seed: dict[int, dict[int, float]] = {}
    for (d, m), rows in cells.items():
        for row in rows if d == width else ():
            by_seed.setdefault(int(row.seed), {})[m] = row.value
    return {seed: threshold(accuracy) for seed, accuracy in sorted(by_seed.items())}


def _slopes(found: Mapping[int, Mapping[int, Threshold]]) -> list[float]:
    """The slope of each seed's own line, where it has one."""
    seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
    slopes = []
    for seed in seeds:
        points = [
            (float(d), value)
            for d, by_seed in found.items()
            if seed in by_seed and (value := by_seed[seed].value) is not None
        ]
        if (line := fitted_line(points)) is not None:
            slopes.append(line.slope)
    return slopes


def _thresholds_told(of_seeds: list[Threshold]) -> str:
    """ "5.2", "above 24", "5.2 (4.1 to 6.3)" over seeds, "5.2, above 24" where some have none."""
    values = [one.value for one in of_seeds if one.value is not None]
    if len(of_seeds) == 1 or len(values) < len(of_seeds):
        return ", ".join(dict.fromkeys(map(str, of_seeds)))
    low, high, _ = over_seeds(values)
    between = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{np.mean(values):.1f}{between}"


def _threshold_headline(
    found: Mapping[int, Mapping[int, Threshold]], slopes: Sequence[float]
) -> str:
    low, high, _ = over_seeds(slopes) if len(slopes) > 1 else (None, None, None)
    if low is not None and high is not None:
        grows = "grows with" if low > 0 else "is not shown to grow with"
        return (
            f"The number of symbols among which a model counts rightly 80 times in 100 {grows} its width: by "
            f"{np.mean(slopes):.2f} for each unit ({len(slopes)} seeds, 95 % interval {low:.2f} to "
            f"{high:.2f})."
        )
    told = ", ".join(
        f"{_thresholds_told(list(of.values()))} at width {d}" for d, of in found.items()
    )
    return f"The number of symbols among which a model counts rightly 80 times in 100: {told}."


def _threshold_sentences(line: Line | None, slopes: Sequence[float], ends: bool) -> list[str]:
    sentences = [
        f"m_thr is where accuracy falls to {100 * LEVEL:.0f} %: the best curve that only falls (isotonic "
        "regression) is fitted to the accuracies, and read in a straight line between the numbers of "
        "symbols that were trained.",
        _line_told(line),
    ]
    if len(slopes) > 1:
        low, high, _ = over_seeds(slopes)
        between = (
            ""
            if low is None or high is None
            else f" (95 % interval over seeds {low:.2f} to {high:.2f})"
        )
        sentences.append(
            f"The lines of the {len(slopes)} seeds have a mean slope of {np.mean(slopes):.2f}{between}."
        )
    else:
        sentences.append("One seed has no interval over seeds: train several (--seeds 3).")
    if ends:
        sentences.append(
            "Where accuracy never falls to the level, or never reaches it, there is no m_thr: that width is "
            "left out of the line."
        )
    return sentences


def _line_told(line: Line | None) -> str:
    if line is None:
        return "There are too few thresholds for a line."
    between = (
        ""
        if line.low is None or line.high is None
        else f", slope between {line.low:.2f} and {line.high:.2f}"
    )
    law = f"m_thr = {line.intercept:.1f} + {line.slope:.2f} d"
    return f"The line of least squares through the thresholds: {law}{between}."


def path_star(measured: list[Measured]) -> Findings:
    """The first step and the whole path on graphs kept out of training, by objective and number of arms d."""
    metrics = {"first_step": "first step", "exact_match": "whole path"}
    cells = {metric: _cells(measured, "fresh", metric, ("objective", "d")) for metric in metrics}
    objectives = list(dict.fromkeys(key[0] for key in cells["exact_match"]))
    arms = sorted({key[1] for key in cells["exact_match"]})
    guess = ("guessing, 1/d", [(float(d), 1 / d) for d in arms])
    pictures = []
    for metric, name in metrics.items():
        of = cells[metric]
        curves = {
            objective: [_spot(d, of[objective, d]) for d in arms if (objective, d) in of]
            for objective in objectives
        }
        label = f"Share of new graphs on which the {name} is right, over the number of arms d."
        svg = share_curves(metric, label, curves, "arms d", reference=guess)
        pictures.append(
            Picture(
                metric,
                f"The {name} in freely written answers, on new graphs; thin lines are 95 % intervals.",
                svg,
            )
        )
    lines = [
        [
            f"{d} arms",
            objective,
            f"{1 / d:.2f}",
            *(_interval(cells[metric][objective, d]) for metric in metrics),
        ]
        for d in arms
        for objective in objectives
        if (objective, d) in cells["exact_match"]
    ]
    steps = {
        objective: ", ".join(
            f"{percent(_mean(cells['first_step'][objective, d]))} with {d} arms"
            for d in arms
            if (objective, d) in cells["first_step"]
        )
        for objective in objectives
    }
    return Findings(
        "The first step of the path is right: "
        + "; ".join(f"{o} {told}" for o, told in steps.items())
        + ".",
        [
            "The first step is the node after the start. A model of next_token has written only the start "
            "before it, which the question names: what it reads there is the truth, so this share is the "
            "teacher-forced one, and guessing an arm gets 1/d.",
            "reversed writes the path from its end, so that all but the first step stand before the first "
            "step; teacherless writes all nodes at once. Both are marked on what they wrote themselves.",
            "A whole path is right when every node is: who follows edges but guesses the arm gets 1/d of "
            "that, too.",
        ],
        ["graph", "objective", "1/d", *metrics.values()],
        lines,
        pictures,
    )


def functions(measured: list[Measured]) -> Findings:
    """Error against the number of examples k, by split; and how often an answer is of the mixture at all."""
    outside = ("held_out_family", "composed", "longer")
    names = {"fresh": "inside the mixture", "held_out_family": "held-out family"}
    names |= {"composed": "two composed", "longer": "longer strings"}
    marks: dict[str, dict[str, dict[int, list[Row]]]] = {}
    for metric in ("exact_match", "of_the_mixture"):
        for _, row in measured:
            if row.metric == metric and row.split in names and row.seed != "mean":
                k = int(row.task.removeprefix("functions:").split("x")[0])
                marks.setdefault(metric, {}).setdefault(row.split, {}).setdefault(k, []).append(row)
    right, known = marks["exact_match"], marks["of_the_mixture"]
    ks = sorted(right["fresh"])
    errors = {
        names[split]: [_spot(k, right[split][k], flipped=True) for k in ks]
        for split in names
        if split in right
    }
    chosen = {names[split]: [_spot(k, known[split][k]) for k in ks] for split in outside[:2]}
    most = ks[-1]
    best = {split: percent(_mean(right[split][most])) for split in right}
    pictures = [
        Picture(
            "error",
            "Share of answers that are wrong, over the number of examples k; thin lines are 95 % intervals.",
            share_curves(
                "error", "Share of wrong answers over the number of examples.", errors, "examples k"
            ),
        ),
        Picture(
            "chosen",
            "Outside of the mixture: share of answers that some function of the mixture gives. None of them "
            "is right.",
            share_curves(
                "chosen",
                "Share of answers that a function of the mixture gives.",
                chosen,
                "examples k",
            ),
        ),
    ]
    plural = "" if most == 1 else "s"
    outer = ", ".join(f"{best[split]} on {names[split]}" for split in outside if split in best)
    return Findings(
        f"With {most} example{plural} a model applies {best['fresh']} of the functions inside its training's "
        f"mixture: {outer}.",
        [
            "Inside the mixture are new strings under functions of training. The held-out family and "
            "compositions of two trained functions are drawn so that no function of the mixture explains the "
            "examples and the answer.",
            "Without an example the family can only be guessed. Copying the last input is never right.",
        ],
        ["split", *(f"k = {k}" for k in ks), f"of the mixture, k = {most}"],
        [
            [names[split], *(_interval(right[split][k]) for k in ks), _interval(known[split][most])]
            for split in names
            if split in right
        ],
        pictures,
    )


def _cells(measured: Iterable[Measured], split: str, metric: str, axes: tuple[str, ...]) -> Cells:
    """The rows of all seeds by their place in the grid."""
    cells: Cells = {}
    for at, row in measured:
        if (row.split, row.metric) == (split, metric) and row.seed != "mean":
            cells.setdefault(tuple(at[axis] for axis in axes), []).append(row)
    return cells


def _mean(rows: Sequence[Row]) -> float:
    return float(np.mean([row.value for row in rows]))


def _bounds(rows: Sequence[Row]) -> tuple[float, float]:
    return share_over_runs([round(row.value * row.n) for row in rows], [row.n for row in rows])


def _spot(x: float, rows: Sequence[Row], *, flipped: bool = False) -> Spot:
    """A share, or with `flipped` what it leaves."""
    (low, high), share = _bounds(rows), _mean(rows)
    return Spot(x, 1 - share, 1 - high, 1 - low) if flipped else Spot(x, share, low, high)


def _interval(rows: Sequence[Row]) -> str:
    low, high = _bounds(rows)
    return f"{_mean(rows):.2f} ({low:.2f} to {high:.2f})"
