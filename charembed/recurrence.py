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


def last_states(
    cell: str,
    gates_AG: Tensor,
    weight_GH: Tensor,
    tree: PrefixTree,
    ids_U: Tensor,
    bias_G: Tensor | None = None,
) -> Tensor:
    """The hidden state after the last character of each token: ids_U (U,) -> (U, H), zero for one without
    characters.

    Arguments:
        cell: a name in CELLS.
        gates_AG: the input half of the gates for each character, biases included.
        weight_GH, bias_G: the recurrent half. Products are computed in the dtype of autocast, where that is
            on.
    """
    device = gates_AG.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_GH.dtype
    tree = tree.on(gates_AG.device)
    with torch.autocast(device, enabled=False):
        gates_AG = gates_AG.to(weight_GH.dtype)
        if torch.compiler.is_compiling():
            opaque: Tensor = _opaque(cell, gates_AG, weight_GH, bias_G, ids_U, tree.tensors(), dtype)
            return opaque
        return _run(cell, gates_AG, weight_GH, bias_G, tree, ids_U, dtype)


def _run(
    cell: str,
    gates_AG: Tensor,
    weight_GH: Tensor,
    bias_G: Tensor | None,
    tree: PrefixTree,
    ids_U: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    plan, step, weight_HG = tree.plan(ids_U), CELLS[cell], weight_GH.t().to(dtype)
    states = [gates_AG.new_zeros(1, weight_GH.shape[1])]  # of tokens without characters
    before: State | None = None
    gates_NG = gates_AG.index_select(0, plan.chars_N)
    levels = zip(torch.split(gates_NG, plan.sizes), torch.split(plan.parents_N, plan.sizes), strict=True)
    for gates, parents in levels:
        recurrent = None if bias_G is None else bias_G[None]
        if before is not None:
            before = tuple(part.index_select(0, parents) for part in before)
            product = before[0].to(dtype) @ weight_HG
            recurrent = product if recurrent is None else product + recurrent
        before = step(gates, recurrent, before)
        states.append(before[0])
    return torch.cat(states).index_select(0, plan.last_U)


@torch.library.custom_op("charembed::last_states", mutates_args=())
def _opaque(
    cell: str,
    gates_AG: Tensor,
    weight_GH: Tensor,
    bias_G: Tensor | None,
    ids_U: Tensor,
    tree: Sequence[Tensor],
    dtype: torch.dtype,
) -> Tensor:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    return _run(cell, gates_AG, weight_GH, bias_G, PrefixTree(*tree), distinct, dtype)[which_U]


@_opaque.register_fake
def _(
    cell: str, gates_AG: Tensor, weight_GH: Tensor, bias_G: Any, ids_U: Tensor, tree: Any, dtype: Any
) -> Tensor:
    return gates_AG.new_empty(
        ids_U.shape[0], weight_GH.shape[1]
    )  # subtle: len(ids_U) would tie the graph to one shape


@torch.library.custom_op("charembed::last_states_backward", mutates_args=())
def _opaque_backward(
    grad_UH: Tensor,
    cell: str,
    gates_AG: Tensor,
    weight_GH: Tensor,
    bias_G: Tensor | None,
    ids_U: Tensor,
    tree: Sequence[Tensor],
    dtype: torch.dtype,
) -> list[Tensor]:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    inputs = [gates_AG, weight_GH] if bias_G is None else [gates_AG, weight_GH, bias_G]

    def states(*inputs: Tensor) -> Tensor:
        return _run(
            cell,
            inputs[0],
            inputs[1],
            inputs[2] if len(inputs) > 2 else None,
            PrefixTree(*tree),
            distinct,
            dtype,
        )

    last_UH, pull = torch.func.vjp(states, *inputs)  # type: ignore[misc]
    return list(pull(torch.zeros_like(last_UH).index_add_(0, which_U, grad_UH)))


@_opaque_backward.register_fake
def _(
    grad_UH: Tensor,
    cell: str,
    gates_AG: Tensor,
    weight_GH: Tensor,
    bias_G: Any,
    ids_U: Any,
    tree: Any,
    dtype: Any,
) -> list[Tensor]:
    return [torch.empty_like(part) for part in (gates_AG, weight_GH, bias_G) if part is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.cell, gates_AG, weight_GH, bias_G, ids_U, tree, ctx.dtype = inputs
    ctx.save_for_backward(gates_AG, weight_GH, bias_G, ids_U, *tree)


def _gradient(ctx: Any, grad_UH: Tensor) -> tuple[Any, ...]:
    gates_AG, weight_GH, bias_G, ids_U, *tree = ctx.saved_tensors
    grads = _opaque_backward(grad_UH, ctx.cell, gates_AG, weight_GH, bias_G, ids_U, tree, ctx.dtype)
    return None, *grads, *([None] * (3 - len(grads))), None, [None] * len(tree), None


_opaque.register_autograd(_gradient, setup_context=_keep)
