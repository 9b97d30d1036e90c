"""LangGame: choose one of four words by its letters or its length (6 tasks).

Sims et al., "StochasTok: Improving Fine-Grained Subword Understanding in LLMs", arXiv 2506.01687;
columns, questions and scoring after the repository anyasims/stochastok. It publishes no items: its
program draws them from the 1,000 most frequent words, 1,000 for validation, all six kinds in one
list. This module reads the columns question and options, the right option first, and finds the kind
from the question.

Scoring: no text is generated. The likelihood of each option, with a space before it, is computed
after the question, which ends in "Answer:". The likeliest option must be the right one. The marking
"stochastok" is that of its program: two blanks before the option, the model's end-of-text token
behind it, and a tie is right.

Both sum over tokens, so that an option of few tokens wins in a model that knows nothing: such a
model is right about the shortest word much more often than one time in four, and about the longest
one hardly ever. Scores list this floor as `fewest_tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
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
_Rule = tuple[str, str, Callable[[str], bool]]
_MAX_DRAWS = 100


def kind_of(question: str) -> str | None:
    """Return the kind of a question; None if it has no phrase of a kind, or two."""
    # The options are removed first: one of them may be the word "contains".
    outside = _LIST.sub("", question)
    found = [kind for kind, (phrase, _) in KINDS.items() if phrase in outside]
    return found[0] if len(found) == 1 else None


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read rows with the columns question and options (a JSON list, the right one first)."""
    items = []
    for name, rows in tables.items():
        for number, row in enumerate(need(name, rows, "question", "options"), 1):
            kind, choices = kind_of(row["question"]), options(name, number, row["options"])
            if kind is None:
                problem = f"has none of LangGame's six questions: {row['question']!r}"
                raise TaskError(f"row {number} of {name} {problem}. Leave that row out.")
            items.append(_item(f"langgame/{kind}", row["question"], choices))
    return tasks_of([f"langgame/{kind}" for kind in KINDS], items, PromptFormat())


def _item(task: str, question: str, choices: Sequence[str]) -> Item:
    """Build an item; the first choice is the right one."""
    # In alphabetical order. stochastok puts the right option first, so that a tie counts as right.
    # The version that was found sums likelihoods over tokens without dividing by the option's
    # length; its "normalised" accuracy is corrected for chance.
    ordered = tuple(sorted(" " + choice.strip() for choice in choices))
    return Item(question, " " + choices[0].strip(), key_of(task, question), ordered)


def as_in_stochastok(task: BenchmarkTask) -> BenchmarkTask:
    """Return a task with the marking of stochastok's program."""
    name, items = task.name.replace("/", "@stochastok/", 1), []
    for item in task.items:
        wrong = [choice for choice in item.choices if choice != item.answer]
        # The program joins question, blank and option, which begins with a blank. The right option
        # comes first, and the first of equal likelihoods is taken.
        choices = tuple(f" {choice}" for choice in (item.answer, *wrong))
        key = item.key.replace("/", "@stochastok/", 1)
        items.append(item._replace(answer=choices[0], choices=choices, key=key))
    form = replace(task.prompt_format, ends_choice=True)
    return replace(task, name=name, items=tuple(items), prompt_format=form)


def _draw_rule(kind: str, words: Sequence[str], rng: Random) -> _Rule | None:
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


def _draw_item(words: Sequence[str], name: str, rng: Random) -> Item:
    kind = name.partition("/")[2]
    question = KINDS[kind][1]
    for _ in range(_MAX_DRAWS):
        if (rule := _draw_rule(kind, words, rng)) is None:
            continue
        argument, right, is_wrong = rule
        wrong = [word for word in words if is_wrong(word)]
        if len(wrong) >= _NUM_OPTIONS - 1:
            choices = [right, *rng.sample(wrong, _NUM_OPTIONS - 1)]
            shown = ", ".join(rng.sample(choices, _NUM_OPTIONS))
            text = f"{question.format(argument)} The words: [{shown}]. Answer:"
            return _item(name, text, choices)
    raise TaskError(f"langgame finds no four words for {question.format('…')!r}. Pass more words.")


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    draw = partial(_draw_item, words_for("langgame", words, 1))
    names = [f"langgame-like/{kind}" for kind in KINDS]
    return tasks_of(names, draw_items(names, n, seed, draw), PromptFormat())


_SOURCE = "arXiv 2506.01687, github.com/anyasims/stochastok (its program draws the items)"
_FILES = dict.fromkeys(("*.jsonl", "*.csv", "*.tsv"), table)
_MARKINGS = {"stochastok": as_in_stochastok}
FORMAT = Format("langgame", _SOURCE, _FILES, _read, _generate, markings=_MARKINGS)
