"""Tensors computed from the spellings, copied to a device when they are needed there."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DeviceTensors:
    """Base of dataclasses that hold such tensors: created on the CPU, copied to each device once.

    tree.on(torch.device("cuda")).chars_N     # the same tensor object on each call

    Stored as plain attributes, not buffers: they survive `to_empty()` and DDP does not broadcast
    them. They are never changed, so copies of a model share them.
    """

    # copies on other devices; a dict can be filled although the dataclass is frozen
    _elsewhere: dict[torch.device, Self] = field(default_factory=dict, init=False, repr=False)

    def on(self, device: torch.device) -> Self:
        """Return these tensors on a device; the copy is kept."""
        if device.type == "cpu":
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = type(self)(*(tensor.to(device) for tensor in self.tensors()))
        return self._elsewhere[device]

    def tensors(self) -> list[Tensor]:
        """Return the tensors in the order of the fields."""
        return [getattr(self, item.name) for item in fields(self) if item.init]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the tensors alone, without the copies on other devices."""
        return type(self), tuple(self.tensors())
