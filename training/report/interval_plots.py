"""Figures of values with intervals: shares of answers by bins, and differences between arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import COLOURS, DASHED, INK, LINE, PAPER, SOFT, STYLE, WIDE, picture, svg_of
from .formats import percent

_LINE, _HEAD, _FOOT = 0.165, 0.1, 0.4  # inches: a line of a forest plot, the space around it
_LETTER = 0.062  # inches: a letter of 8 points, on average
_MARKERS = "osD^vPX*"  # arms that coincide differ in their markers


class Binned(NamedTuple):
    """The shares of one bin: {"lstm": (0.82, 0.76, 0.87)} by arm, and the majority baseline."""

    label: str
    shares: Mapping[str, tuple[float, float, float]]
    baseline: float


def binned_shares(name: str, label: str, bins: Sequence[Binned], x_label: str) -> str:
    """Draw the share of each arm in each bin with its interval, side by side."""
    arms = list(dict.fromkeys(arm for one in bins for arm in one.shares))
    room = 0.7 / len(arms)  # of the distance between two bins

    def draw(panel: Axes) -> None:
        for number, arm in enumerate(arms):
            places = [i for i, one in enumerate(bins) if arm in one.shares]
            # beside each other: intervals at one place would hide each other
            xs = [i + room * (number - (len(arms) - 1) / 2) for i in places]
            values = [bins[i].shares[arm] for i in places]
            style: dict[str, Any] = {"color": COLOURS[arm], "marker": _MARKERS[number % 8]}
            panel.plot(xs, [one[0] for one in values], markersize=3.5, linewidth=0.8, **style)
            for x, (_, low, high) in zip(xs, values, strict=True):
                panel.plot([x, x], [low, high], color=COLOURS[arm], linewidth=1.1)
        for i, one in enumerate(bins):
            panel.plot(
                [i - 0.42, i + 0.42], [one.baseline] * 2, color=INK, lw=0.9, linestyle=DASHED
            )
        panel.set_xticks(range(len(bins)), [one.label for one in bins])
        panel.set_xlim(-0.5, len(bins) - 0.5)
        panel.set_ylim(-0.03, 1.03)
        panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        panel.set_xlabel(x_label)
        panel.grid(visible=False, axis="x")

    for one in bins:
        shares = (f"{arm} {percent(share[0])}" for arm, share in one.shares.items())
        label += f" {one.label}: {', '.join(shares)}."
    return picture(name, label, 2.2, draw)


class Compared(NamedTuple):
    """One difference of a forest plot.

    Compared("lstm - plain", 82.0, 76.0, 86.0, judged=True, holds=True)

    Attributes:
        arms: both arms, the first one's colour is used.
        low, high: None if there is no interval.
        judged: whether it is one of the comparisons that are corrected together.
        holds: whether it holds after the correction.
    """

    arms: str
    value: float
    low: float | None
    high: float | None
    judged: bool
    holds: bool


class Axis(NamedTuple):
    """The x axis of a forest plot: its label, the format of a value, and half the margin."""

    label: str
    form: str
    margin: float


def forest(
    name: str, label: str, groups: Sequence[tuple[str, Sequence[Compared]]], axis: Axis
) -> str:
    """Draw differences as points with intervals on one scale, below the names of their groups."""
    shown = [one for _, group in groups for one in group]
    longest = max(len(one.arms) for one in shown)
    left = min(2.1, 0.1 + _LETTER * longest)  # inches for the names of the arms
    tall = _HEAD + _FOOT + _LINE * (len(shown) + 1.4 * len(groups))
    reach = [x for one in shown for x in (one.value, one.low, one.high) if x is not None]
    ends = min(-axis.margin, *reach), max(axis.margin, *reach)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, tall))
        room = (left / WIDE, _FOOT / tall, 1 - (left + 0.62) / WIDE, 1 - (_FOOT + _HEAD) / tall)
        panel = figure.add_axes(room)
        # no difference larger than the margin: within this band
        panel.axvspan(-axis.margin, axis.margin, color=LINE, alpha=0.55, linewidth=0)
        panel.axvline(0, color=SOFT, linewidth=0.8)
        y = 0.0
        for title, group in groups:
            _beside(panel, 0.0, y + 0.75, title, -left, fontsize=8.5, color=INK)
            y += 1.4
            for one in group:
                _draw_compared(panel, one, y + 0.5, axis, left)
                y += 1
        panel.set_ylim(y, 0)
        pad = 0.04 * (ends[1] - ends[0])
        panel.set_xlim(ends[0] - pad, ends[1] + pad)
        panel.set_yticks([])
        panel.locator_params(axis="x", nbins=5)
        panel.set_xlabel(axis.label, fontsize=8.5)
        panel.spines[:].set_visible(False)
        panel.grid(visible=False, axis="y")
        for title, group in groups:
            values = (f"{one.arms} {axis.form.format(one.value)}" for one in group)
            label += f" {title}: {', '.join(values)}."
        return svg_of(figure, name, label)


def _draw_compared(panel: Axes, one: Compared, y: float, axis: Axis, left: float) -> None:
    """Draw the names, the interval and the value: filled if it holds, hollow if it is judged only.

    A difference that is not judged is grey and thin, with a small bar for a marker.
    """
    colour = COLOURS[one.arms.split(" − ")[0]] if one.judged else SOFT
    if one.low is not None and one.high is not None:
        panel.plot([one.low, one.high], [y, y], color=colour, linewidth=1.6 if one.judged else 0.7)
    if one.judged:
        face = colour if one.holds else PAPER
        style: dict[str, Any] = {"color": colour, "mfc": face, "mew": 1.1}
        panel.plot([one.value], [y], "o", ms=4.6, zorder=3, **style)
    else:
        panel.plot([one.value], [y], "|", ms=4.6, color=colour, mew=0.9, zorder=3)
    ink = INK if one.judged else SOFT
    _beside(panel, 0.0, y, one.arms, 0.08 - left, fontsize=8, color=ink)
    weight = "bold" if one.holds else "normal"
    shown = axis.form.format(one.value)
    _beside(panel, 1.0, y, shown, 0.56, fontsize=8, color=ink, ha="right", fontweight=weight)


def _beside(panel: Axes, side: float, y: float, text: str, inches: float, **style: Any) -> None:
    """Write a text at a distance in inches from the left (0) or right (1) side of a panel."""
    panel.annotate(
        text, (side, y), (72 * inches, 0), xycoords=panel.get_yaxis_transform(),
        textcoords="offset points", va="center", annotation_clip=False, **style,
    )  # fmt: skip
