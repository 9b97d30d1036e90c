"""The judgement of a difference, and the verdict on each arm, in sentences.

They are made from the rows of `training.differences.summarise`. An arm is judged against the
strongest control of the run, on each task and split; headline.py writes the first sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from synthetic_tasks import Split, Task
from training.intervals import ALPHA, MARGINS, Row, few_questions
from training.models.arms import ARMS

from .formats import bare, capital, listed, percent, span

ANSWERS, TEXT = "exact_match_difference", "loss_nats_difference"
HELD = ("better", "worse")
UNCORRECTED = tuple(f"{word}, but not after correction" for word in HELD)
ALIKE = {
    ANSWERS: f"no difference larger than {100 * MARGINS['exact_match']:.0f} points",
    TEXT: f"no difference larger than {MARGINS['loss_nats']} nats",
}
_UNSHOWN = "no difference shown"
_JUDGEMENTS = (*HELD, *UNCORRECTED, *ALIKE.values(), _UNSHOWN)  # the order in a sentence
Cell = tuple[Task, Split]
Shares = dict[tuple[str, str, str], float]  # exact match by arm, task and split


def controls_of(arms: Sequence[str]) -> list[str]:
    """Return the arms that the others are judged against: all without a character encoder.

    controls_of(("plain", "matched", "lstm")) -> ["plain", "matched"]. Rivals are among them. If
    there is none, or nothing else, the first arm serves as the control.
    """
    without = [arm for arm in arms if ARMS[arm].role != "encoder"]
    return without if 0 < len(without) < len(arms) else [arms[0]]


def judged(summary: Sequence[Row], metric: str = "", arm: str = "") -> list[Row]:
    """Return the judged differences in answers and nats, of one metric or arm if it is given."""
    return [
        row
        for row in summary
        if row.controls
        and row.metric in ((metric,) if metric else (ANSWERS, TEXT))
        and (not arm or pair_of(row)[0] == arm)
    ]


def pair_of(row: Row) -> tuple[str, str]:
    """Return the arms of a difference: "lstm - plain" -> ("lstm", "plain")."""
    first, second = row.arm.split(" - ")
    return first, second


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
        words = HELD if row.p_holm < ALPHA else UNCORRECTED
        return words[(row.value > 0) == (row.metric == TEXT)]
    margin = MARGINS[row.metric.removesuffix("_difference")]
    return ALIKE[row.metric] if -margin < row.low <= row.high < margin else _UNSHOWN


def comparisons(summary: Sequence[Row]) -> int:
    """Count the differences that are judged, and so corrected together."""
    return sum(row.p_holm is not None for row in summary)


# The verdict on an arm, and how it was judged


def shares_of(summary: Sequence[Row]) -> Shares:
    return {
        (row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"
    }


def verdict(summary: list[Row], tasks: Sequence[Task], arm: str) -> list[str]:
    """Compare an arm with its strongest control: a sentence for each split and held-out text."""
    shares = shares_of(summary)
    cells = {(row.task, row.split): row for row in judged(summary, ANSWERS, arm)}
    sentences = []
    for group in by_place(tasks, telling_first=True):
        by_judgement: dict[str, list[str]] = {}
        rows = [row for task, split in group if (row := cells.get((task.name, split.name)))]
        for row in rows:
            ours, theirs = (percent(shares[one, row.task, row.split]) for one in pair_of(row))
            # several controls: the strongest is another one from task to task
            of = f" of {pair_of(row)[1]}" if (row.controls or 1) > 1 else ""
            judgement = judge(row)
            if judgement == _UNSHOWN and few_questions(row.n):
                judgement += f" (few questions, n = {row.n})"
            by_judgement.setdefault(judgement, []).append(
                f"{row.task} ({ours} against {theirs}{of}, {span(row)})"
            )
        # tasks with the same judgement share one part of the sentence
        order = sorted(by_judgement, key=lambda words: _JUDGEMENTS.index(words.split(" (")[0]))
        if order:
            split = group[0][1]
            parts = "; ".join(f"{words} at {listed(by_judgement[words])}" for words in order)
            sentences.append(
                f"{capital(split.label)} ({bare(split.place)}), {_compared(rows[0])}: {parts}."
            )
    for row in judged(summary, TEXT, arm):
        of = f" of {pair_of(row)[1]}" if (row.controls or 1) > 1 else ""
        sentences.append(
            f"{capital(row.task)}, {_compared(row)}: {span(row)} per token{of and ' from that'}{of} "
            f"({_text_judgement(row)})."
        )
    return sentences + cost_of_matched(summary, judged(summary, TEXT, arm))


def _compared(row: Row) -> str:
    """Name the two sides: "lstm against plain", "lstm against the strongest control"."""
    arm, control = pair_of(row)
    against = control if row.controls == 1 else "the strongest control"
    # one seed: the judgement is about these two models
    alone = " with one seed" if row.covers in ("questions", "windows") else ""
    return f"{arm} against {against}{alone}"


def _text_judgement(row: Row) -> str:
    if row.low is None:  # every model reads the same text, and the run has no losses of its rows
        return "one pair of models, so no interval"
    return judge(row) + ("; the interval covers the seeds alone" if row.covers == "seeds" else "")


def cost_of_matched(summary: Sequence[Row], texts: Sequence[Row]) -> list[str]:
    """Return a warning if one of some differences in loss is a gain over `matched` alone.

    The second table of matched alone can raise the loss on text, which would make every encoder
    look good. If the run has the arm plain, the strongest control is no worse than that.
    """
    gains = [pair_of(row)[0] for row in texts if row.value < 0 and pair_of(row)[1] == "matched"]
    if not gains or any(row.arm == "plain" for row in summary):
        return []
    return [
        "A smaller loss on text than matched can come from the cost of matched's second table, not "
        f"from the characters: a run with --arms plain,{gains[0]} shows which."
    ]


def tally(summary: list[Row], arm: str) -> str:
    """Count the judgements: "16 comparisons of answers: 15 better, 1 worse; 2 of text: 2 better"."""
    parts = []
    for metric, of in ((ANSWERS, "comparisons of answers"), (TEXT, "of text")):
        counts = Counter(judge(row) for row in judged(summary, metric, arm))
        each = [
            f"{counts[judgement]} {judgement}" for judgement in _JUDGEMENTS if counts[judgement]
        ]
        if each:
            parts.append(f"{counts.total()} {of}: {', '.join(each)}")
    return "; ".join(parts)


def how_judged(summary: list[Row], num_seeds: int) -> list[str]:
    """Explain the intervals, the correction, the margins and the choice of the control."""
    points, nats = 100 * MARGINS["exact_match"], MARGINS["loss_nats"]
    # computed, so that the sentence stays true if the margin changes
    enough = next(n for n in range(1, 10_000) if not few_questions(n))
    return [
        _how_wide(summary, num_seeds),
        f"{comparisons(summary)} comparisons were made at once, so some would be significant by "
        "chance. A difference is better or worse only if it holds after Holm's correction for all.",
        *_how_chosen(summary),
        f"If a whole interval lies within {points:.0f} points of exact match, or {nats} nats per "
        "token, of zero, the judgement is that there is no difference larger than that.",
        f"An arm with fewer than {enough} questions has few questions: even equal answers to all "
        "of them could not show that there is no such difference.",
    ]


def _how_wide(summary: list[Row], num_seeds: int) -> str:
    """Explain the sources of chance that the intervals cover."""
    covered = {row.covers for row in judged(summary, TEXT)}
    if num_seeds == 1:
        rows = " and held-out rows" if "windows" in covered else ""
        return (
            f"The 95 % intervals are over the questions{rows} of one pair of models, so better and "
            "worse are about these models. Another pair differs for more reasons: train several "
            "(--seeds 5) before you trust a difference."
        )
    over = (
        f"Each 95 % interval is the wider of two: over {num_seeds} pairs of models, and over all "
        "their questions."
    )
    if "seeds and windows" in covered:
        over += (
            " For text these are: over the pairs, and over pairs and held-out rows together "
            "(min F', Clark 1973)."
        )
    elif "seeds" in covered:
        over += " For text it is over the pairs alone, and does not cover the held-out rows."
    if num_seeds == 2:
        over += " Two pairs can agree or differ by chance, so some intervals are wide: train five."
    return over


def text_intervals(summary: Sequence[Row], num_seeds: int) -> str:
    """Explain the intervals in the table of losses on text."""
    rows = [row for row in summary if row.metric == "loss_nats_difference"]
    if not any(row.low is not None for row in rows):
        alone = (
            "With one seed, and without the losses of single held-out rows, there are no intervals."
        )
        return alone if num_seeds == 1 else ""
    if num_seeds == 1:
        return "Each value has its 95 % interval over the held-out rows; it does not cover another seed."
    also = " and the held-out rows" if any("windows" in row.covers for row in rows) else " alone"
    return f"Each value has its 95 % interval over {num_seeds} seeds{also}; p-values as above."


def _how_chosen(summary: list[Row]) -> list[str]:
    """Explain the choice of the control, if there was one."""
    arms = list(dict.fromkeys(row.arm for row in summary if " - " not in row.arm))
    controls = controls_of(arms)
    if len(controls) > 1:
        return [
            f"The controls are {listed(controls)}. On each task and split an arm is compared with "
            "the one that has the best mean there. Better means better than every control: the "
            "p-value is the largest of all (intersection-union test, Berger 1982). Worse means "
            f"worse than that one, with {len(controls)} times its p-value (Bonferroni), because it "
            "is chosen after the scores are seen. The interval ends where these two tests do."
        ]
    if len(arms) > 1 and ARMS[controls[0]].role == "encoder":
        return [f"No arm of this run is a control: {controls[0]}, the first one, serves as one."]
    return []
