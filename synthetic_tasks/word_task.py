"""The word task: a question about the letters of one word, put into words, asked on four splits of the words.

reverse.py, count.py and their siblings are one recipe each; this file is what they share.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from .errors import NoQuestion, TaskError
from .letters import apart
from .samples import SAMPLE_WORDS
from .task import Item, Material, Split, Task
from .words import WordSplits

QUESTION_PREFIXES = ("", "Question: ", "Q: ", "Task: ", "Exercise: ")
JOINTS = (" ", "\n", " \n")
ANSWER_PREFIXES = ("", "Answer: ", "A: ", "Solution: ", "Result: ")
NUMBERS = " ".join(map(str, range(20)))  # that questions and answers name; longer words are rare
TRIES = 1000  # draws of a question before a split is given up

# What a question can name besides its word -> (one of them, several of them, a stand-in for one)
NAMED = {
    "letter": ("one letter", "two letters", "q"),  # of the word
    "any letter": ("one letter", "two letters", "q"),
    "place": ("one place", "two places", "0"),  # of a letter of the word, from 0
    "gap": (
        "one place",
        "two places",
        "0",
    ),  # where a letter can be put: a place, or behind the last one
    "word": ("one other word", "two other words", "q"),
}
Draw = Callable[[str, int, Random, Sequence[str]], tuple[str, ...]]


class Question(NamedTuple):
    """One question about one word.

    Question("count", "banana", ("a",), "3"): how often does a occur in banana? 3.
    """

    task: str
    word: str
    named: tuple[str, ...]
    answer: str


def choices(named: str, word: str) -> list[str]:
    """What a question about a word can name: "place", "tea" -> ["0", "1", "2"]; nothing where any will do."""
    if named == "letter":
        return sorted(set(word))
    if named in ("place", "gap"):
        return [str(place) for place in range(len(word) + (named == "gap"))]
    return []


def may_name(named: str, thing: str, word: str) -> bool:
    """Whether a question about this word can name this thing. "place", "3", "tea" -> False"""
    if possible := choices(named, word):
        return thing in possible
    return thing.isalnum() and (named == "word" or len(thing) == 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes one word task differ from the others.

    Functions take the word and then what the question names, all of it text: solve("banana", "2") -> "n".

    Attributes:
        about, axes, deed: as of a Task.
        names: what the question names besides the word, in the order of {a} and {b}: keys of NAMED.
        draw: (word, kind, rng, words) -> what it names; other words are drawn from `words`.
        solve: the right answer.
        refuse: why this cannot be asked, "both have 6 letters"; "" where it can.
        kinds: word -> the kinds of question that the word can serve. Kinds are drawn with equal chance and
            then a word for it, which is what balances the answers: for count and index a kind is an answer.
        paired: kinds 2k and 2k + 1 have opposite answers: one that comes without the other is not asked.
        apart: the answer is a string of letters, written apart where the form asks for it.
        asked_apart: the word stands apart in the question.
        constants: answers that can follow any word: their tokens are never held out.
        options: the words that a question leaves to choose from, in the order in which it names them.
        work, counted: what is written before the result in the forms "worked" and "counted"; None for a task
            that has nothing to show, or nothing to count.
        questions: wordings with {word} and {a}, {b}; the word always follows a space and is followed by no
            letter.
        answers: what stands before the answer.
        compact: the shortest wording.
    """

    name: str
    about: str
    axes: str
    deed: str
    names: tuple[str, ...] = ()
    draw: Draw = lambda word, kind, rng, words: ()
    solve: Callable[..., str]
    refuse: Callable[..., str] = lambda word, *named: ""
    kinds: Callable[[str], Sequence[int]] = lambda word: (0,)
    paired: bool = False
    apart: bool = False
    asked_apart: bool = False
    constants: tuple[str, ...] = ()
    options: Callable[..., tuple[str, ...]] = lambda word, *named: ()
    work: Callable[..., str] | None = None
    counted: Callable[..., str] | None = None
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    compact: str

    def ask(
        self, word: str, kind: int, rng: Random, words: Sequence[str] = SAMPLE_WORDS
    ) -> Question | None:
        """A question of one of the word's kinds, what it names drawn from `rng`; None where that one cannot
        be asked."""
        named = self.draw(word, kind, rng, words)
        if self.refuse(word, *named):
            return None
        return Question(self.name, word, named, self.solve(word, *named))

    def question(self, word: str, named: tuple[str, ...]) -> Question:
        """The question that names these letters, places or words.

        Raises TaskError for more or fewer than the task names, for a letter that the word does not have, and
        for what has no answer.
        """
        fitting = len(named) == len(self.names) and all(
            may_name(kind, thing, word) for kind, thing in zip(self.names, named, strict=True)
        )
        if not fitting:
            raise TaskError(
                f"{self.name} asks about {self._wanted()} of {word!r}, not about {' '.join(named)!r}: "
                f"{self._offer(word)}."
            )
        if reason := self.refuse(word, *named):
            raise TaskError(f"{self.name} cannot ask that of {word!r}: {reason}.")
        return Question(self.name, word, named, self.solve(word, *named))

    def work_of(self, question: Question, form: str) -> str:
        """What the form writes before the result: " b a n =", or nothing."""
        if form not in ("worked", "counted"):
            return ""
        write = self.counted if form == "counted" and self.counted else self.work
        return f" {write(question.word, *question.named)} =" if write else ""

    def _wanted(self) -> str:
        """("letter", "letter") -> "two letters"; ("any letter", "gap") -> "one letter and one place" """
        if len(self.names) == 2 and self.names[0].split()[-1] == self.names[1].split()[-1]:
            return NAMED[self.names[0]][1]
        return " and ".join(NAMED[name][0] for name in self.names) or "no letter"

    def _offer(self, word: str) -> str:
        """What can be named, for each thing there is to name."""
        offers = []
        for name in dict.fromkeys(self.names):
            possible = choices(name, word)
            span = (
                f"{possible[0]} to {possible[-1]}" if name in ("place", "gap") and possible else ""
            )
            offers.append(
                f"choose from {span or ' '.join(possible)}"
                if possible
                else f"name any {name.split()[-1]}"
            )
        return " and ".join(offers) or "name none"


