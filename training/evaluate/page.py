"""The scores of an evaluation: a table in the terminal, and one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.ask.eval_sets import EvalSet
from training.ask.scores import CELL
from training.files import write_atomically
from training.intervals import Row
from training.report.formats import bounds, percent
from training.report.page import Cell, Sample, difference, render, share
from training.report.verdict import comparisons, starred

_SAMPLES, _LONGEST, _PROMPT = (
    3,
    240,
    160,
)  # questions shown of a split; characters of a text, a prompt
_AXES = {
    "word letters": "Letters of the word",
    "word tokens": "Tokens of the word",
    "token letters": "Length of the token that holds the letter",
    "token count": "Occurrences of that token in the text",
}
# Columns that only some tasks have: their metric and heading.
_OPTIONAL = {
    "letters_right": "letters",
    "first_letter": "first letter",
    "exact_match_per_token": "per token",
    "exact_match_per_character": "per character",
}
_Cells = dict[tuple[str, str, str], dict[str, Row]]  # (model, task, split) -> metric -> row


def _cells_of(rows: Sequence[Row]) -> _Cells:
    cells: _Cells = {}
    for row in rows:
        cells.setdefault((row.arm, row.task, row.split), {})[row.metric] = row
    return cells


def print_scores(console: Console, name: str, other: str, rows: Sequence[Row]) -> None:
    """Print exact match by task and split: raw, corrected for the baseline, and against `other`."""
    cells = _cells_of(rows)
    caption = f"* holds after Holm's correction for {comparisons(rows)} comparisons"
    title = f"{name}: share of exactly right answers"
    table = Table(title=title, caption=caption if other else None)
    for heading in ("task", "split"):
        table.add_column(heading, overflow="fold")  # names stay whole in a narrow terminal
    numbers = ["n", "majority baseline", "right (95 %)", "corrected", "unreadable"]
    for heading in numbers + ([other, "difference (95 %)"] if other else []):
        table.add_column(heading, justify="right")
    last = ""
    for (model, task, split), found in cells.items():
        if model != name or "exact_match" not in found:
            continue
        if last and task != last:
            table.add_section()
        last, right = task, found["exact_match"]
        interval = f" ({bounds(right)})" if bounds(right) else ""
        line = [task, split, str(right.n), percent(right.majority or 0)]
        line += [
            percent(right.value) + interval,
            _corrected(found),
            percent(found["unreadable"].value),
        ]
        if other:
            line.append(percent(cells[other, task, split]["exact_match"].value))
            line.append(starred(cells[f"{name} - {other}", task, split]["exact_match_difference"]))
        table.add_row(*line)
    console.print(table)


def write_page(
    path: Path,
    name: str,
    about: str,
    other: str,
    rows: Sequence[Row],
    exams: Sequence[EvalSet],
    marks: Sequence[dict[str, Any]],
    other_marks: Sequence[dict[str, Any]] | None,
    *,
    counted: str,
    facts: Mapping[str, Any],
) -> None:
    """Render the page of an evaluation: scores, scores by difficulty, and sample answers.

    Arguments:
        marks: the lines of marks.jsonl, in the order of the evaluation sets and their items;
            `other_marks` those of the other model.
        counted: the text in which tokens were counted; "" if there is none.
        facts: the content of evaluation.json, printed as it is.
    """
    page = render(
        "evaluate/page.html.jinja",
        name=name,
        about=about,
        other=other,
        tables=_tables(name, other, _cells_of(rows), exams),
        breakdowns=_breakdowns(name, rows),
        axes=_AXES,
        least=CELL,
        samples=_samples(name, other, marks, other_marks),
        comparisons=comparisons(rows),
        num_questions=len(marks),
        counted=counted,
        record="evaluation.json",
        facts=facts,
    )
    # a model can write lone surrogates, which no file holds
    write_atomically(path, page.encode("utf-8", "replace").decode())


def _short(text: str | None, longest: int = _LONGEST, end: str = "\u2423") -> str:
    """Make a text printable: no control characters, `end` for a line break, not too long."""
    shown = "".join(c if c.isprintable() else end if c == "\n" else "\ufffd" for c in text or "")
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def _corrected(found: Mapping[str, Row]) -> str:
    row = found.get("exact_match_corrected")
    return f"{row.value:.2f}" if row else ""


def _tables(
    name: str, other: str, cells: _Cells, exams: Sequence[EvalSet]
) -> dict[str, dict[str, list[Any]]]:
    """By task: a line for each split, with the other model's score and the difference."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for exam in exams:
        key = (exam.task.name, exam.split)
        own = cells[name, *key]
        if exam.task.name not in tables:
            metrics = {"unreadable": "unreadable"} | {
                m: h for m, h in _OPTIONAL.items() if m in own
            }
            headings = ["split", "", "right", "majority baseline", "corrected", *metrics.values()]
            headings += [_short(other, 24), "difference"] if other else []
            tables[exam.task.name] = {"headings": headings, "lines": [], "metrics": list(metrics)}
        table = tables[exam.task.name]
        right = own["exact_match"]
        strips = [(right, "own")] + (
            [(cells[other, *key]["exact_match"], "other")] if other else []
        )
        line: list[Cell | str] = [
            Cell(exam.split.replace("_", " "), [f"n = {right.n}"]),
            Cell("", strips=strips),
        ]
        line += [share(right), percent(right.majority or 0), _corrected(own)]
        line += [percent(own[metric].value) if metric in own else "" for metric in table["metrics"]]
        if other:
            row = cells[f"{name} - {other}", *key]["exact_match_difference"]
            line += [share(cells[other, *key]["exact_match"]), difference(row)]
        table["lines"].append(line)
    return tables


def _breakdowns(name: str, rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[str, Row]]]]:
    """Rows by axis and task: "word letters" -> "reverse" -> [("5", row), ...]."""
    axes: dict[str, dict[str, list[tuple[str, Row]]]] = {}
    for row in rows:
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
            given = [(name, "own", mark)]
            given += [(other, "other", other_marks[number])] if other_marks else []
            prompt = mark["prompt"]
            start = "…" if len(prompt) > _PROMPT else ""
            sample = Sample(
                mark["split"].replace("_", " "),
                start + _short(prompt[-_PROMPT:], end="\n"),
                _short(mark["expected"]),
                [
                    (m, colour, _short(one["read"] or one["given"]), one["right"])
                    for m, colour, one in given
                ],
            )
            samples.setdefault(mark["task"], []).append(sample)
    return samples
