"""Run a recurrent cell over a tree of prefixes, one step per node, level by level, with gradients.

Axes: U tokens, N nodes of a plan, P nodes of a plan that have children, A alphabet, K characters of
a plan, E width of a character's embedding, H encoder width, G gates (4H for an LSTM, 3H for a GRU).

All nodes of a plan share a few tensors, and a level is a slice of them. A tensor for each level
and their concatenation would copy each value once more.

In the backward pass the gates' gradients of siblings are summed before the products with the
weights, so these products have a row for each parent, not for each node.

`tests/plugin/reference.py` has slow reference implementations (nn.LSTM and nn.GRU on packed
sequences). `compiled_recurrence.py` is the form for compiled graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from .cells import CELLS, Slopes, Tape, Views
from .prefixes import Plan


def last_states(cell: str, weights: Sequence[Tensor], plan: Plan) -> Tensor:
    """Return the hidden state after each token's last character: (U, H), zeros without characters.

    last_states(encoder.cell, encoder.weights(), encoder.token_chars.plan(ids_U))

    Arguments:
        cell: a name in CELLS.
        weights: chars_AE, the embeddings of the alphabet; weight_GE and bias_G, the input half of
            the gates; weight_GH, the recurrent half; for a GRU also its recurrent bias_G.
        plan: the nodes of the tokens, on the weights' device.

    Matrix products are computed in the dtype of autocast if it is enabled.
    """
    dtype, products = weights[3].dtype, product_dtype(weights)
    apply: Any = _Recurrence.apply
    # Autocast is off inside: only the products use its dtype, and the state keeps the weights'
    # dtype.
    with torch.autocast(weights[0].device.type, enabled=False):
        states_UH: Tensor = apply(cell, plan, products, *(weight.to(dtype) for weight in weights))
    return states_UH


def product_dtype(weights: Sequence[Tensor]) -> torch.dtype:
    """Return the dtype of the matrix products."""
    device = weights[0].device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weights[3].dtype


def forward(
    cell: str, weights: Sequence[Tensor], plan: Plan, dtype: torch.dtype
) -> tuple[Tensor, Tape]:
    """Return the state (U, H) after each token's last character, and the tape."""
    chars_AE, weight_GE, bias_G, weight_GH, *bias = weights
    inputs = chars_AE.index_select(0, plan.used_K), weight_GE, bias_G
    gates_KG = linear(*(part.to(dtype) for part in inputs)).to(weight_GH.dtype)
    gates_NG, weight_HG = gates_KG.index_select(0, plan.which_N), weight_GH.t().to(dtype)
    N, H, width = len(gates_NG), weight_GH.shape[1], CELLS[cell].parts * weight_GH.shape[1]
    tape = Tape(gates_NG, *(gates_NG.new_empty(N, columns) for columns in (H, H, width)))
    tape.before[: plan.sizes[0]].zero_()
    # row 0 is the state of a token without characters
    states = gates_NG.new_empty(1 + N, width)
    states[0].zero_()
    former: Tensor | None = None
    for gates, inner, candidate, before, state, parents in zip(
        _levels(plan, gates_NG, H),
        torch.split(tape.inner_NH, plan.sizes),
        torch.split(tape.candidate_NH, plan.sizes),
        _levels(plan, tape.before, H),
        _levels(plan, states[1:], H),
        torch.split(plan.parents_N, plan.sizes),
        strict=True,
    ):
        if former is not None:
            torch.index_select(former, 0, parents, out=before[0])
        seen = None if former is None else before
        CELLS[cell].step(gates, inner, candidate, seen, state, weight_HG, bias)
        former = state[0]
    return states[:, :H].index_select(0, plan.last_U), tape


def _levels(plan: Plan, whole: Tensor, width: int) -> list[Views]:
    """Return the rows of each level: all columns, then each block of `width` columns."""
    parts = (whole, *torch.split(whole, width, 1))
    return list(zip(*(torch.split(part, plan.sizes) for part in parts), strict=True))


