"""The page of a probe: a headline, the scores of each table, figures, and some spelled tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthetic_tasks import stream
from training.files import write_atomically
from training.intervals import Row
from training.report.formats import bounds, percent
from training.report.page import Cell, Table, render, share

from .plots import PARTS, Map, first_letters, pictures
from .scores import CELLS, cell_of
from .tables import AFTER, BASE, BEFORE, EXTRA, LETTERS, SUM, Label, Source
from .tokens import ProbedTokens

_SENTENCES = {
    BASE: "the token embedding alone",
    LETTERS: "the character vectors alone",
    EXTRA: "the vectors that an arm without characters adds, alone",
    SUM: "the sum of both, which is the input of the model",
}
_SPELLED, _SHORTEST = 8, 4  # tokens shown with their spelled text, and their fewest letters


class Page(NamedTuple):
    """The content of a page.

    Attributes:
        facts: the content of probe.json, printed as it is.
        labels: of all tables, in order.
        summary: the means over splits; `differences`: between tables.
        texts: the spelled text of each held-out token of the first split, by table.
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
    probed = {cell_of(row) for row in page.summary}
    cells = {cell: heading for cell, heading in CELLS.items() if cell in probed}
    models = list(dict.fromkeys(label.model for label in page.labels))
    texts = {label.name: texts for label, texts in page.texts.items() if label.when != BEFORE}
    html = render(
        "probe/page.html.jinja",
        source=page.source,
        facts=page.facts,
        record="probe.json",
        legend=[
            (part, colour, _SENTENCES[part])
            for part, colour in PARTS.items()
            if any(label.part == part for label in page.labels)
        ],
        headline=_headline(models[-1], page.summary),
        scores=Table(["table", *cells.values()], _lines(page.labels, page.summary, list(cells))),
        differences=Table(
            ["difference", *cells.values()], _difference_lines(page.differences, list(cells))
        ),
        trained=any(label.when == BEFORE for label in page.labels),
        pictures={
            model: pictures(
                f"probe-{number}",
                [label for label in page.labels if label.model == model],
                page.summary,
                page.maps,
            )
            for number, model in enumerate(models)
        },
        samples=Table(["token", *texts], _samples(page.tokens, list(texts.values()))),
        first=first_letters(next(iter(page.maps.values())).texts),
    )
    write_atomically(path, html)


def _headline(model: str, summary: Sequence[Row]) -> str:
    """State the share of a model's letters that a probe predicts, by place from the start."""
    found = {row.arm: row for row in summary if cell_of(row) == ("letter", "start", "accuracy")}
    rows = {
        part: found[label.name]
        for part in PARTS
        for label in (Label(model, part, AFTER), Label(model, part))
        if label.name in found
    }
    if BASE not in rows:
        return f"Spelling in the vectors of {model}"
    best = rows.get(SUM, rows[BASE])
    sentence = (
        f"A linear probe predicts {percent(best.value)} of the letters of held-out tokens from the "
        f"vectors of {model}"
    )
    if SUM in rows:
        sentence += f" and {percent(rows[BASE].value)} from its token embedding alone"
    return f"{sentence}; the majority baseline is {percent(best.majority or 0.0)}"


def _number(row: Row) -> Cell:
    """An area as a number, a share in percent."""
    return (
        Cell(f"{row.value:.2f}", [bounds(row, "{:.2f}", 1)]) if row.metric == "auc" else share(row)
    )


def _lines(
    labels: Sequence[Label], summary: Sequence[Row], cells: Sequence[tuple[str, str, str]]
) -> list[list[Cell | str]]:
    """A line for the baseline of the first table, and one for each table."""
    rows = {(row.arm, *cell_of(row)): row for row in summary}
    first = [rows[labels[0].name, *cell] for cell in cells]
    baseline = [
        f"{r.majority:.2f}" if r.metric == "auc" else percent(r.majority or 0) for r in first
    ]
    lines: list[list[Cell | str]] = [["majority baseline", *baseline]]
    for label in labels:
        found = (rows.get((label.name, *cell)) for cell in cells)
        name = Cell(label.name, colour=PARTS.get(label.part, ""))
        lines.append([name, *(_number(row) if row else "" for row in found)])
    return lines


def _difference_lines(
    differences: Sequence[Row], cells: Sequence[tuple[str, str, str]]
) -> list[list[Cell | str]]:
    """A line for each pair of tables, in points."""
    table: dict[str, dict[tuple[str, str, str], Cell]] = {}
    for row in differences:
        cell = (row.task, row.split, row.metric.removesuffix("_difference"))
        values = (row.value, row.low, row.high)
        points = [f"{round(100 * value):+d}" for value in values if value is not None]
        table.setdefault(row.arm.replace(" - ", " − "), {})[cell] = Cell(
            points[0], [" to ".join(points[1:])]
        )
    return [[name, *(found.get(cell, "") for cell in cells)] for name, found in table.items()]


def _samples(tokens: ProbedTokens, texts: Sequence[Sequence[str]]) -> list[list[Cell]]:
    """A line for each of some held-out tokens of the first split, drawn at random."""
    held = [tokens.texts[number] for number in tokens.split(0).held.tolist()]
    long = [number for number, text in enumerate(held) if len(text) >= _SHORTEST]
    shown = stream("spelled samples").sample(long, min(_SPELLED, len(long))) if texts else []
    return [
        [
            Cell(held[number], style="said"),
            *(
                Cell(of[number] or "nothing", style="said right" if of[number] == held[number] else "said")
                for of in texts
            ),
        ]
        for number in shown
    ]  # fmt: skip
