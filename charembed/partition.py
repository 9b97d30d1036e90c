"""A fixed partition of the vocabulary, so that a part of the vector table equals the whole, bit for bit.

Axes: V vocabulary, U ids of a chunk, D model width.

The last bits of a matrix product may depend on the number of its rows. So a vector is always
computed in the same chunk of ids, whether one chunk is needed or all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .encoder import on_meta
from .spelling import SpellingTable

TOKENS_AT_ONCE = 4_096  # tokens per call of the encoder: bounds the memory of its states
# Tokens of a chunk of a larger vocabulary: few, so that some tokens can be read without the others.
CHUNK = 1_024
_FIRST_CHARS = 12  # the order of the spellings uses these alone

# The order does not depend on weights, so an update of the weights does not sort again.
_orders: WeakKeyDictionary[SpellingTable, Tensor] = WeakKeyDictionary()


def chunks_of(encoder: nn.Module, rows: int) -> list[Tensor]:
    """Return the ids of each chunk, on the CPU; together they are 0 to rows - 1, each once.

    chunks_of(encoder, 50257)[1]     # (1024,) ids of tokens with similar beginnings

    Up to 4,096 rows are one chunk. More rows are divided into chunks of 1,024 ids, in the order of
    their spellings if the encoder has a SpellingTable. The tokens of a chunk then share most of
    their prefixes, and a recurrent encoder takes one step per prefix. The result depends on the
    encoder's spellings and on rows alone.
    """
    ids_V = torch.arange(rows, device="cpu")
    if rows <= TOKENS_AT_ONCE:
        return [ids_V]
    spellings = getattr(encoder, "spellings", None)
    if isinstance(spellings, SpellingTable):
        order_V = _orders.get(spellings)
        if order_V is None or len(order_V) != rows:
            order_V = _orders[spellings] = _by_spelling(spellings, rows)
        ids_V = order_V
    return list(torch.split(ids_V, CHUNK))


def _by_spelling(spellings: SpellingTable, rows: int) -> Tensor:
    """Return the ids 0 to rows - 1 in the order of their first characters; equal ones by id."""
    with torch.device("cpu"):
        lengths_V, starts_V = (
            nn.functional.pad(part, (0, max(0, rows - len(part))))[:rows]
            for part in (spellings.lengths_V, spellings.starts_V)
        )
        # Several characters are the digits of one number. Sorting by the last number first, with a
        # stable sort, gives the order of all of them.
        bits = spellings.num_chars.bit_length()
        at_once = 62 // bits
        order_V = torch.arange(rows)
        for first in reversed(range(0, _FIRST_CHARS, at_once)):
            key_V = torch.zeros(rows, dtype=torch.int64)
            for place in range(first, first + at_once):
                place_V = torch.where(place < lengths_V, starts_V + place, 0)
                # 0 after the end, so a token is before its continuations
                digit_V = torch.where(place < lengths_V, spellings.chars_S[place_V].long() + 1, 0)
                key_V = (key_V << bits) | digit_V
            order_V = order_V[key_V[order_V].argsort(stable=True)]
        return order_V


@contextmanager
def chunk_reader(encoder: nn.Module, like: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the function ids_U (U,) -> vectors (U, D) for one chunk of `chunks_of`.

    with chunk_reader(encoder, embedding.weight) as read:
        vectors_UD = read(chunks_of(encoder, 50257)[0])

    Inside, the encoder is in evaluation mode, without gradients and without autocast. The vectors
    have the dtype and the device of `like`. Raises CharEmbedError if the encoder is on the meta
    device.
    """
    if any(tensor.is_meta for tensor in (*encoder.parameters(), *encoder.buffers())):
        raise on_meta(encoder)
    training = [part for part in encoder.modules() if part.training]
    # subtle: no_grad inside, because inference_mode(False) enables gradients
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(like.device.type, enabled=False),
    ):
        try:
            if training:
                encoder.eval()
            yield lambda ids_U: encoder(ids_U.to(like.device)).to(like.dtype)
        finally:
            # train() would also switch parts that were in evaluation mode before
            for part in training:
                part.training = True


def encode_vocabulary(encoder: nn.Module, like: Tensor, rows: int) -> Tensor:
    """Return the character vectors of ids 0 to rows - 1: (rows, D), in the dtype of `like`."""
    vectors_VD: Tensor | None = None
    with chunk_reader(encoder, like) as read:
        for ids_U in chunks_of(encoder, rows):
            vectors_UD = read(ids_U)
            if vectors_VD is None:
                vectors_VD = vectors_UD.new_empty(rows, vectors_UD.shape[1])
            # into one tensor: a list of chunks and their concatenation would need twice the memory
            vectors_VD.index_copy_(0, ids_U.to(vectors_UD.device), vectors_UD)
    assert vectors_VD is not None, rows
    return vectors_VD
