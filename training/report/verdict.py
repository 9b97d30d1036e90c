"""The headline of a run and the verdict on each arm, in sentences.

They are made from the rows of `training.intervals.summarise`. The first arm is the control.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from synthetic_tasks import Split, Task
from training.intervals import ALPHA, MARGINS, Row, few_questions
from training.models.arms import ARMS

from .formats import bare, capital, listed, percent, span

HELD = ("better", "worse")
_UNCORRECTED = tuple(f"{word}, but not after correction" for word in HELD)
_ALIKE = {
    "exact_match_difference": f"no difference larger than {100 * MARGINS['exact_match']:.0f} points",
    "loss_nats_difference": f"no difference larger than {MARGINS['loss_nats']} nats",
}
_UNSHOWN = "no difference shown"
_JUDGEMENTS = (*HELD, *_UNCORRECTED, *_ALIKE.values(), _UNSHOWN)  # the order in a sentence
_SEEDS = 5  # recommended: with fewer, Student's interval over seeds is wide
Cell = tuple[Task, Split]
_Shares = dict[tuple[str, str, str], float]  # exact match by arm, task and split


def by_place(tasks: Sequence[Task], *, telling_first: bool = False) -> list[list[Cell]]:
    """Group the splits of all tasks by place.

    reverse, path_star -> [[(reverse, seen)], [(reverse, unseen_words)], ..., [(path_star, seen)]]

    `telling_first` puts the most informative splits first and those of training last; without it,
    tasks and splits keep their order.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for task in tasks:
        for split in task.splits:
            groups.setdefault((split.label, split.place), []).append((task, split))

    def rank(group: list[Cell]) -> int:
        task, split = group[0]
        return 0 if split.name == task.main_split else 2 if split == task.splits[0] else 1

    return sorted(groups.values(), key=rank) if telling_first else list(groups.values())


def judge(row: Row) -> str:
    """Judge a difference: return one of _JUDGEMENTS. A smaller loss is better.

    "better" and "worse" hold after the correction for all comparisons of the run. If an interval
    contains zero and lies within the margin as a whole (MARGINS), that is a finding too.
    """
    if row.low is None or row.high is None or row.p is None or row.p_holm is None:
        return _UNSHOWN
    if row.p < ALPHA:
        words = HELD if row.p_holm < ALPHA else _UNCORRECTED
        return words[(row.value > 0) == (row.metric == "loss_nats_difference")]
    margin = MARGINS[row.metric.removesuffix("_difference")]
    return _ALIKE[row.metric] if -margin < row.low <= row.high < margin else _UNSHOWN


def comparisons(summary: Sequence[Row]) -> int:
    """Count the differences that are judged, and so corrected together."""
    return sum(row.p is not None for row in summary)


# The headline: the first sentence of the report


@dataclass(frozen=True)
class Headline:
    """A sentence and its basis; `cell` is its task and split, None if it is about several.

    Headline("On new words made of familiar tokens, the model with characters reverses 95 %, the
    model without characters 77 %.", "The difference is +18 points ...", (reverse, unseen_words))
    """

    sentence: str
    basis: str
    cell: Cell | None


def headline(
    summary: list[Row], tasks: Sequence[Task], arms: Sequence[str], num_seeds: int
) -> Headline:
    """Choose the first sentence of the report.

    It states the largest difference that holds after correction: on the most informative splits if
    there is one, else on any split. If none holds, it states the largest that holds without
    correction, as uncertain. Otherwise no difference is shown, or none larger than the margin.
    """
    cells = {(task.name, split.name): (task, split) for task in tasks for split in task.splits}
    shares = _shares(summary)
    if len(arms) == 1:
        return _alone(list(cells.values()), shares, arms[0])
    found = [row for row in summary if row.metric == "exact_match_difference"]
    found.sort(key=lambda row: -abs(row.value))
    telling = [row for row in found if cells[row.task, row.split][0].main_split == row.split]
    # a certain difference on any split comes before an uncertain one on the most informative split
    order = [(words, rows) for words in (HELD, _UNCORRECTED) for rows in (telling, found)]
    row = next((row for words, rows in order for row in rows if judge(row) in words), None)
    if row is None:
        return _nothing(telling or found, arms, num_seeds)
    cell, holds = cells[row.task, row.split], judge(row) in HELD
    sentence = _sentence(cell, row.arm.split(" - "), shares, arms)
    if not holds:
        sentence = f"Not certain yet: {sentence[0].lower()}{sentence[1:]}"
    return Headline(sentence, _basis(row, comparisons(summary), num_seeds, holds=holds), cell)


def _basis(row: Row, count: int, num_seeds: int, *, holds: bool) -> str:
    """State the interval of the headline's difference, and whether it holds after correction."""
    one = "the questions of one pair of models"
    over = f"{num_seeds} pairs of models" if num_seeds > 1 else one
    basis = f"The difference is {span(row)}, with the 95 % interval over {over}."
    if holds:
        more = f" It holds after Holm's correction for all {count} comparisons."
        return basis + (more if count > 1 else "")
    basis += f" It holds alone, but not after Holm's correction for {count} comparisons."
    if 1 < num_seeds < _SEEDS:
        basis += f" With {num_seeds} pairs few differences hold: train five."
    return basis


def _alone(cells: Sequence[Cell], shares: _Shares, arm: str) -> Headline:
    """Describe one arm without a comparison by its best informative split."""
    scored = [
        (shares[arm, task.name, split.name], (task, split))
        for task, split in cells
        if task.main_split == split.name and (arm, task.name, split.name) in shares
    ]
    basis = "One arm alone was trained: there is no comparison."
    if not scored:
        return Headline("One model was trained, and no question was evaluated.", basis, None)
    _, best = max(scored, key=lambda one: one[0])
    return Headline(_sentence(best, [arm], shares, [arm]), basis, best)


