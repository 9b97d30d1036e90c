"""The interface of a task: it draws items (a prompt and its answer), names its splits and scores.

Tasks about words are in word_tasks/, all others in sequences/; registry.py has a line for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from .errors import TaskError
from .scoring import END as END
from .scoring import majority_baseline, read_answer, read_work
from .words import WordSplits

WORDINGS = ("compact", "sentences", "varied")
# "worked" is the scratchpad form, "counted" the numbered scratchpad: names in saved configs.
ANSWER_FORMS = ("plain", "spelled", "worked", "counted")


class Item(NamedTuple):
    """One question with its answer: Item("reverse tea:", " a e t", "reverse tea").

    Attributes:
        prompt: the text that the model reads.
        answer: the text that the model should write. It begins with a space, so that it is a token
            of its own, or is digits right after a letter, which no tokenizer joins.
        key: identifies the question, whatever its wording: equal keys are equal questions.
        choices: the possible answers, to be ranked by likelihood; () if the model writes its
            answer.
        work: the scratchpad to write before the answer in the forms that have one: " b a n =". The
            answer alone decides whether the item is right.
        running: if each beginning of the prompt is a question too, the answers after its last
            words: ("1", "1", "2") for "counting a b a". The last one is the answer.
    """

    # Subtle: evaluations hash the fields by these names and in this order.
    prompt: str
    answer: str
    key: str
    choices: tuple[str, ...] = ()
    work: str = ""
    running: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """The scratchpad and the answer: " b a n = 2"."""
        return self.work + self.answer

    @property
    def text(self) -> str:
        """The training text: prompt, scratchpad, answer and end mark."""
        return self.prompt + self.work + self.answer + END


class Subject(NamedTuple):
    """The word that a question is about: Subject("banana", 2) for "at which place is the first n?".

    Attributes:
        word: as the model knows it, without spaces between its letters.
        place: index of the letter in question; None if the question is about no single letter.
    """

    word: str
    place: int | None = None


@dataclass(frozen=True)
class Split:
    """One of the distributions that a task draws items from.

    Attributes:
        name: as in results.json, "unseen_tokens".
        label: for tables and plots, "unseen tokens".
        place: the beginning of a sentence in the report, "On words longer than any trained on".
        about: a note for readers of the report, "11 to 13 letters, after training on 5 to 10".
    """

    name: str
    label: str
    place: str
    about: str = ""


@dataclass(frozen=True)
class Material:
    """The words, the wording and the answer form that tasks are built with.

    Raises TaskError for an unknown wording or form.

    Attributes:
        words: needed only to draw items of tasks about words.
        wording: "compact" (one short wording), "sentences" (drawn from many) or "varied" (drawn from
            compact, sentences and few-shot prompts; a tenth of the sentences is never trained on).
        form: how answers are written. "plain": words as words. "spelled": spaces between letters.
            "worked": as spelled, after a scratchpad with the letters needed for the result,
            "index n banana: b a n = 2". "counted": as worked, with a running number if the task
            counts, "index n banana: b0 a1 n2 = 2". With the wording "varied", this is the form of
            compact questions; the others draw a form, and the prompt says or shows it.
        letters_in_prompts: whether a question also gives the letters of its word, "reverse tea
            t e a:". This takes as many tokens more as the word has letters.
    """

    words: WordSplits | None = None
    wording: str = "compact"
    form: str = "spelled"
    letters_in_prompts: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("wording", WORDINGS), ("form", ANSWER_FORMS)):
            if (value := getattr(self, name)) not in choices:
                raise TaskError(f"the {name} is {value!r}; it must be one of {', '.join(choices)}.")


class Task(Protocol):
    """A kind of question. A subclass inherits exact match and the majority baseline.

    Attributes:
        name: the full spec, sizes included: "reverse", "path_star:2x5".
        splits: the first one is the split that training draws from.
        main_split: name of the split that tests generalisation most directly. The report takes its
            headline and its sample answers from it.
        verb_phrase: the predicate of "the model ... 95 %": "reverses".
        description: the question in one line.
        difficulty: properties of a question that make it harder.
    """

    name: str
    splits: tuple[Split, ...]
    main_split: str
    verb_phrase: str = "answers"
    description: str = ""
    difficulty: str = ""

    def draw(self, split: str, rng: Random) -> Item:
        """Draw one item; it depends on the split and the state of `rng` alone."""

    def fixed_texts(self) -> list[str]:
        """List all texts that can surround a word, with stand-ins for the word and the arguments.

        Their tokens are never held out: every question needs them.
        """

    def is_right(self, given: str, item: Item) -> bool:
        """Return whether a generated text answers the item.

        If the item has a scratchpad, the result after it counts, as `scoring.read_work` finds it.
        """
        if item.work:  # a wrong scratchpad before a right result is scored by parts()
            return read_work(given)[1] == item.answer.strip()
        return read_answer(given) == item.answer.strip()

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Return further scores of an answer by metric: {"first_step": True}.

        If the item has a scratchpad, "work_exact_match" scores it, whatever the result.
        """
        if item.work:
            return {"work_exact_match": read_work(given)[0] == read_work(item.written)[0]}
        return {}

    def subject(self, item: Item) -> Subject | None:
        """Return the word that an item is about; None if it is about none, or about several."""
        return None

    def baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the majority baseline, from 0 to 1."""
        return majority_baseline([item.answer for item in items])
