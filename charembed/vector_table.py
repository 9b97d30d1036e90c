"""What the letters of the whole vocabulary come to, kept as long as it is true.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .encoder import ON_META
from .errors import CharEmbedError

TOKENS_AT_ONCE = 4_096  # of the vocabulary: bounds the memory of the encoder's states


class _Kept(NamedTuple):
    state: tuple[Any, ...]
    values: list[Tensor] | None
    char_VD: Tensor


class VectorTable:
    """char_VD (V, D), what the encoder says of every id, computed when it is asked for and not known.

    It is forgotten when a forward takes gradients, when a gradient arrives at a parameter of the encoder, and
    when the version of a parameter or a buffer, or the spellings, are others. Fused optimizers move no
    version; their steps come after a backward, so a table that is made while gradients are left is compared
    by the values themselves until they are gone. A write through `.data` to the encoder, outside of training,
    is not seen: call `drop` after one.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._watched: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def drop(self) -> None:
        self._kept = None

    def get(self, encoder: nn.Module, like: Tensor, rows: int) -> Tensor:
        """(rows, D) in the dtype and on the device of `like`; waits for a GPU only if gradients are left."""
        tensors = list(_tensors(encoder))
        state = (
            rows,
            like.dtype,
            like.device,
            getattr(encoder, "spellings", None),
            *map(_version, tensors),
        )
        kept = self._kept  # subtle: read once, as another thread may drop it
        if kept is not None and kept.values is not None:
            if not all(map(torch.equal, kept.values, tensors)):
                kept = None
            elif not _gradients_left(tensors):
                self._kept = kept = kept._replace(values=None)
        if kept is None or kept.state != state:
            values = (
                [tensor.detach().clone() for tensor in tensors]
                if _gradients_left(tensors)
                else None
            )
            self._watch(tensors)
            self._kept = kept = _Kept(state, values, encode_vocabulary(encoder, like, rows))
        return kept.char_VD

    def _watch(self, tensors: list[Tensor]) -> None:
        """Be told of gradients that do not come through the embedding: a spelling loss, a compiled graph."""
        itself = weakref.ref(self)

        def told(_: Tensor) -> None:
            if (table := itself()) is not None:
                table.drop()

        told.__torch_unserializable__ = True  # type: ignore[attr-defined]  # else sharing the model warns
        for tensor in tensors:
            if tensor.requires_grad and tensor.is_leaf and tensor not in self._watched:
                self._watched[tensor] = tensor.register_hook(told)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> VectorTable:
        twin: VectorTable = memo.setdefault(id(self), VectorTable())  # a copy computes its own
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return VectorTable, ()


def encode_vocabulary(encoder: nn.Module, like: Tensor, rows: int) -> Tensor:
    """What the encoder says of ids 0 to rows - 1, in evaluation mode and without autocast."""
    if any(tensor.is_meta for tensor in _tensors(encoder)):
        raise CharEmbedError(ON_META)
    training = [part for part in encoder.modules() if part.training]
    # subtle: no_grad within, because leaving inference mode turns gradients on
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(like.device.type, enabled=False),
    ):
        try:
            if training:
                encoder.eval()
            ids_V = torch.arange(rows, device=like.device)
            return torch.cat(
                [encoder(ids_U).to(like.dtype) for ids_U in torch.split(ids_V, TOKENS_AT_ONCE)]
            )
        finally:
            for part in training:
                part.training = True


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, without the names that would cost most of a look-up."""
    yield from (tensor for tensor in module._parameters.values() if tensor is not None)
    yield from (tensor for tensor in module._buffers.values() if tensor is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _tensors(child)


def _gradients_left(tensors: list[Tensor]) -> bool:
    return any(tensor.grad is not None for tensor in tensors if tensor.is_leaf)


def _version(tensor: Tensor) -> tuple[int, int, torch.dtype, bool]:
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.requires_grad
