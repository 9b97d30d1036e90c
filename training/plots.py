"""The pictures of the report, as svg elements that take their colours and their font from the page around
them.

Every picture is made as wide as a phone, or little wider, so that its text is never shrunk beyond reading.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from synthetic_tasks import Split, Task

from .arms import ARMS
from .prose import percent
from .statistics import Row

NARROW, WIDE = 3.65, 4.2  # inches: a panel among others, a picture alone
POINTS = 240  # of a curve: more are not to be seen
AXIS = 0.24  # inches below bars
SMOOTHING = 25  # steps averaged for a curve
INK, SOFT, LINE, PAPER = "#202124", "#5b6066", "#dfe2e6", "#ffffff"
# The names under which a page sets these colours, in light and in dark.
LIGHT = {"ink": INK, "soft": SOFT, "line": LINE, "paper": PAPER}
DARK = {"ink": "#e8eaed", "soft": "#a9afb7", "line": "#383d44", "paper": "#15181c"}
FONT = 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif'
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "charembed", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "xtick.major.size": 0,
    "ytick.major.size": 0, "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}  # fmt: skip
# What the loss of a phase is the mean of: a line of the page, and the axis.
LOSSES = {
    "text": ("Training loss on running text.", "nats per token"),
    "question": ("Loss on the answer tokens alone.", "nats per token"),
    "spelling": ("Loss of reading the letters from the vector of each token.", "nats per place"),
}


@dataclass(frozen=True)
class Group:
    """Bars that belong together, (value, low, high) by arm; intervals and the baseline may be missing."""

    label: str
    bars: Mapping[str, tuple[float, float | None, float | None]]
    baseline: float | None = None


def colours(arms: Sequence[str]) -> dict[str, dict[str, str]]:
    """The colours of a page by scheme and name: {"light": {"ink": "#202124", ..., "lstm": "#1f6f8b"}, "dark":
    ...}

    On dark paper an arm has a third of white in its colour.
    """
    own = {arm: ARMS[arm].colour for arm in arms}
    pale = {arm: _paler(colour) for arm, colour in own.items()}
    return {"light": LIGHT | own, "dark": DARK | pale}


def _paler(colour: str) -> str:
    red, green, blue = ((2 * part + 1) / 3 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def answer_groups(
    arms: Sequence[str],
    cells: Sequence[tuple[Task, Split]],
    summary: Sequence[Row],
    *,
    with_task: bool = False,
) -> list[Group]:
    """Exact match on these tasks and splits, as far as they were asked."""
    rows = {(row.arm, row.task, row.split): row for row in summary if row.metric == "exact_match"}
    groups = []
    for task, split in cells:
        found = {
            arm: rows[arm, task.name, split.name] for arm in arms if (arm, task.name, split.name) in rows
        }
        if found:
            label = f"{task.name}: {split.label}" if with_task else split.label
            bars = {arm: (row.value, row.low, row.high) for arm, row in found.items()}
            groups.append(Group(label, bars, found[arms[0]].majority))
    return groups


def share_plot(name: str, label: str, groups: Sequence[Group], *, width: float = NARROW) -> str:
    """Shares of right answers as bars with their intervals, and the majority baseline as a dashed line."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, _height(groups)))
        _draw_shares(figure.add_axes(_box(groups)), groups)
        return svg_of(figure, name, f"{label} {_told(groups, percent)}")


