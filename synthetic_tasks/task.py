"""What a task is: something that gives items (a prompt and its answer), names its splits, and marks.

Each task has a file of its own beside this one, and a line in registry.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from .errors import TaskError
from .scoring import END as END
from .scoring import is_right, majority_baseline, read_work
from .words import WordSplits

WORDINGS = ("compact", "sentences")
ANSWER_FORMS = ("plain", "spelled", "worked", "counted")


class Item(NamedTuple):
    """One thing to ask. Item("reverse tea:", " a e t", "reverse tea")

    Attributes:
        prompt: what a model reads.
        answer: what it should write. It begins with the space that opens a token of its own, or is digits
            right after a letter, which no tokenizer joins.
        key: what is asked, whatever the wording: two items with the same key are the same question.
        choices: the answers to choose from by likelihood; none where a model answers in its own words.
        work: what a model should write before the answer, in the forms that show their work: " b a n =". With
            it, the answer alone decides what is right.
        running: where each beginning of the prompt is a question of the same kind, the answers after its
            last words, one each: ("1", "1", "2") for "counting a b a". The last one is the answer.
    """

    prompt: str
    answer: str
    key: str
    choices: tuple[str, ...] = ()
    work: str = ""
    running: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """All that a right answer writes: " b a n = 2"."""
        return self.work + self.answer

    @property
    def text(self) -> str:
        return self.prompt + self.work + self.answer + END


@dataclass(frozen=True)
class Split:
    """One of the ways in which a task draws items.

    Attributes:
        name: as in results.json, "unseen_tokens".
        label: for tables and plots, "unseen tokens".
        place: opens a verdict's sentence, "On words with a token that no question had contained".
        about: what a reader of the report has to know about it, with its sizes:
            "11 to 13 letters, after training on 5 to 10".
    """

    name: str
    label: str
    place: str
    about: str = ""


@dataclass(frozen=True)
class Material:
    """What a run gives its tasks to work with. Raises TaskError for an unknown wording or form.

    Attributes:
        words: for tasks about words. None will do for all but drawing: names, splits and fixed texts need no
            words.
        wording: "compact", one fixed short wording, or "sentences", drawn from many.
        form: how answers are written. "plain": as words. "spelled": the letters of a word apart. "worked": as
            spelled, and before the result stands the work, the letters as far as they have to be read:
            "index n banana: b a n = 2". "counted": the same with a running number where the task counts:
            "index n banana: b0 a1 n2 = 2".
    """

    words: WordSplits | None = None
    wording: str = "compact"
    form: str = "spelled"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("wording", self.wording, WORDINGS),
            ("form", self.form, ANSWER_FORMS),
        ):
            if value not in choices:
                raise TaskError(
                    f"there is no {name} {value!r}; choose one of {', '.join(choices)}."
                )


class Task(Protocol):
    """A kind of question. A class that derives from this one has marking by exact match, and its baseline.

    Attributes:
        name: the full spec that builds it, sizes included: "reverse", "path_star:2x5".
        splits: the first one is what training draws from.
        telling: the name of the split that says most about what was learnt; samples of answers are taken from
            it.
        deed: what a model does that answers, with the share of the questions to follow: "reverses".
        about: what it asks, in a line.
        axes: what makes a question of it harder.
    """

    name: str
    splits: tuple[Split, ...]
    telling: str
    deed: str = "answers"
    about: str = ""
    axes: str = ""

    def draw(self, split: str, rng: Random) -> Item:
        """One item, a function of the state of `rng`."""
        ...

    def fixed_texts(self) -> list[str]:
        """The texts around what is asked about: their tokens are never held out."""
        ...

    def is_right(self, given: str, item: Item) -> bool:
        """Whether a generated text answers the item. Of a text that shows its work the result counts, as
        `scoring.read_work` finds it."""
        return (
            read_work(given)[1] == item.answer.strip()
            if item.work
            else is_right(given, item.answer)
        )

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """What else there is to say of an answer, {"first_step": True}: each is a metric of its own.

        Of a text that shows its work, whether that is the work its form asks for, whatever the result.
        """
        return (
            {"work_exact_match": read_work(given)[0] == read_work(item.written)[0]}
            if item.work
            else {}
        )

    def baseline(self, items: Sequence[Item]) -> float:
        """What the best constant answer gets (0 to 1)."""
        return majority_baseline([item.answer for item in items])
