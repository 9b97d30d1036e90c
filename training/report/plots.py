"""The pictures of the report: shares of right answers, curves of losses, costs.

Every picture is made as wide as a phone, or little wider, so that its text is never shrunk beyond reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from synthetic_tasks import Split, Task
from training.intervals import Row
from training.models.arms import ARMS

from .svg import INK, LINE, PAPER, SOFT, alone, svg_of
from .verdict import percent

NARROW, WIDE = 3.65, 4.2  # inches: a panel among others, a picture alone
POINTS = 240  # of a curve: more are not to be seen
AXIS, LINE_HEIGHT = 0.24, 0.165  # inches: below bars, and of a bar or its label
DASHED: Any = (0, (2, 1.5))
SMOOTHING = 25  # steps averaged for a curve
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
Runs = dict[int, dict[int, float]]  # losses by seed and step


@dataclass(frozen=True)
class Group:
    """Bars that belong together, (value, low, high) by arm; intervals and the baseline may be missing."""

    label: str
    bars: Mapping[str, tuple[float, float | None, float | None]]
    baseline: float | None = None


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
            arm: rows[arm, task.name, split.name]
            for arm in arms
            if (arm, task.name, split.name) in rows
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
    asked = [
        (task.name, answer_groups(arms, [(task, s) for s in task.splits], summary))
        for task in tasks
    ]
    panels = [(name, groups) for name, groups in asked if groups]
    across = min(2, len(panels)) or 1
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    heights = [0.35 + max(_height(groups) for _, groups in row) for row in rows]
    legend = 0.25 + 0.2 * -(-(len(arms) + 1) // 4)  # inches: four names a line
    wide, tall = across * WIDE, legend + sum(heights)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(wide, tall))
        for number, row in enumerate(rows):
            top = legend + 0.35 + sum(heights[:number])
            for place, (name, groups) in enumerate(row):
                height = _height(groups) - AXIS
                left, bottom = place / across + 0.02, 1 - (top + height) / tall
                panel = figure.add_axes((left, bottom, 0.94 / across, height / tall))
                _draw_shares(panel, groups)
                panel.set_title(name, loc="left", fontweight="bold", fontsize=10)
        handles: list[Any] = [Patch(color=ARMS[arm].colour, label=arm) for arm in arms]
        handles.append(Line2D([], [], color=INK, linestyle=DASHED, label="majority answer"))
        figure.legend(
            handles=handles, loc="upper left", ncols=4, frameon=False, bbox_to_anchor=(0.01, 1)
        )
        svg = svg_of(
            figure, "answers", "Share of answers that are exactly right, with 95 % intervals."
        )
    return alone(svg, arms)


def curve_plots(
    arms: Sequence[str], metrics: Sequence[Mapping[str, Any]], phase: str, kind: str
) -> list[tuple[str, str]]:
    """Captions and pictures: the loss of each arm over a phase's own steps, and the differences to the
    control.

    A thin line per seed, and a thick one for their mean where there are several. Empty where the phase has no
    such steps. An arm that took none of them has no line.
    """
    losses: dict[str, Runs] = {}
    for row in metrics:
        if row["phase"] == phase and row["kind"] == kind:
            by_seed = losses.setdefault(row["arm"], {})
            by_seed.setdefault(row["seed"], {})[row["step"]] = row["loss_nats"]
    if not losses:
        return []
    unit = LOSSES.get(kind, ("", "nats"))[1]
    control = losses.get(arms[0], {})
    apart = {
        arm: runs for arm in losses if arm != arms[0] and (runs := _apart(losses[arm], control))
    }
    pictures = [
        (
            f"Loss, {unit}",
            _curves(f"{phase}-loss", f"Loss in {unit} over the steps of {phase}.", losses),
        )
    ]
    if apart:
        label = f"Difference in loss to {arms[0]} over the steps of {phase}."
        caption = f"Difference to {arms[0]}, {unit}; under zero is better"
        pictures.append((caption, _curves(f"{phase}-difference", label, apart, zero=True)))
    return pictures


def _apart(runs: Runs, control: Runs) -> Runs:
    """Losses minus the control's, seed by seed and step by step, where both have them."""
    both = {seed: runs[seed].keys() & control.get(seed, {}).keys() for seed in runs}
    return {
        seed: {step: runs[seed][step] - control[seed][step] for step in sorted(steps)}
        for seed, steps in both.items()
        if steps
    }


def smoothed(steps: Any, values: Any) -> tuple[Any, Any]:
    """Means over a sliding window, placed at its middle, and no more of them than can be seen.

    Short series stay as they are.
    """
    window = min(SMOOTHING, max(1, len(values) // 4))
    kernel = np.ones(window) / window
    means = np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
    kept = np.unique(
        np.linspace(0, len(means[0]) - 1, min(POINTS, len(means[0]))).round().astype(int)
    )
    return means[0][kept], means[1][kept]


def _height(groups: Sequence[Group]) -> float:
    """Inches: a line and three quarters for each label, one for each bar, and the axis."""
    return AXIS + LINE_HEIGHT * sum(1.75 + len(group.bars) for group in groups)


def _box(groups: Sequence[Group]) -> tuple[float, float, float, float]:
    """Where the bars stand in a figure of their own: above the axis."""
    bottom = AXIS / _height(groups)
    return 0.005, bottom, 0.99, 1 - bottom


def _draw_shares(panel: Axes, groups: Sequence[Group]) -> None:
    _draw_groups(panel, groups, percent, 1.0)
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    panel.get_xticklabels()[0].set_horizontalalignment("left")


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
                for colour, width in (
                    (PAPER, 2.4),
                    (INK, 1.0),
                ):  # a rim of paper, to be seen on any bar
                    panel.plot(
                        [low, high], [y + 0.5] * 2, color=colour, lw=width, solid_capstyle="butt"
                    )
            end = max(value, high or 0.0, group.baseline or 0.0)
            panel.text(
                end + 0.015 * largest, y + 0.53, form(value), va="center", ha="left", fontsize=8.5
            )
            y += 1
        if group.baseline is not None:
            panel.plot(
                [group.baseline] * 2,
                [top - 0.05, y + 0.05],
                color=INK,
                linestyle=DASHED,
                linewidth=1,
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


def _curves(name: str, label: str, by_arm: Mapping[str, Runs], *, zero: bool = False) -> str:
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
                    *smoothed(list(run), list(run.values())),
                    ARMS[arm].colour,
                    linewidth=width,
                    alpha=alpha,
                )
            if not alone:
                shared = sorted(set.intersection(*map(set, by_seed.values())))
                means = [float(np.mean([run[step] for run in by_seed.values()])) for step in shared]
                panel.plot(*smoothed(shared, means), color=ARMS[arm].colour, linewidth=1.5)
        panel.set_xlabel("step")
        return svg_of(figure, name, label)
