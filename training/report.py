"""One self-contained HTML page about a run: the verdict, what it rests on, and the answers themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthetic_tasks import SPLITS

from .config import CompareConfig
from .files import write_atomically
from .statistics import Row

COLOURS = {"plain": "#8a8f98", "matched": "#d1603d", "lstm": "#1f6f8b", "shuffled": "#b59a2d"}
SPLIT_NAMES = {"seen": "training\nwords", "unseen_words": "unseen\nwords", "unseen_tokens": "unseen\ntokens", "longer_words": "longer\nwords"}
SMOOTHING = 25  # steps averaged for a curve
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "charembed", "font.family": "sans-serif", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#9aa0a6", "axes.labelcolor": "#3c4043", "xtick.color": "#3c4043", "ytick.color": "#3c4043",
    "axes.grid": True, "grid.color": "#e8eaed", "axes.axisbelow": True,
}  # fmt: skip


def write_report(
    out: Path, config: CompareConfig, rows: list[Row], summary: list[Row], sentences: list[str],
    metrics: list[dict[str, Any]], answers: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Render `report.html` into the run folder, and its main picture as `answers.svg`."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    facts = json.loads((out / "config.json").read_text("utf-8"))
    control, *others = config.arms
    costs = cost_table(config, rows)
    with matplotlib.rc_context(STYLE):
        plots = {
            "answers": answer_plot(config, summary),
            "pretraining": curve_plot(config, metrics, "pretrain", "text"),
            "finetuning": curve_plot(config, metrics, "finetune", "question"),
            "costs": cost_plot(config, costs),
        }
    page = environment.get_template("report.html.jinja").render(
        config=config,
        facts=facts,
        control=control,
        others=others,
        sentences=sentences,
        plots={name: svg for name, svg in plots.items() if svg},
        colours=COLOURS,
        smoothing=SMOOTHING,
        table=answer_table(config, summary),
        text=[row for row in summary if row.metric.startswith(("loss_nats", "bits_per_byte"))],
        costs=costs,
        samples=sample_answers(config, answers),
    )
    write_atomically(out / "answers.svg", plots["answers"])
    write_atomically(out / "report.html", page)


def svg_of(figure: Figure) -> str:
    """A figure as an <svg> element, the same bytes for the same data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def answer_plot(config: CompareConfig, summary: list[Row]) -> str:
    """Exact match per task (panels) and split, an interval on each bar, the majority baseline as a dashed line."""
    figure = Figure(figsize=(2.9 * len(config.tasks), 3.1), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(config.tasks), sharey=True, squeeze=False)[0]
    width = 0.8 / len(config.arms)
    for panel, task in zip(axes, config.tasks, strict=True):
        for number, arm in enumerate(config.arms):
            found = [row for split in SPLITS for row in summary if (row.arm, row.task, row.split, row.metric) == (arm, task, split, "exact_match")]
            places = np.arange(len(found)) - 0.4 + width * (number + 0.5)
            values = np.array([row.value for row in found])
            bounds = np.array([[row.value - (row.low or 0), (row.high or 0) - row.value] for row in found]).T.clip(0)
            panel.bar(places, values, width * 0.92, color=COLOURS[arm], label=arm)
            panel.errorbar(places, values, bounds, fmt="none", ecolor="#202124", elinewidth=0.9, capsize=2)
        for place, row in enumerate(found):
            label = "majority answer" if place == 0 else None
            panel.plot([place - 0.45, place + 0.45], [row.majority or 0.0] * 2, color="#202124", linestyle=(0, (2, 1.5)), linewidth=1.1, label=label)
        panel.set_title(task, loc="left", fontweight="bold")
        panel.set_xticks(range(len(SPLITS)), [SPLIT_NAMES[split] for split in SPLITS], fontsize=8.5)
        panel.set_ylim(0, 1)
        panel.grid(visible=False, axis="x")
    axes[0].set_ylabel("exact match")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    return svg_of(figure)


