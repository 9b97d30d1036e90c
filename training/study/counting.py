"""The findings of counting: accuracy by width d and symbols m, and the threshold m_thr(d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from training.intervals import over_seeds
from training.report.figures import SERIES, SOFT, dashed, legend, picture, share_curves

from .findings import Cells, Findings, Measured, Picture, cells_of, mean, spot
from .thresholds import LEVEL, Line, Threshold, fitted_line, threshold

_Thresholds = dict[tuple[int, int], Threshold]  # by width and seed


def counting(measured: list[Measured]) -> Findings:
    """Fit thresholds to the accuracies on new sequences, and a line through the thresholds."""
    cells = cells_of(measured, "fresh", "exact_match", ("d", "m"))
    widths, symbols = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    found = _thresholds(cells)
    line = fitted_line(_points(found))
    # the lines of single seeds show how much the slope varies between models
    of_seeds = [fitted_line(_points(found, seed)) for seed in sorted({seed for _, seed in found})]
    slopes = [one.slope for one in of_seeds if one is not None]
    rows: list[dict[str, Any]] = [
        {
            "d": d, "seed": seed, "metric": "m_thr", "value": t.value,
            "bound": str(t) if t.value is None else "",
        }
        for (d, seed), t in found.items()
    ]  # fmt: skip
    if line is not None:
        slope = {"metric": "m_thr_slope", "value": line.slope, "low": line.low, "high": line.high}
        rows += [slope, {"metric": "m_thr_intercept", "value": line.intercept}]
    by_width = {d: _over_seeds([t for (of, _), t in found.items() if of == d]) for d in widths}
    lines = []
    for d, m_thr in by_width.items():
        accuracy = (f"{mean(cells[d, m]):.2f}" if (d, m) in cells else "" for m in symbols)
        lines.append([f"d = {d}", *accuracy, m_thr])
    open_ended = any(one.value is None for one in found.values())
    return Findings(
        _headline(by_width, slopes),
        _sentences(line, slopes, open_ended),
        ["width", *(f"m = {m}" for m in symbols), "m_thr"],
        lines,
        [_accuracy(cells, widths, symbols), _threshold_picture(found, line)],
        rows,
    )


def _thresholds(cells: Cells) -> _Thresholds:
    """Find the threshold of each width and seed, in order."""
    curves: dict[tuple[int, int], dict[int, float]] = {}
    for (d, m), rows in cells.items():
        for row in rows:
            curves.setdefault((d, int(row.seed)), {})[m] = row.value
    return {key: threshold(curve) for key, curve in sorted(curves.items())}


def _points(found: _Thresholds, seed: int | None = None) -> list[tuple[float, float]]:
    """Return (d, m_thr) of one seed or of all, without the thresholds outside of the range."""
    return [
        (float(d), one.value)
        for (d, of), one in found.items()
        if one.value is not None and seed in (None, of)
    ]


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


def _threshold_picture(found: _Thresholds, line: Line | None) -> Picture:
    points = _points(found)

    def draw(panel: Axes) -> None:
        if points:
            xs, ys = zip(*points, strict=True)
            panel.plot(xs, ys, "o", color=SERIES[0], markersize=5, label="m_thr")
        for (d, _), one in found.items():
            if one.value is None:
                shape = "^" if one.side == "above" else "v"
                panel.plot([float(d)], [float(one.end)], shape, color=SOFT, markersize=7)
        if line is not None:
            ends = [(x, line.intercept + line.slope * x) for x in (min(xs), max(xs))]
            dashed(panel, ends, str(line))
        widths = sorted({float(d) for d, _ in found})
        panel.set_xticks(widths, [f"{width:g}" for width in widths])
        panel.set_ylim(bottom=0)
        panel.set_xlabel("model width d")
        panel.set_ylabel("m_thr, different symbols")
        if points:
            legend(panel)

    return Picture(
        "threshold",
        f"m_thr, the m at which accuracy falls to {100 * LEVEL:.0f} %, over the width d, one point "
        "per seed. A grey triangle points towards a threshold outside of the measured range.",
        picture("threshold", _line_sentence(line), 2.7, draw),
    )


def _over_seeds(thresholds: list[Threshold]) -> str:
    """Return "5.2", "above 24", over seeds "5.2 (4.1 to 6.3)", or "5.2, above 24"."""
    values = [one.value for one in thresholds if one.value is not None]
    # a mean without the seeds outside of the range would be biased towards its middle
    if len(thresholds) == 1 or len(values) < len(thresholds):
        return ", ".join(dict.fromkeys(map(str, thresholds)))
    return f"{np.mean(values):.1f}{_between(values, ' ({:.1f} to {:.1f})')}"


def _between(values: Sequence[float], form: str) -> str:
    """Format the interval of a mean over seeds; "" if there is none."""
    low, high, _ = over_seeds(values)
    return "" if low is None else form.format(low, high)


def _headline(by_width: Mapping[int, str], slopes: Sequence[float]) -> str:
    level = f"{100 * LEVEL:.0f} %"
    number = f"The number of symbols among which a model counts correctly in {level} of the cases"
    low = over_seeds(slopes)[0] if slopes else None
    if low is None:
        each = (f"{m_thr} at width {width}" for width, m_thr in by_width.items())
        return f"{number}: {', '.join(each)}."
    grows = "grows with" if low > 0 else "is not shown to grow with"
    return (
        f"{number} {grows} its width: by {np.mean(slopes):.2f} for each unit ({len(slopes)} "
        f"seeds{_between(slopes, ', 95 % interval {:.2f} to {:.2f}')})."
    )


def _sentences(line: Line | None, slopes: Sequence[float], open_ended: bool) -> list[str]:
    sentences = [
        f"m_thr is the m at which accuracy falls to {100 * LEVEL:.0f} %: the best falling curve "
        "(isotonic regression) is fitted to the accuracies, with straight lines between the "
        "trained numbers of symbols.",
        _line_sentence(line),
    ]
    if len(slopes) > 1:
        between = _between(slopes, " (95 % interval over seeds {:.2f} to {:.2f})")
        mean_slope = f"a mean slope of {np.mean(slopes):.2f}{between}"
        sentences.append(f"The lines of the {len(slopes)} seeds have {mean_slope}.")
    else:
        sentences.append("One seed has no interval over seeds: train several (--seeds 3).")
    if open_ended:
        sentences.append(
            "If accuracy never falls to the level, or never reaches it, there is no m_thr: that "
            "width is left out of the line."
        )
    return sentences


def _line_sentence(line: Line | None) -> str:
    if line is None:
        return "There are too few thresholds for a line."
    between = "" if line.low is None else f", slope between {line.low:.2f} and {line.high:.2f}"
    return f"The line of least squares through the thresholds: {line}{between}."
