"""Whom an evaluation asks: an arm of a run, any causal model of transformers, or a function that writes.

A respondent is given questions in batches of its own making and says for each what was answered. What it was
asked before makes no difference to it, and neither does what stands beside a question in its batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from charembed.files import hash_tensors
from synthetic_tasks import Item, WordSplits
from training.data.tokenizers import Tokenizer
from training.errors import BadInput
from training.files import sha256
from training.models.generate import SHARED
from training.models.language_model import LanguageModel
from training.models.likelihood import log_likelihoods
from training.models.objectives import OBJECTIVES, Asked, Objective

from .eval_sets import Exam, stop_ids

BATCH = 128  # questions answered together
MARGIN = 2  # tokens that an answer in single letters may take besides them: a space, and its end


class Question(NamedTuple):
    """An item of an exam, by its number."""

    exam: Exam
    number: int

    @property
    def item(self) -> Item:
        return self.exam.items[self.number]

    @property
    def prompt(self) -> str:
        return self.item.prompt


@dataclass(frozen=True)
class Answer:
    """What was said to a question.

    Attributes:
        given: the text that was written, without what ended it; or the choice that was found most likely.
        sums: of each choice the log-likelihood, in nats.
        tokens: of each choice the number of its tokens.
    """

    given: str
    sums: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """How a model reads words.

    Attributes:
        tokenizer: None for a function, of which that is not known.
        splits: the words that it may be asked about.
        counts_V: how often each token occurs in a text, and `counted`, in which: "the training part of sotu".
        wording, form, shots: how questions about words are put to it, see `synthetic_tasks.Material`; shots
            are solved questions that stand before each one.
    """

    tokenizer: Tokenizer | None
    splits: WordSplits
    counts_V: Tensor | None = None
    counted: str = ""
    wording: str = "compact"
    form: str = "spelled"
    shots: int = 0


class Respondent(Protocol):
    """`name` and `seed` go into the rows; `identity` tells it from all others, `about` says what it is."""

    name: str
    seed: int
    about: str
    identity: dict[str, Any]
    reader: Reader

    def check(self, exams: Sequence[Exam]) -> None:
        """Raise BadInput for what cannot be asked, before anything is."""

    def batches(self, questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
        """The same questions, those together that are answered together, at most `size`."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to one of these batches."""


