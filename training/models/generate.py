"""Greedy decoding in batches with a key-value cache, and log-likelihoods of continuations.

Prompts of equal length are batched without padding. If there are few of a length and the model
supports padding, prompts of similar length are batched with padding on the left. A long prefix that
all prompts of a batch share, such as the examples of a few-shot prompt, is encoded once.

Axes: B rows, T tokens per forward pass, S tokens so far, N tokens of all continuations,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import BadInput

from .language_model import LanguageModel

_ROWS, _TOKENS = 512, 32_768  # largest batch, in prompts and in tokens of prompts
_FULL = 64  # rows above which padding for more rows does not pay: larger batches are hardly faster
_SCORED_ROWS, _SCORED_TOKENS = 64, 8_192  # largest batch for likelihoods, padding included
SHARED = 16  # tokens of a prefix above which encoding it once pays

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and a continuation, not empty


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    context: int,
    progress: Callable[[int], object] | None = None,
    keep_stop: bool = False,
) -> list[list[int]]:
    """Generate tokens after each prompt, up to the first token in `stop`.

    [[5, 6], [9]] -> [[7, 8], [4]]

    Arguments:
        context: the longest row, prompt and answer together.
        progress: called with the number of prompts after each batch.
        keep_stop: include the token in `stop`, which may hold the last letters of an answer too.

    Raises BadInput before it generates for a prompt that is empty or does not fit the context.
    """
    check_prompts(prompts, max_new_tokens, context)
    answers: list[list[int]] = [[] for _ in prompts]
    with evaluating(model):
        for numbers in chunks(prompts, padded=model.pads):
            together = [prompts[number] for number in numbers]
            for row, token in _continue(model, together, max_new_tokens, set(stop), keep_stop):
                answers[numbers[row]].append(token)
            if progress is not None:
                progress(len(numbers))
    return answers


def check_prompts(prompts: Sequence[Sequence[int]], max_new_tokens: int, context: int) -> None:
    """Raise BadInput if a prompt is empty, or does not fit the context with its answer."""
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise BadInput(f"prompt {number} is empty: a prompt needs at least one token.")
        if len(prompt) + max_new_tokens > context:
            raise BadInput(
                f"prompt {number} has {len(prompt)} tokens and the answer up to {max_new_tokens}, "
                f"but the context is {context}: shorten the prompt, or train with a larger "
                "finetune_context."
            )


def chunks(prompts: Sequence[Sequence[int]], padded: bool = False) -> Iterator[list[int]]:
    """Indices of the prompts of each batch: prompts of equal length, at most _ROWS.

    If `padded`, batches of fewer than _FULL rows are filled with prompts of up to twice the length.
    """

    def joins(batch: list[int], number: int) -> bool:
        length, shortest, longest = (len(prompts[n]) for n in (number, batch[0], batch[-1]))
        if len(batch) == _ROWS or (len(batch) + 1) * length > _TOKENS:
            return False
        return length == longest or (padded and len(batch) < _FULL and length <= 2 * shortest)

    return _grouped(sorted(range(len(prompts)), key=lambda n: len(prompts[n])), joins)


def _grouped(numbers: list[int], joins: Callable[[list[int], int], bool]) -> Iterator[list[int]]:
    """Split numbers, in their order, into batches; `joins` decides if a batch takes the next."""
    batch: list[int] = []
    for number in numbers:
        if batch and not joins(batch, number):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode within the block, and back into its mode after it."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def num_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix of all prompts, without the last token of each.

    [[5, 6, 7, 8], [5, 6, 9]] -> 2
    """
    # in lexicographic order, every other prompt shares at least the prefix of these two
    first, last = min(prompts, key=list), max(prompts, key=list)
    shortest = min(map(len, prompts)) - 1
    return next((place for place in range(shortest) if first[place] != last[place]), shortest)


def last_places(ids_BT: Tensor) -> Tensor:
    """A mask that keeps the last position of each row."""
    last_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    last_BT[:, -1] = True
    return last_BT


