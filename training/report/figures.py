"""The figures of all pages as SVG: bars with intervals, curves of shares and losses.

A figure is about as wide as a phone, so a page never scales its text below a readable size. Colours
are CSS variables that the page sets for light and dark; the font is the page's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from training.models.arms import ARMS, arm_names

from .formats import percent

NARROW, WIDE = 3.65, 4.2  # inches: a panel among others, a figure alone
_AXIS, _LINE_HEIGHT = 0.24, 0.165  # inches: the axis below bars; a bar or its label
_POINTS = 240  # of a curve: more cannot be seen at this width
_SMOOTHING = 25  # steps in the moving average of a loss curve, at most

INK, SOFT, LINE, PAPER = "#202124", "#5b6066", "#dfe2e6", "#ffffff"
LIGHT = {"ink": INK, "soft": SOFT, "line": LINE, "paper": PAPER}
DARK = {"ink": "#e8eaed", "soft": "#a9afb7", "line": "#383d44", "paper": "#15181c"}
SERIES = ("#7a3b96", "#3f66b5", "#23898a", "#4f9a3a", "#b98a1e", "#c9562c")
COLOURS = {name: ARMS[name].colour for name in arm_names()}
COLOURS |= {f"series-{number}": colour for number, colour in enumerate(SERIES)}
FONT = 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif'
DASHED: Any = (0, (2, 1.5))
STYLE: dict[Any, Any] = {
    # "none" writes text as text: it can be searched, and takes the page's font
    "svg.fonttype": "none", "svg.hashsalt": "charembed",
    # matplotlib measures text in its own font, so a figure is the same on every machine
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "xtick.major.size": 0,
    "ytick.major.size": 0, "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}  # fmt: skip
Runs = Mapping[int, Mapping[int, float]]  # losses in nats by seed and step


@dataclass(frozen=True)
class Group:
    """Bars below one label: (value, low, high) by arm; an interval or the baseline can be None.

    `dots` are the values of single seeds by arm; {} if there is one seed.
    """

    label: str
    bars: Mapping[str, tuple[float, float | None, float | None]]
    baseline: float | None = None
    dots: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Scale(NamedTuple):
    """The x axis of bars: number format of the values, right end, and tick labels by position."""

    form: Callable[[float], str] = percent
    end: float = 1.0
    ticks: Mapping[float, str] = {0: "0 %", 0.5: "50 %", 1: "100 %"}


_SHARES = Scale()


class Spot(NamedTuple):
    """A point (x, share) of a curve, with its interval."""

    x: float
    share: float
    low: float | None = None
    high: float | None = None


# From a matplotlib figure to SVG


def colours() -> dict[str, dict[str, str]]:
    """CSS variables by scheme: {"light": {"ink": "#202124", "lstm": "#1f6f8b", ...}, "dark": ...}.

    In the dark scheme, arms and series are mixed with one third of white.
    """
    pale = {name: _pale(colour) for name, colour in COLOURS.items()}
    return {"light": LIGHT | COLOURS, "dark": DARK | pale}


def _colour_of(arm: str) -> str:
    """The colour of an arm, or of a model that is compared with arms and is none of them."""
    return COLOURS.get(arm, SERIES[0])


def _pale(colour: str) -> str:
    red, green, blue = ((2 * part + 1) / 3 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def svg_of(figure: Figure, name: str, label: str) -> str:
    """Write a figure as an <svg> element with a role and an accessible label.

    Ids begin with `name`, so a page can hold several figures. The bytes depend on the data alone.
    """
    buffer = io.StringIO()
    # no metadata: a date would change the bytes of equal figures
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # an XML declaration is not allowed inside of HTML
    for start in (' id="', "url(#", 'href="#'):
        svg = svg.replace(start, f"{start}{name}-")
    # matplotlib knows no CSS variables: it draws in the light colours, replaced here once
    for colour, variable in {value: key for key, value in (LIGHT | COLOURS).items()}.items():
        svg = svg.replace(colour, f"var(--{variable}, {colour})")
    start, rest = svg.split(">", 1)
    title = f'<title id="{name}-title">{escape(label)}</title>'
    return f'{start} role="img" aria-labelledby="{name}-title">{title}{rest}'


def alone(svg: str) -> str:
    """Add colours, font and background to a figure, so it can be shown outside of a page."""
    light, dark = (
        "; ".join(f"--{name}: {colour}" for name, colour in scheme.items())
        for scheme in colours().values()
    )
    style = (
        f"<style>svg {{ {light} }} svg text {{ font-family: {FONT} !important }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
        f'<rect width="100%" height="100%" rx="6" style="fill: var(--paper, {PAPER})"/>'
    )
    return svg.replace("</title>", f"</title>{style}", 1)


def picture(name: str, label: str, tall: float, draw: Callable[[Axes], None]) -> str:
    """Draw one panel of WIDE x `tall` inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, tall), layout="constrained")
        draw(figure.subplots())
        return svg_of(figure, name, label)


