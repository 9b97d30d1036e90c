"""The questions of the map, each answered by a sentence that is made from its table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from training.ask.added_tokens import MEAN, SPELLED
from training.models.arms import AGAIN, ARMS
from training.report.formats import listed, span
from training.report.results import STEPS_TO_LOSS

from .map_rows import COMPARED, HELPS, HURTS, NOT_SHOWN, Judged, Vocabulary, mean_values

ENCODER, RIVAL, UNORDERED = COMPARED, "spelling_data", "bag"
STRONGEST = "strongest control"
LABELS = {MEAN: "added tokens, mean of pieces", SPELLED: "added tokens, from spelling"}
_GOAL = 1 / 3  # of the control's steps


class Answer(NamedTuple):
    """A question of the map and its answer, from the table alone: a sentence, and parts of it."""

    question: str
    sentence: str
    parts: Sequence[str] = ()

    def __str__(self) -> str:
        parts = "; ".join(self.parts)
        return f"{self.question} {self.sentence} {parts}".strip() + ("." if parts else "")


Said = tuple[str, Sequence[str]]  # the sentence and the parts of an answer
_PHRASES = {HELPS: "helps", HURTS: "hurts", NOT_SHOWN: "is not shown to help or to hurt"}


def answers(vocabularies: Sequence[Vocabulary], found: Sequence[Judged]) -> list[Answer]:
    """Answer each question that the finished cells can answer, and say so for the others."""
    asked: dict[str, Said] = {
        "Is there no difference if every token was seen in training?": _null(found, vocabularies),
        "From which vocabulary on, and on which splits, does the encoder help over the strongest "
        "control?": _where(found, vocabularies),
        "Is it the letters, their order, or the parameters?": _why(found),
        "How many steps does the encoder save?": _steps(vocabularies),
        "Does spelling data reach the same, and at what cost?": _rival(found, vocabularies),
        "Is there a gain on text, and for which tokens?": _text(found, vocabularies),
        "What does an A/A cell show?": _same(found),
    }
    return [Answer(question, *said) for question, said in asked.items()]


def split_labels(one: Vocabulary) -> dict[str, str]:
    """The names of the splits on the page, in their order."""
    named = {split.name: split.label for task in one.data.tasks for split in task.splits}
    return named | LABELS


def tokens(size: int) -> str:
    return f"{size:,} tokens"


def by_verdict(found: Iterable[Judged]) -> str:
    """helps at reverse (+81 points [+79 to +86] over shuffled); is not shown to help ... at ..."""
    groups: dict[str, list[str]] = {}
    for one in found:
        named = f"{one.row.task} ({span(one.row)} over {one.control})"
        groups.setdefault(one.verdict, []).append(named)
    order = sorted(groups, key=lambda word: (word != HELPS, word != HURTS, word == NOT_SHOWN, word))
    return "; ".join(f"{phrase(verdict)} at {listed(groups[verdict])}" for verdict in order)


def phrase(verdict: str) -> str:
    """A verdict as the verb of a sentence: "makes no difference larger than 0.05"."""
    return _PHRASES.get(verdict) or f"makes {verdict}"


def _of(
    found: Iterable[Judged], arm: str = ENCODER, *, kind: str = STRONGEST, size: int | None = None,
    split: str | None = None, control: str | None = None, text: bool = False,
) -> list[Judged]:  # fmt: skip
    return [
        one
        for one in found
        if (one.arm, one.kind) == (arm, kind)
        and size in (None, one.vocabulary)
        and split in (None, one.row.split)
        and control in (None, one.control)
        and ("nats" in one.row.metric) == text
    ]


def _null(found: Sequence[Judged], vocabularies: Sequence[Vocabulary]) -> Said:
    parts = []
    for one in vocabularies:
        first = one.data.tasks[0].splits[0].name if one.data.tasks else ""
        if rows := _of(found, size=one.size, split=first):
            parts.append(f"with {tokens(one.size)} it {by_verdict(rows)}")
    return _joined(parts, f"On the training words, {ENCODER} against the strongest control:")


def _where(found: Sequence[Judged], vocabularies: Sequence[Vocabulary]) -> Said:
    parts = []
    for one in vocabularies:
        labels, held = split_labels(one), list[str]()
        for split, label in labels.items():
            for verdict in (HELPS, HURTS):
                rows = [
                    each
                    for each in _of(found, size=one.size, split=split)
                    if each.verdict == verdict
                ]
                if rows:
                    held.append(
                        f"{verdict} on {label} at {listed([each.row.task for each in rows])}"
                    )
        if _of(found, size=one.size):
            parts.append(
                f"with {tokens(one.size)} it {'; it '.join(held) or 'is not shown to help or to hurt'}"
            )
    return _joined(
        parts, f"The arm {ENCODER} against the strongest control of each task and split:"
    )


def _why(found: Sequence[Judged]) -> Said:
    cells = _of(found)
    helped = [one for one in cells if one.verdict == HELPS]
    if not cells:
        return "No finished cell answers this.", ()
    sentences = []
    if helped:
        sentences.append(
            f"In {len(helped)} of {len(cells)} cells of answers {ENCODER} is better than each of "
            "the controls. One of them has as many parameters and no characters (matched), one has "
            "the same encoder with the characters of other tokens (shuffled): there, neither "
            "parameters nor false letters give the gain."
        )
    else:
        sentences.append(f"In none of {len(cells)} cells is {ENCODER} shown to help.")
    order = [one for one in found if one.control == UNORDERED and one.arm == ENCODER]
    order = [one for one in order if "nats" not in one.row.metric]
    if order:
        groups = [one for one in order if one.verdict == HELPS]
        sentences.append(
            f"Over the letters without their order ({UNORDERED}), the order helps in {len(groups)} "
            f"of {len(order)} cells" + (f": {listed(_places(groups))}." if groups else ".")
        )
    else:
        sentences.append(f"Their order is not measured: no finished arm is {UNORDERED}.")
    return " ".join(sentences), ()


def _places(found: Iterable[Judged]) -> list[str]:
    return [
        f"{one.row.task} on {one.row.split.replace('_', ' ')} with {tokens(one.vocabulary)}"
        for one in found
    ]


class Steps(NamedTuple):
    """Steps of an arm to the final loss of `plain`: median over the seeds that reach it."""

    vocabulary: int
    arm: str
    phase: str
    median: float
    steps: int
    reached: int
    seeds: int

    @property
    def share(self) -> float:
        return self.median / self.steps


def steps_to_loss(vocabularies: Iterable[Vocabulary]) -> list[Steps]:
    """The steps to the control's final training loss, by vocabulary, phase and arm."""
    found = []
    for one in vocabularies:
        for phase in one.data.config.phases:
            for arm in one.arms:
                if ARMS[arm].role == "rival":
                    continue  # its rows, or its loss, are others: the losses do not compare
                values = [
                    row.value
                    for row in one.rows
                    if (row.arm, row.task, row.metric) == (arm, phase.name, STEPS_TO_LOSS)
                ]
                if values:
                    seeds = len(one.seeds(arm, "plain"))
                    number = (statistics.median(values), phase.steps, len(values), seeds)
                    found.append(Steps(one.size, arm, phase.title, *number))
    return found


