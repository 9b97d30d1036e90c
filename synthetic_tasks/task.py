"""What a task is: a name, a way to draw a question about a word, and the right answer.

Each task has a file of its own beside this one with its `ask`, its `solve` and its wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Question:
    """One question about one word. Question("count", "banana", ("a",), "3"): how often does a occur in banana? 3."""

    task: str
    word: str
    letters: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Task:
    """A kind of question.

    Attributes:
        ask: (word, kind, rng) -> Question; draws the letters that the question names.
        kinds: word -> the kinds of question that the word can serve. Kinds are drawn with equal chance and then a word
            for it, which is what balances the answers: for count and index a kind is an answer.
        questions: wordings with {word} and the letters {a}, {b}; the word always follows a space and is followed by no letter.
        answers: what stands before the answer.
        compact: the shortest wording.
    """

    name: str
    ask: Callable[[str, int, Random], Question]
    kinds: Callable[[str], Sequence[int]]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    compact: str
