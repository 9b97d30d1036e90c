"""The pages of the laboratory: their templates, and what every one of them is written with.

style.css.jinja holds what all have in common: colours (`colours`, see svg.py), type, tables, folds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jinja2

from .verdict import capital, percent

ROOM = Path(__file__).parent.parent


def page_template(name: str, **filters: Callable[..., object]) -> jinja2.Template:
    """A page, from its file in this room or below it; with filters of its own."""
    loader = jinja2.FileSystemLoader(ROOM)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"capital": capital, "percent": percent, "tied": tied, **filters}
    return environment.get_template(name)


def tied(text: str) -> str:
    """With no line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")
