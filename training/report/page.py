"""Pages and their tables, as HTML from one base template and as text in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from rich.console import Console
from rich.table import Table as Printed

from training.intervals import Row

from .figures import FONT, colours
from .formats import bounds, capital, p_values, percent, tied
from .verdict import HELD, judge, pair_of

_TRAINING = Path(__file__).parent.parent


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        small: lines below the text: its interval, its p-values.
        colour: CSS variable of a coloured square before the text; "" for a grey one, None for none.
        strips: (row, colour) of shares that are drawn as bars in the cell.
        style: CSS class of the text.
    """

    text: str
    small: Sequence[str] = ()
    colour: str | None = None
    strips: Sequence[tuple[Row, str]] = ()
    style: str = ""


class Table(NamedTuple):
    """A table for a page or the terminal; `left` columns of text come before the numbers."""

    headings: Sequence[str]
    lines: Sequence[Sequence[Cell | str]]
    left: int = 1


class Sample(NamedTuple):
    """A question with its right answer; `given`: (model, colour, answer, is right) of each model."""

    title: str
    prompt: str
    expected: str
    given: Sequence[tuple[str, str, str, bool]]


def share(row: Row) -> Cell:
    """A share above its interval."""
    return Cell(percent(row.value), [bounds(row)])


def difference(row: Row, form: str = "{:+.2f}", *, named: bool = False) -> Cell:
    """A difference above its interval and p-values; `named`: with the name of the control."""
    # "held" is a CSS class on the page, and a star in the terminal
    style = "held" if judge(row) in HELD else ""
    text = form.format(row.value) + (f" {pair_of(row)[1]}" if named else "")
    return Cell(text, [bounds(row, form, 1), p_values(row)], style=style)


def render(template: str, **values: Any) -> str:
    """Render a template of training/, such as "report/report.html.jinja".

    The values are those that the template reads; a missing one raises UndefinedError.
    """
    # autoescape: names of models and texts of questions come from users
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TRAINING),
        undefined=jinja2.StrictUndefined,  # jinja's default prints nothing for a missing value
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"capital": capital, "percent": percent, "tied": tied}
    return environment.get_template(template).render(colours=colours(), font=FONT, **values)


def print_table(
    console: Console, table: Table, title: str, compared: int = 0, between: str = " "
) -> None:
    """Print a table, with sections by its first column and a star at each difference that holds.

    Arguments:
        compared: number of comparisons that are corrected together; 0 if nothing is compared.
        between: text between a value and its interval; a line break makes narrow columns.
    """
    caption = f"(95 % intervals) * holds after Holm's correction for {compared} comparisons"
    printed = Printed(title=title, caption=caption if compared else None)
    for number, heading in enumerate(table.headings):
        if number < table.left:
            printed.add_column(heading, overflow="fold")  # names stay whole in a narrow terminal
        else:
            printed.add_column(heading, justify="right")
    for line, after in zip(table.lines, [*table.lines[1:], [""]], strict=True):
        # a first column of different names has no sections
        section = table.left > 1 and line[0] != after[0]
        printed.add_row(*(_plain(cell, between) for cell in line), end_section=section)
    console.print(printed)


def print_sentences(console: Console, sentences: Sequence[str], page: Path) -> None:
    """Print the findings below their table, and the path of the page."""
    # markup=False: a name with brackets, such as "task[1]", would be read as a style of rich
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)
    # soft_wrap: a path that is broken into two lines cannot be copied
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


def _plain(cell: Cell | str, between: str) -> str:
    """Cell("+0.40", ["+0.29 to +0.49", "p 0.001"], style="held") -> "+0.40 (+0.29 to +0.49) *" """
    if isinstance(cell, str):
        return cell
    first = f"{between}({cell.small[0]})" if cell.small and cell.small[0] else ""
    # two spaces in place of a star keep the numbers of a column aligned
    star = " *" if cell.style == "held" else "  " if len(cell.small) > 1 else ""
    return cell.text + first + star
