"""Pages and their tables, as HTML from one base template and as text in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import jinja2
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Printed
from rich.text import Text

from training.intervals import Row

from .figures import FONT, colours
from .formats import bounds, capital, p_values, percent, tied
from .verdict import HELD, judge

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


def difference(row: Row, form: str = "{:+.2f}") -> Cell:
    """A difference above its interval and p-values."""
    # "held" is a CSS class on the page, and a star in the terminal
    style = "held" if judge(row) in HELD else ""
    return Cell(form.format(row.value), [bounds(row, form, 1), p_values(row)], style=style)


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
    # the starts of a run, in its config.json or another record; older ones have none
    facts = values.get("facts", {})
    begun, version = facts.get("begun", []), facts.get("versions", {}).get("charembed", "")
    command = begun[-1]["command"] if begun else ""
    given = {"command": command, "begun": begun, "version": version} | values
    return environment.get_template(template).render(colours=colours(), font=FONT, **given)


def print_table(
    console: Console, table: Table, title: str, compared: int = 0, between: str = " "
) -> None:
    """Print a table, with sections by its first column and a star at each difference that holds.

    A table that is wider than the terminal has its intervals below the values. If it is still too
    wide it is printed in parts, and each part repeats the columns of text.

    Arguments:
        compared: number of comparisons that are corrected together; 0 if nothing is compared.
        between: text between a value and its interval; a line break makes narrow columns.
    """
    columns = _columns(table, between)
    if between != "\n" and _width(columns) > console.width:
        columns = _columns(table, "\n")
    columns = _folded(columns, table.left, console.width)
    parts = _parts(columns, table.left, console.width)
    caption = f"(95 % intervals) * holds after Holm's correction for {compared} comparisons"
    for number, part in enumerate(parts, 1):
        named = title if len(parts) == 1 else f"{title} (part {number} of {len(parts)})"
        below = Text(caption) if compared and number == len(parts) else None
        # Text: a name with brackets, such as "task[red]", would be read as a style of rich
        printed = Printed(title=Text(named), caption=below, caption_justify="left")
        for heading, _ in part:
            printed.add_column(Text(heading), overflow="fold")
        for i, line in enumerate(table.lines):
            # a first column of different names has no sections
            last = i + 1 == len(table.lines) or line[0] != table.lines[i + 1][0]
            cells = (Text(cells[i]) for _, cells in part)
            printed.add_row(*cells, end_section=table.left > 1 and last)
        console.print(printed)


_READABLE = 16  # letters of a name before it is wrapped
_Column = tuple[str, list[str]]  # a heading and the cells below it, as they are printed


def _columns(table: Table, between: str) -> list[_Column]:
    """Return the columns of a table as text; those of numbers are aligned at the right."""
    columns = []
    for number, heading in enumerate(table.headings):
        cells = [line[number] for line in table.lines]
        texts = [_plain(cell, between) for cell in cells]
        # the cells decide the width; a minus sign stays at its name
        words = heading.replace("− ", "−\u00a0").split(" ")
        lines = (line for text in (*texts, *words) for line in text.split("\n"))
        heading = _wrapped(" ".join(words), max(1, *map(cell_len, lines))).replace("\u00a0", " ")
        if number >= table.left:
            held = [not isinstance(cell, str) and cell.style == "held" for cell in cells]
            heading, *texts = _aligned([heading, *texts], [False, *held])
        columns.append((heading, texts))
    return columns


def _aligned(texts: Sequence[str], held: Sequence[bool]) -> list[str]:
    """Align texts of one or more lines at the right; a star follows the first line if `held`."""
    # the place of a star is free in the first line of other cells: numbers stay below each other
    star = " " if any(held) else ""
    rows = [text.split("\n") for text in texts]
    for row, own in zip(rows[1:], held[1:], strict=True):
        row[0] += 2 * star if not own else " *"
    longest = max(cell_len(line) for row in rows for line in row)
    return ["\n".join(" " * (longest - cell_len(line)) + line for line in row) for row in rows]


def _folded(columns: Sequence[_Column], left: int, width: int) -> list[_Column]:
    """Wrap the columns of text if that makes room for all numbers, or for the widest of them."""
    names, numbers = list(columns[:left]), list(columns[left:])
    widest = max((_width([column]) for column in numbers), default=1)
    longest = (width - _width(numbers)) // left - 3
    if longest < _READABLE:  # in parts, then
        longest = max(8, (width - widest) // left - 3)
    if _width(columns) <= width or (longest < _READABLE and _width(names) + widest - 1 <= width):
        return [*names, *numbers]
    folded = [[_wrapped(text, longest) for text in (head, *cells)] for head, cells in names]
    return [*((head, cells) for head, *cells in folded), *numbers]


def _wrapped(text: str, longest: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in wrap(line, longest) or [""])


def _parts(columns: Sequence[_Column], left: int, width: int) -> list[list[_Column]]:
    """Split the columns of numbers so that each part, with the columns of text, has this width."""
    names, parts = list(columns[:left]), [list(columns[:left])]
    for column in columns[left:]:
        if _width([*parts[-1], column]) > width and len(parts[-1]) > left:
            parts.append([*names])
        parts[-1].append(column)
    return parts


def _width(columns: Sequence[_Column]) -> int:
    """The width of a printed table: each column has two spaces and a line beside it."""
    lines = ((heading, *cells) for heading, cells in columns)
    widths = (max(cell_len(line) for text in of for line in text.split("\n")) for of in lines)
    return 1 + sum(width + 3 for width in widths)


def print_sentences(console: Console, sentences: Sequence[str], page: Path) -> None:
    """Print the findings below their table, and the path of the page."""
    # markup=False: a name with brackets, such as "task[1]", would be read as a style of rich
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)
    # soft_wrap: a path that is broken into two lines cannot be copied
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)


def _plain(cell: Cell | str, between: str) -> str:
    """Cell("+0.40", ["+0.29 to +0.49", "p 0.001"]) -> "+0.40 (+0.29 to +0.49)" """
    if isinstance(cell, str):
        return cell
    interval = cell.small[0] if cell.small else ""
    if not interval:
        return cell.text
    return f"{cell.text}\n{interval}" if between == "\n" else f"{cell.text}{between}({interval})"
