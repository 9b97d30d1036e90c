"""Batches of token ids. Batch k of a phase is a function of (seed, k) alone.

So a resumed run needs no replay of earlier batches, and two arms train on the same tokens.

Axes: B rows, T tokens per row, N tokens drawn from the vocabulary, L a list of token ids.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from synthetic_tasks import stream
from training.errors import BadInput
from training.models.objectives import Example

from .ids import windows


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and targets of one training step.

    Attributes:
        ids_BT, targets_BT: the inputs, and the token that each position should predict.
        keep_BT: the positions that count in the loss; None for all.
        kind: of the rows: "text", "question" or "spelling".
        spelled_N: tokens for the spelling loss, if there is one.
        among_M: of a part of a batch, the tokens for the spelling loss of the whole batch.
        shared: the batch of the other arms, if this one was made of it for a rival (rivals.py).
    """

    ids_BT: Tensor
    targets_BT: Tensor
    keep_BT: Tensor | None = None
    kind: str = "text"
    spelled_N: Tensor | None = None
    among_M: Tensor | None = None
    shared: Batch | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.ids_BT, self.targets_BT, self.keep_BT, self.spelled_N, self.among_M

    @property
    def num_targets(self) -> int:
        return self.targets_BT.numel() if self.keep_BT is None else int(self.keep_BT.sum())

    @property
    def num_tokens(self) -> int:
        """The tokens of all rows that the model reads, prompts included, padding not."""
        if self.keep_BT is None:
            return self.ids_BT.numel()
        # the loss keeps the last token of a row, and padding comes behind it
        places = torch.arange(1, self.keep_BT.shape[1] + 1)
        return int((self.keep_BT * places).amax(1).sum())

    @property
    def shares(self) -> int:
        """The largest number of parts that `rows` can make without an empty one."""
        rows, spelled = len(self.ids_BT), 0 if self.spelled_N is None else len(self.spelled_N)
        return min(rows, spelled) if rows and spelled else rows or spelled

    def rows(self, first: int, step: int) -> Batch:
        """Every `step`-th row from `first` on: the share of one process."""
        if step == 1:
            return self
        tensors = {name: each for name, each in vars(self).items() if isinstance(each, Tensor)}
        parts: dict[str, Any] = {name: each[first::step] for name, each in tensors.items()}
        whole = self.spelled_N if self.among_M is None else self.among_M
        return replace(self, **parts | {"among_M": whole})

    def digest(self, before: str) -> str:
        """Continue the hash `before` with this batch.

        If it is equal for two arms at the end of a phase, all their batches were equal, or made of
        equal ones.
        """
        if self.shared is not None:
            return self.shared.digest(before)
        seen = hashlib.sha256(before.encode())
        for tensor in (self.ids_BT, self.targets_BT, self.spelled_N):
            if tensor is not None:
                seen.update(tensor.numpy().tobytes())
        return seen.hexdigest()


BatchAt = Callable[[int], Batch]  # from the number of a step to its batch


def text_batches(ids: Tensor, batch_size: int, context: int, *key: int | str) -> BatchAt:
    """Windows of `context` tokens of running text, at places drawn from (key, k).

    Raises BadInput if the text is shorter than one window and the token after it.
    """
    check_length(ids, context)

    def batch_at(k: int) -> Batch:
        rng = stream("text", *key, k)
        starts = torch.tensor([rng.randrange(len(ids) - context) for _ in range(batch_size)])
        return _rows_of_text(ids, starts, context)

    return batch_at


def _rows_of_text(ids: Tensor, starts: Tensor, context: int) -> Batch:
    rows = windows(ids, starts, context + 1)
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def num_windows(ids: Tensor, context: int) -> int:
    """The windows of `context` tokens, side by side, that have a token after them."""
    return (len(ids) - 1) // context


def steps_of(epochs: float, ids: Tensor, batch_size: int, context: int) -> int:
    """The steps in which each window is read `epochs` times; the last batch is filled up.

    steps_of(1.0, torch.arange(101), 4, 10) -> 3: ten windows, and two of the next epoch
    """
    return math.ceil(epochs * num_windows(ids, context) / batch_size)


