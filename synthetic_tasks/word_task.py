"""The word task: a question about the letters of one word, put into words, asked on four splits of the words.

reverse.py, count.py, index.py and swap.py are one recipe each; this file is what they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from .errors import TaskError
from .task import Item, Material, Split, Task
from .words import WordSplits

QUESTION_PREFIXES = ("", "Question: ", "Q: ", "Task: ", "Exercise: ")
JOINTS = (" ", "\n", " \n")
ANSWER_PREFIXES = ("", "Answer: ", "A: ", "Solution: ", "Result: ")


@dataclass(frozen=True)
class Question:
    """One question about one word.

    Question("count", "banana", ("a",), "3"): how often does a occur in banana? 3.
    """

    task: str
    word: str
    letters: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Recipe:
    """What makes one word task differ from the others.

    Attributes:
        draw_letters: (word, kind, rng) -> the letters that the question names, in the order of {a} and {b}.
        solve: (word, *letters) -> the right answer.
        kinds: word -> the kinds of question that the word can serve. Kinds are drawn with equal chance and
            then a word for it, which is what balances the answers: for count and index a kind is an answer.
        questions: wordings with {word} and the letters {a}, {b}; the word always follows a space and is
            followed by no letter.
        answers: what stands before the answer.
        compact: the shortest wording.
        deed: as of a Task.
    """

    name: str
    draw_letters: Callable[[str, int, Random], tuple[str, ...]]
    solve: Callable[..., str]
    kinds: Callable[[str], Sequence[int]]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    compact: str
    deed: str = "answers"

    @property
    def num_letters(self) -> int:
        """How many letters a question names: 0 for reverse, 1 for count and index, 2 for swap."""
        return sum(place in self.compact for place in ("{a}", "{b}"))

    def ask(self, word: str, kind: int, rng: Random) -> Question:
        """A question of one of the word's kinds, about letters drawn from `rng`."""
        return self.question(word, self.draw_letters(word, kind, rng))

    def question(self, word: str, letters: tuple[str, ...]) -> Question:
        """The question about these letters.

        Raises TaskError for more or fewer letters than the task names, and for one that the word does not
        have.
        """
        if len(letters) != self.num_letters or not set(letters) <= set(word):
            wanted = {0: "no letter", 1: "one letter", 2: "two letters"}[self.num_letters]
            choice = f"choose from {' '.join(sorted(set(word)))}" if self.num_letters else "name none"
            raise TaskError(
                f"{self.name} asks about {wanted} of {word!r}, not about {''.join(letters)!r}: {choice}."
            )
        return Question(self.name, word, letters, self.solve(word, *letters))


class WordTask(Task):
    """A recipe, the words it is asked about, and how questions and answers are worded.

    WordTask(count.RECIPE, Material(words)).draw("seen", rng)
    -> Item("count a banana:", " 3", "count a banana")
    """

    def __init__(self, recipe: Recipe, material: Material) -> None:
        self.recipe, self.material = recipe, material
        self.name, self.deed = recipe.name, recipe.deed
        self.splits = word_splits(material.words)
        self.telling = "unseen_tokens"
        self._by_kind: dict[str, list[tuple[int, list[str]]]] = {}

    def draw(self, split: str, rng: Random) -> Item:
        """A kind is drawn first, then a word for it, so that each answer of count and index is about equally
        frequent.

        Raises TaskError for material without words, and for an unknown split.
        """
        kind, words = rng.choice(self._words_by_kind(split))
        return self.ask(rng.choice(words), kind, rng)

    def ask(self, word: str, kind: int, rng: Random) -> Item:
        """An item about this word; `kind` is one of `recipe.kinds(word)`."""
        return render(self.recipe.ask(word, kind, rng), self.recipe, self.material, rng)

    def ask_about(self, word: str, letters: Sequence[str], rng: Random) -> Item:
        """An item about letters of one's own choice; `rng` draws the wording. Raises TaskError for letters
        that the word does not have, and for too many or too few.

        count: ask_about("banana", "n", rng) -> Item("count n banana:", " 2", "count n banana")
        """
        return render(self.recipe.question(word, tuple(letters)), self.recipe, self.material, rng)

    def fixed_texts(self) -> list[str]:
        """Every text that can stand around a word, with a stand-in word."""
        stand_in = {"word": "q", "a": "q", "b": "q"}
        if self.material.wording == "compact":
            return [self.recipe.compact.format(**stand_in)]
        asked = [
            p + question.format(**stand_in) for p in QUESTION_PREFIXES for question in self.recipe.questions
        ]
        return asked + [
            j + p + answer for j in JOINTS for p in ANSWER_PREFIXES for answer in self.recipe.answers
        ]

    def _words_by_kind(self, split: str) -> list[tuple[int, list[str]]]:
        if split not in self._by_kind:
            if self.material.words is None:
                raise TaskError(
                    f"the task {self.name!r} asks about words and was given none: build it with "
                    f"Material(words=...)."
                )
            by_kind: defaultdict[int, list[str]] = defaultdict(list)
            for word in self.material.words[split]:
                for kind in self.recipe.kinds(word):
                    by_kind[kind].append(word)
            self._by_kind[split] = sorted(by_kind.items())
        return self._by_kind[split]


def word_splits(words: WordSplits | None) -> tuple[Split, ...]:
    """The splits of every word task, with the lengths of these words."""
    about = {} if words is None else {
        "longer_words": f"{_lengths(words.longer_words)} letters, after training on {_lengths(words.seen)}",
        "unseen_tokens": f"each word holds one of {len(words.held_out)} tokens that no training question had",
    }  # fmt: skip
    return tuple(
        Split(name, label, place, about.get(name, ""))
        for name, label, place in (
            ("seen", "training words", "On the training words themselves"),
            ("unseen_words", "unseen words", "On new words made of familiar tokens"),
            ("unseen_tokens", "unseen tokens", "On words with a token that no question had contained"),
            ("longer_words", "longer words", "On words longer than any trained on"),
        )
    )


def _lengths(words: Sequence[str]) -> str:
    """(strawberry, tea) -> "3 to 10" """
    shortest, longest = min(map(len, words)), max(map(len, words))
    return f"{shortest} to {longest}" if shortest < longest else str(longest)


def write_answer(answer: str, form: str) -> str:
    """ "aet", "spelled" -> " a e t"; "aet", "plain" -> " aet"; numbers alike in both."""
    return " " + (" ".join(answer) if form == "spelled" and answer.isalpha() else answer)


def render(question: Question, recipe: Recipe, material: Material, rng: Random) -> Item:
    """Put a question into words.

    "compact": one fixed short wording. "sentences": prefix, one of the recipe's questions, joint, prefix and
    one of its answer beginnings, each drawn from `rng`.
    """
    letters = dict(zip("ab", question.letters, strict=False))
    answer = write_answer(question.answer, material.form)
    key = " ".join((question.task, *question.letters, question.word))
    if material.wording == "compact":
        return Item(recipe.compact.format(word=question.word, **letters), answer, key)
    asked = rng.choice(QUESTION_PREFIXES) + rng.choice(recipe.questions).format(word=question.word, **letters)
    return Item(
        asked + rng.choice(JOINTS) + rng.choice(ANSWER_PREFIXES) + rng.choice(recipe.answers), answer, key
    )
