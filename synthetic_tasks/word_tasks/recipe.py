"""The definition of one word task: which questions it has, their answers and their scratchpads."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from synthetic_tasks.errors import TaskError
from synthetic_tasks.samples import SAMPLE_WORDS

from .letters import place_of_letter

# Kind of argument -> (one of them, two of them, a stand-in value), for messages and fixed texts.
ARGUMENTS = {
    "letter": ("one letter", "two letters", "q"),  # a letter of the word
    "any letter": ("one letter", "two letters", "q"),
    "place": ("one place", "two places", "0"),  # index of a letter of the word
    "gap": ("one place", "two places", "0"),  # index for a new letter: one more than the places
    "word": ("one other word", "two other words", "q"),
}
# (word, stratum, rng, words to draw other words from) -> the arguments
Draw = Callable[[str, int, Random, Sequence[str]], tuple[str, ...]]


class WordQuestion(NamedTuple):
    """A question about one word: WordQuestion("count", "banana", ("a",), "3")."""

    task: str
    word: str
    arguments: tuple[str, ...]
    answer: str


class Wordings(NamedTuple):
    """The texts of one task, its table in wordings.toml.

    Attributes:
        description, difficulty, verb_phrase: see `Task`.
        compact: the shortest question, "count {a} {word}:".
        questions: full sentences with {word} and the arguments {a} and {b}.
        answers: beginnings of the answer, "The count is".
        trained, held_out: the questions that the wording "varied" trains on, and the tenth that it
            only evaluates with.
    """

    description: str
    difficulty: str
    verb_phrase: str
    compact: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(one for one in self.questions if one not in self.held_out)

    @property
    def held_out(self) -> tuple[str, ...]:
        return _held_out(self.questions)


@cache
def _held_out(questions: tuple[str, ...]) -> tuple[str, ...]:
    # By checksum: a sentence that is added or moved changes as little as possible.
    by_checksum = sorted(questions, key=lambda question: crc32(question.encode()))
    return tuple(by_checksum[: round(len(questions) / 10)])


@cache  # each draw needs the wordings
def _all_wordings() -> dict[str, Wordings]:
    # Found beside this file: a checkout needs no installation, and the wheel ships charembed alone.
    tables = tomllib.loads(Path(__file__).with_name("wordings.toml").read_text("utf-8"))
    for table in tables.values():
        table |= {name: tuple(table[name]) for name in ("questions", "answers")}
    return {task: Wordings(**table) for task, table in tables.items()}


def choices(kind: str, word: str) -> list[str]:
    """List the possible arguments of a kind: "place", "tea" -> ["0", "1", "2"]; [] for any."""
    if kind == "letter":
        return sorted(set(word))
    if kind in ("place", "gap"):
        return [str(place) for place in range(len(word) + (kind == "gap"))]
    return []


def _fits(kind: str, argument: str, word: str) -> bool:
    if possible := choices(kind, word):
        return argument in possible
    # Letters and digits only: a scratchpad could not be read back if an argument were " " or "=".
    return argument.isalnum() and (kind == "word" or len(argument) == 1)


@dataclass(frozen=True)
class Recipe:
    """The definition of one word task; `WordTask` adds the words and the wording.

    All functions take the word, then the arguments, as text: solve("banana", "2") -> "n".

    Attributes:
        name: the task, and its table in wordings.toml.
        arguments: kinds of the question's arguments, keys of ARGUMENTS, in the order of {a}, {b}.
        draw: draws the arguments.
        solve: returns the right answer.
        refuse: returns the reason if a question has no answer, "both have 6 letters", else "".
        strata: word -> the strata that the word belongs to. A stratum is drawn uniformly, then a
            word in it. This balances the answers: in count and index a stratum is an answer.
        paired: strata 2k and 2k + 1 have opposite answers; one without the other is not drawn.
        spaced_answer: the answer is a string of letters, written with spaces in all forms but
            "plain".
        spaced_word: the question shows the word with spaces between its letters.
        fixed_answers: answers that any word can have, "yes"; their tokens are never held out.
        options: the words to choose from, in the order of the question.
        place: returns the index of the letter in question; None if there is no single one.
        scratchpad: the text before the result in the form "worked"; None if there is none.
        numbered_scratchpad: the same in the form "counted"; None if the task counts nothing.
    """

    name: str
    _: KW_ONLY
    arguments: tuple[str, ...] = ()
    draw: Draw = lambda word, stratum, rng, words: ()
    solve: Callable[..., str]
    refuse: Callable[..., str] = lambda word, *arguments: ""
    strata: Callable[[str], Sequence[int]] = lambda word: (0,)
    paired: bool = False
    spaced_answer: bool = False
    spaced_word: bool = False
    fixed_answers: tuple[str, ...] = ()
    options: Callable[..., tuple[str, ...]] = lambda word, *arguments: ()
    place: Callable[..., int | None] = place_of_letter
    scratchpad: Callable[..., str] | None = None
    numbered_scratchpad: Callable[..., str] | None = None

    @property
    def wordings(self) -> Wordings:
        return _all_wordings()[self.name]

    def ask(
        self, word: str, stratum: int, rng: Random, words: Sequence[str] = SAMPLE_WORDS
    ) -> WordQuestion | None:
        """Draw the arguments of a question about the word; None if that question has no answer."""
        arguments = self.draw(word, stratum, rng, words)
        # Before solve, which may not be defined for such arguments.
        if self.refuse(word, *arguments):
            return None
        return WordQuestion(self.name, word, arguments, self.solve(word, *arguments))

    def question(self, word: str, arguments: tuple[str, ...]) -> WordQuestion:
        """Return the question with these arguments.

        Raises TaskError if their number or their kind is wrong, or if the question has no answer.
        """
        pairs = list(zip(self.arguments, arguments, strict=False))
        all_fit = all(_fits(kind, argument, word) for kind, argument in pairs)
        if len(arguments) != len(self.arguments) or not all_fit:
            given, offer = " ".join(arguments), self._offer(word)
            expected = f"{self._expected()} for {word!r}, not {given!r}"
            raise TaskError(f"{self.name} takes {expected}: {offer}.")
        if reason := self.refuse(word, *arguments):
            about = f"no such question about {word!r}"
            raise TaskError(f"{self.name} has {about}: {reason}. Name others.")
        return WordQuestion(self.name, word, arguments, self.solve(word, *arguments))

    def scratchpad_of(self, question: WordQuestion, form: str) -> str:
        """Return the text before the result in an answer form: " b a n ="; "" if there is none."""
        numbered = self.numbered_scratchpad or self.scratchpad
        write = {"worked": self.scratchpad, "counted": numbered}.get(form)
        return f" {write(question.word, *question.arguments)} =" if write else ""

    def _expected(self) -> str:
        """Describe the arguments: "two letters", "one letter and one place", "no letter"."""
        kinds = self.arguments
        # "letter" and "any letter" end alike and count as one kind here.
        if len(kinds) == 2 and kinds[0].split()[-1] == kinds[1].split()[-1]:
            return ARGUMENTS[kinds[0]][1]
        return " and ".join(ARGUMENTS[kind][0] for kind in kinds) or "no letter"

    def _offer(self, word: str) -> str:
        """Describe the possible arguments: "choose from 0 to 5", "name any letter"."""
        offers = []
        for kind in dict.fromkeys(self.arguments):
            possible = choices(kind, word)
            if not possible:
                offers.append(f"name any {kind.split()[-1]}")
            elif kind in ("place", "gap"):
                offers.append(f"choose from {possible[0]} to {possible[-1]}")
            else:
                offers.append(f"choose from {' '.join(possible)}")
        return " and ".join(offers) or "name none"