class WordTask(Task):
    """A recipe, the words it is asked about, and how questions and answers are worded.

    WordTask(count.RECIPE, Material(words)).draw("seen", rng)
    -> Item("count a banana:", " 3", "count a banana")
    """

    def __init__(self, recipe: Recipe, material: Material) -> None:
        self.recipe, self.material = recipe, material
        self.name, self.deed = recipe.name, recipe.deed
        self.about, self.axes = recipe.about, recipe.axes
        self.splits = word_splits(material.words)
        self.telling = "unseen_tokens"
        self._by_kind: dict[str, list[tuple[int, list[str]]]] = {}

    def draw(self, split: str, rng: Random) -> Item:
        """A kind is drawn first, then a word for it, so that each answer of count and index is about equally
        frequent; all of it again where what was drawn cannot be asked.

        Raises TaskError for material without words and for an unknown split, NoQuestion for one of whose
        words nothing can be asked.
        """
        kinds = self._words_by_kind(split)
        for _ in range(TRIES if kinds else 0):
            kind, words = rng.choice(kinds)
            question = self.recipe.ask(rng.choice(words), kind, rng, self._words(split))
            if question is not None:
                return render(question, self.recipe, self.material, rng)
        raise NoQuestion(
            f"the split {split!r} has no word that {self.name} can ask about: pass more words, or leave this "
            "task out."
        )

    def ask(self, word: str, rng: Random) -> Item:
        """An item about this word; all else is drawn from `rng`, other words from the training words.

        Raises TaskError for a word that the task has no question about.
        """
        kinds = self.recipe.kinds(word)
        words = SAMPLE_WORDS if self.material.words is None else self.material.words.seen
        for _ in range(TRIES if kinds else 0):
            question = self.recipe.ask(word, kinds[-1], rng, words)
            if question is not None:
                return render(question, self.recipe, self.material, rng)
        raise TaskError(f"{self.name} has no question about {word!r}: take another word.")

    def ask_about(self, word: str, named: Sequence[str], rng: Random) -> Item:
        """An item that names letters, places or words of one's own choice; `rng` draws the wording. Raises
        TaskError for letters that the word does not have, and for too many or too few.

        count: ask_about("banana", "n", rng) -> Item("count n banana:", " 2", "count n banana")
        insert: ask_about("banana", ("x", "3"), rng)
        """
        return render(self.recipe.question(word, tuple(named)), self.recipe, self.material, rng)

    def baseline(self, items: Sequence[Item]) -> float:
        """What the best constant answer gets (0 to 1); "always the first one named" is one, where a question
        names what to choose from."""
        options = (self.recipe.options(*asked(item)) for item in items)
        places = Counter(
            place
            for item, offered in zip(items, options, strict=True)
            for place, option in enumerate(offered)
            if option == item.answer.strip()
        )
        return max(super().baseline(items), max(places.values(), default=0) / max(1, len(items)))

    def copy_baseline(self, items: Sequence[Item]) -> float:
        """What is got by writing the word down again (0 to 1): as it stands in the question, or with its
        letters apart where the form writes such answers so."""
        copies = (self._copy(asked(item)[0]) for item in items)
        return sum(copy == item.answer for copy, item in zip(copies, items, strict=True)) / len(
            items
        )

    def _copy(self, word: str) -> str:
        copied_apart = self.recipe.asked_apart or (
            self.recipe.apart and self.material.form != "plain"
        )
        return " " + (apart(word) if copied_apart else word)

    def fixed_texts(self) -> list[str]:
        """Every text that can stand around a word, with a stand-in word."""
        stand_ins = (NAMED[name][2] for name in self.recipe.names)
        stand_in = {"word": "q"} | dict(zip("ab", stand_ins, strict=False))
        answers = [NUMBERS, *(f" {constant}" for constant in self.recipe.constants)]
        if self.material.wording == "compact":
            return [self.recipe.compact.format(**stand_in), *answers]
        asked = [
            p + question.format(**stand_in)
            for p in QUESTION_PREFIXES
            for question in self.recipe.questions
        ]
        return [
            *asked,
            *(
                j + p + answer
                for j in JOINTS
                for p in ANSWER_PREFIXES
                for answer in self.recipe.answers
            ),
            *answers,
        ]

    def _words(self, split: str) -> tuple[str, ...]:
        if self.material.words is None:
            raise TaskError(
                f"the task {self.name!r} asks about words and was given none: build it with "
                f"Material(words=...)."
            )
        return self.material.words[split]

    def _words_by_kind(self, split: str) -> list[tuple[int, list[str]]]:
        if split not in self._by_kind:
            by_kind: defaultdict[int, list[str]] = defaultdict(list)
            for word in self._words(split):
                for kind in self.recipe.kinds(word):
                    by_kind[kind].append(word)
            self._by_kind[split] = sorted(
                (kind, words)
                for kind, words in by_kind.items()
                if not self.recipe.paired or kind ^ 1 in by_kind
            )
        return self._by_kind[split]


