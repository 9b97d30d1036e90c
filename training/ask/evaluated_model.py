"""Models under evaluation: an arm of a run, any causal model of transformers, a Python function.

A model gets questions and yields its answers, in batches of its own making. An answer depends
neither on earlier questions nor on the other questions of its batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor

from charembed.files import hash_tensors
from synthetic_tasks import END, Item, Material
from training.data.prepare import Data
from training.data.tokenizers import Tokenizer
from training.errors import BadInput
from training.files import sha256
from training.models.generate import SHARED, greedy_tokens, log_likelihoods
from training.models.language_model import LanguageModel
from training.models.objectives import (
    OBJECTIVES,
    GenerationSettings,
    NextToken,
    Objective,
    Progress,
)

from .eval_sets import EvalSet, max_answer_tokens, stop_ids

# subtle: with a smaller margin, an answer in single letters could not reach its end mark
_LETTERS = " a n b"  # an answer that every tokenizer must be able to write
_MARGIN = 2  # tokens beside the letters of an answer that is written in single letters: space, end
_LONG_ANSWER = 256  # max_new_tokens from which prompts of different lengths share a batch
# Choices are batched by the length of their prompts in steps of this many tokens.
_CHOICE_STEP = 32


class EvalQuestion(NamedTuple):
    """Item `number` of an evaluation set."""

    eval_set: EvalSet
    number: int

    @property
    def item(self) -> Item:
        return self.eval_set.items[self.number]


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        given: the generated text up to its stop; or the choice with the largest log-likelihood.
        sums: log-likelihood (nats) of each choice; empty for generated texts.
        tokens: number of tokens of each choice.
        cut: whether max_new_tokens ended the text.
    """

    given: str
    sums: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    cut: bool = False


class TokenCounts(NamedTuple):
    """Occurrences of each token in a text. TokenCounts(counts_V, "the training part of sotu")"""

    counts_V: Tensor
    text: str


Ids = Sequence[int]  # of tokens
Questions = Sequence[EvalQuestion]
Answered = Iterator[tuple[Questions, list[Answer]]]  # batches of questions with their answers
AnswersBySet = Sequence[Sequence[Answer]]  # in the order of the evaluation sets and their items