def _nothing(rows: Sequence[Row], arms: Sequence[str], num_seeds: int) -> Headline:
    control, *others = arms
    pair = " and ".join(_model(arm, arms) for arm in (*others, control))
    among = pair if len(others) == 1 else "the models"
    alike = _ALIKE["exact_match_difference"]
    if rows and all(judge(row) == alike for row in rows):
        basis = "All 95 % intervals on the most informative splits are within this margin."
        return Headline(f"Between {among} there is {alike}.", basis, None)
    # the split with the fewest questions has the widest interval
    least = min((row.n for row in rows), default=0)
    basis = "This does not prove that there is none."
    if few_questions(least):
        basis += f" There were few questions: {least} on each split of a task."
    elif 1 < num_seeds < _SEEDS:
        basis += f" {num_seeds} pairs of models say little about another pair: train five."
    return Headline(f"No difference was shown between {among}.", basis, None)


def _sentence(cell: Cell, pair: Sequence[str], shares: _Shares, arms: Sequence[str]) -> str:
    """On new words, the model with characters reverses 95 %, the model without characters 77 %."""
    task, split = cell
    first, *rest = (
        (_model(arm, arms), percent(shares[arm, task.name, split.name])) for arm in pair
    )
    more = "".join(f", {model} {share}" for model, share in rest)
    return f"{split.place}, {first[0]} {task.verb_phrase} {first[1]}{more}."


def _model(arm: str, arms: Sequence[str]) -> str:
    """Describe an arm by its input; add its name if there are more than two arms."""
    return f"the model {ARMS[arm].called}" + (f" ({arm})" if len(arms) > 2 else "")


def _shares(summary: Sequence[Row]) -> _Shares:
    return {
        (row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"
    }


# The verdict on an arm, and how it was judged


def verdict(summary: list[Row], tasks: Sequence[Task], arm: str, control: str) -> list[str]:
    """Compare an arm with the control: a sentence for each split and each held-out text."""
    shares = _shares(summary)
    differences = [row for row in summary if row.arm == f"{arm} - {control}"]
    cells = {
        (row.task, row.split): row for row in differences if row.metric == "exact_match_difference"
    }
    sentences = []
    for group in by_place(tasks, telling_first=True):
        by_judgement: dict[str, list[str]] = {}
        for row in filter(None, (cells.get((task.name, split.name)) for task, split in group)):
            ours, theirs = (percent(shares[one, row.task, row.split]) for one in (arm, control))
            judgement = judge(row)
            if judgement == _UNSHOWN and few_questions(row.n):
                judgement += f" (few questions, n = {row.n})"
            by_judgement.setdefault(judgement, []).append(
                f"{row.task} ({ours} against {theirs}, {span(row)})"
            )
        # tasks with the same judgement share one part of the sentence
        order = sorted(by_judgement, key=lambda words: _JUDGEMENTS.index(words.split(" (")[0]))
        if order:
            split = group[0][1]
            parts = "; ".join(f"{words} at {listed(by_judgement[words])}" for words in order)
            sentences.append(
                f"{capital(split.label)} ({bare(split.place)}), {arm} against {control}: {parts}."
            )
    of_text = [row for row in differences if row.metric == "loss_nats_difference"]
    for row in of_text:  # every model reads the same text, so one seed has no interval
        judgement = "one pair of models, so no interval" if row.low is None else judge(row)
        sentences.append(
            f"{capital(row.task)}, {arm} against {control}: {span(row)} per token ({judgement})."
        )
    if control == "matched" and arm != "plain" and of_text:
        # a second table alone can raise the loss on text, which would make every encoder look good
        known = any(row.arm == "plain - matched" for row in summary)
        other = "plain against matched" if known else f"a run with --arms plain,{arm}"
        sentences.append(
            "A smaller loss on text than matched can come from the cost of matched's second table, "
            f"not from the characters: {other} shows which."
        )
    return sentences


def tally(summary: list[Row], arm: str, control: str) -> str:
    """Count the judgements: "16 comparisons of answers: 15 better, 1 no difference shown"."""
    of_arm = [row for row in summary if row.arm == f"{arm} - {control}"]
    counts = Counter(judge(row) for row in of_arm if row.metric == "exact_match_difference")
    parts = [f"{counts[judgement]} {judgement}" for judgement in _JUDGEMENTS if counts[judgement]]
    return f"{counts.total()} comparisons of answers: {'; '.join(parts)}"


def how_judged(summary: list[Row], num_seeds: int) -> list[str]:
    """Explain the intervals, the correction and the margins."""
    over = (
        "The 95 % intervals are over the questions of one pair of models. Another pair differs "
        "for more reasons than its questions: train several (--seeds 5) before you trust a small "
        "difference."
    )
    if num_seeds > 1:
        over = (
            f"Each 95 % interval is the wider of two: over {num_seeds} pairs of models, and over "
            "all their questions."
        )
    if num_seeds == 2:
        over += " Two pairs can agree or differ by chance, so some intervals are wide: train five."
    points, nats = 100 * MARGINS["exact_match"], MARGINS["loss_nats"]
    # computed, so that the sentence stays true if the margin changes
    enough = next(n for n in range(1, 10_000) if not few_questions(n))
    return [
        over,
        f"{comparisons(summary)} comparisons were made at once, so some would be significant by "
        "chance. A difference is better or worse only if it holds after Holm's correction for all.",
        f"If a whole interval lies within {points:.0f} points of exact match, or {nats} nats per "
        "token, of zero, the judgement is that there is no difference larger than that.",
        f"An arm with fewer than {enough} questions has few questions: even equal answers to all "
        "of them could not show that there is no such difference.",
    ]
