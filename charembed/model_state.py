"""The attributes of a model's modules, to put them back after a change that is undone."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


def address(tensor: Tensor) -> tuple[int, ...]:
    """Return a key that is equal for tensors that share their memory."""
    if tensor.is_meta or tensor.numel() == 0:  # these have no address
        return (id(tensor),)
    try:
        return tensor.data_ptr(), *tensor.shape
    except RuntimeError:  # nor have wrappers of other tensors, such as quantized weights
        return (id(tensor),)


class ModelState:
    """The attributes of all modules of a model, to put them back.

    state = ModelState(model)
    ...                         # exchange parameters, classes and attributes, run the model
    state.restore()          # every module has the same class and the same objects again

    Arguments:
        model: its modules' classes and attributes are kept, and the content of attributes that are
            dicts, lists or sets, such as the parameters and hooks.
        values: if True, the values of buffers and other tensor attributes are copied. Default:
            False. Parameters are never copied.
    """

    def __init__(self, model: nn.Module, values: bool = False) -> None:
        self._parts = [(part, part.__class__, dict(vars(part))) for part in model.modules()]
        self._containers = [
            (value, value.copy())
            for _, _, held in self._parts
            for value in held.values()
            if type(value) in (dict, OrderedDict, list, set)
        ]
        self._values = [
            (tensor, _version(tensor), tensor.detach().clone())
            for tensor in (state_tensors(model) if values else ())
        ]

    def restore(self) -> None:
        """Put everything back."""
        for part, kind, held in self._parts:
            if part.__class__ is not kind:
                part.__class__ = kind
            now = vars(part)
            for name in now.keys() - held.keys():
                del now[name]
            now.update(held)
        for container, content in self._containers:
            if not content and not container:  # most of them, such as the dicts of hooks
                continue
            if len(container) != len(content) or any(
                one is not other
                for one, other in zip(_items(container), _items(content), strict=True)
            ):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)
        for tensor, version, value in self._values:
            # a write through .data, or in inference mode, changes no version
            if _version(tensor) != version or not _same(tensor, value):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.copy_(value)


def _items(container: Any) -> list[Any]:
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def _same(tensor: Tensor, value: Tensor) -> bool:
    """True if the values are equal. NaN equals NaN."""
    try:
        if tensor.shape != value.shape or torch.equal(tensor, value):
            return tensor.shape == value.shape
        return not ((tensor != value) & ((tensor == tensor) | (value == value))).any()
    except RuntimeError:  # sparse or quantized
        return True


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def state_tensors(model: nn.Module) -> list[Tensor]:
    """Return buffers and tensors in plain attributes; the forward of some models writes to them."""
    found: dict[int, Tensor] = {}
    for part in model.modules():
        for value in [*vars(part).values(), *part._buffers.values()]:
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                found[id(value)] = value
    return list(found.values())