def asked(item: Item) -> tuple[str, ...]:
    """The word of an item and what it names: "index n banana" -> ("banana", "n")."""
    _, *named, word = item.key.split()
    return word, *named


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
            (
                "unseen_tokens",
                "unseen tokens",
                "On words with a token that no question had contained",
            ),
            ("longer_words", "longer words", "On words longer than any trained on"),
        )
    )


def _lengths(words: Sequence[str]) -> str:
    """(strawberry, tea) -> "3 to 10" """
    shortest, longest = min(map(len, words)), max(map(len, words))
    return f"{shortest} to {longest}" if shortest < longest else str(longest)


def write_answer(letters: str, form: str) -> str:
    """Letters as an answer: "aet", "spelled" -> " a e t"; "aet", "plain" -> " aet"."""
    return " " + (letters if form == "plain" else apart(letters))


def worded(wording: str, recipe: Recipe, word: str, named: Sequence[str]) -> str:
    """A wording with all in its place: "count {a} {word}:", "tea", ("e",) -> "count e tea:" """
    shown = apart(word) if recipe.asked_apart else word
    return wording.format(word=shown, **dict(zip("ab", named, strict=False)))


def render(question: Question, recipe: Recipe, material: Material, rng: Random) -> Item:
    """Put a question into words.

    "compact": one fixed short wording. "sentences": prefix, one of the recipe's questions, joint, prefix and
    one of its answer beginnings, each drawn from `rng`.
    """
    answer = write_answer(question.answer, material.form) if recipe.apart else f" {question.answer}"
    work = recipe.work_of(question, material.form)
    key = " ".join((question.task, *question.named, question.word))
    if material.wording == "compact":
        return Item(
            worded(recipe.compact, recipe, question.word, question.named), answer, key, work=work
        )
    prefix, wording = rng.choice(QUESTION_PREFIXES), rng.choice(recipe.questions)
    asked = prefix + worded(wording, recipe, question.word, question.named)
    prompt = asked + rng.choice(JOINTS) + rng.choice(ANSWER_PREFIXES) + rng.choice(recipe.answers)
    return Item(prompt, answer, key, work=work)
