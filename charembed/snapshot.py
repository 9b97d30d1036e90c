"""The values of a module's tensors at one moment, to find out later if one of them has changed."""

from __future__ import annotations

import ctypes
import functools
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

WORDS = 16  # words of 8 bytes of each tensor that are compared at each check
ROWS = 1_024  # a table of at most so many rows is compared in a word of each row

_NUMBERS = (int, float, bool, str)
_not_tensors: set[type] = set()  # types of attributes, found so far, that are no tensors
_last_step: list[object] = [object()]


def tensors_of(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters and buffers of a module, and the tensors that are plain attributes.

    Parameters become plain attributes under FSDP1, nn.DataParallel and the former weight_norm.
    """
    registered: list[Tensor] = []
    attributes: list[Tensor] = []
    # recursion over the dicts: named_parameters() would build names, which takes most of the time
    for part in _parts(module):
        registered += [tensor for tensor in part._parameters.values() if tensor is not None]
        registered += [tensor for tensor in part._buffers.values() if tensor is not None]
        attributes += _tensor_attributes(part)
    return registered, attributes


def _others(module: nn.Module) -> list[Any]:
    """Return the public attributes of all parts that are no tensors, and their forward hooks."""
    found: list[Any] = []
    for part in _parts(module):
        own = vars(part)
        found += [
            value
            for name, value in own.items()
            if name[0] != "_" and name != "training" and not isinstance(value, Tensor)
        ]
        for hooks in (own.get("_forward_pre_hooks"), own.get("_forward_hooks")):
            if hooks:
                found += hooks.values()
    return found


def _parts(module: nn.Module) -> list[nn.Module]:
    found = [module]
    for child in module._modules.values():
        if child is not None:
            found += _parts(child)
    return found


def _tensor_attributes(part: nn.Module) -> list[Tensor]:
    values = vars(part).values()
    # one call for all attributes, because isinstance is slow
    if _not_tensors.issuperset(map(type, values)):
        return []
    _not_tensors.update(type(value) for value in values if not isinstance(value, Tensor))
    return [value for value in values if isinstance(value, Tensor)]


def is_sharded(module: nn.Module) -> bool:
    """True if FSDP shards this module itself, so that each of its forwards is a collective.

    Then all processes must decide alike to call it, and no process may look at its own part of the
    values to decide. If FSDP shards a larger module, the weights are whole inside its forward.
    """
    return any(
        kind.__name__ in ("FullyShardedDataParallel", "FSDPModule")
        for part in module.modules()
        for kind in type(part).__mro__
    )


@functools.cache
def note_steps() -> list[object]:
    """Return a list whose one object is another one after each step of any torch optimizer.

    A fused optimizer does not change the version of a parameter.
    """
    register_optimizer_step_post_hook(_note_step)
    return _last_step


def _note_step(*_: Any) -> None:
    # a compiled step changes the versions, and its graph cannot create an object
    if not torch.compiler.is_compiling():
        _last_step[0] = object()


class Snapshot:
    """The values of all tensors of a module at one moment.

    snapshot = Snapshot(encoder, event)
    snapshot.holds(encoder, event)     # True until a value changes

    `holds` compares address, version and strides of each tensor and, on the CPU, a few of its
    values (of a table, such as the embeddings of characters, some in each row). It compares all values

    - if address, version or strides differ, because such a write may have kept the values;
    - if `event` differs from the one of the last check;
    - while a parameter has a gradient, because a fused step changes no version.
      (A gradient that comes later must change `event`; `VectorTable` sets a hook for it.)

    Only these comparisons of all values wait for a GPU. Not found is a write through `.data`
    without an event: on a GPU any, on the CPU one that changes none of the compared values.

    With all values it compares hooks and plain attributes too, such as a scale or a patched forward.

    The snapshot also holds the memory of the tensors. Otherwise freed memory could be given to
    other weights, which would then have the same address and version.
    """

    def __init__(self, module: nn.Module, event: object) -> None:
        tensors = self._find(module)
        self._sharded = is_sharded(module)
        self._copies = self._copied(tensors)
        self._others = _others(module)
        self._mark(tensors, event)

    def holds(self, module: nn.Module, event: object) -> bool:
        """True if the module's tensors have the values of the snapshot."""
        if (
            event == self._event
            and not self._gradients
            and self._marks_now(module) == self._marks
            # subtle: this reads memory at the addresses that were just found to be in use
            and [read() for read in self._samples] == self._words
        ):
            return True
        tensors = self._find(module)
        if not (self._same_values(tensors) and self._same_others(module)):
            return False
        self._mark(tensors, event)
        return True

    def renew_attributes(self, module: nn.Module) -> None:
        """Take the present values of plain attributes, tensors and others.

        The former weight_norm computes its weight at each forward. A module may count its calls.
        """
        self._others = _others(module)
        registered, attributes = tensors_of(module)
        count, marks = len(registered), _marks(registered)
        if attributes and marks == self._marks[: len(marks)]:
            self._copies[count:] = self._copied(attributes)
            self._mark([*registered, *attributes], self._event)

    def _find(self, module: nn.Module) -> list[Tensor]:
        """Return the tensors, and remember the dicts of the module's parts."""
        registered, attributes = tensors_of(module)
        self._parts = [
            (
                own,
                len(own),
                part._parameters,
                part._buffers,
                part._modules,
                [*part._modules.values()],
            )
            for part in _parts(module)
            for own in [vars(part)]
        ]
        # Training moves rows of a table one by one, those of the characters that occur; the values
        # of other weights change together.
        self._tables = {
            id(held["weight"])
            for _, _, held, *_ in self._parts
            if held.keys() == {"weight"} and held["weight"] is not None
        }
        # the parts of a TorchScript module are no dicts; they are found anew each time, too
        self._quick = not attributes and all("_parameters" in own for own, *_ in self._parts)
        return registered + attributes

    def _marks_now(self, module: nn.Module) -> list[Any] | None:
        """Return the marks of the tensors, or None if they are no longer in the same dicts.

        This is one loop, because it takes a good part of the time of a look-up.
        """
        if not self._quick:
            return _marks([*chain(*tensors_of(module))])
        if self._parts[0][0] is not module.__dict__:
            return None
        tensors: list[Any] = []
        for own, size, parameters, buffers, modules, children in self._parts:
            if (
                len(own) != size  # a new attribute may be a tensor
                or own["_parameters"] is not parameters
                or (modules and [*modules.values()] != children)
            ):
                return None
            tensors += parameters.values()
            if buffers:
                tensors += buffers.values()
        return _marks(tensors)

    def _mark(self, tensors: list[Tensor], event: object) -> None:
        self._event = event
        # Later gradients are an event. They come with a hook.
        self._gradients = any(is_leaf(tensor) and tensor.grad is not None for tensor in tensors)
        self._marks = _marks(tensors)
        self._memory = [tensor.detach() for tensor in tensors]
        samples = [
            _sample(tensor, by_row=id(tensor) in self._tables)
            for tensor in ([] if self._sharded else tensors)
        ]
        self._samples = [found.tobytes for found in samples if found is not None]
        self._words = [read() for read in self._samples]

    def _same_others(self, module: nn.Module) -> bool:
        """Compare hooks and plain attributes that are no tensors, such as a scale."""
        now = _others(module)
        return len(now) == len(self._others) and all(
            one is other or (type(one) in _NUMBERS and type(one) is type(other) and one == other)
            for one, other in zip(now, self._others, strict=True)
        )

    def _copied(self, tensors: list[Tensor]) -> list[Tensor | None]:
        """Return copies of the values; None where they must not be compared."""
        with torch.inference_mode(False), torch.no_grad():
            return [
                tensor.clone() if _plain(tensor) and not self._sharded else None
                for tensor in tensors
            ]

    def _same_values(self, tensors: list[Tensor]) -> bool:
        return len(tensors) == len(self._copies) and all(
            copy is not None
            and _plain(tensor)
            and (copy.shape, copy.dtype, copy.device) == (tensor.shape, tensor.dtype, tensor.device)
            and torch.equal(copy, tensor)
            for copy, tensor in zip(self._copies, tensors, strict=True)
        )


def _marks(tensors: list[Any]) -> list[Any]:
    try:
        marks: list[Any] = []
        for tensor in tensors:
            if tensor is not None:
                marks.append(tensor.data_ptr())
                marks.append(tensor._version)
                # a view such as the transposed matrix has the same address
                if tensor.dim() > 1:
                    marks.append(tensor.stride())
        return marks
    except RuntimeError:  # inference tensors have no version, sparse ones no address
        return [
            (0 if tensor.is_inference() else tensor._version, _address(tensor))
            for tensor in tensors
            if tensor is not None
        ]


def is_leaf(tensor: Tensor) -> bool:
    try:
        return tensor.is_leaf
    except RuntimeError:  # FSDP1: a view of a parameter that has been written to in place
        return False


def _address(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tensor.stride()) if _plain(tensor) else (id(tensor),)


def _plain(tensor: Tensor) -> bool:
    """True if the tensor is memory of this process, unlike a DTensor or a FakeTensor."""
    return (
        type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and tensor.layout is torch.strided
    )


def _sample(tensor: Tensor, by_row: bool = False) -> memoryview | None:
    """Return words, at equal distances, of the memory of a tensor on the CPU.

    There are WORDS words; with `by_row`, at least one in each row of a matrix of at most ROWS rows.
    It is memory and no tensor, because torch takes some microseconds for each comparison.
    """
    if not (_plain(tensor) and tensor.device.type == "cpu" and tensor.numel()):
        return None
    steps = (
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    size = (1 + sum(steps)) * tensor.element_size()
    at_once = 8 if size >= 8 else 1
    memory = memoryview(
        (ctypes.c_char * (size // at_once * at_once)).from_address(tensor.data_ptr())
    )
    words = memory.cast("B").cast("Q" if at_once == 8 else "B")
    number = max(WORDS, tensor.shape[0]) if by_row and tensor.shape[0] <= ROWS else WORDS
    if number > WORDS:
        # less than a row, so that no row is left out
        return words[:: max(1, len(words) // number - 1)]
    # an odd step, so that the words are not all in the same column
    return words[:: max(1, len(words) // number) | 1]
