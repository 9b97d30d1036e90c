"""Greedy decoding in batches with a key-value cache, and log-likelihoods of continuations.

Prompts of equal length are batched without padding. If there are few of a length and the model
supports padding, prompts of similar length are batched with padding on the left. A long prefix that
several prompts of a batch share, such as the examples of a few-shot prompt, is encoded once.

Axes: B rows, T tokens per forward pass, S tokens so far, N tokens of all continuations,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import BadInput

from .language_model import LanguageModel

_ROWS, _TOKENS = 512, 32_768  # largest batch, in prompts and in tokens of prompts
_FULL = 64  # rows above which padding for more rows does not pay: larger batches are hardly faster
_SCORED_ROWS, _SCORED_TOKENS = 64, 8_192  # largest batch for likelihoods, padding included
SHARED = 16  # tokens of a prefix above which encoding it once pays
# stopped rows are dropped when they are an eighth of the batch: dropping copies the cache
_DROPPED = 8

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and a continuation, not empty


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    stop: Collection[int] | Sequence[Collection[int]] = (),
    context: int,
    progress: Callable[[int], object] | None = None,
    keep_stop: bool = False,
) -> list[list[int]]:
    """Generate tokens after each prompt, up to the first token in `stop`.

    [[5, 6], [9]] -> [[7, 8], [4]]

    Arguments:
        max_new_tokens, stop: of all prompts, or one for each prompt.
        context: the longest row, prompt and answer together.
        progress: called with the number of prompts after each batch.
        keep_stop: include the token in `stop`, which may hold the last letters of an answer too.

    Raises BadInput before it generates for a prompt that is empty or does not fit the context.
    """
    limits = _each(max_new_tokens, prompts)
    # a collection of ids is one stop, a sequence of collections has one for each prompt
    one_stop = all(isinstance(token, int) for token in stop)
    stops = _each(frozenset(stop) if one_stop else stop, prompts)
    check_prompts(prompts, limits, context)
    answers: list[list[int]] = [[] for _ in prompts]
    with evaluating(model):
        for groups in batches_of(model, prompts):
            rows = [row for group in groups for row in group.rows]
            asked = [Asked(prompts[row], limits[row], stops[row]) for row in rows]
            for place, token in _continue(model, asked, groups, keep_stop):
                answers[rows[place]].append(token)
            if progress is not None:
                progress(len(rows))
    return answers


class Asked(NamedTuple):
    """A prompt with its limit of new tokens and the tokens that end its answer."""

    prompt: Sequence[int]
    limit: int
    stop: Collection[int]


def _each(value: Any, prompts: Sequence[object]) -> Sequence[Any]:
    return value if isinstance(value, Sequence) else [value] * len(prompts)


def check_prompts(
    prompts: Sequence[Sequence[int]], max_new_tokens: int | Sequence[int], context: int
) -> None:
    """Raise BadInput if a prompt is empty, or does not fit the context with its answer."""
    for number, (prompt, limit) in enumerate(
        zip(prompts, _each(max_new_tokens, prompts), strict=True)
    ):
        if not prompt:
            raise BadInput(f"prompt {number} is empty: a prompt needs at least one token.")
        if len(prompt) + limit > context:
            raise BadInput(
                f"prompt {number} has {len(prompt)} tokens and the answer up to {limit}, "
                f"but the context is {context}: shorten the prompt, or train with a larger "
                "finetune_context."
            )


def chunks(
    prompts: Sequence[Sequence[int]], padded: bool = False, slack: int = 0
) -> Iterator[list[int]]:
    """Indices of the prompts of each batch: prompts of equal length, at most _ROWS.

    If `padded`, batches of fewer than _FULL rows are filled with prompts of up to twice the length
    and `slack` tokens more.
    """

    def joins(batch: list[int], number: int) -> bool:
        length, shortest, longest = (len(prompts[n]) for n in (number, batch[0], batch[-1]))
        if len(batch) == _ROWS or (len(batch) + 1) * length > _TOKENS:
            return False
        return length == longest or (
            padded and len(batch) < _FULL and length <= 2 * shortest + slack
        )

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


class Group(NamedTuple):
    """Rows that share a prefix of `shared` tokens: Group([0, 3, 4], 57)."""

    rows: list[int]
    shared: int


def grouped_by_prefix(prompts: Sequence[Sequence[int]]) -> list[Group]:
    """Divide prompts so that encoding each group's prefix once leaves the fewest tokens to encode.

    A group costs SHARED tokens more than it has, because another forward pass has a price, too.
    Prompts that share no long prefix come as groups of one with `shared` 0.
    """
    order = sorted(range(len(prompts)), key=lambda row: list(prompts[row]))
    common = [num_shared([prompts[row] for row in pair]) for pair in pairwise(order)]
    # prompts with a common prefix are neighbours now; the best division of the first n of them is
    # the best division of fewer and one group of the rest
    best: list[tuple[int, int, int]] = [
        (0, 0, 0)
    ]  # tokens, where the last group begins, its prefix
    for end in range(1, len(order) + 1):
        last = prompts[order[end - 1]]
        alone = best[end - 1][0] + len(last), end - 1, 0
        shared, whole, candidates = len(last) - 1, len(last), [alone]
        for first in range(end - 2, -1, -1):
            shared = min(shared, common[first])
            if shared < SHARED:
                break
            whole += len(prompts[order[first]])
            tokens = whole - (end - first - 1) * shared
            candidates.append((best[first][0] + SHARED + tokens, first, shared))
        best.append(min(candidates))
    groups, end = [], len(order)
    while end:
        _, first, shared = best[end]
        groups.append(Group(order[first:end], shared))
        end = first
    return groups[::-1]


def last_places(ids_BT: Tensor) -> Tensor:
    """A mask that keeps the last position of each row."""
    last_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    last_BT[:, -1] = True
    return last_BT


def batches_of(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> Iterator[list[Group]]:
    """The prompts that are decoded together, with their shared prefixes.

    A model that joins caches reads each group by itself, and continues all of them together.
    """
    # a single prompt shares nothing
    if len(prompts) == 1 or not (model.shares and model.joins):
        for rows in chunks(prompts, padded=model.pads):
            shared = num_shared([prompts[row] for row in rows])
            # repeating the cache has a price, too
            pays = len(rows) > 1 and shared >= SHARED and model.shares
            yield [Group(rows, shared if pays else 0)]
        return
    order = sorted(range(len(prompts)), key=lambda row: list(prompts[row]))
    most = max(1, min(_ROWS, _TOKENS // max(map(len, prompts))))
    batch: list[Group] = []
    alone: list[int] = []
    # in parts, because the search for the best division takes the square of their size
    for first in range(0, len(order), _ROWS):
        part = order[first : first + _ROWS]
        for places, shared in grouped_by_prefix([prompts[row] for row in part]):
            rows = [part[place] for place in places]
            if not shared:
                alone += rows
                continue
            # slack: another piece would read the prefix again
            for piece in chunks([prompts[row][shared:] for row in rows], True, slack=SHARED):
                group = Group([rows[place] for place in piece], shared)
                if batch and sum(len(each.rows) for each in batch) + len(piece) > most:
                    yield batch
                    batch = []
                batch.append(group)
    if batch:
        yield batch
    for piece in chunks([prompts[row] for row in alone], padded=True):
        yield [Group([alone[place] for place in piece], 0)]


def _read(
    model: LanguageModel, prompts: Sequence[Sequence[int]], shared: int
) -> tuple[Tensor, Any, Tensor]:
    """Read the prompts of a group. Return the next tokens, the cache, and its real positions."""
    device, cache = next(model.parameters()).device, model.new_cache()
    if shared:
        ids_BT = torch.tensor([list(prompts[0][:shared])], device=device)
        # no position is kept, so no logits are computed: only the cache is needed
        model(ids_BT, torch.zeros_like(ids_BT, dtype=torch.bool), cache)
        model.repeat_row(cache, len(prompts))
    own = [list(prompt[shared:]) for prompt in prompts]
    width = max(map(len, own))
    # padding goes between the prefix and the rest of a row
    real_BS = torch.tensor(
        [[True] * shared + [False] * (width - len(rest)) + [True] * len(rest) for rest in own],
        device=device,
    )
    ids_BT = torch.tensor([[0] * (width - len(rest)) + rest for rest in own], device=device)
    padded = any(len(rest) < width for rest in own)
    logits = model(ids_BT, last_places(ids_BT), cache, real_BS if padded else None)
    return logits.argmax(-1), cache, real_BS


def _continue(
    model: LanguageModel, asked: Sequence[Asked], groups: Sequence[Group], keep_stop: bool
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) for each new token; rows are in the order of the groups.

    Rows that have stopped leave the batch; if the model supports padding, several at once.
    """
    read, first = [], 0
    for group in groups:
        own = asked[first : first + len(group.rows)]
        read.append(_read(model, [each.prompt for each in own], group.shared))
        first += len(own)
    found, caches, reals = zip(*read, strict=True)
    cache, length = caches[0], max(real.shape[1] for real in reals)
    if len(caches) > 1:
        cache = model.join(caches)
    next_B = torch.cat(found)
    whole_BS = torch.cat([F.pad(real, (0, length - real.shape[1])) for real in reals])
    # a model without padding takes no mask
    real_BS = whole_BS if model.pads and not whole_BS.all() else None
    del read, caches, found
    rows, going = list(range(len(asked))), [True] * len(asked)
    for step in range(1, max(each.limit for each in asked) + 1):
        for place, (row, token) in enumerate(zip(rows, next_B.tolist(), strict=True)):
            stops = token in asked[row].stop
            if going[place] and (keep_stop or not stops):
                yield row, token
            going[place] &= not stops and step < asked[row].limit
        if not any(going):
            return
        stopped = going.count(False)
        if stopped and (not model.pads or _DROPPED * stopped >= len(rows)):
            kept = torch.tensor([n for n, goes in enumerate(going) if goes], device=next_B.device)
            rows, going = [rows[place] for place in kept.tolist()], [True] * len(kept)
            next_B, real_BS = next_B[kept], None if real_BS is None else real_BS[kept]
            model.drop_rows(cache, kept)
        elif stopped and real_BS is None:
            real_BS = torch.ones(len(rows), length, dtype=torch.bool, device=next_B.device)
        length += 1
        if real_BS is not None:
            # the new tokens of stopped rows are padding: their positions stay within the context
            real_BS = torch.cat([real_BS, next_B.new_tensor(going, dtype=torch.bool)[:, None]], 1)
        # from here on, one new token per row
        ids_BT = next_B[:, None]
        next_B = model(ids_BT, last_places(ids_BT), cache, real_BS).argmax(-1)


