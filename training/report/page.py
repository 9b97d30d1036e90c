"""The HTML of all pages: one base template, and the tables that its macros print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from training.intervals import Row

from .figures import FONT, colours
from .formats import bounds, capital, p_values, percent, tied

_TRAINING = Path(__file__).parent.parent


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: the value.
        small: lines below it: its interval, its p-values.
        colour: the CSS variable of a swatch before the text; "" for an empty swatch, None for none.
        strips: (row, colour) of shares drawn as bars in the cell.
        style: a CSS class of the text.
    """

    text: str
    small: Sequence[str] = ()
    colour: str | None = None
    strips: Sequence[tuple[Row, str]] = ()
    style: str = ""


class Sample(NamedTuple):
    """A question with its right answer and (name, swatch colour, text, right) of each model."""

    title: str
    prompt: str
    expected: str
    given: Sequence[tuple[str, str, str, bool]]


def share(row: Row) -> Cell:
    """A share above its interval."""
    return Cell(percent(row.value), [bounds(row)])


def difference(row: Row, form: str = "{:+.2f}") -> Cell:
    """A difference above its interval and p-values."""
    return Cell(form.format(row.value), [bounds(row, form, 1), p_values(row)])


def render(template: str, **values: Any) -> str:
    """Render a template of training/, such as "report/report.html.jinja", with the colours and font.

    A figure or table that a template does not get is an error, not an empty place.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TRAINING),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"capital": capital, "percent": percent, "tied": tied}
    return environment.get_template(template).render(colours=colours(), font=FONT, **values)