def cost_plot(name: str, label: str, groups: Sequence[Group]) -> str:
    """What each arm cost, as a multiple of the control."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, _height(groups)))
        panel = figure.add_axes(_box(groups))
        largest = max((bar[0] for group in groups for bar in group.bars.values()), default=1.0)
        _draw_groups(panel, groups, lambda value: f"{value:.2f}", largest)
        panel.set_xticks([0, 1], ["0", "as the control"])
        return svg_of(figure, name, f"{label} {_told(groups, lambda value: f'{value:.2f}')}")


def answers_picture(arms: Sequence[str], tasks: Sequence[Task], summary: Sequence[Row]) -> str:
    """All answers in one svg file that stands alone, on a paper of its own; for a README."""
    panels = {task.name: answer_groups(arms, [(task, s) for s in task.splits], summary) for task in tasks}
    panels = {name: groups for name, groups in panels.items() if groups}
    across = min(2, len(panels)) or 1
    down = -(-len(panels) // across) or 1
    with matplotlib.rc_context(STYLE):
        tall = max(map(_height, panels.values()), default=1.0) + 0.35
        figure = Figure(figsize=(across * 4.2, down * tall + 0.45))
        for number, (name, groups) in enumerate(panels.items()):
            left, top = number % across / across, (number // across) * tall + 0.8
            height = _height(groups)
            size = figure.get_size_inches()
            box = (left + 0.02, 1 - (top + height - AXIS) / size[1], 0.94 / across, (height - AXIS) / size[1])
            panel = figure.add_axes(box)
            _draw_shares(panel, groups)
            panel.set_title(name, loc="left", fontweight="bold", fontsize=10)
        handles: list[Any] = [matplotlib.patches.Patch(color=ARMS[arm].colour, label=arm) for arm in arms]
        handles.append(
            matplotlib.lines.Line2D([], [], color=INK, linestyle=(0, (2, 1.5)), label="majority answer")
        )
        figure.legend(
            handles=handles, loc="upper left", ncols=len(handles), frameon=False, bbox_to_anchor=(0.01, 1)
        )
        svg = svg_of(figure, "answers", "Share of answers that are exactly right, with 95 % intervals.")
    return _alone(svg, arms)


def curve_plots(
    arms: Sequence[str], metrics: Sequence[Mapping[str, Any]], phase: str, kind: str
) -> list[tuple[str, str]]:
    """Loss of each arm over a phase's steps of its own kind, and the differences to the control: (caption,
    svg).

    A thin line per seed, and a thick one for their mean where there are several. Empty where the phase has no
    such steps. An arm that took none of them has no line.
    """
    losses: dict[str, dict[int, dict[int, float]]] = {}
    for row in metrics:
        if row["phase"] == phase and row["kind"] == kind:
            by_seed = losses.setdefault(row["arm"], {})
            by_seed.setdefault(row["seed"], {})[row["step"]] = row["loss_nats"]
    if not losses:
        return []
    unit = LOSSES.get(kind, ("", "nats"))[1]
    control = losses.get(arms[0], {})
    apart = {
        arm: {
            seed: {
                step: loss - control[seed][step]
                for step, loss in run.items()
                if step in control.get(seed, {})
            }
            for seed, run in by_seed.items()
        }
        for arm, by_seed in losses.items()
        if arm != arms[0]
    }
    apart = {
        arm: kept for arm, runs in apart.items() if (kept := {seed: run for seed, run in runs.items() if run})
    }
    pictures = [
        (f"Loss, {unit}", _curves(f"{phase}-loss", f"Loss in {unit} over the steps of {phase}.", losses))
    ]
    if apart:
        label = f"Difference in loss to {arms[0]} over the steps of {phase}."
        caption = f"Difference to {arms[0]}, {unit}; under zero is better"
        pictures.append((caption, _curves(f"{phase}-difference", label, apart, zero=True)))
    return pictures


def smoothed(steps: Any, values: Any) -> tuple[Any, Any]:
    """Means over a sliding window, placed at its middle, and no more of them than can be seen; short series
    as they
    are."""
    window = min(SMOOTHING, max(1, len(values) // 4))
    kernel = np.ones(window) / window
    means = np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
    kept = np.unique(np.linspace(0, len(means[0]) - 1, min(POINTS, len(means[0]))).round().astype(int))
    return means[0][kept], means[1][kept]


def svg_of(figure: Figure, name: str, label: str) -> str:
    """A figure as an <svg> element with a role and a label: the same bytes for the same data.

    Its ids begin with `name`, so that several can stand in one page. Its colours are the page's variables,
    with the light ones for where there are none; its font is the page's.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: ([^;\"']*?)([\d.]+px) [^;\"]*", _font, svg)
    named = {colour: name for name, colour in LIGHT.items()} | {arm.colour: key for key, arm in ARMS.items()}
    svg = re.sub("#[0-9a-f]{6}", lambda c: f"var(--{named[c[0]]}, {c[0]})" if c[0] in named else c[0], svg)
    start, rest = svg.split(">", 1)
    title = f'<title id="{name}-title">{escape(label)}</title>'
    return f'{start} role="img" aria-labelledby="{name}-title">{title}{rest}'


