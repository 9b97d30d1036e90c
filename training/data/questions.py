"""Questions as rows of tokens: drawn from the tasks, tokenised, without held-out tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import add
from random import Random

from synthetic_tasks import Item, Task, stream
from training.errors import BadInput
from training.models.objectives import Example, Objective, Question

from .batches import BatchAt, pad_examples
from .tokenizers import Tokenizer


def encode_item(tokenizer: Tokenizer, item: Item) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and those of the answer with its end mark.

    The text is tokenised in one piece, as it would be met; the answer's first token is the first one that
    reaches past the place where the answer begins.
    """
    ids, start = tokenizer.encode_cut(item.text, len(item.prompt))
    return ids[:start], ids[start:]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Fine-tuning examples of some tasks.

    Attributes:
        weights: how often each task is drawn, as a multiple of the others.
        held_out: token ids that no example may contain; an example that does is drawn again.
        dummy: the token that an objective may put where nothing is known yet.
    """

    tokenizer: Tokenizer
    tasks: tuple[Task, ...]
    weights: tuple[float, ...]
    held_out: frozenset[int]
    context: int
    objective: Objective
    dummy: int

    def item(self, *key: int | str) -> tuple[Item, list[int], list[int]]:
        """One item with the ids of its prompt and of its answer, as a function of the key alone.

        Raises BadInput for an example that is longer than the context.
        """
        for attempt in range(1000):
            rng = stream("question", *key, attempt)
            task = self._task(rng)
            item = task.draw(task.splits[0].name, rng)
            text = item.text
            ids, start = self.tokenizer.encode_cut(text, len(item.prompt))
            if self.held_out.isdisjoint(ids):
                break
        else:
            raise BadInput(
                "a thousand questions in a row contained a held-out token: choose other tasks, or a larger "
                "vocab_size."
            )
        if len(ids) > self.context + 1:
            raise BadInput(
                f"a question has {len(ids)} tokens, the context {self.context}: choose a larger "
                f"finetune_context, or the compact wording. The question: {text!r}"
            )
        return item, ids[:start], ids[start:]

    def _task(self, rng: Random) -> Task:
        return rng.choice(self.tasks) if self._alike else rng.choices(self.tasks, self.weights)[0]

    @cached_property
    def _alike(self) -> bool:
        return len(set(self.weights)) == 1

    def example(self, *key: int | str) -> Example:
        return self.arrange(*self.item(*key))

    def arrange(self, item: Item, prompt: list[int], answer: list[int]) -> Example:
        """As the objective does. Raises BadInput for an item that it cannot train on."""
        running = self._running(item, prompt) if self.objective.needs_running else ()
        return self.objective.arrange(Question(prompt, answer, self.dummy, running))

    def _running(self, item: Item, prompt: list[int]) -> list[int]:
        """The tokens of an item's running answers; the last tokens of the prompt are what they answer.

        Raises BadInput where there are none, or where they or the symbols before them are not a token each.
        """
        if not item.running:
            raise BadInput(
                "the objective every_prefix wants tasks in which each beginning of a question is a question, "
                f"such as counting; this one is not: {item.text!r}"
            )
        n = len(item.running)
        opening, *symbols = item.prompt.rsplit(" ", n)
        counted = map(add, symbols, item.running)  # a1 b1 b2
        ids = self.tokenizer.encode(" ".join([opening, *counted]))
        if len(ids) != len(prompt) + n or ids[-2 * n :: 2] != prompt[-n:]:
            raise BadInput(
                "the objective every_prefix wants symbols and counts that are one token each, in this "
                f"vocabulary they are not: use a larger vocab_size. The question: {item.text!r}"
            )
        return ids[-2 * n + 1 :: 2]

    def batches(self, batch_size: int, *key: int | str) -> BatchAt:
        return lambda k: pad_examples(
            [self.example(*key, k * batch_size + row) for row in range(batch_size)]
        )
