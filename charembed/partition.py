"""A fixed partition of the vocabulary, so that a part of the vector table equals the whole, bit for bit.

Axes: V vocabulary, U ids of a chunk, D model width.

The last bits of a matrix product may depend on the number of its rows. So a vector is always
computed in the same chunk of ids, whether one chunk is needed or all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .encoder import on_meta

TOKENS_AT_ONCE = 4_096  # tokens per call of the encoder: bounds the memory of its states


def chunks_of(encoder: nn.Module, rows: int) -> list[Tensor]:
    """Return the ids of each chunk, on the CPU; together they are 0 to rows - 1, each once.

    The result depends on the encoder's spellings and on rows alone.
    """
    return list(torch.split(torch.arange(rows, device="cpu"), TOKENS_AT_ONCE))


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
    with chunk_reader(encoder, like) as read:
        return torch.cat([read(ids_U) for ids_U in chunks_of(encoder, rows)])
