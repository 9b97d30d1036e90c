"""Tensors of which each process holds a part (DTensor), as FSDP2 makes them of the weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """True for a tensor of which each process holds a part."""
    # by the attribute: the class is in a part of torch that takes long to import
    return hasattr(tensor, "device_mesh")


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor; all processes must call it together if it is sharded."""
    sharded: Any = tensor
    found: Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return found


def sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, sharded as `like` is, if that is sharded and has the same shape.

    All processes must call it together, with the same value.
    """
    if not is_sharded(like) or is_sharded(value) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    other: Any = like
    value = value.to(other.device, other.dtype)
    return distribute_tensor(value, other.device_mesh, other.placements)
