"""The LSTM over a tree of prefixes: one step per distinct prefix, level by level, with its gradient written out.

Axes: U tokens, N nodes of a plan, A alphabet, H encoder width, G = 4H gates.

Autograd would keep a graph of a dozen operations per level and add up the weight gradient level by level; here each
level is one dense product and the weight gradient one in all. `tests/reference.py` holds the slow twin (nn.LSTM on packed
sequences).

How many prefixes a batch needs is known when the batch is, and there a compiled graph would break: for `torch.compile`
the whole recurrence is one operator that it does not look into, whose backward computes the states once more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import registry
from .prefixes import Plan, PrefixTree


def last_states(gates_AG: Tensor, weight_GH: Tensor, tree: PrefixTree, ids_U: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden state after the last character of each token, and which tokens have characters.

    ids_U (U,) -> last_UH (U, H), zero for a token without characters, and spelled_U (U,) bool

    Arguments:
        gates_AG: the input half of the gates (enter, forget, candidate, leave) for each character, biases included.
        weight_GH: the recurrent weights. The products are computed in the dtype of autocast, where it is on.
        tree: the spellings.
    """
    device = gates_AG.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_GH.dtype
    with torch.autocast(device, enabled=False):
        gates_AG = gates_AG.to(weight_GH.dtype)
        if torch.compiler.is_compiling():
            opaque: tuple[Tensor, Tensor] = _opaque(gates_AG, weight_GH, ids_U, tree.key, dtype)
            return opaque
        nodes = tree.on(ids_U.device).plan(ids_U)
        states_NH: Tensor = _Recurrence.apply(gates_AG, weight_GH, nodes, dtype)  # type: ignore[no-untyped-call]
        return _at_nodes(states_NH, nodes), nodes.nodes_U >= 0


def _at_nodes(states_NH: Tensor, nodes: Plan) -> Tensor:
    return torch.nn.functional.pad(states_NH, (0, 0, 0, 1))[nodes.nodes_U]  # a last row for -1, tokens without characters


class _States(NamedTuple):
    """What the recurrence computes at each node."""

    gates_NG: Tensor
    cells_NH: Tensor
    tanh_cells_NH: Tensor
    states_NH: Tensor


class _Recurrence(torch.autograd.Function):
    """states_NH, the hidden state after each prefix of a plan."""

    @staticmethod
    def forward(ctx: Any, gates_AG: Tensor, weight_GH: Tensor, nodes: Plan, dtype: torch.dtype) -> Tensor:
        states = _forward(gates_AG, weight_GH, nodes, dtype)
        ctx.nodes, ctx.dtype, ctx.num_chars = nodes, dtype, len(gates_AG)
        ctx.save_for_backward(weight_GH, *states)
        return states.states_NH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states_NH: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight_GH, *states = ctx.saved_tensors
        return *_backward(grad_states_NH.clone(), weight_GH, _States(*states), ctx.nodes, ctx.num_chars, ctx.dtype), None, None


def _forward(gates_AG: Tensor, weight_GH: Tensor, nodes: Plan, dtype: torch.dtype) -> _States:
    """i, f, g, o = gates;  c = f * c_parent + i * g;  h = o * tanh(c)"""
    hidden_size = weight_GH.shape[1]
    states_NH = gates_AG.new_empty(len(nodes.chars_N), hidden_size)
    cells_NH, tanh_cells_NH = torch.empty_like(states_NH), torch.empty_like(states_NH)
    gates_NG = gates_AG.index_select(0, nodes.chars_N)
    weight_HG = weight_GH.t().to(dtype)
    for level, (first, last) in enumerate(zip(nodes.starts, nodes.starts[1:], strict=False)):
        gates = gates_NG[first:last]
        if level:
            parents = nodes.parents_N[first:last]
            gates += states_NH.index_select(0, parents).to(dtype) @ weight_HG
        enter, forget, candidate, leave = gates.chunk(4, dim=1)
        gates[:, : 2 * hidden_size].sigmoid_()
        candidate.tanh_()
        leave.sigmoid_()
        cells = torch.mul(enter, candidate, out=cells_NH[first:last])
        if level:
            cells.addcmul_(forget, cells_NH.index_select(0, parents))
        torch.tanh(cells, out=tanh_cells_NH[first:last])
        torch.mul(leave, tanh_cells_NH[first:last], out=states_NH[first:last])
    return _States(gates_NG, cells_NH, tanh_cells_NH, states_NH)


