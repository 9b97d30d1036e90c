"""All differences of a run: as forest plots, and as a table of every pair of arms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from synthetic_tasks import Task
from training.intervals import MARGINS, Row

from .formats import capital
from .interval_plots import Axis, Compared, forest
from .page import Cell, Table, difference
from .verdict import HELD, by_place, judge

EXACT, NATS = "exact_match_difference", "loss_nats_difference"
_POINTS = Axis(
    "points of exact match; right of zero is better", "{:+.0f}", 100 * MARGINS["exact_match"]
)
_LOSS = Axis("nats per token; left of zero is better", "{:+.3f}", MARGINS["loss_nats"])


def pair_name(row: Row) -> str:
    """The arms of a difference with a minus sign: "lstm - plain" -> "lstm − plain"."""
    return row.arm.replace(" - ", " − ")


def is_judged(row: Row) -> bool:
    """Whether a difference is one against the strongest control, corrected with all others."""
    return row.p_holm is not None  # without an interval there is nothing to judge


def forests(summary: Iterable[Row], tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """Return (title, figure) of each split, and of the held-out texts.

    A figure groups its differences by task; within a task, judged ones come first.
    """
    rows = sorted((row for row in summary if " - " in row.arm), key=lambda row: not is_judged(row))
    figures = []
    for number, cells in enumerate(by_place(tasks)):
        groups = []
        for task, split in cells:
            here = (task.name, split.name, EXACT)
            found = [row for row in rows if (row.task, row.split, row.metric) == here]
            groups.append((task.name, [_compared(row, 100) for row in found]))
        label = cells[0][1].label
        groups = [group for group in groups if group[1]]
        if groups:
            svg = forest(f"forest-{number}", f"Differences on {label}, in points.", groups, _POINTS)
            figures.append((capital(label), svg))
    texts = dict.fromkeys(row.task for row in rows if row.metric == NATS)
    groups = [
        (text, [_compared(row, 1) for row in rows if (row.task, row.metric) == (text, NATS)])
        for text in texts
    ]
    if groups:
        svg = forest("forest-text", "Differences in loss, in nats per token.", groups, _LOSS)
        figures.append(("Held-out text", svg))
    return figures


def _compared(row: Row, scale: float) -> Compared:
    low, high = (None if bound is None else scale * bound for bound in (row.low, row.high))
    holds = is_judged(row) and judge(row) in HELD
    return Compared(pair_name(row), scale * row.value, low, high, is_judged(row), holds)


def pairwise_table(summary: Iterable[Row], tasks: Sequence[Task]) -> Table:
    """One line per split and task, one column per pair of arms; judged ones have their p-values."""
    rows = [row for row in summary if row.metric == EXACT]
    pairs = list(dict.fromkeys(pair_name(row) for row in rows))
    found = {(pair_name(row), row.task, row.split): row for row in rows}
    lines: list[list[Cell | str]] = []
    for task, split in (cell for group in by_place(tasks) for cell in group):
        of_cell = [found.get((pair, task.name, split.name)) for pair in pairs]
        if any(of_cell):
            cells = [difference(row) if row else "" for row in of_cell]
            lines.append([split.label, task.name, *cells])
    return Table(["split", "task", *pairs], lines, left=2)