def backward(
    grad_UH: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    plan: Plan,
    dtype: torch.dtype,
    tape: Tape,
) -> list[Tensor]:
    """Return the gradients of the weights, given the gradient of the states (U, H)."""
    chars_AE, weight_GE, _, weight_GH, *bias = weights
    H, G, N = weight_GH.shape[1], len(weight_GH), len(tape.gates_NG)
    # a tensor for each part of the state: index_add_ is slow on a CPU unless rows are contiguous
    grads = [grad_UH.new_zeros(1 + N, H) for _ in range(CELLS[cell].parts)]
    grads[0].index_add_(0, plan.last_U, grad_UH)
    slopes = CELLS[cell].slopes(tape)
    sums_PG = grad_UH.new_zeros(len(plan.inner_P), G)
    _back(cell, weight_GH.to(dtype), plan, slopes, sums_PG, [part[1:] for part in grads])
    inputs_NG = CELLS[cell].inputs(slopes.recurrent_NG, slopes.inner_NH, grads[0][1:])
    grad_KG = grad_UH.new_zeros(len(plan.used_K), G)
    grad_KG = grad_KG.index_add_(0, plan.which_N, inputs_NG).to(dtype)
    # siblings have one state before them, so the row of the first one is that of all
    before_PH = tape.before.index_select(0, plan.first_P)[:, :H].to(dtype)
    grad_AE = torch.zeros_like(chars_AE, dtype=dtype)
    grads_of = [
        grad_AE.index_copy_(0, plan.used_K, grad_KG @ weight_GE.to(dtype)),
        grad_KG.t() @ chars_AE.index_select(0, plan.used_K).to(dtype),
        grad_KG.sum(0),
        # one product over all levels; this way around it is faster
        (before_PH.t() @ sums_PG.to(dtype)).t().contiguous(),
        *([slopes.recurrent_NG.sum(0)] if bias else []),
    ]
    return [grad.to(of.dtype) for grad, of in zip(grads_of, weights, strict=True)]


def _back(
    cell: str,
    weight_GH: Tensor,
    plan: Plan,
    slopes: Slopes,
    sums_PG: Tensor,
    grads: Sequence[Tensor],
) -> None:
    """Go back through the levels.

    Turns the slopes of the recurrent product into gradients, and adds to `sums_PG` (P, G) those of
    the children of a node, and to `grads` (N, H), one for each part of the state.
    """
    recurrent, direct, inner = (torch.split(part, plan.sizes) for part in slopes)
    parents, siblings = (
        torch.split(part, plan.sizes) for part in (plan.parents_N, plan.siblings_N)
    )
    sums, places = (torch.split(part, plan.inner_sizes) for part in (sums_PG, plan.inner_P))
    of_parts = [torch.split(part, plan.sizes) for part in grads]
    for level in reversed(range(len(plan.sizes))):
        own = tuple(part[level] for part in of_parts)
        CELLS[cell].back(recurrent[level], inner[level], own)
        if level:
            above = level - 1
            passed = sums[above].index_add_(0, siblings[level], recurrent[level])
            through = (passed.to(weight_GH.dtype) @ weight_GH).to(passed.dtype)
            of_parts[0][above].index_add_(0, places[above], through)
            of_parts[-1][above].index_add_(0, parents[level], own[-1] * direct[level])


class _Recurrence(torch.autograd.Function):
    """The last states of a plan's tokens as a differentiable function of the weights."""

    @staticmethod
    def forward(ctx: Any, cell: str, plan: Plan, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        states_UH, tape = forward(cell, weights, plan, dtype)
        ctx.plain = cell, plan, dtype, len(weights)
        ctx.save_for_backward(*weights, *tape)
        return states_UH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_UH: Tensor) -> tuple[Tensor | None, ...]:
        cell, plan, dtype, count = ctx.plain
        saved = ctx.saved_tensors  # subtle: once, or gradient checkpointing refuses the second read
        weights, tape = saved[:count], Tape(*saved[count:])
        return None, None, None, *backward(grad_UH, cell, weights, plan, dtype, tape)
