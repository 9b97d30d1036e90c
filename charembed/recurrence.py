"""Run a recurrent cell over a tree of prefixes, one step per node, level by level, with gradients.

Axes: U tokens, N nodes of a plan, A alphabet, H encoder width, G gates (4H for an LSTM, 3H for a
GRU).

The gradient is written by hand, a dozen operations per level, because the gradient of the weights
is then one product for all levels. Autograd over the levels has the same speed, but it adds up in
another order, and the last digits of the result change training.

The number of prefixes is data-dependent and would break the graph, so under `torch.compile` the
recurrence is one custom op; its backward recomputes the states. `tests/plugin/reference.py` has
slow reference implementations (nn.LSTM and nn.GRU on packed sequences).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .prefixes import Plan, PrefixTree

State = tuple[Tensor, ...]  # the hidden state first


class LSTM:
    """i, f, g, o = gates + recurrent; c = f c_before + i g; h = o tanh(c).

    Hochreiter & Schmidhuber 1997.
    """

    parts, keeps = 2, 5  # number of tensors in the state, and kept for the backward pass

    @staticmethod
    def step(gates: Tensor, recurrent: Tensor | None, before: State | None) -> tuple[State, State]:
        """Return the new state and the tensors that `back` needs of this step."""
        i, f, g, o = (gates if recurrent is None else gates + recurrent).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = i * g if before is None else torch.addcmul(i * g, f, before[1])
        tanh_c = c.tanh()
        return (o * tanh_c, c), (i, f, g, o, tanh_c)

    @staticmethod
    def back(
        before: State | None, kept: State, grads: State
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """Return the gradients of gates and recurrent, and the direct one of the state before."""
        i, f, g, o, tanh_c = kept
        grad_h, grad_c = grads
        grad_c = torch.addcmul(grad_c, grad_h * o, 1 - tanh_c.square())
        grad_f = torch.zeros_like(f) if before is None else (grad_c * before[1]) * (f * (1 - f))
        grad_i, grad_g = (grad_c * g) * (i * (1 - i)), (grad_c * i) * (1 - g.square())
        gates = torch.cat([grad_i, grad_f, grad_g, (grad_h * tanh_c) * (o * (1 - o))], dim=1)
        return gates, gates, (None, grad_c * f)


class GRU:
    """n = tanh(gates_n + r recurrent_n); h = (1 - z) n + z h_before.

    Cho et al. 2014, in nn.GRU's form: r multiplies the recurrent product, not h_before.
    """

    parts, keeps = 1, 4

    @staticmethod
    def step(gates: Tensor, recurrent: Tensor | None, before: State | None) -> tuple[State, State]:
        """Return the new state and the tensors that `back` needs of this step."""
        assert recurrent is not None, "a GRU's candidate has a recurrent bias"
        H = gates.shape[1] // 3
        r, z = (gates + recurrent)[:, : 2 * H].sigmoid().chunk(2, dim=1)
        recurrent_n = recurrent[:, 2 * H :].expand_as(r)
        n = torch.tanh(gates[:, 2 * H :] + r * recurrent_n)
        return ((1 - z) * n if before is None else n + z * (before[0] - n),), (r, z, n, recurrent_n)

    @staticmethod
    def back(
        before: State | None, kept: State, grads: State
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """Return the gradients of gates and recurrent, and the direct one of the state before."""
        (r, z, n, recurrent_n), (grad_h,) = kept, grads
        grad_n = grad_h * (1 - z) * (1 - n.square())
        grad_z = grad_h * (-n if before is None else before[0] - n) * z * (1 - z)
        grad_r = grad_n * recurrent_n * r * (1 - r)
        gates, recurrent = (
            torch.cat([grad_r, grad_z, grad_n], 1),
            torch.cat([grad_r, grad_z, grad_n * r], 1),
        )
        return gates, recurrent, (grad_h * z,)


CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU}


class Level(NamedTuple):
    """State of the nodes' parents and the tensors that the cell keeps: input of the backward
    pass."""

    before: State | None
    kept: State


def last_states(cell: str, weights: Sequence[Tensor], tree: PrefixTree, ids_U: Tensor) -> Tensor:
    """Return the hidden state after each token's last character: ids_U (U,) -> (U, H).

    Tokens without characters get zeros.

    Arguments:
        cell: a name in CELLS.
        weights: gates_AG, the input half of the gates for each character with biases; weight_GH,
            the recurrent half; for a GRU also its recurrent bias_G.
        tree: prefix tree of the vocabulary.
        ids_U: (U,) token ids.

    Matrix products are computed in the dtype of autocast if it is enabled.
    """
    device, dtype = weights[0].device.type, weights[1].dtype
    tree = tree.on(weights[0].device)
    products = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
    # Autocast is off inside: only the products use its dtype, and the state keeps the weights'
    # dtype.
    with torch.autocast(device, enabled=False):
        weights = [weight.to(dtype) for weight in weights]
        if torch.compiler.is_compiling():
            opaque: Tensor = _opaque(cell, weights, tree.tensors(), ids_U, products)
            return opaque
        plan = tree.plan(ids_U)
        apply: Any = _Recurrence.apply
        states: Tensor = apply(cell, plan, products, *weights)
        return states.index_select(0, plan.last_U)


def _forward(
    cell: str, weights: Sequence[Tensor], plan: Plan, dtype: torch.dtype
) -> tuple[Tensor, list[Level]]:
    """Return the states (1 + N, H) after each prefix, and the kept levels. Row 0 is zero."""
    gates_AG, weight_GH, *bias_G = weights
    weight_HG = weight_GH.t().to(dtype)
    states, levels = [gates_AG.new_zeros(1, weight_GH.shape[1])], list[Level]()
    state: State = ()
    gates_NG = gates_AG.index_select(0, plan.chars_N)
    for gates, parents in zip(
        *(torch.split(part, plan.sizes) for part in (gates_NG, plan.parents_N)), strict=True
    ):
        recurrent, before = bias_G[0][None] if bias_G else None, None
        if state:
            before = tuple(part.index_select(0, parents) for part in state)
            product = before[0].to(dtype) @ weight_HG
            recurrent = product if recurrent is None else product + recurrent
        state, kept = CELLS[cell].step(gates, recurrent, before)
        states.append(state[0])
        levels.append(Level(before, kept))
    return torch.cat(states), levels


def _backward(
    grad_states: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    plan: Plan,
    dtype: torch.dtype,
    levels: list[Level],
) -> list[Tensor]:
    """Return the gradients of the weights, given the gradient of the states (1 + N, H)."""
    gates_AG, weight_GH, *bias_G = weights
    weight = weight_GH.to(dtype)
    grads_h = torch.split(grad_states[1:].clone(), plan.sizes)
    grads = [(h, *(torch.zeros_like(h) for _ in range(CELLS[cell].parts - 1))) for h in grads_h]
    parents, gates, recurrent = (
        torch.split(plan.parents_N, plan.sizes),
        list[Tensor](),
        list[Tensor](),
    )
    for number in reversed(range(len(levels))):
        grad_gates, grad_recurrent, direct = CELLS[cell].back(*levels[number], grads[number])
        gates.insert(0, grad_gates)
        recurrent.insert(0, grad_recurrent)
        if number:
            through = (grad_recurrent.to(dtype) @ weight).to(grad_states.dtype)
            to_parents = (through if direct[0] is None else through + direct[0], *direct[1:])
            # siblings share a parent, so their gradients are summed
            for grad, part in zip(grads[number - 1], to_parents, strict=True):
                grad.index_add_(0, parents[number], part)
    grad_gates_AG = torch.zeros_like(gates_AG).index_add_(0, plan.chars_N, torch.cat(gates))
    # one product over all levels for the recurrent weights; level 0 has no state before
    earlier = torch.cat([level.before[0] for level in levels if level.before is not None])
    grad_weight_GH = torch.cat(recurrent[1:]).to(dtype).t() @ earlier.to(dtype)
    grad_bias = [torch.cat(recurrent).sum(0)] if bias_G else []
    return [grad_gates_AG, grad_weight_GH.to(weight_GH.dtype), *grad_bias]


class _Recurrence(torch.autograd.Function):
    """The states of a plan as a differentiable function of the weights."""

    @staticmethod
    def forward(ctx: Any, cell: str, plan: Plan, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        states, levels = _forward(cell, weights, plan, dtype)
        ctx.plain = cell, plan, dtype, len(weights)
        # save_for_backward takes a flat list of tensors; `backward` splits it into levels again
        ctx.save_for_backward(
            *weights, *(part for before, kept in levels for part in (*(before or ()), *kept))
        )
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        cell, plan, dtype, count = ctx.plain
        saved = ctx.saved_tensors  # subtle: once, or gradient checkpointing refuses the second read
        weights, parts = saved[:count], iter(saved[count:])
        levels = []
        for number in range(len(plan.sizes)):
            before = tuple(itertools.islice(parts, CELLS[cell].parts)) if number else None
            levels.append(Level(before, tuple(itertools.islice(parts, CELLS[cell].keeps))))
        return None, None, None, *_backward(grad_states, cell, weights, plan, dtype, levels)


@torch.library.custom_op("charembed::last_states", mutates_args=())
def _opaque(
    cell: str, weights: Sequence[Tensor], tree: Sequence[Tensor], ids_U: Tensor, dtype: torch.dtype
) -> Tensor:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    plan = PrefixTree(*tree).plan(distinct)
    return _forward(cell, weights, plan, dtype)[0][plan.last_U[which_U]]


@_opaque.register_fake
def _(cell: str, weights: Sequence[Tensor], tree: Any, ids_U: Tensor, dtype: Any) -> Tensor:
    # subtle: ids_U.shape[0], because len(ids_U) would fix the shape at compile time
    return weights[0].new_empty(ids_U.shape[0], weights[1].shape[1])


@torch.library.custom_op("charembed::last_states_backward", mutates_args=())
def _opaque_backward(
    grad_UH: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    tree: Sequence[Tensor],
    ids_U: Tensor,
    dtype: torch.dtype,
) -> list[Tensor]:
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    plan = PrefixTree(*tree).plan(distinct)
    # recomputed, because the forward op returns only the last states
    states, levels = _forward(cell, weights, plan, dtype)
    grad_states = torch.zeros_like(states).index_add_(0, plan.last_U[which_U], grad_UH)
    return _backward(grad_states, cell, weights, plan, dtype, levels)


@_opaque_backward.register_fake
def _(
    grad_UH: Tensor, cell: str, weights: Sequence[Tensor], tree: Any, ids_U: Any, dtype: Any
) -> list[Tensor]:
    return [torch.empty_like(weight) for weight in weights]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.cell, weights, tree, ids_U, ctx.dtype = inputs
    ctx.save_for_backward(ids_U, *tree, *weights)
    ctx.size = len(tree)  # to split the saved list into tree and weights again


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