def _steps(vocabularies: Sequence[Vocabulary]) -> Said:
    parts = []
    for one in steps_to_loss(vocabularies):
        if one.arm == ENCODER:
            some = (
                ""
                if one.reached == one.seeds
                else f", reached by {one.reached} of {one.seeds} seeds"
            )
            goal = "at most a third" if one.share <= _GOAL else "more than a third"
            parts.append(
                f"{one.phase} with {tokens(one.vocabulary)}: {one.median:,.0f} of {one.steps:,} "
                f"({goal}{some})"
            )
    return _joined(parts, f"Steps of {ENCODER} to the final training loss of plain:")


def _rival(found: Sequence[Judged], vocabularies: Sequence[Vocabulary]) -> Said:
    parts = []
    for one in vocabularies:
        for split in ("unseen_tokens", SPELLED):
            given = {"kind": "one arm", "control": RIVAL, "size": one.size, "split": split}
            if rows := _of(found, **given):  # type: ignore[arg-type]
                label = split_labels(one).get(split, split)
                parts.append(f"with {tokens(one.size)}, on {label}, it {by_verdict(rows)}")
        seconds = mean_values(one, "training_seconds", {"task": "all"})
        ours, theirs = (seconds.get((arm, "all", "all")) for arm in (ENCODER, RIVAL))
        if ours and theirs:
            parts.append(
                f"with {tokens(one.size)}, the training of {RIVAL} takes {theirs / ours:.2f} of the "
                f"seconds of {ENCODER}"
            )
    return _joined(parts, f"The arm {ENCODER} against {RIVAL}:")


def _text(found: Sequence[Judged], vocabularies: Sequence[Vocabulary]) -> Said:
    parts = []
    for one in vocabularies:
        rows = _of(found, size=one.size, text=True)
        for each in rows:
            parts.append(
                f"with {tokens(one.size)}, {each.row.task}, it {phrase(each.verdict)} "
                f"({span(each.row)} from {each.control})"
            )
        for task, low, difference in frequency_gains(one):
            if low == 0 and task.endswith("pretraining"):
                parts.append(
                    f"with {tokens(one.size)}, for tokens that occur fewer than 10 times in "
                    f"training, {difference:+.3f} nats from plain after pretraining (no interval)"
                )
    return _joined(parts, f"The arm {ENCODER} against the strongest control; below zero is better:")


def frequency_gains(one: Vocabulary, arm: str = ENCODER) -> list[tuple[str, int, float]]:
    """(task, least count in training, nats of the arm minus those of plain) of each bin of tokens.

    Means over the seeds of both arms, in nats per token; bins without a token are left out.
    """
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for (name, seed), own in one.texts.items():
        if name in (arm, "plain") and seed in one.seeds(arm, "plain"):
            for task, losses in own.items():
                for low, _, nats, number in losses.bins:
                    if number:
                        by_arm = found.setdefault((task, low), {})
                        by_arm.setdefault(name, []).append(nats / number)
    return [
        (task, low, statistics.fmean(by_arm[arm]) - statistics.fmean(by_arm["plain"]))
        for (task, low), by_arm in found.items()
        if len(by_arm) == 2
    ]


def _same(found: Sequence[Judged]) -> Said:
    rows = [one for one in found if one.arm == AGAIN]
    if not rows:
        return "No A/A cell is finished.", ()
    held = [one for one in rows if one.verdict in (HELPS, HURTS)]
    alike = [one for one in rows if one.verdict.startswith("no difference")]
    first = (
        f"None of {len(rows)} differences between two arms that differ by nothing is judged one."
        if not held
        else f"{len(held)} of {len(rows)} differences between two arms that differ by nothing are "
        f"judged differences ({listed(_places(held))}): take the other verdicts with this in mind."
    )
    return f"{first} For {len(alike)}, a difference larger than the margin is ruled out.", ()


def _joined(parts: Sequence[str], before: str) -> Said:
    return (before, parts) if parts else ("No finished cell answers this.", ())
