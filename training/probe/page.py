"""The page of a probe: a headline, the scores of each table, figures, and some spelled tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from synthetic_tasks import stream
from training.files import write_atomically
from training.intervals import Row
from training.report.formats import bounds, percent
from training.report.page import Cell, Table, print_table, render, share

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
_Cell = tuple[str, str, str]  # task, split, metric
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
    by_model: dict[str, list[Label]] = {}
    for label in page.labels:
        by_model.setdefault(label.model, []).append(label)
    parts = {label.part for label in page.labels}
    texts = {label.name: texts for label, texts in page.texts.items() if label.when != BEFORE}
    scores, differences = _tables(page)
    html = render(
        "probe/page.html.jinja", record="probe.json", facts=page.facts, source=page.source,
        legend=[(part, PARTS[part], _SENTENCES[part]) for part in PARTS if part in parts],
        headline=_headline(list(by_model)[-1], page.summary),
        scores=scores, differences=differences,
        trained=any(label.when == BEFORE for label in page.labels),
        pictures={
            model: pictures(f"probe-{number}", labels, page.summary, page.maps)
            for number, (model, labels) in enumerate(by_model.items())
        },
        samples=Table(["token", *texts], _samples(page.tokens, list(texts.values()))),
        first=first_letters(next(iter(page.maps.values())).texts),
    )  # fmt: skip
    write_atomically(path, html)


def print_scores(console: Console, page: Page) -> None:
    """Print the same tables as on the page: scores, and differences in points."""
    scores, differences = _tables(page)
    # six columns of scores fit into a terminal only with their intervals below them
    title = f"{page.source.about}: scores on held-out tokens (95 % over splits)"
    print_table(console, scores, title, between="\n")
    if differences.lines:
        print_table(console, differences, "Differences in points", between="\n")


def _tables(page: Page) -> tuple[Table, Table]:
    """Scores and differences, with the columns of CELLS that were probed."""
    probed = {cell_of(row) for row in page.summary}
    cells = {cell: heading for cell, heading in CELLS.items() if cell in probed}
    scores = Table(["table", *cells.values()], _lines(page.labels, page.summary, cells))
    return scores, Table(["difference", *cells.values()], _differences(page.differences, cells))


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
    # the sum is the input of the model; a plain model has the base alone
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
    labels: Sequence[Label], summary: Sequence[Row], cells: Iterable[_Cell]
) -> list[list[Cell | str]]:
    """A line for the baseline of the first table, and one for each table."""
    rows = {(row.arm, *cell_of(row)): row for row in summary}
    lines: list[list[Cell | str]] = [["majority baseline"]]
    for row in (rows[labels[0].name, *cell] for cell in cells):
        baseline = row.majority or 0.0
        lines[0].append(f"{baseline:.2f}" if row.metric == "auc" else percent(baseline))
    for label in labels:
        found = (rows.get((label.name, *cell)) for cell in cells)
        name = Cell(label.name, colour=PARTS.get(label.part, ""))
        lines.append([name, *(_number(row) if row else "" for row in found)])
    return lines


def _differences(differences: Sequence[Row], cells: Iterable[_Cell]) -> list[list[Cell | str]]:
    """A line for each pair of tables, in points."""
    table: dict[str, dict[_Cell, Cell]] = {}
    for row in differences:
        cell = (row.task, row.split, row.metric.removesuffix("_difference"))
        values = (row.value, row.low, row.high)
        points = [f"{round(100 * value):+d}" for value in values if value is not None]
        line = table.setdefault(row.arm.replace(" - ", " − "), {})
        line[cell] = Cell(points[0], [" to ".join(points[1:])])
    return [[name, *(found.get(cell, "") for cell in cells)] for name, found in table.items()]


def _samples(tokens: ProbedTokens, texts: Sequence[Sequence[str]]) -> list[list[Cell | str]]:
    """A line for each of some held-out tokens of the first split, drawn at random."""
    held = [tokens.texts[number] for number in tokens.split(0).held.tolist()]
    long = [number for number, text in enumerate(held) if len(text) >= _SHORTEST]
    shown = stream("spelled samples").sample(long, min(_SPELLED, len(long))) if texts else []
    lines: list[list[Cell | str]] = []
    for number in shown:
        lines.append([Cell(held[number], style="said")])
        for given in (of_table[number] for of_table in texts):
            style = "said right" if given == held[number] else "said"
            lines[-1].append(Cell(given or "(empty)", style=style))
    return lines