def curve_plot(config: CompareConfig, metrics: list[dict[str, Any]], phase: str, kind: str) -> str:
    """Loss of each arm over the steps of a phase, and the differences to the control below; a thin line per seed."""
    by_run: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in metrics:
        if row["phase"] == phase and row["kind"] == kind:
            by_run.setdefault((row["arm"], row["seed"]), []).append((row["step"], row["loss_nats"]))
    if not by_run:
        return ""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    loss, difference = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    control = config.arms[0]
    for (arm, seed), points in by_run.items():
        steps, values = np.array(points).T
        smooth_steps, smooth = smoothed(steps, values)
        label = arm if seed == config.first_seed else None
        loss.plot(smooth_steps, smooth, color=COLOURS[arm], linewidth=1.3, label=label)
        if arm != control:
            reference = np.array(by_run[control, seed])[:, 1]
            difference.plot(*smoothed(steps, values - reference), color=COLOURS[arm], linewidth=1.3, label=f"{arm} - {control}" if label else None)
    loss.set_ylabel("nats per token")
    difference.axhline(0, color="#202124", linewidth=0.8)
    difference.set_ylabel("difference")
    difference.set_xlabel("step")
    for panel in (loss, difference):
        if panel.get_legend_handles_labels()[1]:
            panel.legend(frameon=False, loc="best")
    return svg_of(figure)


def cost_plot(config: CompareConfig, costs: list[dict[str, Any]]) -> str:
    """What each arm cost, as a multiple of the control."""
    figure = Figure(figsize=(10.5, 0.9 + 0.22 * len(costs) * len(config.arms)), layout="constrained")
    panel: Axes = figure.subplots()
    height = 0.8 / len(config.arms)
    for number, arm in enumerate(config.arms):
        places = np.arange(len(costs)) - 0.4 + height * (number + 0.5)
        bars = panel.barh(places, [line["ratios"][arm] for line in costs], height * 0.9, color=COLOURS[arm], label=arm)
        panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=8.5)
    panel.set_yticks(range(len(costs)), [line["name"] for line in costs])
    panel.invert_yaxis()
    panel.set_xlabel(f"multiple of {config.arms[0]}")
    panel.grid(visible=False, axis="y")
    return svg_of(figure)


def smoothed(steps: Any, values: Any) -> tuple[Any, Any]:
    """Means over a sliding window, placed at its middle; short series as they are."""
    window = min(SMOOTHING, max(1, len(values) // 4))
    kernel = np.ones(window) / window
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def answer_table(config: CompareConfig, summary: list[Row]) -> list[dict[str, Any]]:
    """One line per split and task: the majority baseline, each arm, and each difference."""
    lines = []
    for split in SPLITS:
        for task in config.tasks:
            cells = {row.arm: row for row in summary if row.task == task and row.split == split}
            lines.append({"split": split, "task": task, "majority": cells[config.arms[0]].majority, "cells": cells})
    return lines


def cost_table(config: CompareConfig, rows: list[Row]) -> list[dict[str, Any]]:
    """Per arm the median over seeds of what it cost, and its ratio to the control."""
    names = {
        ("all", "parameters"): "parameters in training",
        ("all", "parameters_after_fold"): "parameters after folding",
        ("pretrain", "median_step_seconds"): "pretraining step, median seconds",
        ("finetune", "median_step_seconds"): "fine-tuning step, median seconds",
        ("all", "training_seconds"): "training, seconds",
    }
    lines = []
    for (task, metric), name in names.items():
        values = {arm: [row.value for row in rows if (row.arm, row.task, row.metric) == (arm, task, metric)] for arm in config.arms}
        if all(values.values()):
            medians = {arm: float(np.median(found)) for arm, found in values.items()}
            lines.append({"name": name, "medians": medians, "ratios": {arm: medians[arm] / medians[config.arms[0]] for arm in config.arms}})
    return lines


def sample_answers(config: CompareConfig, answers: list[dict[str, Any]], each: int = 3) -> list[dict[str, Any]]:
    """The first questions on unseen tokens with what every arm answered: first come, not picked."""
    samples: dict[tuple[str, str], dict[str, Any]] = {}
    for answer in answers:
        if answer["split"] == "unseen_tokens" and answer["seed"] == config.first_seed:
            sample = samples.setdefault((answer["task"], answer["prompt"]), {**answer, "given": {}})
            sample["given"][answer["arm"]] = (answer["given"], answer["right"])
    return [sample for task in config.tasks for sample in [s for s in samples.values() if s["task"] == task][:each]]
