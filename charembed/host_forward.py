"""Run the forward of an embedding class of another library with other rows at its look-ups.

A host may scale its vectors (Gemma), give one id a vector of its own (T5Gemma2), shift the ids or
take further arguments (MPT). Its own code does that, also while an encoder is attached: only the
look-up inside of it is exchanged. So no part of the host's forward has to be known or repeated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import AttachError

# A function ids, look-up in the token table -> rows
Read = Callable[[Tensor, Callable[[], Tensor]], Tensor]


class ExchangedLookups(TorchFunctionMode):
    """Within a with block, exchange the rows that are looked up in one weight.

    with ExchangedLookups(embedding.weight, lambda ids, look_up: look_up() + 1):
        embedding(ids)     # every entry is 1 larger

    Other uses of the weight, such as the product of a tied head, do not change.

    Arguments:
        weight: the tensor (V, D) whose look-ups are exchanged.
        read: function of the ids and of the look-up itself, returns the rows.
    """

    def __init__(self, weight: Tensor, read: Read) -> None:
        super().__init__()
        self.weight, self.read = weight, read

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        table, ids = _operands(func, args, kwargs)
        # floating-point "ids" and masks are no look-up
        if table is not self.weight or not _are_ids(ids):
            return func(*args, **kwargs)
        # subtle: torch leaves the mode before it calls this, so look-ups inside are the plain ones
        return self.read(ids, functools.partial(func, *args, **kwargs))


def _operands(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return the table and the ids of a look-up, (None, None) for other functions."""
    if func is nn.functional.embedding:
        named = dict(zip(("input", "weight"), args, strict=False)) | kwargs
        return named.get("weight"), named.get("input")
    if func is Tensor.__getitem__:
        return args
    if func is torch.embedding:
        return args[0], args[1]
    if func in (torch.index_select, Tensor.index_select) and len(args) == 3 and args[1] == 0:
        return args[0], args[2]
    return None, None


def _are_ids(ids: Any) -> bool:
    kinds = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return isinstance(ids, Tensor) and ids.dtype in kinds


def check_forward(host: nn.Embedding) -> None:
    """Raise AttachError if the forward reads the weight otherwise than by looking up rows.

    The forward runs twice: with its weight, and with a weight of NaN while the look-ups still return
    the rows. The results must be equal. Neither the host nor the random state
    changes. On the meta device nothing can be tried.
    """
    # not V - 1: a host that shifts its ids has rows before the first id
    middle = host.num_embeddings // 2
    ids = torch.tensor([[0, middle, 0], [middle, middle, 0]], device=host.weight.device)
    kind = type(host).__name__
    for training in (host.training, not host.training):
        expected, _ = _tried(host, ids, training, None)
        found, rows = _tried(host, ids, training, host.weight)
        if not rows or not _equal(expected, found):
            raise AttachError(
                f"{kind}.forward reads its weight otherwise than by looking up the rows of ids, so "
                "the character vectors cannot be added to these rows. Look the rows up with "
                "torch.nn.functional.embedding(ids, self.weight)."
            )


def _tried(
    host: nn.Embedding, ids: Tensor, training: bool, rows_VD: Tensor | None
) -> tuple[Any, int]:
    """Run the forward of a shallow copy; return the output and the number of look-ups.

    With rows_VD the weight itself is NaN, and look-ups read rows_VD.
    """
    lookups = 0

    def read(ids: Tensor, look_up: Callable[[], Tensor]) -> Tensor:
        nonlocal lookups
        lookups += 1
        if rows_VD is None:
            return look_up()
        return nn.functional.embedding(ids, rows_VD.detach())

    weight = host.weight.detach()
    if rows_VD is not None:
        weight = weight.new_full((1, 1), torch.nan).expand_as(weight)
    # a copy without hooks, whose buffers the forward may change
    copied = host.__class__.__new__(host.__class__)
    buffers = {
        name: None if buffer is None else buffer.clone() for name, buffer in host._buffers.items()
    }
    copied.__dict__ = vars(host) | {
        "_parameters": host._parameters | {"weight": weight},
        "_buffers": buffers,
        "training": training,
    }
    devices = [weight.device] if weight.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), ExchangedLookups(weight, read):
        torch.manual_seed(0)  # the forward may contain dropout
        try:
            out = type(host).forward(copied, ids)
        except Exception as error:
            raise AttachError(
                f"{type(host).__name__}.forward fails if it is called with ids of shape (2, 3) "
                f"alone: {error}. charembed cannot take over such an embedding; name another one "
                "with module=..."
            ) from error
    return out, lookups


def _equal(one: Any, other: Any) -> bool:
    return (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and one.shape == other.shape
        and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    )
