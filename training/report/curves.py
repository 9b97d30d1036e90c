"""Figures of the measurements during training, and of the text loss by the frequency of tokens."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from synthetic_tasks import Task
from training.ask.run_evaluation import TextLosses
from training.config.phase import Phase
from training.run.run import TextsByRun

from .figures import COLOURS, Group, Runs, Scale, bars, picture
from .formats import capital
from .page import Table
from .verdict import by_place

ByArm = dict[str, dict[int, dict[int, float]]]  # values by arm, seed and step
_LOSS = Scale("{:.2f}".format)


class Measured(NamedTuple):
    """The figures of one phase.

    Attributes:
        title: of the phase.
        questions: of each task and split, at most; 0 in a phase of text.
        tokens: of held-out text, each time.
        plots: (caption, figure).
    """

    title: str
    questions: int
    tokens: int
    plots: Sequence[tuple[str, str]]


def during_training(
    rows: Sequence[Mapping[str, Any]], phases: Sequence[Phase], tasks: Sequence[Task]
) -> Iterator[Measured]:
    """Yield the figures of each measured phase: held-out loss, and exact match by split.

    Arguments:
        rows: as `Run.curves` returns them.
    """
    for phase in phases:
        own = [row for row in rows if row["phase"] == phase.name]
        text = [row for row in own if row["metric"] == "loss_nats"]
        asked = [row for row in own if row["metric"] == "exact_match"]
        if not own:
            continue
        plots = []
        if text:
            label = f"Loss on held-out text over the steps of {phase.name}."
            svg = band_curves(f"{phase.name}-held-out", label, by_arm_of(text))
            plots.append(("Held-out text, nats per token", svg))
        labels = {split.name: split.label for group in by_place(tasks) for _, split in group}
        for number, (split, name) in enumerate(labels.items()):
            if values := by_arm_of(row for row in asked if row["split"] == split):
                label = f"Share of exactly right answers, {name}, over the steps of {phase.name}."
                svg = band_curves(f"{phase.name}-asked-{number}", label, values, share=True)
                plots.append((f"{capital(name)}, exact match, mean of the tasks", svg))
        questions, tokens = (max((row["n"] for row in kind), default=0) for kind in (asked, text))
        yield Measured(phase.title, questions, tokens, plots)


def by_arm_of(rows: Iterable[Mapping[str, Any]]) -> ByArm:
    """The mean over tasks of each arm, seed and step."""
    found: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["seed"], row["step"]), []).append(row["value"])
    by_arm: ByArm = {}
    for (arm, seed, step), values in found.items():
        by_arm.setdefault(arm, {}).setdefault(seed, {})[step] = statistics.fmean(values)
    return by_arm


def band_curves(name: str, label: str, by_arm: Mapping[str, Runs], *, share: bool = False) -> str:
    """Draw a line for each arm: the mean over seeds, with a band from the least to the largest."""
    form = "{:.0%}".format if share else "{:.2f}".format

    def draw(panel: Axes) -> None:
        for arm, by_seed in by_arm.items():
            colour = COLOURS[arm]
            for line in _lines(by_seed):
                steps = list(line)
                means = [statistics.fmean(values) for values in line.values()]
                panel.plot(steps, means, color=colour, linewidth=1.4, marker="o", markersize=2.5)
                lows, highs = (list(map(end, line.values())) for end in (min, max))
                if lows != highs:
                    panel.fill_between(steps, lows, highs, color=colour, alpha=0.2, linewidth=0)
        panel.set_xlim(left=0)
        panel.set_xlabel("step")
        if share:
            panel.set_ylim(-0.03, 1.03)
            panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])

    for arm, by_seed in by_arm.items():
        for line in _lines(by_seed):
            step = max(line)
            label += f" {arm}, step {step}: {form(statistics.fmean(line[step]))}."
    return picture(name, label, 2.3, draw)


def _lines(by_seed: Runs) -> list[dict[int, list[float]]]:
    """The values of all seeds by step: one line, or one for each seed if they share no step."""
    shared = sorted(set.intersection(*map(set, by_seed.values())))
    if shared:
        return [{step: [run[step] for run in by_seed.values()] for step in shared}]
    return [{step: [run[step]] for step in sorted(run)} for run in by_seed.values()]


# Text by the frequency of its tokens


class Frequencies(NamedTuple):
    """The loss by the count of the predicted token in the training text.

    Attributes:
        plots: (caption, figure) of each row of held-out text.
        table: all values.
    """

    plots: Sequence[tuple[str, str]]
    table: Table


def by_frequency(texts: TextsByRun, arms: Sequence[str]) -> Frequencies:
    """Compare the arms by the frequency of the predicted token; means over seeds.

    Arguments:
        texts: as `Run.text_losses` returns them; an arm without an entry is left out.
    """
    plots, lines = [], []
    for number, task in enumerate(dict.fromkeys(task for own in texts.values() for task in own)):
        groups = []
        for place, (low, high, _, _) in enumerate(_first(texts, task).bins):
            seen: dict[str, list[float]] = {}
            for (arm, _), own in texts.items():
                *_, nats, tokens = own[task].bins[place] if task in own else (0.0, 0)
                if tokens:
                    seen.setdefault(arm, []).append(nats / tokens)
            if not seen:
                continue
            # the windows are the same for all arms and seeds, and so are their tokens
            tokens, means = _first(texts, task).bins[place][3], _means(seen, arms)
            name = _times(low, high)
            bars_of = {arm: (mean, None, None) for arm, mean in means.items()}
            dots = seen if any(len(of_arm) > 1 for of_arm in seen.values()) else {}
            groups.append(Group(f"{name} ({tokens:,})", bars_of, dots=dots))
            values = [f"{means[arm]:.3f}" if arm in means else "" for arm in arms]
            lines.append([task, name, f"{tokens:,}", *values])
        if groups:
            end = max(bar[0] for group in groups for bar in group.bars.values())
            label = f"Loss on {task}, in nats per token, by the count of the token in training."
            scale = _LOSS._replace(end=end, ticks={0: "0"})
            plots.append((capital(task), bars(f"frequency-{number}", label, groups, scale)))
    headings = ["when", "token in the training text", "n per arm", *arms]
    return Frequencies(plots, Table(headings, lines, left=2))


def _first(texts: TextsByRun, task: str) -> TextLosses:
    return next(own[task] for own in texts.values() if task in own)


def _means(seen: Mapping[str, Sequence[float]], arms: Sequence[str]) -> dict[str, float]:
    return {arm: statistics.fmean(seen[arm]) for arm in arms if arm in seen}


def _times(low: int, high: int | None) -> str:
    """(0, 9) -> "up to 9 times"; (1000, None) -> "1,000 times or more"."""
    if high is None:
        return f"{low:,} times or more"
    return f"{low:,} to {high:,} times" if low else f"up to {high:,} times"
