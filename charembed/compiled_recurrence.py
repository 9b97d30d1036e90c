"""The recurrence and its projection as one custom op, for compiled and exported graphs.

Axes: U tokens, D model width; others as in recurrence.py.

The number of prefixes is data-dependent and would break a graph. So under `torch.compile` the
recurrence and the projection are one op, which keeps the tape for its backward.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from .cells import Tape
from .prefixes import Plan, PrefixTree
from .recurrence import backward, forward, product_dtype


def compiled_vectors(
    cell: str,
    weights: Sequence[Tensor],
    projection: Sequence[Tensor],
    tree: PrefixTree,
    ids_U: Tensor,
) -> Tensor:
    """Return the projected states under torch.compile: ids_U (U,) -> (U, D).

    Repeated ids are computed once. Tokens without characters get zeros.

    Arguments: as in `last_states`, and
        projection: weight_DH and bias_D; empty for the states (U, H) themselves.
        tree: prefix tree of the vocabulary.
    """
    dtype, products, tree = weights[3].dtype, product_dtype(weights), tree.on(weights[0].device)
    # an exported program computes no gradients, also if it is exported with them enabled
    keep = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    with torch.autocast(weights[0].device.type, enabled=False):
        weights = [weight.to(dtype) for weight in weights]
        vectors_UD: Tensor = _opaque(
            cell, weights, projection, tree.tensors(), ids_U, products, keep
        )[0]
    return vectors_UD


class _Passed(NamedTuple):
    """Results of a forward op that its backward op needs."""

    plan: Plan
    which_U: Tensor
    states_UH: Tensor
    tape: Tape


# The size of a tape depends on the ids, so an op cannot return it to the graph. It returns the key
# of an entry here instead. Only the latest entries are kept, because a forward pass may have no
# backward pass; a backward pass without its entry computes it again.
_passed: OrderedDict[int, _Passed] = OrderedDict()
_ENTRIES = 2  # encoder and decoder of a model look up their ids in one step
_keys = itertools.count()


def _pass(
    cell: str,
    weights: Sequence[Tensor],
    tree: Sequence[Tensor],
    ids_U: Tensor,
    dtype: torch.dtype,
) -> _Passed:
    """Compute the states of the distinct ids."""
    distinct, which_U = torch.unique(ids_U, return_inverse=True)
    plan = PrefixTree(*tree).plan(distinct)
    return _Passed(plan, which_U, *forward(cell, weights, plan, dtype))


# it waits for the device, so it cannot be part of a CUDA graph
@torch.library.custom_op(
    "charembed::character_vectors", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,)
)
def _opaque(
    cell: str,
    weights: Sequence[Tensor],
    projection: Sequence[Tensor],
    tree: Sequence[Tensor],
    ids_U: Tensor,
    dtype: torch.dtype,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    passed, key = _pass(cell, weights, tree, ids_U, dtype), -1
    if keep:
        key = next(_keys)
        _passed[key] = passed
        while len(_passed) > _ENTRIES:
            _passed.popitem(last=False)
    vectors = passed.states_UH
    if projection:
        vectors = linear(*(part.to(dtype) for part in (vectors, *projection)))
        vectors.index_fill_(0, passed.plan.without_E, 0)
    return vectors.index_select(0, passed.which_U), torch.tensor(key, device="cpu")


@_opaque.register_fake
def _(
    cell: str,
    weights: Sequence[Tensor],
    projection: Sequence[Tensor],
    tree: Any,
    ids_U: Tensor,
    dtype: Any,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    # subtle: ids_U.shape[0], because len(ids_U) would fix the shape at compile time
    key = torch.empty((), dtype=torch.int64, device="cpu")
    if projection:
        return ids_U.new_empty(ids_U.shape[0], projection[0].shape[0], dtype=dtype), key
    return weights[3].new_empty(ids_U.shape[0], weights[3].shape[1]), key


@torch.library.custom_op(
    "charembed::character_vectors_backward", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,)
)
def _opaque_backward(
    grad_UD: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    projection: Sequence[Tensor],
    tree: Sequence[Tensor],
    ids_U: Tensor,
    dtype: torch.dtype,
    key: Tensor,
) -> list[Tensor]:
    passed: _Passed | None = _passed.pop(int(key), None)
    if passed is None:
        passed = _pass(cell, weights, tree, ids_U, dtype)
    plan, which_U, states_UH, tape = passed
    grad = grad_UD.new_zeros(len(plan.last_U), grad_UD.shape[1]).index_add_(0, which_U, grad_UD)
    of_projection = []
    if projection:
        grad.index_fill_(0, plan.without_E, 0)
        of_projection = [grad.t() @ states_UH.to(dtype), grad.sum(0)]
        grad = (grad @ projection[0].to(dtype)).to(states_UH.dtype)
    return [
        *backward(grad, cell, weights, plan, dtype, tape),
        *(part.to(of.dtype) for part, of in zip(of_projection, projection, strict=True)),
    ]


@_opaque_backward.register_fake
def _(
    grad_UD: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    projection: Sequence[Tensor],
    tree: Any,
    ids_U: Any,
    dtype: Any,
    key: Any,
) -> list[Tensor]:
    return [torch.empty_like(weight) for weight in (*weights, *projection)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.cell, weights, projection, tree, ids_U, ctx.dtype, _ = inputs
    ctx.save_for_backward(output[1], ids_U, *tree, *weights, *projection)
    ctx.sizes = len(tree), len(weights)  # to split the saved list again


def _gradient(ctx: Any, grad_UD: Tensor, _: None) -> tuple[Any, ...]:
    key, ids_U, *tensors = ctx.saved_tensors
    nodes, count = ctx.sizes
    tree, weights = tensors[:nodes], tensors[nodes : nodes + count]
    projection = tensors[nodes + count :]
    grads = _opaque_backward(grad_UD, ctx.cell, weights, projection, tree, ids_U, ctx.dtype, key)
    return None, grads[:count], grads[count:], [None] * nodes, None, None, None


_opaque.register_autograd(_gradient, setup_context=_keep)
