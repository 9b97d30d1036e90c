"""What an evaluation says: a table in the terminal, and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.ask.eval_sets import EvalSet
from training.files import write_atomically
from training.intervals import Row
from training.report.page import page_template
from training.report.svg import FONT, colours
from training.report.verdict import HELD, comparisons, judge, percent

Cells = dict[tuple[str, str, str], dict[str, Row]]  # (who, task, split) -> metric -> row
SAMPLES, LONGEST = 3, 240  # questions shown of an exam, and characters shown of a text


def cells_of(rows: Sequence[Row]) -> Cells:
    cells: Cells = {}
    for row in rows:
        cells.setdefault((row.arm, row.task, row.split), {})[row.metric] = row
    return cells


def print_scores(console: Console, name: str, other: str, rows: Sequence[Row]) -> None:
    """Exact match by task and split: raw, corrected for the best constant answer, and against the other."""
    cells = cells_of(rows)
    judged = comparisons(rows)
    table = Table(
        title=f"{name}: share of answers that are exactly right",
        caption=f"* holds after Holm's correction for {judged} comparisons" if other else None,
    )
    headings = ["task", "split", "n", "constant", "right (95 %)", "corrected", "unreadable"]
    for heading in headings + ([other, "difference (95 %)"] if other else []):
        named = heading in ("task", "split")  # names are never cut off, however narrow the terminal
        table.add_column(
            heading, justify="left" if named else "right", overflow="fold" if named else "ellipsis"
        )
    last = ""
    for (who, task, split), found in cells.items():
        if who != name or "exact_match" not in found:
            continue
        if last and task != last:
            table.add_section()
        last, right = task, found["exact_match"]
        line = [
            task,
            split,
            str(right.n),
            percent(right.majority or 0),
            f"{percent(right.value)} {_bounds(right)}",
        ]
        line.append(
            f"{found['exact_match_corrected'].value:.2f}"
            if "exact_match_corrected" in found
            else ""
        )
        line.append(percent(found["unreadable"].value))
        if other:
            difference = cells[f"{name} - {other}", task, split]["exact_match_difference"]
            line.append(percent(cells[other, task, split]["exact_match"].value))
            star = "*" if judge(difference) in HELD else " "
            line.append(
                f"{difference.value:+.2f} ({difference.low:+.2f} to {difference.high:+.2f}) {star}"
            )
        table.add_row(*line)
    console.print(table)


def _bounds(row: Row) -> str:
    return (
        ""
        if row.low is None or row.high is None
        else f"({100 * row.low:.0f} to {100 * row.high:.0f})"
    )


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
    """Render the page of an evaluation: scores, where it was hard, the first answers to each exam.

    Arguments:
        marks: as in marks.jsonl, in the order of the exams and their items; `other_marks` the other's.
        counted: in which text tokens were counted; "" for in none.
        facts: what evaluation.json holds; printed as it is.
    """
    cells = cells_of(rows)
    page = page_template("evaluate/page.html.jinja", short=short).render(
        name=name,
        about=about,
        other=other,
        colours=colours(),
        font=FONT,
        tasks=_tasks(name, other, cells, exams),
        breakdowns=_breakdowns(name, rows),
        samples=_samples(marks, other_marks),
        comparisons=comparisons(rows),
        num_questions=len(marks),
        counted=counted,
        facts=facts,
    )
    write_atomically(path, page.encode("utf-8", "replace").decode())


def short(text: str | None, longest: int = LONGEST, lines: bool = False) -> str:
    """A text as it can be shown: without control characters, not too long, on one line or on its `lines`."""
    end = "\n" if lines else "\u2423"
    shown = "".join(c if c.isprintable() else end if c == "\n" else "\ufffd" for c in text or "")
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def _tasks(name: str, other: str, cells: Cells, exams: Sequence[EvalSet]) -> list[dict[str, Any]]:
    """A task with the rows of each of its splits: its own, the other's, and their difference."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for exam in exams:
        key = (exam.task.name, exam.split)
        line: dict[str, Any] = {"split": exam.split.replace("_", " "), "own": cells[name, *key]}
        if other:
            line["other"] = cells[other, *key]
            line["difference"] = difference = cells[f"{name} - {other}", *key][
                "exact_match_difference"
            ]
            line["judged"] = judge(difference)
        tasks.setdefault(exam.task.name, []).append(line)
    return [{"name": task, "lines": lines} for task, lines in tasks.items()]


def _breakdowns(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """By axis and task the cells of the breakdown: "word letters" -> "reverse" -> [("5", row), ...]"""
    axes: dict[str, dict[str, list[tuple[str, Row]]]] = {}
    for row in rows:
        if row.arm == name and "[" in row.metric:
            axis, value = row.metric.split("[", 1)[1].removesuffix("]").split("=", 1)
            axes.setdefault(axis, {}).setdefault(row.task, []).append((value, row))
    return [{"axis": axis, "tasks": tasks} for axis, tasks in axes.items()]


def _samples(
    marks: Sequence[dict[str, Any]], other_marks: Sequence[dict[str, Any]] | None
) -> dict[str, list[dict[str, Any]]]:
    """The first questions of each exam by task: first come, not picked."""
    shown: dict[tuple[str, str], int] = {}
    samples: dict[str, list[dict[str, Any]]] = {}
    for place, mark in enumerate(marks):
        cell = mark["task"], mark["split"]
        shown[cell] = shown.get(cell, 0) + 1
        if shown[cell] <= SAMPLES:
            sample = {**mark, "other": other_marks[place] if other_marks else None}
            samples.setdefault(mark["task"], []).append(sample)
    return samples
