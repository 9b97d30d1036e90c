"""Batch k of a run, as a function of (seed, k) alone: resuming needs no replay, and two arms see the same tokens.

Axes: B rows, T tokens per row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import tiktoken
import torch
from torch import Tensor

from synthetic_tasks import Item, Task, stream


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and the tokens that should follow them; the loss counts where `keep_BT` is true (everywhere if None)."""

    ids_BT: Tensor
    targets_BT: Tensor
    keep_BT: Tensor | None = None
    kind: str = "text"

    @property
    def num_targets(self) -> int:
        return self.targets_BT.numel() if self.keep_BT is None else int(self.keep_BT.sum())

    def rows(self, first: int, step: int) -> Batch:
        """Every `step`-th row from `first` on: one process's share."""
        keep = None if self.keep_BT is None else self.keep_BT[first::step]
        return Batch(self.ids_BT[first::step], self.targets_BT[first::step], keep, self.kind)

    def digest(self, before: str) -> str:
        """A hash that runs through all batches of a run: equal at the end means equal all along."""
        return hashlib.sha256(before.encode() + self.ids_BT.numpy().tobytes() + self.targets_BT.numpy().tobytes()).hexdigest()


BatchAt = Callable[[int], Batch]


def text_batches(ids: Tensor, batch_size: int, context: int, *key: int | str) -> BatchAt:
    """Windows of running text, at places drawn from (key, k).

    Raises ValueError when the text is shorter than one window.
    """
    if len(ids) <= context:
        raise ValueError(f"the text has {len(ids)} tokens, too few for rows of {context} and the next one: use more text or a smaller context.")

    def batch_at(k: int) -> Batch:
        rng = stream("text", *key, k)
        starts = torch.tensor([rng.randrange(len(ids) - context) for _ in range(batch_size)])
        windows = ids[starts[:, None] + torch.arange(context + 1)].long()
        return Batch(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())

    return batch_at


def encode_question(encoding: tiktoken.Encoding, rendered: Item, token_lengths: list[int]) -> tuple[list[int], int]:
    """A question's token ids, and the number of the answer's first token.

    The text is tokenised in one piece, as it would be met; the answer's first token is the first one that reaches past
    the place where the answer begins. `token_lengths` holds the bytes of each id; the text is ASCII.
    """
    ids = encoding.encode_ordinary(rendered.text)
    start, reached = len(rendered.prompt), 0
    for number, token_id in enumerate(ids):
        reached += token_lengths[token_id]
        if reached > start:
            return ids, number
    raise AssertionError(f"no token of {rendered.text!r} reaches past character {start}")


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Rendered and tokenised fine-tuning examples.

    Attributes:
        held_out: token ids that no example may contain; an example that does is drawn again.
    """

    encoding: tiktoken.Encoding
    tasks: tuple[Task, ...]
    token_lengths: list[int]
    held_out: frozenset[int]
    context: int

    def example(self, *key: int | str) -> tuple[list[int], int]:
        """The ids of one example and the number of its answer's first token, as a function of the key alone.

        Raises ValueError for an example that is longer than the context.
        """
        for attempt in range(1000):
            rng = stream("question", *key, attempt)
            task = rng.choice(self.tasks)
            rendered = task.draw(task.splits[0].name, rng)
            ids, start = encode_question(self.encoding, rendered, self.token_lengths)
            if not self.held_out or self.held_out.isdisjoint(ids):
                break
        else:
            raise ValueError("a thousand questions in a row held a held-out token: lower token_share.")
        if len(ids) > self.context + 1:
            raise ValueError(
                f"a question has {len(ids)} tokens, the context {self.context}: choose a larger finetune_context, or the compact "
                f"wording. The question: {rendered.text!r}"
            )
        return ids, start

    def batches(self, batch_size: int, *key: int | str) -> BatchAt:
        return lambda k: pad_examples([self.example(*key, k * batch_size + row) for row in range(batch_size)])


def pad_examples(examples: list[tuple[list[int], int]]) -> Batch:
    """Rows of different lengths as one batch; only the predictions of answer tokens are kept.

    ids [5, 6, 7, 8], answer from number 2 -> inputs [5, 6, 7], targets [6, 7, 8], keep [False, True, True]
    """
    longest = max(len(ids) for ids, _ in examples)
    windows = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in examples])
    starts = torch.tensor([start for _, start in examples])[:, None]
    ends = torch.tensor([len(ids) for ids, _ in examples])[:, None]
    predicted = torch.arange(1, longest)
    keep_BT = (predicted >= starts) & (predicted < ends)
    return Batch(windows[:, :-1].contiguous(), windows[:, 1:].contiguous(), keep_BT, "question")


def mixed_batches(questions: BatchAt, text: BatchAt, replay_share: float) -> BatchAt:
    """Mostly questions; a fixed share of the steps, evenly spread, goes on with text."""

    def batch_at(k: int) -> Batch:
        replays = int((k + 1) * replay_share) > int(k * replay_share)
        return text(k) if replays else questions(k)

    return batch_at