def _backward(grad_states_NH: Tensor, weight_GH: Tensor, states: _States, nodes: Plan, num_chars: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The gradients of gates_AG and weight_GH; writes over grad_states_NH."""
    gates_NG, cells_NH, tanh_cells_NH, states_NH = states
    second = nodes.starts[1] if len(nodes.starts) > 1 else 0
    grad_cells_NH = torch.zeros_like(cells_NH)
    grad_gates_NG = torch.empty_like(gates_NG)
    weight = weight_GH.to(dtype)
    for level in range(len(nodes.starts) - 2, -1, -1):
        first, last = nodes.starts[level], nodes.starts[level + 1]
        enter, forget, candidate, leave = gates_NG[first:last].chunk(4, dim=1)
        grad_enter, grad_forget, grad_candidate, grad_leave = grad_gates_NG[first:last].chunk(4, dim=1)
        grad_state, tanh_cell = grad_states_NH[first:last], tanh_cells_NH[first:last]
        grad_cell = grad_cells_NH[first:last]
        grad_cell.addcmul_(grad_state * leave, 1 - tanh_cell.square())
        torch.mul(grad_state * tanh_cell, leave * (1 - leave), out=grad_leave)
        torch.mul(grad_cell * candidate, enter * (1 - enter), out=grad_enter)
        torch.mul(grad_cell * enter, 1 - candidate.square(), out=grad_candidate)
        if level == 0:
            grad_forget.zero_()
            continue
        parents = nodes.parents_N[first:last]
        torch.mul(grad_cell * cells_NH.index_select(0, parents), forget * (1 - forget), out=grad_forget)
        grad_cells_NH.index_add_(0, parents, grad_cell * forget)
        grad_states_NH.index_add_(0, parents, (grad_gates_NG[first:last].to(dtype) @ weight).to(grad_states_NH.dtype))
    grad_gates_AG = gates_NG.new_zeros(num_chars, gates_NG.shape[1]).index_add_(0, nodes.chars_N, grad_gates_NG)
    earlier_NH = states_NH.index_select(0, nodes.parents_N[second:])
    grad_weight_GH = grad_gates_NG[second:].to(dtype).t() @ earlier_NH.to(dtype)
    return grad_gates_AG, grad_weight_GH.to(weight_GH.dtype)


@torch.library.custom_op("charembed::last_states", mutates_args=())
def _opaque(gates_AG: Tensor, weight_GH: Tensor, ids_U: Tensor, tree: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    nodes = _plan(tree, distinct)
    states = _forward(gates_AG, weight_GH, nodes, dtype)
    return _at_nodes(states.states_NH, nodes)[which_U], (nodes.nodes_U >= 0)[which_U]


@_opaque.register_fake
def _(gates_AG: Tensor, weight_GH: Tensor, ids_U: Tensor, tree: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # subtle: not len(ids_U), which would tie the graph to one batch shape
    return gates_AG.new_empty(ids_U.shape[0], weight_GH.shape[1]), torch.empty_like(ids_U, dtype=torch.bool)


@torch.library.custom_op("charembed::last_states_backward", mutates_args=())
def _opaque_backward(grad_UH: Tensor, gates_AG: Tensor, weight_GH: Tensor, ids_U: Tensor, tree: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    nodes = _plan(tree, distinct)
    states = _forward(gates_AG, weight_GH, nodes, dtype)
    node_of_U = nodes.nodes_U[which_U]
    grad_states_NH = torch.zeros_like(states.states_NH).index_add_(0, node_of_U[node_of_U >= 0], grad_UH[node_of_U >= 0])
    return _backward(grad_states_NH, weight_GH, states, nodes, len(gates_AG), dtype)


@_opaque_backward.register_fake
def _(grad_UH: Tensor, gates_AG: Tensor, weight_GH: Tensor, ids_U: Tensor, tree: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gates_AG), torch.empty_like(weight_GH)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str, torch.dtype], output: tuple[Tensor, Tensor]) -> None:
    gates_AG, weight_GH, ids_U, ctx.tree, ctx.dtype = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(gates_AG, weight_GH, ids_U)


def _gradient(ctx: Any, grad_UH: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, None, None, None]:
    return *_opaque_backward(grad_UH, *ctx.saved_tensors, ctx.tree, ctx.dtype), None, None, None


_opaque.register_autograd(_gradient, setup_context=_keep)


def _plan(tree: str, ids_U: Tensor) -> Plan:
    found: PrefixTree = registry.find(tree)
    return found.on(ids_U.device).plan(ids_U)
