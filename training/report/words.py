"""Exact match by properties of the word, for the page: a figure for each task, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from training.intervals import Row

from .breakdowns import AXES, Bin, BinRow
from .formats import percent
from .interval_plots import Binned, binned_shares
from .page import Cell, Table, share

_X_LABELS = {
    "word letters": "letters of the word",
    "word tokens": "tokens of the word",
    "rarest token": "occurrences of the rarest token",
}


class ByWord(NamedTuple):
    """One axis: its title, (task, figure) of each task, and the table of all values."""

    title: str
    figures: Sequence[tuple[str, str]]
    table: Table


def by_word(rows: Sequence[BinRow], arms: Sequence[str]) -> list[ByWord]:
    """Return the figures and the table of each axis; axes with one bin for all words are left out."""
    sections = []
    for axis, title in AXES.items():
        found = [one for one in rows if one.axis == axis]
        if len({one.bin for one in found}) < 2:
            continue
        figures, lines = list[tuple[str, str]](), list[list[Cell | str]]()
        for task, of_task in groupby(found, key=lambda one: one.row.task):
            bins = list[Binned]()
            for one, of_bin in groupby(of_task, key=lambda one: one.bin):
                shown = {each.row.arm: each.row for each in of_bin}
                bins.append(_binned(one, shown))
                lines.append(_line(task, one, shown, arms))
            name = f"by-{axis.replace(' ', '-')}-{len(figures)}"
            label = f"Share of exactly right answers of {task} by {_X_LABELS[axis]}."
            figures.append((task, binned_shares(name, label, bins, _X_LABELS[axis])))
        headings = ["task", _X_LABELS[axis], "n per arm", "majority baseline", *arms]
        sections.append(ByWord(title, figures, Table(headings, lines, left=2)))
    return sections


def _binned(one: Bin, shown: dict[str, Row]) -> Binned:
    shares = {arm: (row.value, row.low or 0.0, row.high or 0.0) for arm, row in shown.items()}
    baseline = next(iter(shown.values())).majority or 0.0
    return Binned(one.short, shares, baseline)


def _line(task: str, one: Bin, shown: dict[str, Row], arms: Sequence[str]) -> list[Cell | str]:
    first = next(iter(shown.values()))
    shares = [share(shown[arm]) if arm in shown else "" for arm in arms]
    return [task, one.name, str(first.n), percent(first.majority or 0.0), *shares]
