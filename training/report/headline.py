"""The headline of a run: the first sentence of the report, and its basis.

It states every kind of difference that the page shows: the largest in answers, the largest in the
loss on text, and in the basis all that are worse. A difference of one seed is one between these
models, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthetic_tasks import Task
from training.intervals import Row, few_questions
from training.models.arms import ARMS

from .formats import capital, listed, percent, span
from .verdict import (
    ALIKE,
    ANSWERS,
    HELD,
    TEXT,
    UNCORRECTED,
    Cell,
    Shares,
    comparisons,
    controls_of,
    cost_of_matched,
    judge,
    judged,
    pair_of,
    shares_of,
)

_SEEDS = 5  # recommended: with fewer, Student's interval over seeds is wide
_ONE_SEED = "One seed says nothing about another one: train five (--seeds 5)"
_LISTED = 3  # worse differences that the basis names


@dataclass(frozen=True)
class Headline:
    """A sentence and its basis.

    Headline("On new words made of familiar tokens, the model with characters reverses 95 %, the
    model without characters 77 %.", "The difference is +18 points ...", (reverse, unseen_words))

    Attributes:
        cell: the task and split of the sentence; None if it is about several.
        claim: "arms" if the sentence states a difference between arms that holds; "models" if it
            holds for the models of one seed; "" if it states none.
    """

    sentence: str
    basis: str
    cell: Cell | None
    claim: str = ""


def headline(
    summary: list[Row], tasks: Sequence[Task], arms: Sequence[str], num_seeds: int
) -> Headline:
    """Write the first sentence of the report.

    It states the largest difference in answers that holds after correction: on the most informative
    splits if there is one, else on any split. If none holds, it says so, and states the largest
    that holds without correction, as uncertain. The largest difference in loss that holds follows.
    The basis names the intervals, and all judged differences that are worse.
    """
    cells = {(task.name, split.name): (task, split) for task in tasks for split in task.splits}
    shares = shares_of(summary)
    if len(arms) == 1:
        return _alone(list(cells.values()), shares, arms[0])
    answers = sorted(judged(summary, ANSWERS), key=lambda row: -abs(row.value))
    telling = [row for row in answers if cells[row.task, row.split][0].main_split == row.split]
    lead = next((row for row in (*telling, *answers) if judge(row) in HELD), None)
    texts = _largest_of_text(summary)
    if lead is not None:
        cell: Cell | None = cells[lead.task, lead.split]
        sentences = [_sentence(cells[lead.task, lead.split], lead, shares, arms)]
        basis = [f"The difference is {span(lead)}, with the 95 % interval over {_over(num_seeds)}."]
    else:
        found = next((row for row in (*telling, *answers) if judge(row) in UNCORRECTED), None)
        if found is not None:
            cell = cells[found.task, found.split]
            sentences, basis = _uncertain(cell, found, shares, arms, summary, num_seeds)
        else:
            cell = None
            sentences, basis = _nothing(answers, telling, arms, num_seeds)
            if num_seeds == 1 and not texts:  # else `_rest` says it
                basis.append(f"{_ONE_SEED}.")
    first = len(sentences) if lead is None else 0
    sentences += [_text_sentence(row, arms) for row in texts]
    basis += [_text_basis(row, num_seeds) for row in texts]
    stated = [*([lead] if lead else []), *texts]
    if stated and num_seeds == 1:
        alone = f"In this one {_together(len(arms))}, "
        sentences[first] = alone + sentences[first][0].lower() + sentences[first][1:]
    basis += _rest(summary, stated, cells, num_seeds)
    claim = "" if not stated else "models" if num_seeds == 1 else "arms"
    return Headline(" ".join(sentences), " ".join(basis), cell, claim)


# Parts of the sentence


def _sentence(cell: Cell, row: Row, shares: Shares, arms: Sequence[str]) -> str:
    """On new words, the model with characters reverses 95 %, the model without characters 77 %."""
    task, split = cell
    ours, theirs = (percent(shares[one, task.name, split.name]) for one in pair_of(row))
    arm, control = pair_of(row)
    first = f"{split.place}, {_model(arm, arms)} {task.verb_phrase} {ours}"
    return f"{first}, {_opposed(control, arms)} {theirs}."


def _text_sentence(row: Row, arms: Sequence[str]) -> str:
    """After pretraining, the loss of the model with characters on held-out text is 0.4 nats ..."""
    text, _, when = row.task.rpartition(", ")
    where = {"text": "held-out text", "": row.task}.get(text, text)
    arm, control = pair_of(row)
    way = "higher" if row.value > 0 else "lower"
    return (
        f"{capital(f'{when}, ' if text else '')}the loss of {_model(arm, arms)} on {where} is "
        f"{abs(row.value):.3f} nats per token {way} than that of "
        f"{_opposed(control, arms).removesuffix(',')}."
    )


def _model(arm: str, arms: Sequence[str]) -> str:
    """Describe an arm by its input; add its name if the description is not enough."""
    called = ARMS[arm].called
    alone = len(arms) == 2 and len({ARMS[one].called for one in arms}) == 2
    return f"the model {called}" + ("" if alone or len(arms) == 1 else f" ({arm})")


def _opposed(control: str, arms: Sequence[str]) -> str:
    """Describe the control of a difference: the only one, the strongest one, or one that serves."""
    if len(controls_of(arms)) > 1:
        return f"the strongest control ({control})"
    if ARMS[control].role == "encoder":
        return f"{_model(control, arms)}, which serves as the control,"
    return _model(control, arms)


def _largest_of_text(summary: Sequence[Row]) -> list[Row]:
    """Return the largest differences in loss that hold, at most one in each direction."""
    held = [row for row in judged(summary, TEXT) if judge(row) in HELD]
    held.sort(key=lambda row: -abs(row.value))
    ways = ([row for row in held if (row.value > 0) == worse] for worse in (False, True))
    found = [rows[0] for rows in ways if rows]
    return sorted(found, key=lambda row: -abs(row.value))


def _uncertain(
    cell: Cell, row: Row, shares: Shares, arms: Sequence[str], summary: Sequence[Row], num_seeds: int
) -> tuple[list[str], list[str]]:  # fmt: skip
    """State a difference that the correction takes back, after the sentence that none is certain."""
    sentence = _sentence(cell, row, shares, arms)
    basis = [
        f"The difference is {span(row)}, with the 95 % interval over {_over(num_seeds)}.",
        "It holds alone, but not after Holm's correction for "
        f"{comparisons(summary)} comparisons.",
    ]  # fmt: skip
    if 1 < num_seeds < _SEEDS:
        basis.append(f"With {num_seeds} pairs few differences hold: train five.")
    uncertain = f"Not certain yet: {sentence[0].lower()}{sentence[1:]}"
    return ["No difference in answers is certain.", uncertain], basis


def _nothing(
    answers: Sequence[Row], telling: Sequence[Row], arms: Sequence[str], num_seeds: int
) -> tuple[list[str], list[str]]:
    """Say that no difference in answers was shown, or that there is none above the margin."""
    rows = telling or answers
    several = len(arms) - len(controls_of(arms)) > 1
    others = ["Differences of these arms from each other are not judged."] * several
    if rows and all(judge(row) == ALIKE[ANSWERS] for row in rows):
        everywhere = all(judge(row) == ALIKE[ANSWERS] for row in answers)
        where = "" if everywhere else " on the most informative splits"
        begin, basis = f"In answers{where}", [f"All 95 % intervals{where} are within this margin."]
        if num_seeds == 1:
            begin = f"In this one {_together(len(arms))}, in answers{where}"
        return [f"{begin}, {_no_difference(f'there is {ALIKE[ANSWERS]}', arms)}."], [
            *basis,
            *others,
        ]
    # the split with the fewest questions has the widest interval
    numbers = {row.n for row in rows} or {0}
    found = ["This does not prove that there is none."]
    if few_questions(least := min(numbers)):
        of = "each split of a task" if len(numbers) == 1 else "one split of a task or more"
        found.append(f"There were few questions: {least} on {of}.")
    elif 1 < num_seeds < _SEEDS:
        found.append(f"{num_seeds} pairs of models say little about another pair: train five.")
    return [f"{_no_difference('No difference in answers', arms, ' was shown')}."], [*found, *others]


def _no_difference(start: str, arms: Sequence[str], end: str = "") -> str:
    """Name the two sides of all judged differences, after the start of a sentence.

    Several judged arms also differ from each other, so the sentence must not speak of all arms.
    """
    controls = controls_of(arms)
    control = _opposed(controls[0], arms).removesuffix(",")
    if len(controls) > 1:
        control = f"the strongest of the controls {listed(controls)}"
    others = [_model(arm, arms) for arm in arms if arm not in controls]
    if len(others) == 1:
        return f"{start}{end} between {others[0]} and {control}"
    return f"{start} from {control}{end} for {listed(others)}"


def _alone(cells: Sequence[Cell], shares: Shares, arm: str) -> Headline:
    """Describe one arm without a comparison by its best informative split."""
    scored = [
        (shares[arm, task.name, split.name], (task, split))
        for task, split in cells
        if task.main_split == split.name and (arm, task.name, split.name) in shares
    ]
    basis = "One arm alone was trained: there is no comparison."
    if not scored:
        return Headline("One model was trained, and no question was evaluated.", basis, None)
    share, best = max(scored, key=lambda one: one[0])
    task, split = best
    sentence = f"{split.place}, {_model(arm, [arm])} {task.verb_phrase} {percent(share)}."
    return Headline(sentence, basis, best)


# Parts of the basis


def _over(num_seeds: int) -> str:
    return (
        f"{num_seeds} pairs of models" if num_seeds > 1 else "the questions of one pair of models"
    )


def _together(num_arms: int) -> str:
    return "pair of models" if num_arms == 2 else f"set of {num_arms} models"


def _text_basis(row: Row, num_seeds: int) -> str:
    """State the interval of a difference in loss, and the chance that it covers."""
    over = {
        "seeds and windows": f"{num_seeds} pairs of models and the held-out rows",
        "windows": "the held-out rows of one pair of models",
        "seeds": f"{num_seeds} pairs of models alone, because the run has no losses of several single rows",
    }.get(row.covers, f"{num_seeds} pairs of models")
    # the name: the largest gain and the largest loss can be those of two arms
    return (
        f"The loss differs by {span(row)} ({row.arm}, {row.task}), with the interval over {over}."
    )


def _rest(
    summary: list[Row], stated: Sequence[Row], cells: dict[tuple[str, str], Cell], num_seeds: int
) -> list[str]:
    """State the correction, the worse differences, one seed's reach, and the cost of matched."""
    if not stated:
        return []
    count, rows = comparisons(summary), judged(summary)
    held = [row for row in rows if judge(row) in HELD]
    basis = []
    if count > 1:
        it = "It holds" if len(stated) == 1 else "They hold"
        basis.append(f"{it} after Holm's correction for all {count} comparisons.")
    worse = [row for row in held if judge(row) == HELD[1]]
    better = len(held) - len(worse)
    if worse:
        # a larger gain must not hide a loss
        worse.sort(key=lambda row: (row.metric == TEXT, -abs(row.value)))
        names = [_named(row, cells) for row in worse if row not in stated][:_LISTED]
        more = f", among them {listed(names)}" if names else ""
        verb = "is" if better == 1 else "are"
        basis.append(f"Of all comparisons, {better} {verb} better and {len(worse)} worse{more}.")
    if num_seeds == 1:
        basis.append(f"{_ONE_SEED} before you take this for a difference between the arms.")
    return basis + cost_of_matched(summary, [row for row in stated if row.metric == TEXT])


def _named(row: Row, cells: dict[tuple[str, str], Cell]) -> str:
    """lstm - plain at index on unseen words (-12 points [-20 to -4])."""
    if row.metric == TEXT:
        return f"{row.arm} on {row.task} ({span(row)})"
    return f"{row.arm} at {row.task} on {cells[row.task, row.split][1].label} ({span(row)})"
