"""LangGame: choose one of four words by its letters or its length (6 tasks).

Sims et al., "StochasTok: Improving Fine-Grained Subword Understanding in LLMs", arXiv 2506.01687;
columns, questions and scoring after the repository anyasims/stochastok. It publishes no items: its
program draws them from the 1,000 most frequent words, 1,000 for validation, all six kinds in one
list. This module reads the columns question and options, the right option first, and finds the kind
from the question.

Scoring of the suite langgame: no text is generated. The likelihood of each option, with a space
before it, is computed after the question, which ends in "Answer:". The likeliest option must be the
right one.

The suite langgame_end scores as stochastok does: two blanks before the option, the model's
end-of-text token behind it, and a tie is right.

Both sum over tokens, so that an option of few tokens wins in a model that knows nothing: such a
model is right about the shortest word much more often than one time in four, and about the longest
one hardly ever. Scores list this floor as `fewest_tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import BenchmarkTask, Format, PromptFormat, draw_items, key_of, tasks_of, words_for
from .tables import Tables, need, options, table

# Kind -> phrase of its question, outside the list of options; question of the imitation.
KINDS = {
    "most_of_letter": ("has the most", "Which of these has the most letters '{}'?"),
    "contains": ("contains", "Which of these contains '{}' somewhere?"),
    "starts_with": ("starts with", "Which of these starts with '{}'?"),
    "ends_with": ("ends with", "Which of these ends with '{}'?"),
    "longest": ("longest", "Which of these is longest?"),
    "shortest": ("shortest", "Which of these is shortest?"),
}
_LIST = re.compile(r"\[[^]]*\]")
_NUM_OPTIONS = 4
_Draw = tuple[str, str, Callable[[str], bool]]
_MAX_DRAWS = 100


def kind_of(question: str) -> str | None:
    """Return the kind of a question; None if it has no phrase of a kind, or two."""
    # The options are removed first: one of them may be the word "contains".
    outside = _LIST.sub("", question)
    found = [kind for kind, (phrase, _) in KINDS.items() if phrase in outside]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Rule:
    """The way options are put to a model: as here, or as in stochastok."""

    name: str
    form: PromptFormat
    blanks: str
    right_first: bool


_RULE = _Rule("langgame", PromptFormat(), " ", right_first=False)
_END_RULE = _Rule("langgame_end", PromptFormat(ends_choice=True), "  ", right_first=True)


def _read(rule: _Rule, tables: Tables) -> list[BenchmarkTask]:
    """Read rows with the columns question and options (a JSON list, the right one first)."""
    items = []
    for name, rows in tables.items():
        for number, row in enumerate(need(name, rows, "question", "options"), 1):
            kind, choices = kind_of(row["question"]), options(name, number, row["options"])
            if kind is None:
                problem = f"has none of LangGame's six questions: {row['question']!r}"
                raise TaskError(f"row {number} of {name} {problem}. Leave that row out.")
            items.append(_item(rule, f"{rule.name}/{kind}", row["question"], choices))
    return tasks_of([f"{rule.name}/{kind}" for kind in KINDS], items, rule.form)


def _item(rule: _Rule, task: str, question: str, choices: Sequence[str]) -> Item:
    """Build an item; the first choice is the right one."""
    # In alphabetical order. stochastok puts the right option first, so that a tie counts as right.
    # The version that was found sums likelihoods over tokens without dividing by the option's
    # length; its "normalised" accuracy is corrected for chance.
    written = [rule.blanks + choice.strip() for choice in choices]
    ordered = tuple(written if rule.right_first else sorted(written))
    return Item(question, written[0], key_of(task, question), ordered)


def _draw_rule(kind: str, words: Sequence[str], rng: Random) -> _Draw | None:
    """Draw the argument, the right word and a test for wrong words; None if this draw has none."""
    # The margins are LangGame's: two of a letter or more against one or none; three letters of
    # length.
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
    # Subtle: each kind makes this draw, or its items would change.
    anywhere = rng.randint(0, len(word) - size)
    if kind == "starts_with":
        return word[:size], word, lambda other: not other.startswith(word[:size])
    if kind == "ends_with":
        return word[-size:], word, lambda other: not other.endswith(word[-size:])
    part = word[anywhere : anywhere + size]
    return part, word, lambda other: part not in other


def _draw_item(rule: _Rule, words: Sequence[str], name: str, rng: Random) -> Item:
    kind = name.partition("/")[2]
    question = KINDS[kind][1]
    for _ in range(_MAX_DRAWS):
        if (drawn := _draw_rule(kind, words, rng)) is None:
            continue
        argument, right, is_wrong = drawn
        wrong = [word for word in words if is_wrong(word)]
        if len(wrong) >= _NUM_OPTIONS - 1:
            choices = [right, *rng.sample(wrong, _NUM_OPTIONS - 1)]
            shown = ", ".join(rng.sample(choices, _NUM_OPTIONS))
            text = f"{question.format(argument)} The words: [{shown}]. Answer:"
            return _item(rule, name, text, choices)
    raise TaskError(f"langgame finds no four words for {question.format('…')!r}. Pass more words.")


def _generate(rule: _Rule, words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    draw = partial(_draw_item, rule, words_for(rule.name, words, 1))
    names = [f"{rule.name}-like/{kind}" for kind in KINDS]
    return tasks_of(names, draw_items(names, n, seed, draw), rule.form)


_SOURCE = "arXiv 2506.01687, github.com/anyasims/stochastok (its program draws the items)"
_FILES = dict.fromkeys(("*.jsonl", "*.csv", "*.tsv"), table)
FORMAT, END_FORMAT = (
    Format(rule.name, _SOURCE, _FILES, partial(_read, rule), partial(_generate, rule))
    for rule in (_RULE, _END_RULE)
)
