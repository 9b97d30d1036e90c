"""One self-contained HTML page about a run: the verdict, what it rests on, and the answers themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthetic_tasks import Task

from .arms import ARMS
from .files import write_atomically
from .prose import by_place
from .statistics import Row

SMOOTHING = 25  # steps averaged for a curve
PANELS = 4  # tasks side by side
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "charembed", "font.family": "sans-serif", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043", "xtick.color": "#3c4043", "ytick.color": "#3c4043", "axes.grid": True,
    "grid.color": "#e8eaed", "axes.axisbelow": True,
}  # fmt: skip
# What the loss of a phase is the mean of: a line of the page, and the axis.
LOSSES = {
    "text": ("Training loss on running text.", "nats per token"),
    "question": ("Loss on the answer tokens alone.", "nats per token"),
    "spelling": ("Loss of reading the letters from the vector of each token.", "nats per place"),
}


class PhaseFacts(Protocol):
    """What the report asks of a phase of the config. `kind` is that of the rows its curve is drawn from."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def replay_share(self) -> float: ...


def write_report(
    out: Path,
    facts: dict[str, Any],
    setting: str,
    *,
    arms: Sequence[str],
    tasks: Sequence[Task],
    phases: Sequence[PhaseFacts],
    rows: list[Row],
    summary: list[Row],
    sentences: list[str],
    metrics: list[dict[str, Any]],
    answers: list[dict[str, Any]],
) -> None:
    """Render `report.html` into the run folder, and its main picture as `answers.svg`.

    Arguments:
        facts: what config.json holds; printed as it is. Of it the page reads `machine`, and of `data` the
            counts of the held-out tokens, where there are any.
        setting: one sentence about the model and its text, for the head of the page.
        arms: names in ARMS, the control first.
        phases: in order; those without rows in `metrics` get no plot.
        rows, summary: of all arms, and what `summarise` made of them. Seeds are told from `rows`.
        metrics: {arm, seed, phase, step, kind, loss_nats, seconds} of every step.
        answers: {arm, seed, task, split, prompt, expected, given, right} of every question.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    control, *others = arms
    seeds = list(dict.fromkeys(row.seed for row in rows))
    costs = cost_table(arms, phases, rows)
    with matplotlib.rc_context(STYLE):
        answered = answer_plot(arms, tasks, summary)
        curves = [
            {"phase": phase, "plot": plot, "about": _loss_of(phase.kind)[0]}
            for phase in phases
            if (plot := curve_plot(arms, metrics, phase.name, phase.kind))
        ]
        spent = cost_plot(arms, costs)
    page = environment.get_template("report.html.jinja").render(
        arms=arms,
        control=control,
        others=others,
        entries=ARMS,
        num_seeds=len(seeds),
        setting=setting,
        facts=facts,
        sentences=sentences,
        notes=split_notes(tasks),
        answer_plot=answered,
        table=answer_table(arms, tasks, summary),
        samples=sample_answers(tasks, [answer for answer in answers if answer["seed"] == seeds[0]]),
        curves=curves,
        smoothing=SMOOTHING,
        text=[row for row in summary if row.metric.startswith(("loss_nats", "bits_per_byte"))],
        costs=costs,
        cost_plot=spent,
    )
    write_atomically(out / "answers.svg", answered)
    write_atomically(out / "report.html", page)


def svg_of(figure: Figure) -> str:
    """A figure as an <svg> element, the same bytes for the same data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def answer_plot(arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]) -> str:
    """Exact match by task (panels) and its splits, an interval on each bar, the majority baseline as a dashed
    line."""
    across = min(PANELS, len(tasks))
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(max(2.9 * across, 4.5), 3.1 * down), layout="constrained")
    panels: list[Axes] = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    cells = {(row.arm, row.task, row.split): row for row in summary if row.metric == "exact_match"}
    for panel, task in zip(panels, tasks, strict=False):
        _answer_panel(panel, arms, task, cells)
    for panel in panels[len(tasks) :]:
        panel.remove()
    for panel in panels[::across]:
        panel.set_ylabel("exact match")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    return svg_of(figure)


def _answer_panel(
    panel: Axes, arms: Sequence[str], task: Task, cells: dict[tuple[str, str, str], Row]
) -> None:
    splits = [split for split in task.splits if (arms[0], task.name, split.name) in cells]
    width = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        found = [cells[arm, task.name, split.name] for split in splits]
        places = np.arange(len(found)) - 0.4 + width * (number + 0.5)
        values = np.array([row.value for row in found])
        bounds = np.array(
            [[row.value - (row.low or 0), (row.high or 0) - row.value] for row in found]
        ).T.clip(0)
        panel.bar(places, values, width * 0.92, color=ARMS[arm].colour, label=arm)
        panel.errorbar(places, values, bounds, fmt="none", ecolor="#202124", elinewidth=0.9, capsize=2)
    for place, split in enumerate(splits):
        baseline = cells[arms[0], task.name, split.name].majority or 0.0
        panel.plot(
            [place - 0.45, place + 0.45],
            [baseline] * 2,
            color="#202124",
            linestyle=(0, (2, 1.5)),
            linewidth=1.1,
            label=None if place else "majority answer",
        )
    panel.set_title(task.name, loc="left", fontweight="bold")
    panel.set_xticks(range(len(splits)), [split.label.replace(" ", "\n") for split in splits], fontsize=8.5)
    panel.set_ylim(0, 1)
    panel.grid(visible=False, axis="x")