# Bars


def bars(
    name: str, label: str, groups: Sequence[Group], scale: Scale = _SHARES, *, width: float = WIDE
) -> str:
    """Draw values as bars with their intervals, and the majority baseline as a dashed line."""
    with matplotlib.rc_context(STYLE):
        tall = _height(groups)
        figure = Figure(figsize=(width, tall))
        panel = figure.add_axes((0.005, _AXIS / tall, 0.99, 1 - _AXIS / tall))
        _draw_bars(panel, groups, scale)
        for group in groups:
            values = (f"{arm} {scale.form(bar[0])}" for arm, bar in group.bars.items())
            label += f" {group.label}: {', '.join(values)}."
        return svg_of(figure, name, label)


def answers_figure(arms: Sequence[str], panels: Sequence[tuple[str, Sequence[Group]]]) -> str:
    """Draw all tasks in one figure with a legend, as a file of its own for a README."""
    across = min(2, len(panels)) or 1  # a run without questions has no panel
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    heights = [0.35 + max(_height(groups) for _, groups in row) for row in rows]
    head = 0.25 + 0.2 * -(-(len(arms) + 1) // 4)  # inches: a legend with four names a line
    wide, tall = across * WIDE, head + sum(heights)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(wide, tall))
        for number, row in enumerate(rows):
            top = head + 0.35 + sum(heights[:number])
            for place, (name, groups) in enumerate(row):
                height = _height(groups) - _AXIS
                left, bottom = place / across + 0.02, 1 - (top + height) / tall
                panel = figure.add_axes((left, bottom, 0.94 / across, height / tall))
                _draw_bars(panel, groups, _SHARES)
                panel.set_title(name, loc="left", fontweight="bold", fontsize=10)
        handles: list[Any] = [Patch(color=COLOURS[arm], label=arm) for arm in arms]
        handles.append(Line2D([], [], color=INK, linestyle=DASHED, label="majority baseline"))
        figure.legend(
            handles=handles, loc="upper left", ncols=4, frameon=False, bbox_to_anchor=(0.01, 1)
        )
        label = "Share of exactly right answers, with 95 % intervals."
        return alone(svg_of(figure, "answers", label))


def _height(groups: Sequence[Group]) -> float:
    """Inches: 1.75 lines for each label, one for each bar, and the axis."""
    return _AXIS + _LINE_HEIGHT * sum(1.75 + len(group.bars) for group in groups)


def _draw_bars(panel: Axes, groups: Sequence[Group], scale: Scale) -> None:
    """Draw each label above its bars, and each value behind its bar and interval."""
    y = 0.0
    for group in groups:
        panel.text(0, y + 0.75, group.label, va="center", ha="left")
        y += 1.4
        top = y
        for arm, (value, low, high) in group.bars.items():
            panel.barh(y + 0.5, value, 0.8, color=_colour_of(arm))
            if low is not None and high is not None:
                # first a wider line in the paper's colour: the interval shows on any bar
                for colour, width in ((PAPER, 2.4), (INK, 1.0)):
                    line: dict[str, Any] = {"color": colour, "lw": width, "solid_capstyle": "butt"}
                    panel.plot([low, high], [y + 0.5] * 2, **line)
            dots = group.dots.get(arm, ())
            # paper inside and ink outside: a dot shows on the bar, on its interval and beside it
            seeds: Any = {
                "color": INK,
                "ms": 2.6,
                "mfc": PAPER,
                "mec": INK,
                "mew": 0.7,
                "clip_on": False,
            }
            panel.plot(dots, [y + 0.5] * len(dots), "o", zorder=4, **seeds)
            end = max(value, high or 0.0, group.baseline or 0.0, *dots) + 0.015 * scale.end
            panel.text(end, y + 0.53, scale.form(value), va="center", ha="left", fontsize=8.5)
            y += 1
        if group.baseline is not None:
            ends = [top - 0.05, y + 0.05]
            panel.plot([group.baseline] * 2, ends, color=INK, linestyle=DASHED, linewidth=1)
        y += 0.35
    panel.set_ylim(y, 0)  # downwards, as the text is read
    panel.set_xlim(0, scale.end * 1.16)
    panel.set_yticks([])
    panel.set_xticks(list(scale.ticks), list(scale.ticks.values()))
    # centred, half of "0 %" would lie outside of the figure
    panel.get_xticklabels()[0].set_horizontalalignment("left")
    panel.spines[:].set_visible(False)
    panel.grid(visible=False, axis="y")


