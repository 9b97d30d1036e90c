"""Evaluation sets: the questions of one task and one split, and checks that they fit a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from synthetic_tasks import END, Item, Subject, distinct, read_answer
from synthetic_tasks.formats import PromptFormat
from training.data.prepare import Data
from training.data.questions import encode_item
from training.data.tokenizers import Tokenizer
from training.errors import BadInput

_PLAIN = PromptFormat()
_CHECKED = 500  # training questions of each phase and seed whose length and tokens are checked


class ScoredTask(Protocol):
    """The methods of a task that scoring calls: of word tasks, sequences and benchmarks."""

    @property
    def name(self) -> str: ...
    def is_right(self, given: str, item: Item) -> bool: ...
    def baseline(self, items: Sequence[Item]) -> float: ...
    def subject(self, item: Item) -> Subject | None: ...
    def parts(self, given: str, item: Item) -> dict[str, bool]: ...


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: sets are keys of dicts
class EvalSet:
    """The items of one task on one split, the same for every arm.

    EvalSet(task, "unseen_words", items).majority -> 0.31

    Attributes:
        prompt_format: chat template, opening, stop text and max_new_tokens of a benchmark.
        read: parses the answer from a generated text; None or "" if there is none.
        own_score: the benchmark's own score (0 to 1) of a parsed answer and the right one; None if
            it has none besides exact match.
    """

    task: ScoredTask
    split: str
    items: Sequence[Item]
    prompt_format: PromptFormat = _PLAIN
    read: Callable[[str], str | None] = read_answer
    own_score: Callable[[str | None, str], float] | None = None

    @property
    def majority(self) -> float:
        """The majority baseline: the share (0 to 1) that the best constant answer gets right."""
        return self.task.baseline(self.items)


def make_eval_sets(data: Data, seed: int) -> list[EvalSet]:
    """Draw the evaluation sets of a run: a function of the config and the seed alone."""
    drawn = [(split.name, task) for task in data.tasks for split in task.splits]
    names = list(dict.fromkeys(name for name, _ in drawn))
    # Split by split, not task by task: answers.jsonl and the table of results have this order.
    drawn.sort(key=lambda pair: names.index(pair[0]))
    n = data.config.evaluation.questions
    # "exam" feeds the random stream: another key would draw other questions.
    return [
        EvalSet(task, name, distinct(task, name, n, "exam", name, seed)) for name, task in drawn
    ]


def check_lengths(data: Data) -> None:
    """Check that questions and answers fit the context and that their tokens can be cut apart.

    Raises BadInput before anything is trained. All evaluation questions are checked, and the
    first _CHECKED training questions of each phase.
    """
    config = data.config
    for seed in config.seed_range:
        for phase in (phase for phase in config.phases if phase.kind == "question"):
            questions = data.questions(phase.context)
            for i in range(_CHECKED):
                item, prompt, answer = questions.item(phase.name, seed, i)
                check_cut(data.tokenizer, item, prompt)
                questions.arrange(item, prompt, answer)  # raises if it is longer than the context
        eval_sets = make_eval_sets(data, seed)
        longest = max_answer_tokens(data.tokenizer, eval_sets)  # the limit of every answer
        for eval_set in eval_sets:
            for item in eval_set.items:
                length = len(data.tokenizer.encode(item.prompt)) + longest
                if length > config.context:
                    raise BadInput(
                        f"A question of the split {eval_set.split} and its answer may take "
                        f"{length} tokens, but finetune_context is {config.context}. Use a larger "
                        "one, shorter words (longest_letters), or the compact wording. "
                        f"The question: {item.prompt!r}"
                    )


def check_cut(tokenizer: Tokenizer, item: Item, prompt: list[int]) -> None:
    """Raise BadInput if a prompt has other tokens alone than it has before its answer.

    Training encodes prompt and answer as one text, evaluation encodes the prompt alone.
    """
    if tokenizer.encode(item.prompt) != prompt:
        raise BadInput(
            f"The tokenizer gives {item.prompt!r} other tokens if its answer follows. Use a "
            "tokenizer that puts the space before a word into the word's first token."
        )
    written = tokenizer.decode(encode_item(tokenizer, item)[1])
    if written.strip() != item.written.strip():
        raise BadInput(
            f"The tokenizer cannot write {item.written!r}, it gives {written!r}. Use another "
            "answer_form, or words (word_forms) of characters that it has."
        )


def max_answer_tokens(tokenizer: Tokenizer, eval_sets: Sequence[EvalSet]) -> int:
    """Return the number of tokens of the longest right answer, its end mark included."""
    items = (item for eval_set in eval_sets for item in eval_set.items)
    return max(len(encode_item(tokenizer, item)[1]) for item in items)


def stop_ids(tokenizer: Tokenizer, stop: str = END) -> frozenset[int]:
    """Return the tokens that end an answer: those whose text contains `stop`; "" ends nothing.

    stop_ids(tokenizer, "\\n") -> the ids of "\\n", "\\n\\n", ".\\n", ...
    """
    end = stop.encode()
    spellings = enumerate(tokenizer.spellings if end else ())  # b"" would be in every spelling
    return frozenset(i for i, spelling in spellings if end in (spelling or b""))
