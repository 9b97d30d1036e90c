"""Questions as rows of token ids: drawn from the tasks and encoded, without held-out tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import add
from typing import NamedTuple

from synthetic_tasks import Item, Task, stream
from training.errors import BadInput
from training.models.objectives import EncodedQuestion, Example, Objective

from .batches import Batch, BatchAt, pad_examples
from .tokenizers import Tokenizer


def encode_item(tokenizer: Tokenizer, item: Item) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and the ids of the answer with its end mark.

    The whole text is encoded at once, as in running text: a prompt and an answer encoded separately
    would get other tokens at the seam. The answer's first token is the first one that ends after
    the prompt.
    """
    ids, start = tokenizer.encode_cut(item.text, len(item.prompt))
    return ids[:start], ids[start:]


class WholeWords(NamedTuple):
    """Words of several tokens that are one token each in a share of the training questions.

    The ids follow the vocabulary; `CharEmbedding.whole_words` gives them vectors.

    Attributes:
        ids: by word.
        share: of the questions about such a word.
    """

    ids: dict[str, int]
    share: float

    def joined(self, prompt: list[int], word: str, pieces: list[int]) -> list[int]:
        """The prompt with the last occurrence of the word's pieces as one token."""
        for start in range(len(prompt) - len(pieces), -1, -1):
            if prompt[start : start + len(pieces)] == pieces:
                return [*prompt[:start], self.ids[word], *prompt[start + len(pieces) :]]
        return prompt


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Fine-tuning examples of some tasks.

    Attributes:
        weights: relative frequency of each task.
        held_out: token ids that no example may contain; an example with one of them is drawn again.
        dummy: the token that an objective may put at positions that are not known yet.
        whole: words that are one token each in a share of the examples; None for none.
    """

    tokenizer: Tokenizer
    tasks: tuple[Task, ...]
    weights: tuple[float, ...]
    held_out: frozenset[int]
    context: int
    objective: Objective
    dummy: int
    whole: WholeWords | None = None

    def item(self, *key: int | str) -> tuple[Item, list[int], list[int]]:
        """An item with the ids of its prompt and of its answer, as a function of the key alone."""
        return self._drawn(*key)[1:]

    def _drawn(self, *key: int | str) -> tuple[Task, Item, list[int], list[int]]:
        """A task, and an item of it with the ids of its prompt and of its answer.

        Raises BadInput for an example that is longer than the context, and if 1,000 draws in a row
        contain a held-out token.
        """
        for attempt in range(1000):
            # each attempt has its own stream, so an item depends on nothing but its key
            rng = stream("question", *key, attempt)
            # subtle: choice and choices draw different numbers; runs without weights used choice
            equal = len(set(self.weights)) == 1
            task = rng.choice(self.tasks) if equal else rng.choices(self.tasks, self.weights)[0]
            item = task.draw(task.splits[0].name, rng)
            prompt, answer = encode_item(self.tokenizer, item)
            # a held-out token in any example would make the split unseen_tokens a lie
            if self.held_out.isdisjoint(prompt + answer):
                break
        else:
            raise BadInput(
                "a thousand questions in a row contained a held-out token: choose other tasks, or "
                "a larger vocab_size."
            )
        # one more than the context: the last token is only a target
        if (length := len(prompt + answer)) > self.context + 1:
            raise BadInput(
                f"a question has {length} tokens, the context {self.context}: choose a larger "
                f"finetune_context, or wording 'compact'. The question: {item.text!r}"
            )
        return task, item, prompt, answer

    def arrange(self, item: Item, prompt: list[int], answer: list[int]) -> Example:
        """Make the objective's training example of an item. Raises BadInput if it cannot."""
        running = self._running(item, prompt) if self.objective.needs_running else ()
        return self.objective.arrange(EncodedQuestion(prompt, answer, self.dummy, running))

    def _running(self, item: Item, prompt: list[int]) -> list[int]:
        """The tokens of an item's running answers, one for each last token of the prompt."""
        if not item.running:
            raise BadInput(
                "objective is 'every_prefix', which needs a task whose questions have an answer "
                f"after each symbol, such as counting; this question has none: {item.text!r}"
            )
        n = len(item.running)
        opening, *symbols = item.prompt.rsplit(" ", n)
        # each answer is written behind its symbol, as "a1 b1 b2", and encoded there
        ids = self.tokenizer.encode(" ".join([opening, *map(add, symbols, item.running)]))
        if len(ids) != len(prompt) + n or ids[-2 * n :: 2] != prompt[-n:]:
            raise BadInput(
                "objective is 'every_prefix', which needs symbols and counts of one token each, "
                "and this vocabulary has longer ones: use a larger vocab_size. The question: "
                f"{item.text!r}"
            )
        return ids[-2 * n + 1 :: 2]

    def batches(self, batch_size: int, *key: int | str) -> BatchAt:
        """The batches of a phase, each a function of its number."""

        def batch_at(k: int) -> Batch:
            # rows are numbered through all batches, so each has its own random stream
            keys = [(*key, k * batch_size + row) for row in range(batch_size)]
            drawn = [self._drawn(*each) for each in keys]
            batch = pad_examples([self.arrange(*each[1:]) for each in drawn])
            if self.whole is None:
                return batch
            rows = [
                self.arrange(item, self._whole(task, item, prompt, *each), answer)
                for each, (task, item, prompt, answer) in zip(keys, drawn, strict=True)
            ]
            # the same questions, in other tokens
            return replace(pad_examples(rows), shared=batch)

        return batch_at

    def _whole(self, task: Task, item: Item, prompt: list[int], *key: int | str) -> list[int]:
        """The prompt, in a share of the questions with its word as one token."""
        assert self.whole is not None
        subject = task.subject(item)
        if subject is None or subject.word not in self.whole.ids:
            return prompt
        if stream("whole words", *key).random() >= self.whole.share:
            return prompt
        return self.whole.joined(prompt, subject.word, self.tokenizer.encode_word(subject.word))