# Curves


def share_curves(
    name: str,
    label: str,
    curves: Mapping[str, Sequence[Spot]],
    x_label: str,
    *,
    reference: tuple[str, Sequence[tuple[float, float]]] | None = None,
    log: bool = False,
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    arms: bool = False,
) -> str:
    """Draw shares over x with their intervals, and a dashed reference line.

    Arguments:
        styles: line properties by curve, explained by the page; None for a series with a legend.
        arms: whether the curves of a series are arms, with the colours that these have on all pages.
    """

    def draw(panel: Axes) -> None:
        for number, (curve, spots) in enumerate(curves.items()):
            # different markers show lines that coincide
            colour = _colour_of(curve) if arms else SERIES[number % 6]
            series = {"color": colour, "marker": "osD^vP"[number % 6], "linewidth": 1.5}
            style = series if styles is None else styles[curve]
            xs = [spot.x for spot in spots]
            panel.plot(xs, [spot.share for spot in spots], markersize=4, label=curve, **style)
            for spot in spots:
                if spot.low is not None and spot.high is not None:
                    ends = [spot.low, spot.high]
                    panel.plot([spot.x] * 2, ends, color=style["color"], linewidth=1, alpha=0.6)
        if reference is not None:
            dashed(panel, reference[1], reference[0])
        if log:
            panel.set_xscale("log", base=2)
        places = sorted({spot.x for spots in curves.values() for spot in spots})
        panel.set_xticks(places, [f"{x:g}" for x in places])
        panel.set_xticks([], minor=True)  # a log axis adds minor ticks of its own
        panel.set_ylim(-0.03, 1.03)
        panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        panel.set_xlabel(x_label)
        if styles is None:
            legend(panel)

    for curve, spots in curves.items():
        values = (f"{spot.x:g} {100 * spot.share:.0f} %" for spot in spots)
        label += f" {curve}: {', '.join(values)}."
    return picture(name, label, 2.7 if styles is None else 2.4, draw)


def loss_curves(
    name: str, label: str, by_arm: Mapping[str, Runs], window: int, *, zero: bool = False
) -> str:
    """Draw losses over steps: a thin line for each seed and, if there are several, a thick mean.

    Each point is a mean of `window` steps; see `smoothing_window`.
    """

    def draw(panel: Axes) -> None:
        if zero:
            panel.axhline(0, color=INK, linewidth=0.8)
        for arm, by_seed in by_arm.items():
            several, colour = len(by_seed) > 1, COLOURS[arm]
            width, alpha = (0.6, 0.45) if several else (1.2, None)
            for run in by_seed.values():
                line = smoothed(list(run), list(run.values()), window)
                panel.plot(*line, color=colour, linewidth=width, alpha=alpha)
            if several:
                shared = sorted(set.intersection(*map(set, by_seed.values())))
                means = [float(np.mean([run[step] for run in by_seed.values()])) for step in shared]
                panel.plot(*smoothed(shared, means, window), color=colour, linewidth=1.5)
        panel.set_xlabel("step")

    return picture(name, label, 2.3, draw)


def smoothing_window(runs: Iterable[Iterable[int]]) -> int:
    """Return the steps in the moving average of all curves of a phase.

    smoothing_window([range(400), range(400)]) -> 25; of six steps 1: they are drawn as they are.

    Arguments:
        runs: the steps of each curve. A curve of means or of differences has the steps that the
            others share. The window is at most a quarter of these.
    """
    shared = set.intersection(*map(set, runs))
    return min(_SMOOTHING, max(1, len(shared) // 4))


def smoothed(steps: Any, values: Any, window: int) -> tuple[Any, Any]:
    """Return means over a sliding window at its middle, thinned to the points that can be seen.

    Every point is a mean of `window` steps, at the ends too: a curve begins and ends half a window
    inside of its series.
    """
    kernel = np.ones(window) / window
    means = np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
    num = len(means[0])
    kept = np.unique(np.linspace(0, num - 1, min(_POINTS, num)).round().astype(int))
    return means[0][kept], means[1][kept]


def dashed(panel: Axes, points: Sequence[tuple[float, float]], name: str) -> None:
    xs, ys = zip(*points, strict=True)
    panel.plot(xs, ys, color=INK, linestyle=DASHED, linewidth=1, label=name)


def legend(panel: Axes) -> None:
    """Put a legend of up to two columns above the panel."""
    entries = len(panel.get_legend_handles_labels()[1])
    panel.get_figure().legend(  # type: ignore[union-attr]
        loc="outside upper left", ncols=min(2, entries), frameon=False, fontsize=8.5
    )
