"""The word task: draw questions about one word from four splits and put them into text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

from synthetic_tasks.errors import NoQuestion, TaskError
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.task import Item, Material, Split, Subject, Task
from synthetic_tasks.words import WordSplits

from .letters import spaced
from .recipe import Recipe, WordQuestion
from .recipes import RECIPES
from .rendering import fill_wording as fill_wording
from .rendering import fixed_texts
from .rendering import render as render
from .varied import fixed_texts_varied, render_varied

_MAX_DRAWS = 1000  # draws of a question before a split is given up
# Splits of the wording "varied" that ask with held-out sentences alone -> the words they ask about.
_HELD_OUT_WORDINGS = {
    "unseen_wordings": "seen",
    "unseen_tokens_and_wordings": "unseen_tokens",
}
_EXAMPLES = ""  # no split: the words of solved examples, those of training


class WordTask(Task):
    """A recipe, the words it asks about, and the wording of questions and answers.

    WordTask(RECIPES["count"], Material(words)).draw("seen", rng)
    -> Item("count a banana:", " 3", "count a banana")
    """

    def __init__(self, recipe: Recipe, material: Material) -> None:
        self.recipe, self.material = recipe, material
        self.name, self.verb_phrase = recipe.name, recipe.wordings.verb_phrase
        self.description = recipe.wordings.description
        self.difficulty = recipe.wordings.difficulty
        self.splits = _word_splits(material.words)
        if material.wording == "varied":
            self.splits += _splits_by_wording()
        # No training question shows such a token: its letters must come from its vector.
        self.main_split = "unseen_tokens"
        self._strata: dict[str, list[tuple[int, list[str]]]] = {}

    def draw(self, split: str, rng: Random) -> Item:
        """Draw a stratum, then a word in it, then the arguments; repeat if there is no answer.

        Strata are drawn uniformly, so the answers of count and index are about equally frequent.

        Raises TaskError if the material has no words or the split is unknown, NoQuestion if the
        task has no question about any word of the split.
        """
        if (question := self._question(split, rng)) is not None:
            return self._item(question, rng, held_out=self._is_held_out_wording(split))
        about = f"any word of the split {split!r}"
        raise NoQuestion(f"{self.name} has no question about {about}. Pass more words or omit it.")

    def _question(self, split: str, rng: Random) -> WordQuestion | None:
        strata = self._strata_of(split)
        for _ in range(_MAX_DRAWS if strata else 0):
            stratum, words = rng.choice(strata)
            question = self.recipe.ask(rng.choice(words), stratum, rng, self.words_of(split))
            if question is not None:
                return question
        return None

    def _item(self, question: WordQuestion, rng: Random, *, held_out: bool = False) -> Item:
        if self.material.wording != "varied":
            return render(question, self.recipe, self.material, rng)

        def example() -> WordQuestion | None:
            return self._question(_EXAMPLES, rng)

        return render_varied(question, self.recipe, self.material, rng, example, held_out=held_out)

    def ask(self, word: str, rng: Random) -> Item:
        """Draw a question about this word; other words come from the training words.

        Raises TaskError if the task has no question about the word.
        """
        strata = self.recipe.strata(word)
        words = SAMPLE_WORDS if self.material.words is None else self.material.words.seen
        for _ in range(_MAX_DRAWS if strata else 0):
            # Subtle: the last stratum; the first one of contains comes from a set, in any order.
            question = self.recipe.ask(word, strata[-1], rng, words)
            if question is not None:
                return self._item(question, rng)
        raise TaskError(f"{self.name} has no question about {word!r}. Name another word.")

    def ask_about(self, word: str, arguments: Sequence[str], rng: Random) -> Item:
        """Return the item with these arguments; `rng` draws the wording only.

        count: ask_about("banana", "n", rng) -> Item("count n banana:", " 2", "count n banana")
        insert: ask_about("banana", ("x", "3"), rng)

        Raises TaskError if the arguments do not fit the task or the word.
        """
        question = self.recipe.question(word, tuple(arguments))
        return self._item(question, rng)

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Return further scores of an answer; see `Task.parts`.

        With the wording "varied", direct and scratchpad answers also have a score of their own.
        """
        found = super().parts(given, item)
        if self.material.wording == "varied":
            form = "scratchpad" if item.work else "direct"
            found[f"{form}_exact_match"] = self.is_right(given, item)
        return found

    def baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the majority baseline, from 0 to 1.

        If questions name words to choose from, "always the first one" is a candidate too.
        """
        places: Counter[int] = Counter()
        for item in items:
            options = self.recipe.options(*word_and_arguments(item))
            places.update(i for i, option in enumerate(options) if option == item.answer.strip())
        by_place = max(places.values(), default=0) / max(1, len(items))
        return max(super().baseline(items), by_place)

    def copy_baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of copying the word, from 0 to 1.

        The copy has spaces between its letters if the question or the answer form writes them.
        """
        by_form = self.recipe.spaced_answer and self.material.form != "plain"
        write = spaced if self.recipe.spaced_word or by_form else str
        ways = {write}
        if self.material.wording == "varied" and self.recipe.spaced_answer:
            ways = {str, spaced}  # each question has a form of its own
        right = [
            item.answer in {f" {way(word_and_arguments(item)[0])}" for way in ways}
            for item in items
        ]
        return sum(right) / len(items)

    def subject(self, item: Item) -> Subject:
        """Return the word of an item, and the place of the letter in question if there is one."""
        word, *arguments = word_and_arguments(item)
        return Subject(word, self.recipe.place(word, *arguments))

    def fixed_texts(self) -> list[str]:
        if self.material.wording == "varied":
            return fixed_texts_varied(self.recipe)
        return fixed_texts(self.recipe, self.material.wording)

    def words_of(self, split: str) -> tuple[str, ...]:
        """Return the words that a split asks about.

        Raises TaskError if the material has no words or the split is unknown.
        """
        if split == _EXAMPLES:
            return SAMPLE_WORDS if self.material.words is None else self.material.words.seen
        # Checked here, because names, splits and fixed texts need no words.
        if self.material.words is None:
            raise TaskError(f"the task {self.name!r} needs words: Material(words=...).")
        known = self._is_held_out_wording(split)
        return self.material.words[_HELD_OUT_WORDINGS[split] if known else split]

    def _is_held_out_wording(self, split: str) -> bool:
        return self.material.wording == "varied" and split in _HELD_OUT_WORDINGS

    def _strata_of(self, split: str) -> list[tuple[int, list[str]]]:
        if split not in self._strata:
            by_stratum: defaultdict[int, list[str]] = defaultdict(list)
            for word in self.words_of(split):
                for stratum in self.recipe.strata(word):
                    by_stratum[stratum].append(word)
            # Sorted: the strata of a word may come from a set, whose order must not matter.
            strata = sorted(s for s in by_stratum if not self.recipe.paired or s ^ 1 in by_stratum)
            self._strata[split] = [(stratum, by_stratum[stratum]) for stratum in strata]
        return self._strata[split]


