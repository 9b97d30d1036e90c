"""Log-likelihoods of continuations of prompts.

Axes: B rows, T tokens per row, N tokens of all continuations, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .generate import evaluating
from .language_model import LanguageModel

_TOKENS = 8_192  # per batch, padding included
_ROWS = 64  # per batch

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and a continuation, not empty


@torch.no_grad()
def log_likelihoods(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The log-likelihood of each continuation in nats: the sum over its tokens, each given all
    before it.

    [([5, 6], [7, 8]), ([5, 6], [9])] -> [-3.1, -2.4]

    Rows of similar length are batched with padding on the right, which no earlier token of a causal
    model attends to.
    """
    found = [0.0] * len(pairs)
    with evaluating(model):
        for numbers in _batches(pairs):
            for number, value in zip(
                numbers, _sums(model, [pairs[n] for n in numbers]), strict=True
            ):
                found[number] = value
    return found


def _batches(pairs: Sequence[Pair]) -> Iterator[list[int]]:
    """Indices of the pairs of each batch, longest first: a lack of memory shows at once."""
    batch: list[int] = []
    for number in sorted(range(len(pairs)), key=lambda n: -sum(map(len, pairs[n]))):
        longest = sum(map(len, pairs[batch[0] if batch else number]))
        if batch and (len(batch) == _ROWS or (len(batch) + 1) * longest > _TOKENS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _sums(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    device = next(model.parameters()).device
    # the last token of a continuation is no input
    width = max(len(prompt) + len(after) - 1 for prompt, after in pairs)
    ids_BT = torch.zeros(len(pairs), width, dtype=torch.long)
    keep_BT = torch.zeros(len(pairs), width, dtype=torch.bool)
    for row, (prompt, after) in enumerate(pairs):
        read = [*prompt, *after[:-1]]  # the last token needs no prediction after it
        ids_BT[row, : len(read)] = torch.tensor(read)
        keep_BT[row, len(prompt) - 1 : len(read)] = True
    logits_NV = model(ids_BT.to(device), keep_BT.to(device)).float()
    targets_N = torch.tensor([token for _, after in pairs for token in after], device=device)
    # continuations have different lengths, so their tokens are one flat list
    taken_N = logits_NV.log_softmax(-1).gather(1, targets_N[:, None]).squeeze(1)
    return [float(part.sum()) for part in taken_N.split([len(after) for _, after in pairs])]
