"""How likely a model finds each of some continuations of a prompt.

Axes: B rows, T tokens per row, N tokens of all continuations, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .generate import evaluating
from .language_model import LanguageModel

TOKENS = 8_192  # read together, padding included
ROWS = 64  # read together

Pair = tuple[Sequence[int], Sequence[int]]  # a prompt and what may follow it, both not empty


@torch.no_grad()
def log_likelihoods(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The sum of the log-probabilities (nats) of the tokens of each continuation, given what is before them.

    [([5, 6], [7, 8]), ([5, 6], [9])] -> [-3.1, -2.4]

    Rows are padded on their right, where no token of a causal model looks, with others of about their length.
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
    """The numbers of pairs that are read together, longest first: so what is too much fails at once."""
    batch: list[int] = []
    for number in sorted(range(len(pairs)), key=lambda n: -sum(map(len, pairs[n]))):
        longest = sum(map(len, pairs[batch[0] if batch else number]))
        if batch and (len(batch) == ROWS or (len(batch) + 1) * longest > TOKENS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _sums(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    device = next(model.parameters()).device
    width = max(len(prompt) + len(after) - 1 for prompt, after in pairs)
    ids_BT = torch.zeros(len(pairs), width, dtype=torch.long)
    keep_BT = torch.zeros(len(pairs), width, dtype=torch.bool)
    for row, (prompt, after) in enumerate(pairs):
        read = [*prompt, *after[:-1]]  # the last token is predicted, and predicts nothing
        ids_BT[row, : len(read)] = torch.tensor(read)
        keep_BT[row, len(prompt) - 1 : len(read)] = True
    logits_NV = model(ids_BT.to(device), keep_BT.to(device)).float()
    targets_N = torch.tensor([token for _, after in pairs for token in after], device=device)
    taken_N = logits_NV.log_softmax(-1).gather(1, targets_N[:, None]).squeeze(1)
    return [float(part.sum()) for part in taken_N.split([len(after) for _, after in pairs])]
