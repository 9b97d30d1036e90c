"""Run a recurrent cell over a tree of prefixes, one step per node, level by level, with gradients.

Axes: U tokens, N nodes of a plan, A alphabet, K characters of a plan, E width of a character's
embedding, H encoder width, G gates (4H for an LSTM, 3H for a GRU), D model width.

The gradient is written by hand, six operations per level, because the gradient of the weights
is then one product for all levels. Autograd over the levels has the same speed, but it adds up in
another order, and the last digits of the result change training.

All nodes of a plan share a few tensors, and a level is a slice of them. A tensor for each level
and their concatenation would copy each value once more.

The number of prefixes is data-dependent and would break the graph, so under `torch.compile` the
recurrence and the projection are one custom op, which keeps the tape for its backward.
`tests/plugin/reference.py` has slow reference implementations (nn.LSTM and nn.GRU on packed
sequences).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from .prefixes import Plan, PrefixTree

# The gradient of the input bias is summed over a whole alphabet up to this size, with zeros for the
# characters that do not occur. sum(0) adds in blocks of rows, so the last digits are those of a
# pass over the whole alphabet. A larger alphabet would cost more than the recurrence.
SMALL_ALPHABET = 1_024

Views = tuple[Tensor, ...]  # a tensor, then the views of its parts: blocks of H columns


class Tape(NamedTuple):
    """Input of the backward pass, one row per node; each step writes the rows of its level.

    Attributes:
        gates_NG: after their sigmoid or tanh.
        inner_NH: a value inside the cell: tanh(c) of an LSTM, the candidate's part of the recurrent
            product of a GRU.
        before: (N, H) for each part of the state: the state of the nodes' parents. The first level
            has no parents, and its rows are zero.
    """

    gates_NG: Tensor
    inner_NH: Tensor
    before: Tensor


class Slopes(NamedTuple):
    """The factors of the backward pass that depend on the forward alone, one row per node.

    A step back multiplies the rows of its level by the gradients of the state, in place. A product
    for each factor and level would start several times as many kernels.

    Attributes:
        gates_NG: derivative of the state after each gate.
        recurrent_NG: the same after the recurrent product; the same tensor if it is equal.
        inner_NH: derivative of h after c, of an LSTM.
    """

    gates_NG: Tensor
    recurrent_NG: Tensor
    inner_NH: Tensor


class LSTM:
    """i, f, g, o = gates + recurrent; c = f c_before + i g; h = o tanh(c).

    Hochreiter & Schmidhuber 1997.
    """

    gates, parts = 4, 2  # number of gates, and of parts of the state

    @staticmethod
    def step(
        gates: Views,
        inner: Tensor,
        before: Views | None,
        state: Views,
        weight_HG: Tensor,
        bias: list[Tensor],
    ) -> None:
        """Write a level's state, and all that `back` needs; the gates hold their input half."""
        (whole, i, f, g, o), (_, h, c) = gates, state
        if before is not None:
            if weight_HG.dtype == whole.dtype:
                whole.addmm_(before[1], weight_HG)
            else:
                whole.add_(before[1].to(weight_HG.dtype) @ weight_HG)
        # one call for the two gates that are side by side
        whole[:, : 2 * i.shape[1]].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(i, g, out=c)
        if before is not None:
            c.addcmul_(f, before[2])
        torch.mul(o, torch.tanh(c, out=inner), out=h)

    @staticmethod
    def slopes(tape: Tape) -> Slopes:
        gates_NG, tanh_NH = tape.gates_NG, tape.inner_NH
        i, _, g, o = gates_NG.chunk(4, 1)
        # of sigmoid at three of the gates, of tanh at g
        of_NG = (1 - gates_NG).mul_(gates_NG)
        of_i, of_f, of_g, of_o = of_NG.chunk(4, 1)
        of_g.copy_(1 - g.square())
        of_i.mul_(g)
        of_f.mul_(tape.before.chunk(2, 1)[1])
        of_g.mul_(i)
        of_o.mul_(tanh_NH)
        return Slopes(of_NG, of_NG, (1 - tanh_NH.square()).mul_(o))

    @staticmethod
    def back(
        gates: Views, above: Views, recurrent: Tensor, inner: Tensor, grads: Views, direct: Views
    ) -> None:
        # h has no direct gradient
        (whole, *_, above_o), (_, grad_h, grad_c) = above, grads
        grad_c.addcmul_(grad_h, inner)
        # one call for the three gates that are side by side
        H = grad_c.shape[1]
        whole[:, : 3 * H].view(-1, 3, H).mul_(grad_c[:, None])
        above_o.mul_(grad_h)
        torch.mul(grad_c, gates[2], out=direct[2])