def epoch_batches(ids: Tensor, batch_size: int, context: int, *key: int | str) -> BatchAt:
    """Windows of `context` tokens side by side, each once per epoch, in an order drawn from (key, epoch).

    Row r of batch k is number k * batch_size + r of an endless row of epochs, so batch k is a
    function of (key, k), and a batch may hold the end of one epoch and the start of the next.

    Raises BadInput as `text_batches` does.
    """
    check_length(ids, context)
    count = num_windows(ids, context)

    @lru_cache(maxsize=2)  # a batch may need two epochs
    def order(epoch: int) -> Tensor:
        generator = generator_of("epoch", *key, epoch)
        return torch.randperm(count, generator=generator, dtype=torch.int32)

    def batch_at(k: int) -> Batch:
        places = [divmod(k * batch_size + row, count) for row in range(batch_size)]
        chosen = [int(order(epoch)[number]) for epoch, number in places]
        return _rows_of_text(ids, context * torch.tensor(chosen), context)

    return batch_at


def check_length(ids: Tensor, context: int, seen: str = "the text") -> None:
    """Raise BadInput if a text is shorter than one window and the token after it."""
    if len(ids) <= context:
        raise BadInput(
            f"{seen} has {len(ids)} tokens, too few for rows of {context} and the next one: use "
            "more text or a smaller context."
        )


def pad_examples(examples: list[Example]) -> Batch:
    """Put rows of different lengths into one batch; the loss counts the tokens of answers alone.

    inputs [5, 6, 7, 8], targets [6, 7, 8], from 1 on -> inputs [5, 6, 7], targets [6, 7, 8], keep
    [False, True, True]
    """
    longest = max(len(example.targets) for example in examples)
    padding = [0] * longest
    # torch reads an array in place, three times as fast as lists of lists
    numbers = array("q")
    for inputs, targets, first in examples:
        numbers.extend((inputs + padding)[:longest] + (targets + padding)[:longest])
        numbers.extend([first, len(targets)])
    table = torch.frombuffer(numbers, dtype=torch.long).view(len(examples), -1)
    places, firsts, ends = torch.arange(longest), table[:, -2:-1], table[:, -1:]
    ids_BT, targets_BT = table[:, :longest].contiguous(), table[:, longest:-2].contiguous()
    return Batch(ids_BT, targets_BT, (places >= firsts) & (places < ends), "question")


def spelling_batches(ids_L: Tensor, batch_size: int, *key: int | str) -> BatchAt:
    """Batches of tokens drawn from `ids_L` and no rows, for the spelling loss alone."""
    # rows of length one and none of them, so that shapes stay valid
    nothing = torch.zeros(0, 1, dtype=torch.long)
    return lambda k: Batch(
        nothing, nothing, kind="spelling", spelled_N=_drawn(ids_L, batch_size, *key, k)
    )


def with_spelling(batch_at: BatchAt, ids_L: Tensor, num_tokens: int, *key: int | str) -> BatchAt:
    """The same batches, each with tokens drawn from `ids_L` for the spelling loss."""

    def batch_with(k: int) -> Batch:
        batch, spelled_N = batch_at(k), _drawn(ids_L, num_tokens, *key, k)
        # the batch that a rival's is made of gets them too: the other arms read it with them
        shared = batch.shared and replace(batch.shared, spelled_N=spelled_N)
        return replace(batch, spelled_N=spelled_N, shared=shared)

    return batch_with


def _drawn(ids_L: Tensor, n: int, *key: int | str) -> Tensor:
    return ids_L[torch.randperm(len(ids_L), generator=generator_of("spelling", *key))[:n]]


def generator_of(*key: int | str) -> torch.Generator:
    """A torch generator seeded by a key, like `synthetic_tasks.stream` for Python's."""
    return torch.Generator().manual_seed(stream(*key).getrandbits(63))
