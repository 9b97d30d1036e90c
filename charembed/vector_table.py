"""The character vectors of the whole vocabulary, computed once and kept while they are valid.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .partition import encode_vocabulary


class _Kept(NamedTuple):
    state: tuple[Any, ...]
    values: list[Tensor] | None
    char_VD: Tensor


class VectorTable:
    """The table char_VD (V, D) of the character vectors of all ids, computed on demand.

    table = VectorTable()
    table.get(encoder, embedding.weight, 50257)     # (50257, D); the second call returns the same

    The kept table is dropped if a forward pass needs gradients, if a parameter of the encoder gets
    a gradient, or if the version of a parameter or buffer or the spellings have changed.

    Fused optimizers do not change the version of a parameter. But their steps follow a backward
    pass, so while gradients exist the values themselves are compared.

    Not detected: a write through `.data` to the encoder outside of training. Call `drop` after it.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._watched: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def drop(self) -> None:
        """Forget the table."""
        self._kept = None

    def get(self, encoder: nn.Module, like: Tensor, rows: int) -> Tensor:
        """Return the table (rows, D) in the dtype and on the device of `like`.

        It waits for a GPU only while gradients exist.
        """
        tensors = list(_tensors(encoder))
        state = (
            rows,
            like.dtype,
            like.device,
            getattr(encoder, "spellings", None),
            *map(_version, tensors),
        )
        kept = self._kept  # subtle: one access, because another thread may drop it meanwhile
        if kept is not None and kept.values is not None:
            if not all(map(torch.equal, kept.values, tensors)):
                kept = None
            elif not _gradients_left(tensors):
                # without gradients the versions are enough again, and comparing values is slow
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
        """Drop the table if a parameter gets a gradient that does not come through the embedding.

        Examples: the spelling loss, or a compiled graph.
        """
        # a weak reference, so the hooks do not keep the table of a detached embedding alive
        itself = weakref.ref(self)

        def drop_table(_: Tensor) -> None:
            if (table := itself()) is not None:
                table.drop()

        # without this mark torch warns about the hook if the model is sent to another process
        drop_table.__torch_unserializable__ = True  # type: ignore[attr-defined]
        for tensor in tensors:
            if tensor.requires_grad and tensor.is_leaf and tensor not in self._watched:
                hook = tensor.register_hook(drop_table)  # type: ignore[no-untyped-call]
                self._watched[tensor] = hook

    def __deepcopy__(self, memo: dict[int, Any]) -> VectorTable:
        # a copy of the model computes its own table
        twin: VectorTable = memo.setdefault(id(self), VectorTable())
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return VectorTable, ()


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers.

    Unlike named_parameters() it builds no names, which would take most of the time of a lookup.
    """
    yield from (tensor for tensor in module._parameters.values() if tensor is not None)
    yield from (tensor for tensor in module._buffers.values() if tensor is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _tensors(child)


def _gradients_left(tensors: list[Tensor]) -> bool:
    return any(tensor.grad is not None for tensor in tensors if tensor.is_leaf)


def _version(tensor: Tensor) -> tuple[int, int, torch.dtype, bool]:
    """Return a value that changes if the tensor is written to or replaced."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.requires_grad
