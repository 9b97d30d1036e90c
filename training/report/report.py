"""One self-contained HTML page about a run: the headline, what it rests on, and the answers themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synthetic_tasks import Task
from training.files import write_atomically
from training.intervals import Row
from training.models.arms import ARMS

from .headline import Headline, headline
from .page import page_template
from .plots import (
    LOSSES,
    SMOOTHING,
    WIDE,
    Group,
    answer_groups,
    answers_picture,
    cost_plot,
    curve_plots,
    share_plot,
)
from .steps_to_loss import METRIC as RACE
from .svg import FONT, colours
from .verdict import bare, by_place, comparisons, how_judged, replay_sentence, tally, verdict


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
    @property
    def replay_target(self) -> str: ...
    @property
    def replay_text(self) -> str: ...


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
    metrics: list[dict[str, Any]],
    answers: list[dict[str, Any]],
) -> None:
    """Render `report.html` into the run folder, and its answers as a picture of their own, `answers.svg`.

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
    control, *others = arms
    seeds = list(dict.fromkeys(row.seed for row in rows))
    first = headline(summary, tasks, arms, len(seeds))
    samples = sample_answers(tasks, [answer for answer in answers if answer["seed"] == seeds[0]])
    costs = cost_table(arms, phases, rows)
    page = page_template("report/report.html.jinja").render(
        arms=arms,
        control=control,
        others=others,
        entries=ARMS,
        colours=colours(arms),
        font=FONT,
        count=models_in_words(len(arms), len(seeds)),
        num_seeds=len(seeds),
        setting=setting,
        facts=facts,
        headline=first,
        glance=glance_plot(arms, tasks, summary, first),
        verdicts=[
            (arm, tally(summary, arm, control), verdict(summary, tasks, arm, control))
            for arm in others
        ],
        how=how_judged(summary, len(seeds)) if others else [],
        comparisons=comparisons(summary),
        notes=split_notes(tasks),
        plots=answer_plots(arms, tasks, summary),
        table=answer_table(arms, tasks, summary),
        samples=samples,
        examples={sample["task"]: sample for sample in reversed(samples)},
        curves=[
            {
                "phase": phase,
                "plots": plots,
                "about": LOSSES.get(phase.kind, ("Training loss.", ""))[0],
                "replay": replay_sentence(
                    phase.replay_share, phase.replay_target, phase.replay_text
                ),
            }
            for phase in phases
            if (plots := curve_plots(arms, metrics, phase.name, phase.kind))
        ],
        smoothing=SMOOTHING,
        text=text_table(summary),
        costs=costs,
        cost_plot=cost_plot(
            "cost",
            f"What each arm cost, as a multiple of {control}.",
            [
                Group(
                    line["name"],
                    {arm: (ratio, None, None) for arm, ratio in line["ratios"].items()},
                )
                for line in costs
            ],
        ),
    )
    write_atomically(out / "answers.svg", answers_picture(arms, tasks, summary))
    write_atomically(out / "report.html", page)


def models_in_words(num_arms: int, num_seeds: int) -> str:
    """How many models were trained. models_in_words(2, 5) -> "5 pairs of models" """
    plural = "s" if num_seeds > 1 else ""
    if num_arms == 1:
        return f"{num_seeds} model{plural}"
    together = f"pair{plural} of" if num_arms == 2 else f"set{plural} of {num_arms}"
    return f"{num_seeds} {together} models"


def glance_plot(
    arms: Sequence[str], tasks: Sequence[Task], summary: list[Row], first: Headline
) -> str:
    """The picture under the headline: its split of all tasks that have it, of the others the most telling."""
    names = {task.name: task.main_split for task in tasks}
    if first.cell:
        shown = first.cell[1].name
        names |= {
            task.name: shown for task in tasks if shown in {split.name for split in task.splits}
        }
    cells = [
        (task, split) for task in tasks for split in task.splits if split.name == names[task.name]
    ]
    cells.sort(key=lambda cell: first.cell is None or cell[0].name != first.cell[0].name)
    groups = answer_groups(arms, cells, summary, with_task=True)
    return (
        share_plot("glance", "Share of answers that are exactly right.", groups, width=WIDE)
        if groups
        else ""
    )