def _font(found: re.Match[str]) -> str:
    weight = "font-weight: 700; " if "700" in found[1] or "bold" in found[1] else ""
    return f"{weight}font-size: {found[2]}"


def _alone(svg: str, arms: Sequence[str]) -> str:
    """With its own colours and paper, so that it can be read outside of any page, in light and in dark."""
    schemes = {
        scheme: "; ".join(f"--{name}: {colour}" for name, colour in names.items())
        for scheme, names in colours(arms).items()
    }
    style = (
        f"<style>svg {{ {schemes['light']}; font-family: {FONT}; }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {schemes['dark']}; }} }}</style>"
        f'<rect width="100%" height="100%" rx="6" style="fill: var(--paper, {PAPER})"/>'
    )
    start, rest = svg.split("</title>", 1)
    return f"{start}</title>{style}{rest}"


def _height(groups: Sequence[Group]) -> float:
    """Inches: a line for each label and bar, and the axis."""
    return AXIS + sum(_lines(group) for group in groups) * 0.165


def _box(groups: Sequence[Group]) -> tuple[float, float, float, float]:
    bottom = AXIS / _height(groups)
    return 0.005, bottom, 0.99, 1 - bottom


def _lines(group: Group) -> float:
    return 1.75 + len(group.bars)


def _draw_shares(panel: Axes, groups: Sequence[Group]) -> None:
    _draw_groups(panel, groups, percent, 1.0)
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    for place in (0.0, 1.0):
        panel.get_xticklabels()[int(place * 2)].set_horizontalalignment("left" if place == 0 else "center")


def _draw_groups(panel: Axes, groups: Sequence[Group], form: Any, largest: float) -> None:
    """Label above, bars below it, one line each; the value stands behind the bar and its interval."""
    y = 0.0
    for group in groups:
        panel.text(0, y + 0.75, group.label, va="center", ha="left")
        y += 1.4
        top = y
        for arm, (value, low, high) in group.bars.items():
            panel.barh(y + 0.5, value, 0.8, color=ARMS[arm].colour)
            if low is not None and high is not None:
                for colour, width in ((PAPER, 2.4), (INK, 1.0)):  # a rim of paper, to be seen on any bar
                    panel.plot(
                        [low, high], [y + 0.5] * 2, color=colour, linewidth=width, solid_capstyle="butt"
                    )
            end = max(value, high or 0.0, group.baseline or 0.0)
            panel.text(end + 0.015 * largest, y + 0.53, form(value), va="center", ha="left", fontsize=8.5)
            y += 1
        if group.baseline is not None:
            panel.plot(
                [group.baseline] * 2,
                [top - 0.05, y + 0.05],
                color=INK,
                linestyle=(0, (2, 1.5)),
                linewidth=1.0,
            )
        y += 0.35
    panel.set_ylim(y, 0)
    panel.set_xlim(0, largest * 1.16)
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.grid(visible=False, axis="y")


def _told(groups: Sequence[Group], form: Any) -> str:
    """What a picture shows, for those who do not see it: "Unseen tokens: matched 0 %, lstm 88 %."""
    return " ".join(
        f"{group.label}: {', '.join(f'{arm} {form(bar[0])}' for arm, bar in group.bars.items())}."
        for group in groups
    )


def _curves(
    name: str, label: str, by_arm: Mapping[str, Mapping[int, Mapping[int, float]]], *, zero: bool = False
) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 2.3), layout="constrained")
        panel: Axes = figure.subplots()
        if zero:
            panel.axhline(0, color=INK, linewidth=0.8)
        for arm, by_seed in by_arm.items():
            alone = len(by_seed) == 1
            for run in by_seed.values():
                width, alpha = (1.2, 1.0) if alone else (0.6, 0.45)
                panel.plot(
                    *smoothed(list(run), list(run.values())), ARMS[arm].colour, linewidth=width, alpha=alpha
                )
            if not alone:
                shared = sorted(set.intersection(*map(set, by_seed.values())))
                means = [float(np.mean([run[step] for run in by_seed.values()])) for step in shared]
                panel.plot(*smoothed(shared, means), color=ARMS[arm].colour, linewidth=1.5)
        panel.set_xlabel("step")
        return svg_of(figure, name, label)