class GRU:
    """n = tanh(gates_n + r recurrent_n); h = (1 - z) n + z h_before.

    Cho et al. 2014, in nn.GRU's form: r multiplies the recurrent product, not h_before.
    """

    gates, parts = 3, 1

    @staticmethod
    def step(
        gates: Views,
        inner: Tensor,
        before: Views | None,
        state: Views,
        weight_HG: Tensor,
        bias: list[Tensor],
    ) -> None:
        """Write a level's state, and all that `back` needs; the gates hold their input half."""
        (whole, r, z, n), (_, h), H = gates, state, inner.shape[1]
        recurrent = bias[0][None]
        if before is not None and weight_HG.dtype == whole.dtype:
            recurrent = torch.addmm(recurrent, before[1], weight_HG)
        elif before is not None:
            recurrent = before[1].to(weight_HG.dtype) @ weight_HG + recurrent
        inner.copy_(recurrent[:, 2 * H :])
        whole[:, : 2 * H].add_(recurrent[:, : 2 * H]).sigmoid_()
        n.addcmul_(r, inner).tanh_()
        if before is None:
            torch.mul(1 - z, n, out=h)
        else:
            torch.lerp(n, before[1], z, out=h)

    @staticmethod
    def slopes(tape: Tape) -> Slopes:
        (r, z, n), of_NG = tape.gates_NG.chunk(3, 1), torch.empty_like(tape.gates_NG)
        of_r, of_z, of_n = of_NG.chunk(3, 1)
        torch.mul(1 - n.square(), 1 - z, out=of_n)
        torch.mul(1 - z, z, out=of_z).mul_(tape.before - n)
        torch.mul(1 - r, r, out=of_r).mul_(tape.inner_NH).mul_(of_n)
        # the recurrent product has a gradient of its own, which `back` writes
        return Slopes(of_NG, torch.empty_like(of_NG), of_n)

    @staticmethod
    def back(
        gates: Views, above: Views, recurrent: Tensor, inner: Tensor, grads: Views, direct: Views
    ) -> None:
        grad_h, H = grads[1], inner.shape[1]
        above[0].view(-1, 3, H).mul_(grad_h[:, None])
        recurrent.copy_(above[0])
        recurrent[:, 2 * H :].mul_(gates[1])
        torch.mul(grad_h, gates[2], out=direct[1])


CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU}


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
    dtype, products = weights[3].dtype, _products(weights)
    apply: Any = _Recurrence.apply
    # Autocast is off inside: only the products use its dtype, and the state keeps the weights'
    # dtype.
    with torch.autocast(weights[0].device.type, enabled=False):
        states_UH: Tensor = apply(cell, plan, products, *(weight.to(dtype) for weight in weights))
    return states_UH


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
    dtype, products, tree = weights[3].dtype, _products(weights), tree.on(weights[0].device)
    # an exported program computes no gradients, also if it is exported with them enabled
    keep = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    with torch.autocast(weights[0].device.type, enabled=False):
        weights = [weight.to(dtype) for weight in weights]
        vectors_UD: Tensor = _opaque(
            cell, weights, projection, tree.tensors(), ids_U, products, keep
        )[0]
    return vectors_UD


def _products(weights: Sequence[Tensor]) -> torch.dtype:
    """Return the dtype of the matrix products."""
    device = weights[0].device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weights[3].dtype


def _forward(
    cell: str, weights: Sequence[Tensor], plan: Plan, dtype: torch.dtype
) -> tuple[Tensor, Tape]:
    """Return the state (U, H) after each token's last character, and the tape."""
    chars_AE, weight_GE, bias_G, weight_GH, *bias = weights
    inputs = chars_AE.index_select(0, plan.used_K), weight_GE, bias_G
    gates_KG = linear(*(part.to(dtype) for part in inputs)).to(weight_GH.dtype)
    gates_NG, weight_HG = gates_KG.index_select(0, plan.which_N), weight_GH.t().to(dtype)
    N, H, parts = len(gates_NG), weight_GH.shape[1], CELLS[cell].parts
    tape = Tape(gates_NG, gates_NG.new_empty(N, H), gates_NG.new_empty(N, parts * H))
    tape.before[: plan.sizes[0]].zero_()
    # row 0 is the state of a token without characters
    states = gates_NG.new_empty(1 + N, parts * H)
    states[0].zero_()
    former: Tensor | None = None
    for gates, (inner,), before, state, (parents,) in zip(
        _levels(plan, gates_NG, H),
        _levels(plan, tape.inner_NH),
        _levels(plan, tape.before, H),
        _levels(plan, states[1:], H),
        _levels(plan, plan.parents_N),
        strict=True,
    ):
        if former is not None:
            torch.index_select(former, 0, parents, out=before[0])
        CELLS[cell].step(gates, inner, None if former is None else before, state, weight_HG, bias)
        former = state[0]
    return states[:, :H].index_select(0, plan.last_U), tape


