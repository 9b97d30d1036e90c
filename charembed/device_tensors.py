"""Tensors that follow from the spellings, on whatever device they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DeviceTensors:
    """Base of dataclasses that hold such tensors, made on the CPU and moved to each other device once.

    They are no buffers: a model that is built on the meta device or emptied keeps them, and DDP has nothing
        to
    broadcast. They are never written to, so the copies of a model share them.
    """

    _elsewhere: dict[torch.device, Self] = field(default_factory=dict, init=False, repr=False)

    def on(self, device: torch.device) -> Self:
        if device.type == "cpu":
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = type(self)(*(tensor.to(device) for tensor in self.tensors()))
        return self._elsewhere[device]

    def tensors(self) -> list[Tensor]:
        return [getattr(self, item.name) for item in fields(self) if item.init]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self.tensors())
