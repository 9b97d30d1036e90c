"""LangGame: which of four words has most of a letter, holds, begins or ends with letters, is longest or
shortest.

Sims et al., "StochasTok: Improving Fine-Grained Subword Understanding in LLMs", arXiv 2506.01687; the
columns, the question forms and the marking as in the repository anyasims/stochastok, read there. It publishes
no items: its program draws them from the 1,000 most frequent words, 1,000 of them for validation, all six
kinds in one list. Of its files the rows question and options are read, the right option first; the kind is
told from the question.

Asked and marked: no text is generated. The options, each with the space before it, are scored by likelihood
after the question, which ends in "Answer:", and the best one must be the right one. In the version of the
program that was found, likelihoods are summed over tokens and not divided by the option's length; its
"normalised" accuracy is accuracy corrected for chance. The right option always comes first there, so that a
tie counts as right; here the options are in alphabetical order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import File, Format, Tables, draw_task, key_of, lower_case_words
from .tables import need, options, table

KINDS = {  # what a question says outside of its list of options
    "most_of_letter": "has the most",
    "contains": "contains",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "longest": "longest",
    "shortest": "shortest",
}
LIST = re.compile(r"\[[^]]*\]")
HOLDS: dict[str, Callable[[str, str], bool]] = {
    "contains": str.__contains__,
    "starts_with": lambda word, part: word.startswith(part),
    "ends_with": lambda word, part: word.endswith(part),
}
NUM_OPTIONS = 4


def kind_of(question: str) -> str | None:
    """Which of the six kinds a question is; None where it says none of them, or two."""
    said = LIST.sub("", question)
    found = [kind for kind, phrase in KINDS.items() if phrase in said]
    return found[0] if len(found) == 1 else None


def read(tables: Tables) -> list[BenchmarkTask]:
    """Rows with the columns question and options (a JSON list, the right one first), in one file or more."""
    by_kind: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for name, rows in tables.items():
        for number, row in enumerate(need(name, rows, "question", "options"), 1):
            kind, choices = kind_of(row["question"]), options(name, number, row["options"])
            if kind is None:
                raise TaskError(
                    f"row {number} of {name} asks none of LangGame's six questions: {row['question']!r}. "
                    "Leave that row out."
                )
            by_kind[kind].append(_item(f"langgame/{kind}", row["question"], choices))
    return [_task(f"langgame/{kind}", items) for kind, items in by_kind.items() if items]


def _item(task: str, question: str, choices: Sequence[str]) -> Item:
    """An item of options of which the first is right."""
    ordered = tuple(sorted(" " + choice.strip() for choice in choices))
    return Item(question, " " + choices[0].strip(), key_of(task, question), ordered)


def _task(name: str, items: Sequence[Item]) -> BenchmarkTask:
    return BenchmarkTask(name, tuple(items))


# The same tasks from words of one's own

QUESTIONS = {
    "most_of_letter": "Which of these has the most letters '{}'?",
    "contains": "Which of these contains '{}' somewhere?",
    "starts_with": "Which of these starts with '{}'?",
    "ends_with": "Which of these ends with '{}'?",
    "longest": "Which of these is longest?",
    "shortest": "Which of these is shortest?",
}


def draw_rule(
    kind: str, words: Sequence[str], rng: Random
) -> tuple[str, str, Callable[[str], bool]] | None:
    """What the question names, the right word, and which words are wrong; None where this draw gives nothing.

    The gap is as wide as LangGame's: two of a letter or more against one or none; three letters of length.
    """
    word = rng.choice(words)
    if kind == "longest":
        return "", word, lambda other: len(other) <= len(word) - 3
    if kind == "shortest":
        return "", word, lambda other: len(other) >= len(word) + 3
    if kind == "most_of_letter":
        twice = sorted(letter for letter in set(word) if word.count(letter) > 1)
        letter = rng.choice(twice or [""])
        return (letter, word, lambda other: other.count(letter) < 2) if twice else None
    size = rng.randint(1, min(3, len(word)))
    first = {"starts_with": 0, "ends_with": len(word) - size}.get(
        kind, rng.randint(0, len(word) - size)
    )
    part, holds = word[first : first + size], HOLDS[kind]
    return part, word, lambda other: not holds(other, part)


def draw_item(kind: str, words: Sequence[str], rng: Random) -> Item:
    """A question of this kind about four words. Raises TaskError after a hundred vain draws."""
    for _ in range(100):
        if (rule := draw_rule(kind, words, rng)) is None:
            continue
        named, right, is_wrong = rule
        wrong = [word for word in words if is_wrong(word)]
        if len(wrong) >= NUM_OPTIONS - 1:
            choices = [right, *rng.sample(wrong, NUM_OPTIONS - 1)]
            shown = ", ".join(rng.sample(choices, NUM_OPTIONS))
            question = f"{QUESTIONS[kind].format(named)} The words: [{shown}]. Answer:"
            return _item(f"langgame-like/{kind}", question, choices)
    raise TaskError(
        f"langgame finds no four words for {QUESTIONS[kind].format('…')!r}: pass more words."
    )


def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    """Six tasks of four options each, about these words, which must not all be of about the same length."""
    usable = lower_case_words("langgame", words, 1)
    return [
        draw_task(f"langgame-like/{kind}", n, seed, partial(draw_item, kind, usable), Asking())
        for kind in KINDS
    ]


FORMAT = Format(
    "langgame",
    "arXiv 2506.01687, github.com/anyasims/stochastok (its program draws the items)",
    (File("*.jsonl", table), File("*.csv", table), File("*.tsv", table)),
    read,
    generate,
)
