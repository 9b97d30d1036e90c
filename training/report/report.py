"""The report of a run: one self-contained HTML page, and its answers as an SVG file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from synthetic_tasks import Task
from training.config.config import DECODER, CompareConfig
from training.data.prepare import Data
from training.files import write_atomically, write_json
from training.intervals import Row
from training.models.arms import ARMS
from training.run.begun import command_of
from training.run.run import RESULTS, TOKENS_PER_SECOND, Run
from training.train.state import METRICS

from .answers import answer_table, short_table
from .breakdowns import LEAST
from .curves import by_frequency, during_training
from .figures import NARROW, Group, Scale, answers_figure, bars, loss_curves, smoothing_window
from .formats import bare, listed, percent, replay_sentence
from .headline import Headline, headline
from .page import Cell, Sample, Table, difference, print_sentences, print_table, render
from .pairs import forests, pairwise_table
from .results import STEPS_TO_LOSS, Results, losses_of
from .verdict import (
    by_place,
    comparisons,
    how_judged,
    tally,
    text_intervals,
    verdict,
)
from .words import by_word

# By kind of phase: the sentence above its loss curve, and the unit.
_LOSSES = {
    "text": ("Training loss on running text.", "nats per token"),
    "question": ("Loss on the answer tokens alone.", "nats per token"),
    "spelling": ("Loss of predicting the letters of a token from its vector.", "nats per place"),
}
# By `output` of a decoder: the weight of its output layer, if this is no weight of its own.
_TIED = {
    "tokens": "the token table",
    "vectors": "the input vectors (token table plus character vectors)",
}
_WHOLE = 4  # arms of a run whose whole table is printed in the terminal
_SAMPLES = 3  # questions shown of each task


def finish(run: Run, console: Console) -> None:
    """Write results, metrics and report of a finished run, and print a table and the verdict."""
    found, out = Results.of(run), run.folder
    # before any file: paired differences are wrong if the arms saw different batches
    run.assert_same_batches()
    write_atomically(out / METRICS, "".join(json.dumps(row) + "\n" for row in found.metrics))
    write_json(out / RESULTS, [row.saved for row in found.rows + found.summary])
    write_report(out, run.record, setting(run.config, run.data), found)
    summary = found.summary
    title = "Exact match of freely generated answers"
    short = len(found.arms) > _WHOLE
    table = short_table(found) if short else answer_table(found)
    print_table(console, table, title, comparisons(summary))
    first = headline(summary, found.tasks, found.arms, len(found.seeds))
    sentences = [first.sentence, first.basis]
    for arm in found.judged_arms:
        sentences += verdict(summary, found.tasks, arm)
    sentences += how_judged(summary, len(found.seeds)) if found.judged_arms else []
    if short:
        sentences.append("The page has the scores of all arms, and every difference.")
    print_sentences(console, sentences, out / "report.html")


def setting(config: CompareConfig, data: Data) -> str:
    """Describe the model and its text in one sentence.

    "A decoder of 3 layers, 128 wide, with a vocabulary of 4,096 tokens, on the corpus sotu
    (2,542,281 tokens)."

    If its output layer has no weight of its own: "... 4,096 tokens and the token table as the
    weight of the output layer (--output tokens), on the corpus ..."
    """
    model, output = config.model, ""
    layers = f"{model.layers} layer{'s' if model.layers > 1 else ''}"
    built = f"A decoder of {layers}, {model.width} wide,"
    size = f"The pretrained model {model.model}" if model.pretrained else built
    if not model.pretrained and model.output in _TIED:
        weight = _TIED[model.output]
        output = f" and {weight} as the weight of the output layer (--output {model.output})"
    text = f"the corpus {config.data.corpus} ({data.facts['train_tokens']:,} tokens)"
    built = f"{size} with a vocabulary of {data.facts['tokens']:,} tokens{output}, on {text}."
    return " ".join([built, *_characters_alone(config)])


def _characters_alone(config: CompareConfig) -> Iterator[str]:
    """Sentences about the settings of fine-tuning that concern the arms with character vectors."""
    for phase in config.phases:
        if phase.steps and phase.row_dropout:
            yield (
                f"In {phase.title}, the rows of {percent(phase.row_dropout)} of the tokens are replaced "
                "by the mean row in each step, in arms with character vectors (--row-dropout)."
            )
        if phase.steps and phase.whole_words:
            yield (
                f"In {phase.title}, {percent(phase.whole_words)} of the questions about words of several "
                "tokens have the word as one token without a row, in arms with an encoder "
                "(--whole-words)."
            )


def write_report(out: Path, facts: dict[str, Any], setting: str, found: Results) -> None:
    """Write `report.html` and `answers.svg` into the run folder.

    Arguments:
        facts: the content of config.json, printed as it is. The page reads `machine`, `begun` if
            there is one and, from `data`, the counts of the held-out tokens if there are any.
        setting: one sentence about the model and its text.
    """
    arms, tasks, summary, seeds = found.arms, found.tasks, found.summary, found.seeds
    control, *others = arms
    first = headline(summary, tasks, arms, len(seeds))
    samples = sample_answers(tasks, [one for one in found.answers if one["seed"] == seeds[0]])
    panels = [
        (task.name, groups)
        for task in tasks
        if (groups := _answer_groups(found, [(task, split) for split in task.splits]))
    ]
    costs, ratios = _costs(found)
    # runs without words, and runs of old versions, have no such counts
    counts = facts["data"] if "held_out_tokens_median_count_in_text" in facts["data"] else {}
    verdicts = [
        (arm, tally(summary, arm), verdict(summary, tasks, arm)) for arm in found.judged_arms
    ]
    page = render(
        "report/report.html.jinja", record="config.json", facts=facts, setting=setting,
        arms=arms, control=control, controls=found.controls, others=others,
        rivals=_rivals(arms), differ=_differ(arms, facts["config"]),
        num_seeds=len(seeds),
        legend=[(arm, arm, ARMS[arm].sentence) for arm in arms],
        count=models_in_words(len(arms), len(seeds)),
        headline=first, glance=_glance_plot(found, first), verdicts=verdicts,
        how=how_judged(summary, len(seeds)), comparisons=comparisons(summary),
        notes=split_notes(tasks), plots=_answer_plots(panels, samples),
        counts_of_held_out=counts if counts.get("held_out_tokens") else None,
        answers=answer_table(found), forests=forests(summary, tasks),
        pairwise=pairwise_table(summary, tasks), words=by_word(found.by_word, arms), least=LEAST,
        command=command_of(facts), samples=[sample for of_task in samples.values() for sample in of_task],
        curves=list(_curves(found)), text=_text_table(summary),
        text_intervals=text_intervals(summary, len(seeds)) if others else "",
        measured=list(during_training(found.curves, found.phases, tasks)),
        frequencies=by_frequency(found.texts, arms),
        costs=costs, cost_plot=_cost_plot(control, ratios),
    )  # fmt: skip
    write_atomically(out / "answers.svg", answers_figure(arms, panels))
    write_atomically(out / "report.html", page)


def _rivals(arms: Sequence[str]) -> list[str]:
    return [arm for arm in arms if ARMS[arm].role == "rival"]


def _differ(arms: Sequence[str], config: Mapping[str, Any]) -> str:
    """Name everything in which the arms differ: "the input embedding"; "" for `plain` alone.

    `config` is that of the record; old ones may lack fields.
    """
    rivals, parts = _rivals(arms), []
    model, lr_factors = config.get("model", {}), config.get("lr_factors", "none")
    if {*arms} - {"plain", *rivals}:
        # Only "vectors" has character vectors in the output layer: a token table has none.
        is_tied = model.get("model", DECODER) == DECODER and model.get("output") == "vectors"
        tied = " (and the output layer, which is tied to it)" if is_tied else ""
        parts.append(f"the input embedding{tied}")
        phases = [phase for phase in config.get("phases", []) if phase.get("steps")]
        if any(phase.get("row_dropout") for phase in phases):
            parts.append("the rows that training drops (--row-dropout)")
        if any(phase.get("whole_words") for phase in phases):
            parts.append("the tokens of words in a share of the questions (--whole-words)")
    if rivals:
        parts.append("rows of the batches, or the loss, of rivals")
    if lr_factors != "none":
        parts.append(f"the learning rates (--lr-factors {lr_factors})")
    return listed(parts) if parts else ""


def models_in_words(num_arms: int, num_seeds: int) -> str:
    """State the number of trained models: models_in_words(2, 5) -> "5 pairs of models"."""
    # arms of one seed share the base model and the batches, so they form a pair or a set
    plural = "s" if num_seeds > 1 else ""
    if num_arms == 1:
        return f"{num_seeds} model{plural}"
    together = f"pair{plural} of" if num_arms == 2 else f"set{plural} of {num_arms}"
    return f"{num_seeds} {together} models"


# Answers


def _answer_groups(
    found: Results, cells: Sequence[tuple[Task, Any]], *, with_task: bool = False
) -> list[Group]:
    """The bars of each evaluated task and split: exact match of the arms, and the baseline."""
    rows = {(r.arm, r.task, r.split): r for r in found.summary if r.metric == "exact_match"}
    groups = []
    for task, split in cells:
        evaluated = [row for arm in found.arms if (row := rows.get((arm, task.name, split.name)))]
        if evaluated:
            label = f"{task.name}: {split.label}" if with_task else split.label
            values = {row.arm: (row.value, row.low, row.high) for row in evaluated}
            dots = _dots(found, task.name, split.name)
            groups.append(Group(label, values, evaluated[0].majority, dots))
    return groups


def _dots(found: Results, task: str, split: str) -> dict[str, list[float]]:
    """The exact match of each seed by arm; {} for one seed, whose value is the bar."""
    dots: dict[str, list[float]] = {}
    for row in found.rows if len(found.seeds) > 1 else ():
        if (row.task, row.split, row.metric) == (task, split, "exact_match"):
            dots.setdefault(row.arm, []).append(row.value)
    return dots


def _glance_plot(found: Results, first: Headline) -> str:
    """Draw each task on the headline's split, or on its most informative one if it has no such."""
    shown, leading = (first.cell[1].name, first.cell[0].name) if first.cell else ("", "")
    cells = []
    # the headline's task comes first; the sort is stable
    for task in sorted(found.tasks, key=lambda task: task.name != leading):
        splits = {split.name: split for split in task.splits}
        cells.append((task, splits.get(shown) or splits[task.main_split]))
    groups = _answer_groups(found, cells, with_task=True)
    return bars("glance", "Share of exactly right answers.", groups) if groups else ""