def answer_plots(
    arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]
) -> list[tuple[str, str]]:
    """A picture for each task that was asked: (its name, exact match on its splits)."""
    plots = []
    for number, task in enumerate(tasks):
        if groups := answer_groups(arms, [(task, split) for split in task.splits], summary):
            label = f"Share of answers of {task.name} that are exactly right, by split."
            plots.append((task.name, share_plot(f"answers-{number}", label, groups)))
    return plots


def split_notes(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """What each split is; with the task's name where tasks say different things of one."""
    notes: list[tuple[str, str]] = []
    for group in by_place(tasks):
        told: dict[str, list[str]] = {}
        for task, split in group:
            told.setdefault("; ".join(filter(None, (bare(split.place), split.about))), []).append(
                task.name
            )
        label = group[0][1].label
        for about, names in told.items():
            notes.append((label if len(told) == 1 else f"{label}, {', '.join(names)}", about))
    return notes


def answer_table(
    arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]
) -> list[dict[str, Any]]:
    """One line per split and task that was asked: the majority baseline, each arm, and each difference."""
    lines = []
    for group in by_place(tasks):
        for task, split in group:
            cells = {
                row.arm: row for row in summary if (row.task, row.split) == (task.name, split.name)
            }
            if cells:
                lines.append(
                    {
                        "split": split.label,
                        "task": task.name,
                        "control": cells[arms[0]],
                        "cells": cells,
                    }
                )
    return lines


def text_table(summary: list[Row]) -> list[dict[str, Any]]:
    """One line per phase and arm or difference: nats per token and bits per byte of held-out text."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in summary:
        metric = row.metric.removesuffix("_difference")
        if metric in ("loss_nats", "bits_per_byte"):
            line = {
                "when": row.task,
                "arm": row.arm,
                "form": "%.4f" if metric == row.metric else "%+.4f",
            }
            lines.setdefault((row.task, row.arm), line)[metric] = row
    return list(lines.values())


def cost_table(
    arms: Sequence[str], phases: Sequence[PhaseFacts], rows: list[Row]
) -> list[dict[str, Any]]:
    """Per arm the median over seeds of what it cost, and its ratio to the control."""
    names = {
        ("all", "parameters"): "parameters in training",
        ("all", "parameters_after_fold"): "parameters after folding",
        **{
            (phase.name, "median_step_seconds"): f"{phase.title} step, median seconds"
            for phase in phases
        },
        ("all", "training_seconds"): "training, seconds",
        **{
            (phase.name, RACE): f"steps of {phase.title} to the loss that {arms[0]} ends with"
            for phase in phases
        },
    }
    lines = []
    for (task, metric), name in names.items():
        values = {
            arm: [
                row.value for row in rows if (row.arm, row.task, row.metric) == (arm, task, metric)
            ]
            for arm in arms
        }
        least = len(values[arms[0]])
        if least and (metric == RACE or all(values.values())):
            # an arm that does not get there in every seed has no median
            medians = {
                arm: float(np.median(found)) for arm, found in values.items() if len(found) == least
            }
            ratios = {arm: median / medians[arms[0]] for arm, median in medians.items()}
            lines.append({"name": name, "medians": medians, "ratios": ratios})
    return lines


def sample_answers(
    tasks: Sequence[Task], answers: list[dict[str, Any]], each: int = 3
) -> list[dict[str, Any]]:
    """The first questions on each task's most telling split with what every arm answered: first come, not
    picked."""
    samples = []
    for task in tasks:
        label = next(split.label for split in task.splits if split.name == task.main_split)
        by_prompt: dict[str, dict[str, Any]] = {}
        for answer in answers:
            if (answer["task"], answer["split"]) == (task.name, task.main_split):
                sample = by_prompt.setdefault(
                    answer["prompt"], {**answer, "label": label, "given": {}}
                )
                sample["given"][answer["arm"]] = (answer["given"], answer["right"])
        samples += list(by_prompt.values())[:each]
    return samples