def curve_plot(arms: Sequence[str], metrics: list[dict[str, Any]], phase: str, kind: str) -> str:
    """Loss of each arm over a phase's steps of its own kind, and below the differences to the control; a line
    per seed.

    Empty where the phase has no such steps. An arm that took none of them has no line.
    """
    by_run: dict[tuple[str, int], dict[int, float]] = {}
    for row in metrics:
        if row["phase"] == phase and row["kind"] == kind:
            by_run.setdefault((row["arm"], row["seed"]), {})[row["step"]] = row["loss_nats"]
    if not by_run:
        return ""
    differences = []
    for (arm, seed), losses in by_run.items():
        reference = by_run.get((arms[0], seed), {})
        if arm != arms[0] and (shared := [step for step in losses if step in reference]):
            differences.append((arm, shared, [losses[step] - reference[step] for step in shared]))
    figure = Figure(figsize=(10.5, 4.4 if differences else 3.0), layout="constrained")
    panels: list[Axes] = list(
        figure.subplots(2, 1, sharex=True, height_ratios=[2, 1]) if differences else [figure.subplots()]
    )
    panels[0].set_ylabel(_loss_of(kind)[1])
    for (arm, _), losses in by_run.items():
        _curve(panels[0], arm, arm, list(losses), list(losses.values()))
    for arm, steps, values in differences:
        _curve(panels[1], arm, f"{arm} - {arms[0]}", steps, values)
    if differences:
        panels[1].axhline(0, color="#202124", linewidth=0.8)
        panels[1].set_ylabel("difference")
    panels[-1].set_xlabel("step")
    for panel in panels:
        panel.legend(frameon=False, loc="best")
    return svg_of(figure)


def _curve(panel: Axes, arm: str, label: str, steps: Sequence[int], values: Sequence[float]) -> None:
    """A line; the label stands once, however many seeds there are."""
    known = panel.get_legend_handles_labels()[1]
    panel.plot(
        *smoothed(steps, values),
        color=ARMS[arm].colour,
        linewidth=1.3,
        label=None if label in known else label,
    )


def _loss_of(kind: str) -> tuple[str, str]:
    return LOSSES.get(kind, ("Training loss.", "nats"))


def cost_plot(arms: Sequence[str], costs: list[dict[str, Any]]) -> str:
    """What each arm cost, as a multiple of the control."""
    figure = Figure(figsize=(10.5, 0.9 + 0.22 * len(costs) * len(arms)), layout="constrained")
    panel: Axes = figure.subplots()
    height = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        places = np.arange(len(costs)) - 0.4 + height * (number + 0.5)
        ratios = [line["ratios"][arm] for line in costs]
        bars = panel.barh(places, ratios, height * 0.9, color=ARMS[arm].colour, label=arm)
        panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=8.5)
    panel.set_yticks(range(len(costs)), [line["name"] for line in costs])
    panel.invert_yaxis()
    panel.set_xlabel(f"multiple of {arms[0]}")
    panel.grid(visible=False, axis="y")
    return svg_of(figure)


def smoothed(steps: Any, values: Any) -> tuple[Any, Any]:
    """Means over a sliding window, placed at its middle; short series as they are."""
    window = min(SMOOTHING, max(1, len(values) // 4))
    kernel = np.ones(window) / window
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def split_notes(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """What a reader has to know about each split; with the task's name where tasks say different things of
    one."""
    notes: list[tuple[str, str]] = []
    for group in by_place(tasks):
        abouts = dict.fromkeys(split.about for _, split in group if split.about)
        if len(abouts) == 1:
            notes.append((group[0][1].label, next(iter(abouts))))
        elif abouts:
            notes += [(f"{split.label}, {task.name}", split.about) for task, split in group if split.about]
    return notes


def answer_table(arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]) -> list[dict[str, Any]]:
    """One line per split and task that was asked: the majority baseline, each arm, and each difference."""
    lines = []
    for group in by_place(tasks):
        for task, split in group:
            cells = {row.arm: row for row in summary if (row.task, row.split) == (task.name, split.name)}
            if cells:
                lines.append(
                    {"split": split.label, "task": task.name, "control": cells[arms[0]], "cells": cells}
                )
    return lines


def cost_table(arms: Sequence[str], phases: Sequence[PhaseFacts], rows: list[Row]) -> list[dict[str, Any]]:
    """Per arm the median over seeds of what it cost, and its ratio to the control."""
    names = {
        ("all", "parameters"): "parameters in training",
        ("all", "parameters_after_fold"): "parameters after folding",
        **{(phase.name, "median_step_seconds"): f"{phase.title} step, median seconds" for phase in phases},
        ("all", "training_seconds"): "training, seconds",
    }
    lines = []
    for (task, metric), name in names.items():
        values = {
            arm: [row.value for row in rows if (row.arm, row.task, row.metric) == (arm, task, metric)]
            for arm in arms
        }
        if all(values.values()):
            medians = {arm: float(np.median(found)) for arm, found in values.items()}
            ratios = {arm: medians[arm] / medians[arms[0]] for arm in arms}
            lines.append({"name": name, "medians": medians, "ratios": ratios})
    return lines


def sample_answers(
    tasks: Sequence[Task], answers: list[dict[str, Any]], each: int = 3
) -> list[dict[str, Any]]:
    """The first questions on each task's most telling split with what every arm answered: first come, not
    picked."""
    samples = []
    for task in tasks:
        label = next(split.label for split in task.splits if split.name == task.telling)
        by_prompt: dict[str, dict[str, Any]] = {}
        for answer in answers:
            if (answer["task"], answer["split"]) == (task.name, task.telling):
                sample = by_prompt.setdefault(answer["prompt"], {**answer, "label": label, "given": {}})
                sample["given"][answer["arm"]] = (answer["given"], answer["right"])
        samples += list(by_prompt.values())[:each]
    return samples