def _answer_plots(
    panels: Sequence[tuple[str, list[Group]]], samples: Mapping[str, Sequence[Sample]]
) -> list[tuple[str, str, Sample | None]]:
    """The name, the figure and the first sample of each task."""
    plots = []
    for number, (task, groups) in enumerate(panels):
        label = f"Share of exactly right answers of {task}, by split."
        plot = bars(f"answers-{number}", label, groups, width=NARROW)
        plots.append((task, plot, next(iter(samples[task]), None)))
    return plots


def split_notes(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """Return (label, description) of each split, by task if the descriptions differ."""
    notes: list[tuple[str, str]] = []
    for group in by_place(tasks):
        tasks_by_note: dict[str, list[str]] = {}
        for task, split in group:
            note = "; ".join(filter(None, (bare(split.place), split.about)))
            tasks_by_note.setdefault(note, []).append(task.name)
        label = group[0][1].label
        for note, names in tasks_by_note.items():
            named = label if len(tasks_by_note) == 1 else f"{label}, {', '.join(names)}"
            notes.append((named, note))
    return notes


def sample_answers(
    tasks: Sequence[Task], answers: Sequence[Mapping[str, Any]]
) -> dict[str, list[Sample]]:
    """By task: the first questions on its most informative split, with the answer of every arm."""
    samples = {}
    for task in tasks:
        label = next(split.label for split in task.splits if split.name == task.main_split)
        by_question: dict[str, dict[str, Mapping[str, Any]]] = {}
        for answer in answers:
            if (answer["task"], answer["split"]) == (task.name, task.main_split):
                # arms have the same questions, in prompts of their own if an arm writes more;
                # older runs have no keys, and no such arms
                question = answer.get("key", answer["prompt"])
                by_question.setdefault(question, {})[answer["arm"]] = answer
        samples[task.name] = [
            Sample(
                f"{task.name} · {label}",
                # the shortest one: a rival may be given the letters too, and the others are not
                min((one["prompt"] for one in by_arm.values()), key=len),
                next(iter(by_arm.values()))["expected"],
                [(arm, arm, one["given"], one["right"]) for arm, one in by_arm.items()],
            )
            for by_arm in list(by_question.values())[:_SAMPLES]
        ]
    return samples


# Losses and costs


def _curves(found: Results) -> Iterator[dict[str, Any]]:
    """The loss of each arm in each phase, and its difference to the control's.

    An arm without steps of the phase's kind has no line; a phase without such steps has no figure.
    """
    control = found.arms[0]
    for phase in found.phases:
        losses: dict[str, dict[int, dict[int, float]]] = {}
        for (arm, seed), run in losses_of(found.metrics, phase.name, phase.kind).items():
            losses.setdefault(arm, {})[seed] = run
        if not losses:
            continue
        # a kind of phase that has no sentence here still gets its curve
        about, unit = _LOSSES.get(phase.kind, ("Training loss.", "nats"))
        label = f"Loss in {unit} over the steps of {phase.name}."
        window = smoothing_window(run for runs in losses.values() for run in runs.values())
        plots = [(f"Loss, {unit}", loss_curves(f"{phase.name}-loss", label, losses, window))]
        differences = {
            arm: runs
            for arm in losses
            if arm != control and (runs := _minus(losses[arm], losses.get(control, {})))
        }
        if differences:
            label = f"Difference in loss to {control} over the steps of {phase.name}."
            svg = loss_curves(f"{phase.name}-difference", label, differences, window, zero=True)
            plots.append((f"Difference to {control}, {unit}; below zero is better", svg))
        replay = replay_sentence(phase.replay_share, phase.replay_target, phase.replay_text)
        yield {
            "title": phase.title, "about": about, "replay": replay, "plots": plots,
            "window": window,
        }  # fmt: skip


def _minus(
    runs: Mapping[int, Mapping[int, float]], control: Mapping[int, Mapping[int, float]]
) -> dict[int, dict[int, float]]:
    """Subtract the control's losses by seed and step; drop seeds and steps without both."""
    shared = {seed: sorted(run.keys() & control.get(seed, {})) for seed, run in runs.items()}
    return {
        seed: {step: runs[seed][step] - control[seed][step] for step in steps}
        for seed, steps in shared.items()
        if steps
    }


def _text_table(summary: list[Row]) -> Table:
    """One line per phase and arm or judged difference: the loss on held-out text."""
    metrics = ("loss_nats", "bits_per_byte")  # bits are comparable between vocabularies
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for row in summary:
        metric = row.metric.removesuffix("_difference")
        if metric in metrics and (metric == row.metric or row.controls):
            form = "{:.4f}" if metric == row.metric else "{:+.4f}"
            line = found.setdefault((row.task, row.arm.replace(" - ", " − ")), {})
            line[metric] = difference(row, form)
    lines = [[*key, *(cells.get(m, "") for m in metrics)] for key, cells in found.items()]
    return Table(["when", "arm", "nats per token", "bits per byte"], lines, left=2)


def _costs(found: Results) -> tuple[Table, list[Group]]:
    """Compare the median costs over seeds with the control's: as a table and as bars."""
    arms, (control, *others) = found.arms, found.arms
    names = {
        ("all", "parameters"): "parameters in training",
        ("all", "parameters_after_fold"): "parameters after folding",
    }
    for phase in found.phases:
        names[phase.name, "median_step_seconds"] = f"{phase.title} step, median seconds"
        names[phase.name, TOKENS_PER_SECOND] = f"{phase.title}, tokens read per second"
        names[phase.name, "training_seconds"] = f"{phase.title}, seconds"
    names["all", "training_seconds"] = "training, seconds"
    for phase in found.phases:
        names[phase.name, STEPS_TO_LOSS] = f"steps of {phase.title} to the final loss of {control}"
    # Tokens per second are no cost, as more is better; seconds of a phase are those of its steps.
    in_table_alone = [(phase.name, "training_seconds") for phase in found.phases]
    in_table_alone += [(phase.name, TOKENS_PER_SECOND) for phase in found.phases]
    lines, groups = [], []
    for (task, metric), name in names.items():
        values: dict[str, list[float]] = {arm: [] for arm in arms}
        for row in found.rows:
            if (row.task, row.metric) == (task, metric):
                values[row.arm].append(row.value)
        least = len(values[control])
        if least and (metric == STEPS_TO_LOSS or all(values.values())):
            # an arm that does not reach the loss in every seed has no median
            medians = {arm: float(np.median(v)) for arm, v in values.items() if len(v) == least}
            ratios = {arm: median / medians[control] for arm, median in medians.items()}
            if (task, metric) not in in_table_alone:
                dots = _ratios(values, medians[control]) if len(found.seeds) > 1 else {}
                bars_of = {arm: (ratio, None, None) for arm, ratio in ratios.items()}
                groups.append(Group(name, bars_of, dots=dots))
            shown = [_cost(medians[arm]) if arm in medians else "not reached" for arm in arms]
            shown += [f"{ratios[arm]:.2f}" if arm in ratios else "" for arm in others]
            lines.append([name, *shown])
    return Table(["cost", *arms, *(f"{arm} / {control}" for arm in others)], lines), groups


def _ratios(values: Mapping[str, Sequence[float]], control: float) -> dict[str, list[float]]:
    """The cost of each seed as a multiple of the control's median; {} if no seed differs."""
    if all(len(set(of_arm)) == 1 for of_arm in values.values()):
        return {}  # counts of parameters
    return {arm: [value / control for value in of_arm] for arm, of_arm in values.items()}


def _cost(median: float) -> str:
    return f"{median:,.0f}" if median >= 10 else f"{median:.4f}"


def _cost_plot(control: str, groups: Sequence[Group]) -> str:
    values = (bar[0] for group in groups for bar in group.bars.values())
    dots = (dot for group in groups for of_arm in group.dots.values() for dot in of_arm)
    largest = max((*values, *dots), default=1.0)
    scale = Scale("{:.2f}".format, largest, {0: "0", 1: f"as {control}"})
    return bars("cost", f"Cost of each arm as a multiple of {control}.", groups, scale)
