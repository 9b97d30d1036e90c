"""The findings of counting: accuracy by width d and symbols m, and the threshold m_thr(d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.intervals import over_seeds
from training.report.figures import share_curves, threshold_plot

from .findings import Cells, Findings, Measured, Picture, cells_of, mean, spot
from .thresholds import LEVEL, Line, Threshold, fitted_line, threshold

_Thresholds = dict[int, dict[int, Threshold]]  # by width, then by seed


def counting(measured: list[Measured]) -> Findings:
    """Fit thresholds to the accuracies on new sequences, and a line through the thresholds."""
    cells = cells_of(measured, "fresh", "exact_match", ("d", "m"))
    widths, symbols = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    found = {width: _by_seed(cells, width) for width in widths}
    each = [(d, seed, t) for d in widths for seed, t in found[d].items()]
    known = [(float(d), t.value) for d, _, t in each if t.value is not None]
    # A threshold outside of the measured range: its end of the range, and whether it lies above it.
    ends = [
        (float(d), float(t.bound.split()[1]), t.bound.startswith("above"))
        for d, _, t in each
        if t.value is None
    ]
    line, slopes = fitted_line(known), _slopes(found)
    rows = [
        {"d": d, "seed": seed, "metric": "m_thr", "value": t.value, "bound": t.bound}
        for d, seed, t in each
    ]
    if line is not None:
        slope = {"metric": "m_thr_slope", "value": line.slope, "low": line.low, "high": line.high}
        rows += [slope, {"metric": "m_thr_intercept", "value": line.intercept}]
    lines = [
        [
            f"d = {d}",
            *(f"{mean(cells[d, m]):.2f}" if (d, m) in cells else "" for m in symbols),
            _over_seeds(list(found[d].values())),
        ]
        for d in widths
    ]
    return Findings(
        _headline(found, slopes),
        _sentences(line, slopes, bool(ends)),
        ["width", *(f"m = {m}" for m in symbols), "m_thr"],
        lines,
        [_accuracy(cells, widths, symbols), _threshold_picture(known, line, ends)],
        rows,
    )


def _accuracy(cells: Cells, widths: Sequence[int], symbols: Sequence[int]) -> Picture:
    curves = {
        f"d = {d}": [spot(m, cells[d, m]) for m in symbols if (d, m) in cells] for d in widths
    }
    level = (f"{100 * LEVEL:.0f} %", [(float(symbols[0]), LEVEL), (float(symbols[-1]), LEVEL)])
    label = "Share of new sequences that are counted rightly, over the number of symbols m."
    return Picture(
        "accuracy",
        "Share of new sequences counted correctly, over the number of different symbols m, for "
        "each width d; thin lines are 95 % intervals.",
        share_curves("accuracy", label, curves, "different symbols m", reference=level, log=True),
    )


def _threshold_picture(
    known: Sequence[tuple[float, float]],
    line: Line | None,
    ends: Sequence[tuple[float, float, bool]],
) -> Picture:
    # Label and picture name the line by the same sentence as the page.
    fit = None if line is None else (line.slope, line.intercept)
    axes = "model width d", "m_thr, different symbols"
    return Picture(
        "threshold",
        f"m_thr, the m at which accuracy falls to {100 * LEVEL:.0f} %, over the width d, one point "
        "per seed. A grey triangle points towards a threshold outside of the measured range.",
        threshold_plot("threshold", _line_sentence(line), known, fit, ends, *axes),
    )


def _by_seed(cells: Cells, width: int) -> dict[int, Threshold]:
    """Return the threshold of each seed at a width."""
    by_seed: dict[int, dict[int, float]] = {}
    for (d, m), rows in cells.items():
        for row in rows if d == width else ():
            by_seed.setdefault(int(row.seed), {})[m] = row.value
    return {seed: threshold(accuracy) for seed, accuracy in sorted(by_seed.items())}


def _slopes(found: _Thresholds) -> list[float]:
    """Return the slope of each seed's own line, if the seed has one."""
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


def _over_seeds(thresholds: list[Threshold]) -> str:
    """Return "5.2", "above 24", over seeds "5.2 (4.1 to 6.3)", or "5.2, above 24"."""
    values = [one.value for one in thresholds if one.value is not None]
    if len(thresholds) == 1 or len(values) < len(thresholds):
        return ", ".join(dict.fromkeys(map(str, thresholds)))
    low, high, _ = over_seeds(values)
    between = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{np.mean(values):.1f}{between}"


def _headline(found: Mapping[int, Mapping[int, Threshold]], slopes: Sequence[float]) -> str:
    number = "The number of symbols among which a model counts correctly in 80 % of the cases"
    low, high, _ = over_seeds(slopes) if len(slopes) > 1 else (None, None, None)
    if low is not None and high is not None:
        grows = "grows with" if low > 0 else "is not shown to grow with"
        return (
            f"{number} {grows} its width: by {np.mean(slopes):.2f} for each unit ({len(slopes)} "
            f"seeds, 95 % interval {low:.2f} to {high:.2f})."
        )
    each = (f"{_over_seeds(list(of.values()))} at width {d}" for d, of in found.items())
    return f"{number}: {', '.join(each)}."


def _sentences(line: Line | None, slopes: Sequence[float], ends: bool) -> list[str]:
    sentences = [
        f"m_thr is the m at which accuracy falls to {100 * LEVEL:.0f} %: the best falling curve "
        "(isotonic regression) is fitted to the accuracies, with straight lines between the "
        "trained numbers of symbols.",
        _line_sentence(line),
    ]
    if len(slopes) > 1:
        low, high, _ = over_seeds(slopes)
        known = low is not None and high is not None
        between = f" (95 % interval over seeds {low:.2f} to {high:.2f})" if known else ""
        sentences.append(
            f"The lines of the {len(slopes)} seeds have a mean slope of {np.mean(slopes):.2f}"
            f"{between}."
        )
    else:
        sentences.append("One seed has no interval over seeds: train several (--seeds 3).")
    if ends:
        sentences.append(
            "If accuracy never falls to the level, or never reaches it, there is no m_thr: that "
            "width is left out of the line."
        )
    return sentences


def _line_sentence(line: Line | None) -> str:
    if line is None:
        return "There are too few thresholds for a line."
    known = line.low is not None and line.high is not None
    between = f", slope between {line.low:.2f} and {line.high:.2f}" if known else ""
    law = f"m_thr = {line.intercept:.1f} + {line.slope:.2f} d"
    return f"The line of least squares through the thresholds: {law}{between}."
