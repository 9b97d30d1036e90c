"""The page of a probe: one sentence, a table, its pictures, and some tokens as they were spelled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthetic_tasks import stream
from training.files import write_atomically
from training.intervals import Row
from training.report.page import page_template
from training.report.svg import FONT, colours
from training.report.verdict import percent

from .plots import FIRST, PARTS, Map, first_letters, pictures
from .scores import CELLS, cell_of
from .tables import AFTER, BASE, BEFORE, EXTRA, LETTERS, SUM, Label, Source
from .tokens import ProbedTokens

SENTENCES = {
    BASE: "the token embedding alone",
    LETTERS: "what the letters add to it, alone",
    EXTRA: "what an arm without letters adds to it, alone",
    SUM: "the two together, which is what the model reads",
}
SPELLED, SHORTEST = (
    8,
    4,
)  # tokens shown with what was spelled out for them, and their fewest letters


class Page(NamedTuple):
    """What a page is made of.

    Attributes:
        facts: what probe.json holds; printed as it is.
        labels: of all tables, in order.
        summary: the means over splits, `differences` those between tables.
        texts: what was spelled out for the held-out tokens of the first split, by table.
    """

    source: Source
    facts: Mapping[str, Any]
    tokens: ProbedTokens
    labels: Sequence[Label]
    summary: Sequence[Row]
    differences: Sequence[Row]
    texts: Mapping[Label, list[str]]
    maps: Mapping[Label, Map]


def write_page(path: Path, page: Page) -> None:
    asked = {cell_of(row) for row in page.summary}
    used = [part for part in PARTS if any(label.part == part for label in page.labels)]
    models = list(dict.fromkeys(label.model for label in page.labels))
    html = page_template("probe/page.html.jinja", points=points).render(
        source=page.source,
        facts=page.facts,
        font=FONT,
        colours=colours([*PARTS.values(), *FIRST]),
        key=[(part, PARTS[part], SENTENCES[part]) for part in used],
        headline=headline(models[-1], page.summary),
        cells={cell: heading for cell, heading in CELLS.items() if cell in asked},
        lines=lines(page.labels, page.summary),
        differences=difference_lines(page.differences),
        trained=any(label.when == BEFORE for label in page.labels),
        pictures=[
            (
                model,
                pictures(f"probe-{number}", of_model(model, page.labels), page.summary, page.maps),
            )
            for number, model in enumerate(models)
        ],
        samples=samples(
            page.tokens,
            {label.name: texts for label, texts in page.texts.items() if label.when != BEFORE},
        ),
        first=first_letters(next(iter(page.maps.values())).texts),
    )
    write_atomically(path, html)


def points(difference: float) -> str:
    """-0.004 -> "+0", 0.166 -> "+17" """
    return f"{round(100 * difference):+d}"


def of_model(model: str, labels: Sequence[Label]) -> list[Label]:
    return [label for label in labels if label.model == model]


def headline(model: str, summary: Sequence[Row]) -> str:
    """What the page says first: how many letters are read of a model's tokens, counted from their start."""
    found = {row.arm: row for row in summary if cell_of(row) == ("letter", "start", "accuracy")}
    rows = {
        part: found[label.name]
        for part in PARTS
        for label in (Label(model, part, AFTER), Label(model, part))
        if label.name in found
    }
    if BASE not in rows:
        return f"What the vectors of {model} know of their spelling"
    best = rows.get(SUM, rows[BASE])
    told = f"A linear probe reads {percent(best.value)} of new tokens' letters off the vectors of {model}"
    if SUM in rows:
        told += f", and {percent(rows[BASE].value)} off its token embedding alone"
    return (
        f"{told}; the most frequent letter of each place would be {percent(best.majority or 0.0)}"
    )


def lines(labels: Sequence[Label], summary: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each table: its name, the colour of its part, its cells."""
    return [
        {
            "name": label.name,
            "colour": PARTS.get(label.part),
            "cells": {
                cell_of(row): row
                for row in summary
                if row.arm == label.name and cell_of(row) in CELLS
            },
        }
        for label in labels
    ]


def difference_lines(differences: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each pair of tables."""
    table: dict[str, dict[str, Any]] = {}
    for row in differences:
        cell = (row.task, row.split, row.metric.removesuffix("_difference"))
        table.setdefault(row.arm, {"name": row.arm.replace(" - ", " − "), "cells": {}})["cells"][
            cell
        ] = row
    return list(table.values())


def samples(tokens: ProbedTokens, texts: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Some held-out tokens of the first split with what was spelled out for each: drawn, not picked."""
    held = [tokens.texts[number] for number in tokens.split(0).held.tolist()]
    long = [number for number, text in enumerate(held) if len(text) >= SHORTEST]
    shown = stream("spelled samples").sample(long, min(SPELLED, len(long))) if texts else []
    return [
        {"text": held[number], "given": {name: said[number] for name, said in texts.items()}}
        for number in shown
    ]
