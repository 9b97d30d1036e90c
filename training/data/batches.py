"""Batch k of a run, a function of (seed, k) alone: resuming needs no replay, two arms see the same tokens.

Axes: B rows, T tokens per row, N tokens drawn from the vocabulary.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from synthetic_tasks import stream
from training.errors import BadInput
from training.models.objectives import Example


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and the tokens that should come out; the loss counts where `keep_BT` is true, or everywhere.

    Attributes:
        spelled_N: tokens whose letters are to be read from their vectors.
    """

    ids_BT: Tensor
    targets_BT: Tensor
    keep_BT: Tensor | None = None
    kind: str = "text"
    spelled_N: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.ids_BT, self.targets_BT, self.keep_BT, self.spelled_N

    @property
    def num_targets(self) -> int:
        return self.targets_BT.numel() if self.keep_BT is None else int(self.keep_BT.sum())

    def rows(self, first: int, step: int) -> Batch:
        """Every `step`-th row from `first` on: one process's share."""
        keep, spelled = (
            None if tensor is None else tensor[first::step]
            for tensor in (self.keep_BT, self.spelled_N)
        )
        ids, targets = self.ids_BT[first::step], self.targets_BT[first::step]
        return Batch(ids, targets, keep, self.kind, spelled)

    def digest(self, before: str) -> str:
        """A hash that runs through all batches of a run: equal at the end means equal all along."""
        seen = hashlib.sha256(
            before.encode() + self.ids_BT.numpy().tobytes() + self.targets_BT.numpy().tobytes()
        )
        if self.spelled_N is not None:
            seen.update(self.spelled_N.numpy().tobytes())
        return seen.hexdigest()


SPELLING_TOKENS = 256  # drawn from the vocabulary in each step with a spelling loss

BatchAt = Callable[[int], Batch]


def text_batches(ids: Tensor, batch_size: int, context: int, *key: int | str) -> BatchAt:
    """Windows of running text, at places drawn from (key, k).

    Raises BadInput when the text is shorter than one window.
    """
    if len(ids) <= context:
        raise BadInput(
            f"the text has {len(ids)} tokens, too few for rows of {context} and the next one: use more text "
            "or a smaller context."
        )

    def batch_at(k: int) -> Batch:
        rng = stream("text", *key, k)
        starts = torch.tensor([rng.randrange(len(ids) - context) for _ in range(batch_size)])
        windows = ids[starts[:, None] + torch.arange(context + 1)].long()
        return Batch(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())

    return batch_at


def pad_examples(examples: list[Example]) -> Batch:
    """Rows of different lengths as one batch; only the predictions of answer tokens are kept.

    inputs [5, 6, 7, 8], targets [6, 7, 8], from 1 on -> inputs [5, 6, 7], targets [6, 7, 8], keep [False,
    True, True]
    """
    longest = max(len(example.targets) for example in examples)
    padding = [0] * longest
    numbers = array(
        "q"
    )  # torch takes it over as it is; reading lists of lists takes it three times as long
    for inputs, targets, first in examples:
        numbers.extend(
            (inputs + padding)[:longest] + (targets + padding)[:longest] + [first, len(targets)]
        )
    table = torch.frombuffer(numbers, dtype=torch.long).view(len(examples), -1)
    places, firsts, ends = torch.arange(longest), table[:, -2:-1], table[:, -1:]
    ids_BT, targets_BT = table[:, :longest].contiguous(), table[:, longest:-2].contiguous()
    return Batch(ids_BT, targets_BT, (places >= firsts) & (places < ends), "question")


def with_other_tokens(batch_at: BatchAt, ids_L: Tensor, *key: int | str) -> BatchAt:
    """The same batches, half of the tokens of every second row replaced by tokens drawn from `ids_L`.

    What should come out stays: such rows are for asking what another model says of them.
    """

    def replacing(k: int) -> Batch:
        batch, generator = batch_at(k), _generator("other tokens", *key, k)
        ids_BT = batch.ids_BT.clone()
        odd_BT = ids_BT[1::2]
        drawn_BT = ids_L[torch.randint(len(ids_L), odd_BT.shape, generator=generator)]
        ids_BT[1::2] = torch.where(
            torch.rand(odd_BT.shape, generator=generator) < 0.5, drawn_BT, odd_BT
        )
        return replace(batch, ids_BT=ids_BT)

    return replacing


def mixed_batches(questions: BatchAt, texts: Sequence[BatchAt], replay_share: float) -> BatchAt:
    """Mostly questions; a fixed share of the steps, evenly spread, goes on with text, the texts in turn."""

    def batch_at(k: int) -> Batch:
        before, after = int(k * replay_share), int((k + 1) * replay_share)
        return texts[before % len(texts)](k) if after > before else questions(k)

    return batch_at


def spelling_batches(ids_L: Tensor, batch_size: int, *key: int | str) -> BatchAt:
    """Tokens drawn from all that have letters, and no rows: for the spelling loss alone."""
    nothing = torch.zeros(0, 1, dtype=torch.long)
    return lambda k: Batch(
        nothing, nothing, kind="spelling", spelled_N=_drawn(ids_L, batch_size, *key, k)
    )


def with_spelling(batch_at: BatchAt, ids_L: Tensor, num_tokens: int, *key: int | str) -> BatchAt:
    """The same batches, each with tokens whose letters are to be read from their vectors."""
    return lambda k: replace(batch_at(k), spelled_N=_drawn(ids_L, num_tokens, *key, k))


def _drawn(ids_L: Tensor, n: int, *key: int | str) -> Tensor:
    return ids_L[torch.randperm(len(ids_L), generator=_generator("spelling", *key))[:n]]


def _generator(*key: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(stream(*key).getrandbits(63))
