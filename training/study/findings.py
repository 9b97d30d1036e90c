"""The findings of a study, and the helpers of counting.py, path_star.py and functions.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from training.intervals import Row, share_over_runs
from training.report.figures import Spot
from training.report.page import Table

Cells = dict[tuple[Any, ...], list[Row]]  # one row per seed, by coordinates in the grid


class Measured(NamedTuple):
    """A row of one seed of a run, and the coordinates of the run in the grid: {"d": 8, "m": 4}.

    `each`: the values of which the row's is the mean, if the study keeps them.
    """

    at: Mapping[str, Any]
    row: Row
    each: Sequence[float] = ()


class Picture(NamedTuple):
    """A figure with its caption; `name` is the name of its file without .svg."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Findings:
    """The findings of a study.

    Attributes:
        headline: the first sentence of the page.
        sentences: how to read the numbers, and which are missing.
        headings, lines: one table, of text.
        rows: computed numbers for results.json, in addition to the rows of the runs.
        about: the meaning of the numbers in the table.
        left: columns of text, at the left of the table.
    """

    headline: str
    sentences: Sequence[str]
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    pictures: Sequence[Picture]
    rows: Sequence[Mapping[str, Any]] = ()
    about: str = (
        "Shares of right answers, generated freely, on questions outside of training; 95 % intervals "
        "in brackets."
    )
    left: int = 1

    @property
    def table(self) -> Table:
        return Table(self.headings, self.lines, left=self.left)


def cells_of(measured: Iterable[Measured], split: str, metric: str, axes: tuple[str, ...]) -> Cells:
    """Collect the rows of all seeds by their coordinates on some axes."""
    cells: Cells = {}
    for at, row, *_ in measured:
        if (row.split, row.metric) == (split, metric):
            cells.setdefault(tuple(at[axis] for axis in axes), []).append(row)
    return cells


def mean(rows: Sequence[Row]) -> float:
    return float(np.mean([row.value for row in rows]))


def spot(x: float, rows: Sequence[Row], *, flipped: bool = False) -> Spot:
    """Return a point of a curve: a share with its interval; if `flipped`, 1 minus the share."""
    (low, high), share = _bounds(rows), mean(rows)
    return Spot(x, 1 - share, 1 - high, 1 - low) if flipped else Spot(x, share, low, high)


def interval(rows: Sequence[Row]) -> str:
    """Return a cell of the table: "0.52 (0.48 to 0.57)"."""
    low, high = _bounds(rows)
    return f"{mean(rows):.2f} ({low:.2f} to {high:.2f})"


def _bounds(rows: Sequence[Row]) -> tuple[float, float]:
    # a row holds a share; the interval needs counts
    return share_over_runs([round(row.value * row.n) for row in rows], [row.n for row in rows])