@dataclass(kw_only=True, eq=False)
class EvaluatedModel(ABC):
    """The interface of a model under evaluation.

    Attributes:
        name, seed: the arm and the seed of its rows.
        about: a description in one phrase, for pages.
        material: words by split, wording and answer form of word questions.
        shots: solved questions before each word question.
        counts: token frequencies for the breakdown; None if there is no text to count in.
        tokenizer: None if it is unknown, as for a function.
    """

    name: str
    about: str
    material: Material
    seed: int = 0
    shots: int = 0
    counts: TokenCounts | None = None
    tokenizer: Tokenizer | None = None

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Facts that no other model has; a resumed evaluation compares them."""

    @abstractmethod
    def check(self, eval_sets: Sequence[EvalSet]) -> None:
        """Raise BadInput if a question cannot be answered. Called before the first question."""

    @abstractmethod
    def answer(self, questions: Questions, batch_size: int, progress: Progress) -> Answered:
        """Yield the questions in batches with their answers, in any order."""


@dataclass(kw_only=True, eq=False)
class EvaluatedLanguageModel(EvaluatedModel):
    """A language model with its tokenizer; see EvaluatedModel for the other attributes.

    Attributes:
        context: tokens of prompt and answer together, at most.
        dummy: token in place of unknown ones; see `training.models.objectives`.
        start: ids before every text, such as a model's own begin-of-text token.
        end: ids that end an answer, such as end-of-text.
        source: the tokenizer of transformers with its chat template; None for a model without one.
        as_in_run: the settings of a run's own evaluation: one max_new_tokens for all sets, one
            call of the objective for all questions, and the stop token is dropped. The saved
            answers of runs depend on these three to the last letter.
        run_limits: max_new_tokens of the tasks of a run in its own evaluation. With a smaller one, an
            answer that never ends would be cut where it happens to be right.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    context: int
    objective: Objective = OBJECTIVES["next_token"]
    dummy: int = 0
    start: Sequence[int] = ()
    end: frozenset[int] = frozenset()
    source: Any = None
    as_in_run: bool = False
    run_limits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._limits: dict[str, int] = {}  # max_new_tokens by the name of a task
        self._stops: dict[str, frozenset[int]] = {}
        self._ids: dict[str, list[int]] = {}  # by the whole text of a prompt

    @classmethod
    def of_arm(
        cls, model: LanguageModel, data: Data, arm: str, seed: int, **settings: Any
    ) -> EvaluatedLanguageModel:
        """Make the model under evaluation of an arm, with prompts as in its training."""
        config = data.config
        settings.setdefault("about", f"the arm {arm}, seed {seed}")
        return cls(
            name=arm, seed=seed, model=model, tokenizer=data.tokenizer, dummy=data.dummy,
            material=data.material,
            context=config.context, objective=OBJECTIVES[config.objective], **settings,
        )  # fmt: skip

    @cached_property  # a run's own evaluation never needs it, and hashing the weights takes time
    def identity(self) -> dict[str, Any]:
        """Hashes of weights, tokenizer and chat template, and the ids of start and end."""
        return {
            "weights": hash_tensors({k: t.cpu() for k, t in self.model.state_dict().items()}),
            "tokenizer": self.tokenizer.name,
            "chat template": sha256(str(getattr(self.source, "chat_template", None))),
            "start and end": [list(self.start), sorted(self.end)],
        }

    def check(self, eval_sets: Sequence[EvalSet]) -> None:
        """Set max_new_tokens of each task. Raise BadInput for an empty or too long prompt."""
        # A server checks one question after another: what it encoded before is not needed again.
        self._limits, self._ids = {}, {}
        if any(not item.choices for eval_set in eval_sets for item in eval_set.items):
            self._check_decoding()
        longest = max_answer_tokens(self.tokenizer, eval_sets) if self.as_in_run else 0
        for eval_set in eval_sets:
            # One limit for all splits of a task: the answers of none are cut shorter.
            task, own = eval_set.task.name, longest or self._longest_answer(eval_set)
            if of_run := self.run_limits.get(task):
                # a longer prompt than those of the run may leave less room
                read = max(len(self.encode(eval_set, item)) for item in eval_set.items)
                own = max(own, min(of_run, self.context - read))
            self._limits[task] = max(own, self._limits.get(task, 0))
        for eval_set in eval_sets:
            for item in eval_set.items:
                self._check_item(eval_set, item)

    def _check_decoding(self) -> None:
        """Raise BadInput if the tokenizer writes other letters than it reads."""
        written = self.tokenizer.decode(self.tokenizer.encode(_LETTERS))
        # Spaces may differ: SentencePiece drops the first one.
        if "".join(written.split()) != "".join(_LETTERS.split()):
            raise BadInput(
                f"The tokenizer of {self.name} decodes {_LETTERS!r} as {written!r}, so no answer could "
                "be scored. Give it a decoder that fits its vocabulary: if that is byte-level, set "
                "tokenizer.backend_tokenizer.decoder = tokenizers.decoders.ByteLevel()."
            )

    def _check_item(self, eval_set: EvalSet, item: Item) -> None:
        task = eval_set.task.name
        if not all(choice.strip() for choice in item.choices):
            raise BadInput(f"A choice of {task} is empty. Leave that item out.")
        whole = (item.answer,) if eval_set.prompt_format.greedy else item.choices
        lengths = [len(self._encode_pair(eval_set, item, text)[1]) for text in whole]
        answer = max(lengths, default=self.max_new_tokens(eval_set))
        length = len(self.encode(eval_set, item))
        if not length:
            raise BadInput(
                f"A prompt of {task} is empty, and {self.name} reads no empty text. "
                "Leave that item out."
            )
        if length + answer > self.context:
            raise BadInput(
                f"A prompt of {task} has {length} tokens and its answer may take {answer}, but "
                f"{self.name} reads {self.context} tokens at most. Use a shorter word or fewer "
                f"--shots, or leave that suite out. The prompt begins {item.prompt[:60]!r}."
            )

    def answer(self, questions: Questions, batch_size: int, progress: Progress) -> Answered:
        """Yield batches of questions with their greedy answers; choices by log-likelihood."""
        for batch in self._batches(questions, batch_size):
            if batch[0].eval_set.prompt_format.greedy:
                yield batch, self._follow(batch)
                progress(len(batch))
            elif batch[0].item.choices:
                yield batch, self._choose(batch)
                progress(len(batch))
            else:
                yield batch, self._generate(batch, progress)

    def _batches(self, questions: Questions, size: int) -> Iterator[Questions]:
        """Batch prompts of equal length and max_new_tokens; for long answers of any length.

        Sets with a long prefix in all their prompts, such as solved questions, are batched together
        if the model joins caches: `generate` encodes each prefix once and pads the rest. Hundreds
        of steps cost more than padding, so `generate` pads prompts of long answers, too.
        """
        if self.as_in_run:
            yield questions  # the objective makes batches of them itself
            return
        mixes = isinstance(self.objective, NextToken) and self.model.joins
        shares = {one: self._shares_prefix(one) for one in {q.eval_set for q in questions}}
        groups: defaultdict[tuple[object, ...], list[EvalQuestion]] = defaultdict(list)
        for question in questions:
            eval_set, item = question.eval_set, question.item
            ids = self.encode(eval_set, item)
            greedy = eval_set.prompt_format.greedy
            if greedy or item.choices:  # one pass with padding, so that similar lengths will do
                key: tuple[object, ...] = (True, greedy, len(ids) // _CHOICE_STEP)
            elif shares[eval_set] and mixes:
                key = (False,)
            else:
                prefix = tuple(ids[: SHARED + 1]) if shares[eval_set] else ()
                limit, stop = self.max_new_tokens(eval_set), self._stop(eval_set)
                length = len(ids) if limit < _LONG_ANSWER else 0
                key = (False, length, limit, stop, prefix)
            groups[key].append(question)
        # neighbours share a prefix, so that few batches read the same one
        groups.get((False,), []).sort(key=lambda q: self.encode(q.eval_set, q.item))
        for group in groups.values():  # in the order of their first questions
            for first in range(0, len(group), size):
                yield group[first : first + size]

    def _generate(self, questions: Questions, progress: Progress) -> list[Answer]:
        """Generate greedy answers, each up to max_new_tokens and the stop text of its own set."""
        limits = [self.max_new_tokens(question.eval_set) for question in questions]
        stops = [self._stop(question.eval_set) for question in questions]
        ends = [self._ends(stop) for stop in stops]
        # objectives that write whole answers at once take one limit for all
        alike = len(set(limits)) == 1 and len(set(stops)) == 1
        # subtle: the stop text may share its token with the last letters of the answer
        keep_stop = not self.as_in_run
        settings = GenerationSettings(
            limits[0] if alike else limits, ends[0] if alike else ends,
            self.dummy, self.context, keep_stop,
        )  # fmt: skip
        prompts = [self.encode(question.eval_set, question.item) for question in questions]
        found = self.objective.answers(self.model, prompts, settings, progress)
        return [
            Answer(self._text(ids, stop), cut=len(ids) == limit and ids[-1] not in end)
            for ids, stop, limit, end in zip(found, stops, limits, ends, strict=True)
        ]

    def _ends(self, stop: str) -> frozenset[int]:
        """Return the tokens that end an answer with this stop text."""
        if stop not in self._stops:  # kept, because `stop_ids` reads the whole vocabulary
            self._stops[stop] = stop_ids(self.tokenizer, stop) | self.end
        return self._stops[stop]

    @property
    def _has_template(self) -> bool:
        return bool(getattr(self.source, "chat_template", None))

    def _stop(self, eval_set: EvalSet) -> str:
        return eval_set.prompt_format.stop_of(self._has_template)

    def _text(self, ids: list[int], stop: str) -> str:
        if self.as_in_run:  # scoring reads such a text up to its end mark
            return self.tokenizer.decode(ids)
        return cut(self.tokenizer.decode(ids[:-1] if ids and ids[-1] in self.end else ids), stop)

    def max_new_tokens(self, eval_set: EvalSet) -> int:
        """Return the limit of a benchmark, else the longest right answer of the checked sets."""
        return eval_set.prompt_format.max_new_tokens or self._limits[eval_set.task.name]

    def _longest_answer(self, eval_set: EvalSet) -> int:
        """Return the most tokens of a right answer, in its usual tokens or letter by letter."""
        texts = [item.text.removeprefix(item.prompt) for item in eval_set.items]
        usual = max(len(self.tokenizer.encode(text)) for text in texts)
        # A model may spell an answer in other tokens than the tokenizer would, up to one a letter.
        return max(usual, *(len("".join(text.split())) + _MARGIN for text in texts))

    def encode(self, eval_set: EvalSet, item: Item) -> list[int]:
        """Return the ids of a prompt in the format of its evaluation set."""
        text, start = self._prompt(eval_set, item)
        if text not in self._ids:
            self._ids[text] = [*start, *self.tokenizer.encode(text)]
        return self._ids[text]

    def _prompt(self, eval_set: EvalSet, item: Item) -> tuple[str, Ids]:
        """Return the text of a prompt, and the ids before it: none if a chat template adds them."""
        wanted = eval_set.prompt_format
        if not (wanted.chat and self._has_template):
            return item.prompt + wanted.opening, self.start
        contents = {"system": wanted.system, "user": item.prompt}
        messages = [{"role": role, "content": text} for role, text in contents.items() if text]
        # As text and not as ids: the opening may share its first token with the template's end.
        how = {"tokenize": False, "add_generation_prompt": True}
        return self.source.apply_chat_template(messages, **how) + wanted.opening, ()

    def _encode_pair(self, eval_set: EvalSet, item: Item, choice: str) -> tuple[Ids, Ids]:
        """Return the ids of a prompt and of a choice, encoded as one text."""
        text, start = self._prompt(eval_set, item)
        end = self._end_of_text if eval_set.prompt_format.ends_choice else []
        # The choice begins with the first token that reaches past the prompt. A space at the end
        # of the prompt belongs to the first word of the choice.
        ids, first = self.tokenizer.encode_cut(text + choice, len(text.rstrip(" ")))
        if before := [*start, *ids[:first]]:
            return before, [*ids[first:], *end]
        # One token holds the whole prompt and more, so each of the two is encoded alone.
        return self.tokenizer.encode(text), [*self.tokenizer.encode(choice), *end]

    @property
    def _end_of_text(self) -> list[int]:
        """Return the end-of-text token; a model without one ends its answers with a line break."""
        end = getattr(self.source, "eos_token_id", None)
        return [end] if isinstance(end, int) else self.tokenizer.encode(END)

    def _choose(self, questions: Questions) -> list[Answer]:
        """Take the choice with the largest log-likelihood of each question."""
        pairs = [
            self._encode_pair(question.eval_set, question.item, choice)
            for question in questions
            for choice in question.item.choices
        ]
        # All choices of all questions at once: `log_likelihoods` batches them by length.
        sums = iter(log_likelihoods(self.model, pairs))
        lengths = iter(len(after) for _, after in pairs)
        answers = []
        for choices in (question.item.choices for question in questions):
            own = tuple(islice(sums, len(choices)))
            best = choices[own.index(max(own))]
            answers.append(Answer(best, own, tuple(islice(lengths, len(choices)))))
        return answers

    def _follow(self, questions: Questions) -> list[Answer]:
        """Compare each token of the right answer with the most likely one; stop at a difference."""
        pairs = [
            self._encode_pair(question.eval_set, question.item, question.item.answer)
            for question in questions
        ]
        answers = []
        greedy = greedy_tokens(self.model, pairs)
        for question, (_, right), likely in zip(questions, pairs, greedy, strict=True):
            places = range(len(right))
            end = next((place for place in places if likely[place] != right[place]), None)
            # the model's text up to its first other token, to be shown
            text = question.item.answer if end is None else self.tokenizer.decode(likely[: end + 1])
            # subtle: another token may have the same text, and it is wrong all the same
            same = end is not None and text.strip() == question.item.answer.strip()
            answers.append(Answer("" if same else text))
        return answers

    def _shares_prefix(self, eval_set: EvalSet) -> bool:
        # one token more than SHARED, as a prompt needs one token after the shared prefix
        first, *others = (self.encode(eval_set, item)[: SHARED + 1] for item in eval_set.items)
        return len(first) > SHARED and all(other == first for other in others)


@dataclass(kw_only=True, eq=False)
class EvaluatedFunction(EvaluatedModel):
    """A function from a prompt to the text that follows it.

    Attributes:
        batched: the function takes a list of prompts and returns a list of texts.
    """

    about: str = "a function from a prompt to a text"
    write: Callable[[Any], Any]
    batched: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        return {"function": self.name}

    def check(self, eval_sets: Sequence[EvalSet]) -> None:
        """Raise BadInput for answers by likelihood: a function has none."""
        for eval_set in eval_sets:
            greedy = eval_set.prompt_format.greedy
            if greedy or any(item.choices for item in eval_set.items):
                raise BadInput(
                    f"{eval_set.task.name} is answered by likelihood, and {self.name} is a "
                    "function that writes texts. Leave that suite out, or evaluate a model."
                )

    def answer(self, questions: Questions, batch_size: int, progress: Progress) -> Answered:
        """Call the function with `batch_size` prompts at a time, or with one. Raises BadInput."""
        # One prompt at a time otherwise, so that Ctrl-C loses one answer at most.
        size = batch_size if self.batched else 1
        for first in range(0, len(questions), size):
            batch = questions[first : first + size]
            prompts = [q.item.prompt + q.eval_set.prompt_format.opening for q in batch]
            texts = list(self.write(prompts)) if self.batched else [self.write(prompts[0])]
            if (wanted := len(prompts)) != len(texts):
                raise BadInput(f"{self.name} got {wanted} prompts and returned {len(texts)} texts.")
            for text in texts:
                if not isinstance(text, str):
                    raise BadInput(f"{self.name} returned {text!r:.60}. It must return a str.")
            # The function gets the prompt as it is, without a template.
            stops = [question.eval_set.prompt_format.stop_of(False) for question in batch]
            yield batch, [Answer(cut(*pair)) for pair in zip(texts, stops, strict=True)]
            progress(len(batch))


def cut(text: str, stop: str) -> str:
    """Return a text up to its stop: cut(" 3\\nand", "\\n") -> " 3"; all of it if stop is ""."""
    return text.split(stop, 1)[0] if stop else text