def _continue(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: set[int],
    keep_stop: bool,
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) for each new token; rows that have stopped leave the batch."""
    device = next(model.parameters()).device
    rows, longest = list(range(len(prompts))), max(map(len, prompts))
    shared = num_shared(prompts)
    # repeating the cache has a price, too
    if len(rows) == 1 or shared < SHARED or not model.shares:
        shared = 0
    padding = [longest - len(prompt) for prompt in prompts]
    cache, real_BS = model.new_cache(), None
    if any(padding):
        # padding goes between the shared prefix, which is cached once, and the rest
        real = [
            [True] * shared + [False] * gap + [True] * (longest - shared - gap) for gap in padding
        ]
        real_BS = torch.tensor(real, device=device)
    if shared:
        first_BT = torch.tensor([list(prompts[0][:shared])], device=device)
        # no position is kept, so no logits are computed: only the cache is needed
        model(first_BT, torch.zeros_like(first_BT, dtype=torch.bool), cache)
        model.repeat_row(cache, len(rows))
    own = [[0] * gap + list(prompt[shared:]) for gap, prompt in zip(padding, prompts, strict=True)]
    ids_BT = torch.tensor(own, device=device)
    for _ in range(max_new_tokens):
        next_B = model(ids_BT, last_places(ids_BT), cache, real_BS).argmax(-1)
        tokens = next_B.tolist()
        # stopped rows would cost as much as running ones
        going = [place for place, token in enumerate(tokens) if token not in stop]
        shown = range(len(rows)) if keep_stop else going
        yield from ((rows[place], tokens[place]) for place in shown)
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            kept = torch.tensor(going, device=device)
            next_B = next_B[kept]
            real_BS = None if real_BS is None else real_BS[kept]
            model.drop_rows(cache, kept)
        # from here on, one new token per row
        ids_BT = next_B[:, None]
        real_BS = None if real_BS is None else F.pad(real_BS, (0, 1), value=True)


def log_likelihoods(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The log-likelihood of each continuation in nats, summed over its tokens.

    [([5, 6], [7, 8]), ([5, 6], [9])] -> [-3.1, -2.4]
    """

    def taken(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return logits_NV.log_softmax(-1).gather(1, targets_N[:, None]).squeeze(1)

    return [float(of_pair.sum()) for of_pair in _per_token(model, pairs, taken)]


def greedy_tokens(model: LanguageModel, pairs: Sequence[Pair]) -> list[list[int]]:
    """The most likely token at each place of each continuation, after the right tokens before it.

    [([5, 6], [7, 8])] -> [[7, 3]]: greedy decoding writes 7 and then 3, so not this continuation
    """
    found = _per_token(model, pairs, lambda logits_NV, targets_N: logits_NV.argmax(-1))
    return [of_pair.tolist() for of_pair in found]


@torch.no_grad()
def _per_token(
    model: LanguageModel, pairs: Sequence[Pair], value: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Return value(logits_NV, targets_N) of the tokens of each continuation, pair by pair.

    Rows of similar length are batched with padding on the right, which no earlier token of a causal
    model attends to.
    """
    lengths = [sum(map(len, pair)) for pair in pairs]

    def joins(batch: list[int], number: int) -> bool:
        tokens = (len(batch) + 1) * lengths[batch[0]]
        return len(batch) < _SCORED_ROWS and tokens <= _SCORED_TOKENS

    found: dict[int, Tensor] = {}
    with evaluating(model):
        # longest first: a lack of memory shows at once
        for batch in _grouped(sorted(range(len(pairs)), key=lambda n: -lengths[n]), joins):
            values_N = value(*_logits(model, [pairs[number] for number in batch]))
            first = 0
            for number in batch:
                last = first + len(pairs[number][1])
                found[number], first = values_N[first:last], last
    return [found[number] for number in range(len(pairs))]


def _logits(model: LanguageModel, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    # the last token of a continuation is no input
    width = max(len(prompt) + len(after) - 1 for prompt, after in pairs)
    ids_BT = torch.zeros(len(pairs), width, dtype=torch.long)
    keep_BT = torch.zeros(len(pairs), width, dtype=torch.bool)
    for row, (prompt, after) in enumerate(pairs):
        read = [*prompt, *after[:-1]]  # the last token needs no prediction after it
        ids_BT[row, : len(read)] = torch.tensor(read)
        keep_BT[row, len(prompt) - 1 : len(read)] = True
    # continuations have different lengths, so their tokens are one flat list
    targets_N = torch.tensor([token for _, after in pairs for token in after], device=device)
    return model(ids_BT.to(device), keep_BT.to(device)).float(), targets_N