def _levels(plan: Plan, whole: Tensor, width: int = 0) -> list[Views]:
    """Return the rows of each level: all columns, then each block of `width` columns."""
    parts = (whole, *(torch.split(whole, width, 1) if width else ()))
    return list(zip(*(torch.split(part, plan.sizes) for part in parts), strict=True))


def _backward(
    grad_UH: Tensor,
    cell: str,
    weights: Sequence[Tensor],
    plan: Plan,
    dtype: torch.dtype,
    tape: Tape,
) -> list[Tensor]:
    """Return the gradients of the weights, given the gradient of the states (U, H)."""
    chars_AE, weight_GE, _, weight_GH, *bias = weights
    weight, (N, H), parts = weight_GH.to(dtype), tape.inner_NH.shape, CELLS[cell].parts
    # the gradients of the state's parts are side by side: one call adds them to the parents'
    grads_N = grad_UH.new_zeros(1 + N, parts * H)
    grads_N[:, :H].index_add_(0, plan.last_U, grad_UH)
    # each step back turns the factors of its level into gradients
    above_NG, recurrent_NG, inner_NH = CELLS[cell].slopes(tape)
    levels = list(
        zip(
            _levels(plan, tape.gates_NG, H),
            _levels(plan, above_NG, H),
            _levels(plan, recurrent_NG),
            _levels(plan, inner_NH),
            _levels(plan, grads_N[1:], H),
            _levels(plan, plan.parents_N),
            strict=True,
        )
    )
    for number in reversed(range(len(levels))):
        gates, above, (recurrent,), (inner,), grads, (parents,) = levels[number]
        to_parents = torch.empty_like(grads[0])
        direct = to_parents, *torch.split(to_parents, H, 1)
        CELLS[cell].back(gates, above, recurrent, inner, grads, direct)
        if number:
            _through(recurrent, weight, direct[1], add=cell == "gru")
            # siblings share a parent, so their gradients are summed
            levels[number - 1][4][0].index_add_(0, parents, to_parents)
    later = slice(plan.sizes[0], None)  # level 0 has no state before
    grad_KG = above_NG.new_zeros(len(plan.used_K), len(weight))
    grad_KG = grad_KG.index_add_(0, plan.which_N, above_NG).to(dtype)
    rows_AG = grad_KG
    if len(chars_AE) <= SMALL_ALPHABET:
        rows_AG = grad_KG.new_zeros(len(chars_AE), len(weight))
        rows_AG.index_copy_(0, plan.used_K, grad_KG)
    grad_AE = torch.zeros_like(chars_AE, dtype=dtype)
    grads_of = [
        grad_AE.index_copy_(0, plan.used_K, grad_KG @ weight_GE.to(dtype)),
        grad_KG.t() @ chars_AE.index_select(0, plan.used_K).to(dtype),
        rows_AG.sum(0),
        # one product over all levels
        recurrent_NG[later].to(dtype).t() @ tape.before[later, :H].to(dtype),
        *([recurrent_NG.sum(0)] if bias else []),
    ]
    return [grad.to(of.dtype) for grad, of in zip(grads_of, weights, strict=True)]


def _through(recurrent: Tensor, weight_GH: Tensor, grad_h: Tensor, add: bool) -> None:
    """Write the gradient of h that passes through the recurrent product, or add it."""
    if weight_GH.dtype != recurrent.dtype:
        product = recurrent.to(weight_GH.dtype) @ weight_GH
        grad_h.add_(product) if add else grad_h.copy_(product)
    elif add:
        grad_h.addmm_(recurrent, weight_GH)
    else:
        torch.mm(recurrent, weight_GH, out=grad_h)


class _Recurrence(torch.autograd.Function):
    """The last states of a plan's tokens as a differentiable function of the weights."""

    @staticmethod
    def forward(ctx: Any, cell: str, plan: Plan, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        states_UH, tape = _forward(cell, weights, plan, dtype)
        ctx.plain = cell, plan, dtype, len(weights)
        ctx.save_for_backward(*weights, *tape)
        return states_UH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_UH: Tensor) -> tuple[Tensor | None, ...]:
        cell, plan, dtype, count = ctx.plain
        saved = ctx.saved_tensors  # subtle: once, or gradient checkpointing refuses the second read
        weights, tape = saved[:count], Tape(*saved[count:])
        return None, None, None, *_backward(grad_UH, cell, weights, plan, dtype, tape)


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
    return _Passed(plan, which_U, *_forward(cell, weights, plan, dtype))


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
        *_backward(grad, cell, weights, plan, dtype, tape),
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