def word_and_arguments(item: Item) -> tuple[str, ...]:
    """Read an item's key: "index n banana" -> ("banana", "n")."""
    # Words and arguments contain no space.
    _, *arguments, word = item.key.split()
    return word, *arguments


def word_subject(item: Item) -> Subject | None:
    """Read the subject of a word task's item from its key: "index n banana" -> ("banana", 2).

    None if the key is not one of a word task.
    """
    name, *arguments = item.key.split() or [""]
    if name not in RECIPES or not arguments:
        return None
    *arguments, word = arguments
    return Subject(word, RECIPES[name].place(word, *arguments))


def _word_splits(words: WordSplits | None) -> tuple[Split, ...]:
    tokens = longer = ""
    if words is not None:
        longer = f"{_lengths(words.longer_words)} letters, after training on {_lengths(words.seen)}"
        held_out = f"one of {len(words.held_out)} tokens"
        tokens = f"each word holds {held_out} that no training question had"
    new = "On words with a token that no question had contained"
    return (
        Split("seen", "training words", "On the training words themselves"),
        Split("unseen_words", "unseen words", "On new words made of familiar tokens"),
        Split("unseen_tokens", "unseen tokens", new, tokens),
        Split("longer_words", "longer words", "On words longer than any trained on", longer),
    )


def _splits_by_wording() -> tuple[Split, ...]:
    new = "In sentences that no training question had"
    both = "In such sentences, on words with a token that no training question had"
    return (
        Split("unseen_wordings", "unseen wordings", new, "about training words"),
        Split("unseen_tokens_and_wordings", "unseen tokens and wordings", both),
    )


def _lengths(words: Sequence[str]) -> str:
    """Return the range of lengths: (strawberry, tea) -> "3 to 10"."""
    shortest, longest = min(map(len, words)), max(map(len, words))
    return f"{shortest} to {longest}" if shortest < longest else str(longest)
