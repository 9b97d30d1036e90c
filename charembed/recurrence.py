"""A recurrent cell over a tree of prefixes: one step per distinct prefix, level by level.

Axes: U tokens, N nodes of a plan, A alphabet, H encoder width, G gates (4H for an LSTM, 3H for a GRU).

How many prefixes a batch needs is known when the batch is, and there a compiled graph would break: for
`torch.compile` the whole recurrence is one operator that it does not look into, whose backward computes the
states once more. `tests/reference.py` holds the slow twins (nn.LSTM and nn.GRU on packed sequences).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .prefixes import PrefixTree

State = tuple[Tensor, ...]  # the hidden state first


def lstm_cell(gates: Tensor, recurrent: Tensor | None, before: State | None) -> State:
    """i, f, g, o = gates + recurrent; c = f c_before + i g; h = o tanh(c) (Hochreiter & Schmidhuber 1997)"""
    i, f, g, o = (gates if recurrent is None else gates + recurrent).chunk(4, dim=1)
    c = i.sigmoid() * g.tanh()
    if before is not None:
        c = torch.addcmul(c, f.sigmoid(), before[1])
    return o.sigmoid() * c.tanh(), c


def gru_cell(gates: Tensor, recurrent: Tensor | None, before: State | None) -> State:
    """n = tanh(gates_n + r recurrent_n);  h = (1 - z) n + z h_before (Cho et al. 2014)"""
    assert recurrent is not None, "a GRU's candidate has a recurrent bias"
    r, z, n = gates.chunk(3, dim=1)
    recurrent_r, recurrent_z, recurrent_n = recurrent.chunk(3, dim=1)
    n = torch.tanh(n + (r + recurrent_r).sigmoid() * recurrent_n)
    z = (z + recurrent_z).sigmoid()
    return ((1 - z) * n if before is None else n + z * (before[0] - n),)


CELLS = {"lstm": lstm_cell, "gru": gru_cell}


def last_states(cell: str, weights: Sequence[Tensor], tree: PrefixTree, ids_U: Tensor) -> Tensor:
    """The hidden state after the last character of each token: ids_U (U,) -> (U, H), zero for one without
    characters.

    Arguments:
        cell: a name in CELLS.
        weights: gates_AG, the input half of the gates for each character, biases included; weight_GH, the
            recurrent half; and for a GRU its bias_G. Products are computed in the dtype of autocast, where
            that is on.
    """
    device, dtype = weights[0].device.type, weights[1].dtype
    tree = tree.on(weights[0].device)
    product_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
    with torch.autocast(device, enabled=False):
        weights = [weight.to(dtype) for weight in weights]
        if torch.compiler.is_compiling():
            opaque: Tensor = _opaque(cell, weights, tree.tensors(), ids_U, product_dtype)
            return opaque
        return _run(cell, weights, tree, ids_U, product_dtype)


def _run(cell: str, weights: Sequence[Tensor], tree: PrefixTree, ids_U: Tensor, dtype: torch.dtype) -> Tensor:
    gates_AG, weight_GH, *bias_G = weights
    plan, weight_HG = tree.plan(ids_U), weight_GH.t().to(dtype)
    states = [gates_AG.new_zeros(1, weight_GH.shape[1])]  # of tokens without characters
    before: State | None = None
    gates_NG = gates_AG.index_select(0, plan.chars_N)
    levels = zip(torch.split(gates_NG, plan.sizes), torch.split(plan.parents_N, plan.sizes), strict=True)
    for gates, parents in levels:
        recurrent = bias_G[0][None] if bias_G else None
        if before is not None:
            before = tuple(part.index_select(0, parents) for part in before)
            product = before[0].to(dtype) @ weight_HG
            recurrent = product if recurrent is None else product + recurrent
        before = CELLS[cell](gates, recurrent, before)
        states.append(before[0])
    return torch.cat(states).index_select(0, plan.last_U)


def _distinct(
    cell: str, weights: Sequence[Tensor], tree: Sequence[Tensor], ids_U: Tensor, dtype: torch.dtype
) -> Tensor:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    return _run(cell, weights, PrefixTree(*tree), distinct, dtype).index_select(0, which_U)


@torch.library.custom_op("charembed::last_states", mutates_args=())
def _opaque(
    cell: str, weights: Sequence[Tensor], tree: Sequence[Tensor], ids_U: Tensor, dtype: torch.dtype
) -> Tensor:
    return _distinct(cell, weights, tree, ids_U, dtype)


@_opaque.register_fake
def _(cell: str, weights: Sequence[Tensor], tree: Any, ids_U: Tensor, dtype: Any) -> Tensor:
    return weights[0].new_empty(ids_U.shape[0], weights[1].shape[1])  # subtle: len(ids_U) would fix the shape


@torch.library.custom_op("charembed::last_states_backward", mutates_args=())
def _opaque_backward(
    grad_UH: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    tree: Sequence[Tensor],
    ids_U: Tensor,
    dtype: torch.dtype,
) -> list[Tensor]:
    # vjp, because an operator is called below autograd
    _, pull = torch.func.vjp(lambda *given: _distinct(cell, given, tree, ids_U, dtype), *weights)  # type: ignore[misc]
    return list(pull(grad_UH))


@_opaque_backward.register_fake
def _(
    grad_UH: Tensor, cell: str, weights: Sequence[Tensor], tree: Any, ids_U: Any, dtype: Any
) -> list[Tensor]:
    return [torch.empty_like(weight) for weight in weights]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.cell, weights, tree, ids_U, ctx.dtype = inputs
    ctx.save_for_backward(ids_U, *tree, *weights)
    ctx.size = len(tree)


def _gradient(ctx: Any, grad_UH: Tensor) -> tuple[Any, ...]:
    ids_U, *tensors = ctx.saved_tensors
    tree, weights = tensors[: ctx.size], tensors[ctx.size :]
    return (
        None,
        _opaque_backward(grad_UH, ctx.cell, weights, tree, ids_U, ctx.dtype),
        [None] * len(tree),
        None,
        None,
    )


_opaque.register_autograd(_gradient, setup_context=_keep)