def log_likelihoods(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The log-likelihood of each continuation in nats, summed over its tokens.

    [([5, 6], [7, 8]), ([5, 6], [9])] -> [-3.1, -2.4]
    """

    def taken(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return logits_NV.log_softmax(-1).gather(1, targets_N[:, None]).squeeze(1)

    return [float(of_pair.sum()) for of_pair in _per_token(model, pairs, taken)]


def log_likelihoods_with_end(
    model: LanguageModel, pairs: Sequence[Pair], ends_V: Tensor
) -> list[tuple[float, float]]:
    """The log-likelihood of each continuation, and that of an end behind it, in nats.

    [([5, 6], [7, 8])], ends_V -> [(-3.1, -0.2)]: the next token is one of `ends_V` with exp(-0.2)

    Arguments:
        ends_V: true for each token that ends a continuation (V,), such as those that do not begin
            with a letter, behind a word.
    """
    device = next(model.parameters()).device
    others_V = torch.zeros(len(ends_V)).masked_fill(~ends_V, -torch.inf).to(device)

    def taken(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        logs_NV = logits_NV.log_softmax(-1)
        ends_N = (logs_NV + others_V).logsumexp(-1)
        return torch.stack([logs_NV.gather(1, targets_N[:, None]).squeeze(1), ends_N], 1)

    # one more token, which is never read, so that there is a prediction behind the last one
    longer = [(prompt, [*after, after[-1]]) for prompt, after in pairs]
    found = _per_token(model, longer, taken)
    return [(float(one[:-1, 0].sum()), float(one[-1, 1])) for one in found]


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