@dataclass(kw_only=True, eq=False)
class ModelRespondent:
    """A language model with its tokenizer.

    Attributes:
        start: ids that stand before every text, as a model's own tokenizer puts them there.
        end: ids with which a model ends what it says.
        source: the tokenizer of transformers with its chat template; None for a model without one.
    """

    name: str
    about: str
    model: LanguageModel
    reader: Reader
    context: int
    seed: int = 0
    objective: Objective = OBJECTIVES["next_token"]
    dummy: int = 0
    start: list[int] = field(default_factory=list)
    end: frozenset[int] = frozenset()
    source: Any = None

    def __post_init__(self) -> None:
        assert self.reader.tokenizer is not None
        self.tokenizer: Tokenizer = self.reader.tokenizer
        template = getattr(self.source, "chat_template", None)
        self.chats = bool(template)
        self.identity = {
            "weights": hash_tensors(
                {name: t.detach().cpu() for name, t in self.model.state_dict().items()}
            ),
            "tokenizer": self.tokenizer.name,
            "chat template": sha256(str(template)),
            "start and end": [self.start, sorted(self.end)],
        }
        self._rooms: dict[str, int] = {}  # by the name of a task
        self._stops: dict[str, frozenset[int]] = {}
        self._ids: dict[str, list[int]] = {}  # by the whole text of a prompt

    def check(self, exams: Sequence[Exam]) -> None:
        self._rooms = {}
        for exam in exams:
            known = self._rooms.get(exam.task.name, 0)
            self._rooms[exam.task.name] = max(known, self._longest(exam))
        for exam in exams:
            room = self.room(exam)
            for item in exam.items:
                if not all(choice.strip() for choice in item.choices):
                    raise BadInput(f"a choice of {exam.task.name} is empty: leave that item out.")
                length = len(self.encode(exam, item))
                longest = max(
                    (len(self._pair(exam, item, choice)[1]) for choice in item.choices),
                    default=room,
                )
                if not length:
                    raise BadInput(
                        f"a prompt of {exam.task.name} is empty, and {self.name} reads no empty text: leave "
                        "that item out."
                    )
                if length + longest > self.context:
                    raise BadInput(
                        f"a prompt of {exam.task.name} has {length} tokens and its answer may take "
                        f"{longest}, but {self.name} reads {self.context} at most: leave that suite out, or "
                        f"take fewer --shots. The prompt begins {item.prompt[:60]!r}."
                    )

    def batches(self, questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
        """Together are prompts of one length and one room; and where all of an exam begin alike, at length,
        only those that do, as that is then read once."""
        alike: dict[Exam, bool] = {}
        groups: defaultdict[tuple[object, ...], list[Question]] = defaultdict(list)
        for question in questions:
            exam = question.exam
            if exam not in alike:
                alike[exam] = self._begin_alike(exam)
            ids = self.encode(exam, question.item)
            if question.item.choices:
                key: tuple[object, ...] = (True, len(ids) // 32)
            else:
                beginning = tuple(ids[: SHARED + 1]) if alike[exam] else ()
                key = (False, len(ids), self.room(exam), exam.asking.stop, beginning)
            groups[key].append(question)
        for group in groups.values():
            for first in range(0, len(group), size):
                yield group[first : first + size]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        if questions[0].item.choices:
            return self._choose(questions)
        exam = questions[0].exam
        stop = exam.asking.stop
        if stop not in self._stops:
            self._stops[stop] = stop_ids(self.tokenizer, stop)
        asked = Asked(
            room=self.room(exam),
            stop=self._stops[stop] | self.end,
            dummy=self.dummy,
            context=self.context,
            keep_stop=True,
        )
        prompts = [self.encode(question.exam, question.item) for question in questions]
        written = self.objective.answers(self.model, prompts, asked, lambda number: None)
        return [Answer(self._text(ids, stop)) for ids in written]

    def room(self, exam: Exam) -> int:
        """Tokens for an answer: what its benchmark says, or what the longest right one takes on any split of
        the task that was checked."""
        return exam.asking.max_new_tokens or self._rooms.get(exam.task.name) or self._longest(exam)

    def _longest(self, exam: Exam) -> int:
        """The most tokens of a right answer, in whatever way it is cut, with its end."""
        texts = [item.text.removeprefix(item.prompt) for item in exam.items]
        return max(
            max(len(self.tokenizer.encode(text)), len("".join(text.split())) + MARGIN)
            for text in texts
        )

    def encode(self, exam: Exam, item: Item) -> list[int]:
        """The ids of a prompt, put as its exam wants it."""
        text, chat = self._put(exam, item)
        if text not in self._ids:
            self._ids[text] = ([] if chat else self.start) + self.tokenizer.encode(text)
        return self._ids[text]

    def _put(self, exam: Exam, item: Item) -> tuple[str, bool]:
        """The text of a prompt, and whether the model's template made it, with what stands before a text."""
        asking = exam.asking
        if not (asking.chat and self.chats):
            return item.prompt + asking.opening, False
        said = {"system": asking.system, "user": item.prompt}
        messages = [{"role": role, "content": content} for role, content in said.items() if content]
        text: str = self.source.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text + asking.opening, True

    def _pair(self, exam: Exam, item: Item, choice: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt and of a choice, cut in one piece: the first token that reaches past the prompt
        is the choice's first. A space at the end of the prompt belongs to the choice's first word."""
        text, chat = self._put(exam, item)
        ids, start = self.tokenizer.encode_cut(text + choice, len(text.rstrip(" ")))
        before = ([] if chat else self.start) + ids[:start]
        if not before:  # one token holds the whole prompt and more: then they are cut apart
            return self.tokenizer.encode(text), self.tokenizer.encode(choice)
        return before, ids[start:]

    def _choose(self, questions: Sequence[Question]) -> list[Answer]:
        pairs = [self._pair(q.exam, q.item, choice) for q in questions for choice in q.item.choices]
        sums, answers, place = log_likelihoods(self.model, pairs), [], 0
        for question in questions:
            choices, end = question.item.choices, place + len(question.item.choices)
            own, lengths = sums[place:end], [len(after) for _, after in pairs[place:end]]
            answers.append(Answer(choices[own.index(max(own))], tuple(own), tuple(lengths)))
            place = end
        return answers

    def _text(self, ids: list[int], stop: str) -> str:
        if ids and ids[-1] in self.end:
            ids = ids[:-1]
        return cut(self.tokenizer.decode(ids), stop)

    def _begin_alike(self, exam: Exam) -> bool:
        first, *others = (self.encode(exam, item)[: SHARED + 1] for item in exam.items)
        return len(first) > SHARED and all(other == first for other in others)


@dataclass(kw_only=True, eq=False)
class FunctionRespondent:
    """A function from a prompt to the text that follows it; `batched`: from a list of them to a list."""

    name: str
    write: Callable[[Any], Any]
    reader: Reader
    batched: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.about = "a function from a prompt to a text"
        self.identity = {"function": self.name}

    def check(self, exams: Sequence[Exam]) -> None:
        for exam in exams:
            if any(item.choices for item in exam.items):
                raise BadInput(
                    f"{exam.task.name} is answered by likelihood, and {self.name} is a function that writes "
                    "texts: leave that suite out, or evaluate a model."
                )

    def batches(self, questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
        size = size if self.batched else 1
        for first in range(0, len(questions), size):
            yield list(questions[first : first + size])

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        prompts = [question.prompt + question.exam.asking.opening for question in questions]
        texts = (
            list(self.write(prompts))
            if self.batched
            else [self.write(prompt) for prompt in prompts]
        )
        if len(texts) != len(prompts):
            raise BadInput(
                f"{self.name} was given {len(prompts)} prompts and returned {len(texts)} texts."
            )
        for text in texts:
            if not isinstance(text, str):
                raise BadInput(
                    f"{self.name} returned {text!r:.60}, which is no text: it has to return a str."
                )
        return [
            Answer(cut(text, q.exam.asking.stop)) for text, q in zip(texts, questions, strict=True)
        ]


def cut(text: str, stop: str) -> str:
    """A text up to what stops it: cut(" 3\\nand", "\\n") -> " 3"."""
    return text.split(stop, 1)[0] if stop else text
