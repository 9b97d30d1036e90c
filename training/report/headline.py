"""The first sentence of the report, for a stranger; what it is about follows from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthetic_tasks import Split, Task
from training.intervals import Row, few_questions
from training.models.arms import ARMS

from .verdict import ALIKE, HELD, UNCORRECTED, comparisons, judge, percent, span


@dataclass(frozen=True)
class Headline:
    """A sentence, what it rests on, and the task and split that it is about (None: about no single one).

    Headline("On new words made of familiar tokens, the model with letters reverses 95 %, the model without
    letters 77 %.", "That is +18 points [+16 to +20].", (reverse, unseen_words))
    """

    sentence: str
    basis: str
    cell: tuple[Task, Split] | None


def headline(
    summary: list[Row], tasks: Sequence[Task], arms: Sequence[str], num_seeds: int
) -> Headline:
    """What to say first. The first arm is the control.

    The largest difference that holds after correction, on the split that tells most about its task if there
    is one, else on any; else the largest that holds without correction, and that it is not certain;
    else that nothing was shown, or that the arms are alike.
    """
    cells = {(task.name, split.name): (task, split) for task in tasks for split in task.splits}
    value = {
        (row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"
    }
    if len(arms) == 1:
        return _alone(cells, value, arms[0])
    found = [row for row in summary if row.metric == "exact_match_difference"]
    telling = [row for row in found if cells[row.task, row.split][0].main_split == row.split]
    for words in (HELD, UNCORRECTED):
        for rows in (telling, found):
            judged = [row for row in rows if judge(row) in words]
            if judged:
                row = max(judged, key=lambda row: abs(row.value))
                cell = cells[row.task, row.split]
                shares = _shares(cell, row, value, arms)
                return _said(
                    shares, row, cell, comparisons(summary), num_seeds, holds=words == HELD
                )
    return _nothing(telling or found, arms, num_seeds)


def _said(
    shares: str, row: Row, cell: tuple[Task, Split], count: int, num_seeds: int, *, holds: bool
) -> Headline:
    """The headline about one difference, that holds after correction for so many or does not."""
    pairs = (
        "the questions of this one pair of models"
        if num_seeds == 1
        else f"{num_seeds} pairs of models"
    )
    basis = f"A difference of {span(row)}, the 95 % interval over {pairs}"
    if holds:
        after = (
            f"; it holds after Holm's correction for all {count} comparisons" if count > 1 else ""
        )
        return Headline(shares, f"{basis}{after}.", cell)
    more = f" With {num_seeds} pairs few would: train five." if 1 < num_seeds < 5 else ""
    basis += f"; alone it would hold, among {count} comparisons it may be chance (Holm's correction).{more}"
    return Headline(f"Not certain yet: {shares[0].lower()}{shares[1:]}", basis, cell)


def _alone(
    cells: dict[tuple[str, str], tuple[Task, Split]],
    value: dict[tuple[str, str, str], float],
    arm: str,
) -> Headline:
    """One arm has no comparison: its best telling split."""
    asked = [
        cell
        for cell, (task, split) in cells.items()
        if (arm, *cell) in value and task.main_split == split.name
    ]
    basis = "One arm alone was trained: there is nothing to compare it with."
    if not asked:
        return Headline("One model was trained, and asked nothing.", basis, None)
    best = max(asked, key=lambda cell: value[arm, *cell])
    task, split = cells[best]
    share = percent(value[arm, *best])
    return Headline(
        f"{split.place}, {_model(arm, [arm])} {task.verb_phrase} {share}.", basis, (task, split)
    )


def _shares(
    cell: tuple[Task, Split],
    row: Row,
    value: dict[tuple[str, str, str], float],
    arms: Sequence[str],
) -> str:
    """On new words, the model with letters reverses 95 %, the model without letters 77 %."""
    task, split = cell
    arm, control = row.arm.split(" - ")
    ours, theirs = (percent(value[one, row.task, row.split]) for one in (arm, control))
    return (
        f"{split.place}, {_model(arm, arms)} {task.verb_phrase} {ours}, {_model(control, arms)} {theirs}."
    )


def _nothing(rows: Sequence[Row], arms: Sequence[str], num_seeds: int) -> Headline:
    control, *others = arms
    among = (
        "the models"
        if len(others) > 1
        else f"{_model(others[0], arms)} and {_model(control, arms)}"
    )
    alike = ALIKE["exact_match_difference"]
    if rows and all(judge(row) == alike for row in rows):
        where = "on the split of each task that tells most about it"
        return Headline(
            f"Between {among} there is {alike}.", f"So say the 95 % intervals {where}.", None
        )
    asked = min((row.n for row in rows), default=0)
    basis = "This does not prove that there is none."
    if few_questions(asked):
        basis += f" Little was asked: {asked} questions on each split of a task."
    elif 1 < num_seeds < 5:
        basis += f" {num_seeds} pairs of models say little of where another would lie: train five."
    return Headline(f"No difference was shown between {among}.", basis, None)


def _model(arm: str, arms: Sequence[str]) -> str:
    """What a stranger calls an arm; with its name where there are more than two."""
    return f"the model {ARMS[arm].called}" + (f" ({arm})" if len(arms) > 2 else "")
