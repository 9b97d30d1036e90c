"""Greedy answers, many at a time, with a key-value cache.

Prompts of equal length are answered together, so there is no padding and no mask: each row sees exactly what it would
see alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from .decoder import Cache

ROWS = 512  # prompts answered together


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[int] = (),
    context: int,
    progress: Callable[[int], object] | None = None,
) -> list[list[int]]:
    """The tokens that the model writes after each prompt, up to and without the first one in `stop`.

    [[5, 6], [9]] -> [[7, 8], [4]]; `progress` is told the number of prompts each time some are answered.

    Raises ValueError for an empty prompt and for one that leaves no room in the context, before anything is generated.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} is empty: a prompt needs at least one token.")
        if len(prompt) + max_new_tokens > context:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens and the answer up to {max_new_tokens}, the context only {context}: "
                f"shorten the prompt, or train with a larger finetune_context."
            )
        by_length[len(prompt)].append(number)
    device = next(model.parameters()).device
    answers: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    for numbers in by_length.values():
        for first in range(0, len(numbers), ROWS):
            chunk = numbers[first : first + ROWS]
            ids_BT = torch.tensor([list(prompts[number]) for number in chunk], device=device)
            for row, token in _continue(model, ids_BT, max_new_tokens, set(stop)):
                answers[chunk[row]].append(token)
            if progress is not None:
                progress(len(chunk))
    model.train(was_training)
    return answers


def _continue(model: nn.Module, ids_BT: Tensor, max_new_tokens: int, stop: set[int]) -> Iterator[tuple[int, int]]:
    """(row, token) for each new token; rows that have stopped leave the batch."""
    rows = list(range(len(ids_BT)))
    cache: Cache = []
    for _ in range(max_new_tokens):
        last_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        last_BT[:, -1] = True
        next_B = model(ids_BT, last_BT, cache).argmax(-1)
        tokens = next_B.tolist()
        going = [place for place, token in enumerate(tokens) if token not in stop]
        yield from ((rows[place], tokens[place]) for place in going)
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            kept = torch.tensor(going, device=ids_BT.device)
            next_B = next_B[kept]
            cache[:] = [(k[kept], v[kept]) for k, v in cache]
        ids_BT = next_B[:, None]
