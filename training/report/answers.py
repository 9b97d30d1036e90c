"""The tables of answers: exact match of every arm, and its difference from the strongest control."""

from __future__ import annotations

from training.intervals import Row

from .page import Cell, Table, difference
from .results import Results
from .verdict import by_place, judged, pair_of


def answer_table(found: Results) -> Table:
    """One line per split and task: the majority baseline, each arm, and its judged differences.

    With several controls, a column names the strongest one of the line.
    """
    arms, several = found.arms, len(found.controls) > 1
    rows = {(r.arm, r.task, r.split): r for r in found.summary if r.metric == "exact_match"}
    differences = {
        (pair_of(row)[0], row.task, row.split): row
        for row in judged(found.summary, "exact_match_difference")
    }
    lines: list[list[Cell | str]] = []
    for task, split in (cell for group in by_place(found.tasks) for cell in group):
        cell = task.name, split.name
        if first := rows.get((arms[0], *cell)):  # a split without questions has no rows
            shares = [first.majority or 0, *(rows[arm, *cell].value for arm in arms)]
            line = [str(first.n), *(f"{share:.2f}" for share in shares)]
            of_arms = [differences[arm, *cell] for arm in found.judged_arms]
            # the same for all arms: it is the control with the best mean
            strongest = [pair_of(of_arms[0])[1]] if several else []
            lines.append([split.label, task.name, *strongest, *line, *map(difference, of_arms)])
    against = "strongest control" if several else found.controls[0]
    headings = ["split", "task", *([against] if several else []), "n per arm", "majority baseline"]
    headings += [*arms, *(f"{arm} − {against.split(' ')[0]}" for arm in found.judged_arms)]
    return Table(headings, lines, left=3 if several else 2)


def short_table(found: Results) -> Table:
    """One line per split and task: the strongest control, and the arms that are judged against it.

    For a terminal, if there are many arms. A score is held (a star) if its difference from the
    control holds.
    """
    rows = {(r.arm, r.task, r.split): r for r in found.summary if r.metric == "exact_match"}
    differences: dict[tuple[str, str], list[Row]] = {}
    for row in judged(found.summary, "exact_match_difference"):
        differences.setdefault((row.task, row.split), []).append(row)
    lines: list[list[Cell | str]] = []
    for task, split in (cell for group in by_place(found.tasks) for cell in group):
        of_cell = differences.get((task.name, split.name), [])
        for row in of_cell[:1]:
            control = rows[pair_of(row)[1], task.name, split.name]
            names = [split.label, task.name, control.arm]
            lines.append([*names, f"{control.majority or 0:.2f}", f"{control.value:.2f}"])
            for one in of_cell:
                value = rows[pair_of(one)[0], task.name, split.name].value
                lines[-1].append(Cell(f"{value:.2f}", style=difference(one).style))
    headings = ["split", "task", "strongest control", "majority baseline", "control"]
    return Table([*headings, *found.judged_arms], lines, left=3)
