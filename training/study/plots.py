"""The pictures of a study: curves of shares over a grid, and thresholds with their line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report.plots import DASHED, STYLE, WIDE
from training.report.svg import INK, SERIES, SOFT, svg_of

from .thresholds import Line

TALL = 2.7  # inches
MARKERS = "osD^vP"  # lines that lie on each other are told apart by them


class Spot(NamedTuple):
    """A share at a place of the grid, with its interval."""

    x: float
    share: float
    low: float | None = None
    high: float | None = None


def share_curves(
    name: str,
    label: str,
    curves: Mapping[str, Sequence[Spot]],
    x_label: str,
    *,
    reference: tuple[str, Sequence[tuple[float, float]]] | None = None,
    log: bool = False,
) -> str:
    """Shares over the grid, a line with intervals for each name, and a dashed line to compare with."""
    with matplotlib.rc_context(STYLE):
        figure, panel = _panel()
        for number, (curve, spots) in enumerate(curves.items()):
            xs, shares = [spot.x for spot in spots], [spot.share for spot in spots]
            colour = SERIES[number % len(SERIES)]
            mark = MARKERS[number % len(MARKERS)]
            panel.plot(
                xs, shares, color=colour, marker=mark, markersize=4, linewidth=1.5, label=curve
            )
            for spot in spots:
                if spot.low is not None and spot.high is not None:
                    panel.plot(
                        [spot.x] * 2, [spot.low, spot.high], color=colour, linewidth=1, alpha=0.6
                    )
        if reference is not None:
            told, points = reference
            panel.plot(
                *zip(*points, strict=True), color=INK, linestyle=DASHED, linewidth=1, label=told
            )
        if log:
            panel.set_xscale("log", base=2)
        xs = sorted({spot.x for spots in curves.values() for spot in spots})
        panel.set_xticks(xs, [f"{x:g}" for x in xs], minor=False)
        panel.set_xticks([], minor=True)
        panel.set_ylim(-0.03, 1.03)
        panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        panel.set_xlabel(x_label)
        _legend(figure, len(curves) + (reference is not None))
        return svg_of(figure, name, f"{label} {_told(curves)}")


def threshold_plot(
    name: str,
    label: str,
    thresholds: Sequence[tuple[float, float]],
    line: Line | None,
    open_ends: Sequence[tuple[float, float, bool]],
    x_label: str,
    y_label: str,
) -> str:
    """Thresholds over the width with their line; a triangle where one lies above (or below) all that was
    measured.
    """
    with matplotlib.rc_context(STYLE):
        figure, panel = _panel()
        if thresholds:
            panel.plot(
                *zip(*thresholds, strict=True), "o", color=SERIES[0], markersize=5, label="m_thr"
            )
        for x, y, above in open_ends:
            panel.plot([x], [y], "^" if above else "v", color=SOFT, markersize=7)
        if line is not None:
            ends = [min(x for x, _ in thresholds), max(x for x, _ in thresholds)]
            fit = [line.intercept + line.slope * x for x in ends]
            told = f"m_thr = {line.intercept:.1f} {'+' if line.slope >= 0 else '-'} {abs(line.slope):.2f} d"
            panel.plot(ends, fit, color=INK, linestyle=DASHED, linewidth=1, label=told)
        widths = sorted({x for x, _ in thresholds} | {x for x, _, _ in open_ends})
        panel.set_xticks(widths, [f"{width:g}" for width in widths])
        panel.set_ylim(bottom=0)
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
        if thresholds:
            _legend(figure, 2)
        return svg_of(figure, name, label)


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDE, TALL), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, entries: int) -> None:
    figure.legend(
        loc="outside upper left", ncols=2 if entries > 2 else entries, frameon=False, fontsize=8.5
    )


def _told(curves: Mapping[str, Sequence[Spot]]) -> str:
    """For those who do not see it: "d = 4: 4 98 %, 8 40 %." """
    parts: list[Any] = [
        f"{curve}: {', '.join(f'{spot.x:g} {100 * spot.share:.0f} %' for spot in spots)}."
        for curve, spots in curves.items()
    ]
    return " ".join(parts)
