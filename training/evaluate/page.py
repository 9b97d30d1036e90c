"""The scores of an evaluation: a table in the terminal, and one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from training.ask.scores import CELL
from training.files import write_atomically
from training.intervals import Row
from training.report.formats import percent
from training.report.page import Cell, Sample, Table, difference, print_table, render, share
from training.report.verdict import comparisons

_SAMPLES = 3  # questions shown of a split
_LONGEST, _PROMPT, _CONSTANT = 240, 160, 12  # characters shown of an answer, a prompt, a constant
# By task and split, the constant answer that reaches the majority baseline; "" for none.
Constants = Mapping[tuple[str, str], str]
NO_CONSTANTS: Constants = {}
_AXES = {
    "word letters": "Letters of the word",
    "word tokens": "Tokens of the word",
    "token letters": "Length of the token that holds the letter",
    "token count": "Occurrences of that token in the text",
}
# Columns that only some tasks have: their metric and heading.
_OPTIONAL = {
    "own_score": "own score",
    "fewest_tokens": "random model",
    "letters_right": "letters",
    "first_letter": "first letter",
    "exact_match_per_token": "per token",
    "exact_match_per_character": "per character",
}


def print_scores(
    console: Console,
    name: str,
    other: str,
    rows: Sequence[Row],
    constants: Constants = NO_CONSTANTS,
) -> None:
    """Print exact match by task and split: raw, corrected for the baseline, and against `other`.

    `constants`: the answers that reach the majority baselines, to be printed beside them.
    """
    tables, kept = _tables(name, other, rows, constants), [0, *range(2, 8 if other else 6)]
    lines = [
        [task, *(line[number] for number in kept)]
        for task, table in tables.items()
        for line in table.lines
    ]
    headings = next(iter(tables.values())).headings
    table = Table(["task", *(headings[number] for number in kept)], lines, left=2)
    print_table(console, table, f"{name}: share of exactly right answers", comparisons(rows))


def write_page(
    path: Path,
    name: str,
    about: str,
    other: str,
    rows: Sequence[Row],
    marks: Sequence[dict[str, Any]],
    other_marks: Sequence[dict[str, Any]] | None,
    *,
    counted: str,
    notes: Sequence[str],
    facts: Mapping[str, Any],
    constants: Constants = NO_CONSTANTS,
) -> None:
    """Render the page of an evaluation: scores, scores by difficulty, and sample answers.

    Arguments:
        marks: the lines of marks.jsonl, in the order of the evaluation sets and their items;
            `other_marks` those of the other model.
        counted: the text in which tokens were counted; "" if there is none.
        notes: facts about the files of the benchmarks.
        facts: the content of evaluation.json, printed as it is.
        constants: as for `print_scores`.
    """
    page = render(
        "evaluate/page.html.jinja", record="evaluation.json", facts=facts,
        name=name, about=about, other=other, num_questions=len(marks),
        tables=_tables(name, other, rows, constants), comparisons=comparisons(rows),
        breakdowns=_breakdowns(name, rows), axes=_AXES, least=CELL, counted=counted, notes=notes,
        samples=_samples(name, other, marks, other_marks),
    )  # fmt: skip
    # a model can write lone surrogates, which no file holds
    write_atomically(path, page.encode("utf-8", "replace").decode())


def _short(text: str | None, longest: int = _LONGEST, end: str = "\u2423") -> str:
    """Make a text printable: no control characters, `end` for a line break, not too long."""
    shown = "".join(c if c.isprintable() else end if c == "\n" else "\ufffd" for c in text or "")
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def _tables(name: str, other: str, rows: Sequence[Row], constants: Constants) -> dict[str, Table]:
    """By task: a line for each split, with the other model's score and the difference."""
    cells: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault((row.arm, row.task, row.split), {})[row.metric] = row
    lines: dict[str, list[list[Cell | str]]] = {}
    optional: dict[str, list[str]] = {}  # metrics by task: those of its first split
    for (model, task, split), own in cells.items():
        right = own.get("exact_match")
        if model != name or right is None:
            continue
        strips = [(right, "own")]
        corrected = own.get("exact_match_corrected")
        line = [Cell(split.replace("_", " "), [f"n = {right.n}"]), Cell("", strips=strips)]
        constant = _short(constants.get((task, split)), _CONSTANT)
        line += [share(right)]
        line += [Cell(percent(right.majority or 0), [f"“{constant}”"] if constant else [])]
        line += [Cell(f"{corrected.value:.2f}" if corrected else "")]
        line += [Cell(percent(own["unreadable"].value))]
        if other:
            theirs = cells[other, task, split]["exact_match"]
            strips.append((theirs, "other"))
            row = cells[f"{name} - {other}", task, split]["exact_match_difference"]
            line += [share(theirs), difference(row)]
        metrics = optional.setdefault(task, [metric for metric in _OPTIONAL if metric in own])
        line += [Cell(percent(own[m].value) if m in own else "") for m in metrics]
        lines.setdefault(task, []).append([*line])
    headings = ["split", "", "right", "majority baseline", "corrected", "unreadable"]
    headings += [_short(other, 24), "difference"] if other else []
    return {
        task: Table([*headings, *(_OPTIONAL[metric] for metric in optional[task])], of_task)
        for task, of_task in lines.items()
    }


def _breakdowns(name: str, rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[str, Row]]]]:
    """Rows by axis and task: "word letters" -> "reverse" -> [("5", row), ...]."""
    axes: dict[str, dict[str, list[tuple[str, Row]]]] = {}
    for row in rows:
        # such as "exact_match[word letters=5]"
        if row.arm == name and "[" in row.metric:
            axis, value = row.metric.split("[", 1)[1].removesuffix("]").split("=", 1)
            axes.setdefault(axis, {}).setdefault(row.task, []).append((value, row))
    return axes


def _samples(
    name: str,
    other: str,
    marks: Sequence[dict[str, Any]],
    other_marks: Sequence[dict[str, Any]] | None,
) -> dict[str, list[Sample]]:
    """By task: the first questions of each split, in order and not selected."""
    shown: dict[tuple[str, str], int] = {}
    samples: dict[str, list[Sample]] = {}
    for number, mark in enumerate(marks):
        cell = mark["task"], mark["split"]
        shown[cell] = shown.get(cell, 0) + 1
        if shown[cell] <= _SAMPLES:
            models = [(name, "own", mark)]
            models += [(other, "other", other_marks[number])] if other_marks else []
            given = [
                (m, colour, _short(of["read"] or of["given"]), of["right"])
                for m, colour, of in models
            ]
            prompt = _short(mark["prompt"][-_PROMPT:], end="\n")
            prompt = f"…{prompt}" if len(mark["prompt"]) > _PROMPT else prompt
            split = mark["split"].replace("_", " ")
            sample = Sample(split, prompt, _short(mark["expected"]), given)
            samples.setdefault(mark["task"], []).append(sample)
    return samples
