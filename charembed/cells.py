"""The recurrent cells: one step of a level of prefixes, and the step back.

Axes: N nodes of a plan, n nodes of a level, H encoder width, G gates (4H for an LSTM, 3H for a GRU).

The gradient is written by hand, because the factors of all levels are then a few products, and the
gradient of the weights is one product. Autograd over the levels would start several times as many
kernels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

Views = tuple[Tensor, ...]  # a tensor, then the views of its parts: blocks of H columns
# of autograd: grad * (1 - y) * y and grad * (1 - y ** 2), each in one pass over the memory
_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward: Any = torch.ops.aten.tanh_backward.grad_input


class Tape(NamedTuple):
    """Input of the backward pass, one row per node; each step writes the rows of its level.

    Attributes:
        gates_NG: after their sigmoid or tanh. The part of g of an LSTM is not used.
        inner_NH: a value inside the cell: tanh(c) of an LSTM, the candidate's part of the recurrent
            product of a GRU.
        candidate_NH: g of an LSTM, n of a GRU, after tanh.
        before: (N, H) for each part of the state: the state of the nodes' parents. The first level
            has no parents, and its rows are zero.
    """

    gates_NG: Tensor
    inner_NH: Tensor
    candidate_NH: Tensor
    before: Tensor


class Slopes(NamedTuple):
    """The factors of the backward pass that depend on the forward alone, one row per node.

    Attributes:
        recurrent_NG: derivative of the state after the recurrent product. `back` multiplies the
            rows of a level by the gradients of the state, in place.
        direct_NH: derivative of the state's last part after the same part before: f, or z.
        inner_NH: derivative of h after a value inside the cell: c of an LSTM, the candidate's sum
            of a GRU.
    """

    recurrent_NG: Tensor
    direct_NH: Tensor
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
        candidate: Tensor,
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
        torch.tanh(g, out=candidate)
        # one call for three gates; a call for each costs more than the fourth one, which is not used
        whole.sigmoid_()
        torch.mul(i, candidate, out=c)
        if before is not None:
            c.addcmul_(f, before[2])
        torch.mul(o, torch.tanh(c, out=inner), out=h)

    @staticmethod
    def slopes(tape: Tape) -> Slopes:
        gates_NG, tanh_NH, g, _ = tape
        (i, f, _, o), of_NG = gates_NG.chunk(4, 1), torch.empty_like(gates_NG)
        of_i, of_f, of_g, of_o = of_NG.chunk(4, 1)
        _sigmoid_backward(g, i, grad_input=of_i)
        _sigmoid_backward(tape.before.chunk(2, 1)[1], f, grad_input=of_f)
        _tanh_backward(i, g, grad_input=of_g)
        _sigmoid_backward(tanh_NH, o, grad_input=of_o)
        return Slopes(of_NG, f, _tanh_backward(o, tanh_NH, grad_input=torch.empty_like(tanh_NH)))

    @staticmethod
    def back(recurrent: Tensor, inner: Tensor, grads: Views) -> None:
        """Turn the slopes of a level into gradients of its recurrent product."""
        (grad_h, grad_c), H = grads, inner.shape[1]
        grad_c.addcmul_(grad_h, inner)
        # one call for the three gates that are side by side
        recurrent[:, : 3 * H].view(-1, 3, H).mul_(grad_c[:, None])
        recurrent[:, 3 * H :].mul_(grad_h)

    @staticmethod
    def inputs(recurrent_NG: Tensor, inner_NH: Tensor, grad_NH: Tensor) -> Tensor:
        """Return the gradients of the input half of the gates, given those of the other half."""
        return recurrent_NG


class GRU:
    """n = tanh(gates_n + r recurrent_n); h = (1 - z) n + z h_before.

    Cho et al. 2014, in nn.GRU's form: r multiplies the recurrent product, not h_before.
    """

    gates, parts = 3, 1

    @staticmethod
    def step(
        gates: Views,
        inner: Tensor,
        candidate: Tensor,
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
        torch.tanh(n.addcmul_(r, inner), out=candidate)
        if before is None:
            torch.mul(1 - z, candidate, out=h)
        else:
            torch.lerp(candidate, before[1], z, out=h)

    @staticmethod
    def slopes(tape: Tape) -> Slopes:
        (r, z, _), n, of_NG = tape.gates_NG.chunk(3, 1), tape.candidate_NH, None
        of_NG = torch.empty_like(tape.gates_NG)
        of_r, of_z, of_n = of_NG.chunk(3, 1)
        inner_NH = _tanh_backward(1 - z, n, grad_input=torch.empty_like(n))
        torch.mul(inner_NH, r, out=of_n)
        _sigmoid_backward(tape.before - n, z, grad_input=of_z)
        _sigmoid_backward(inner_NH * tape.inner_NH, r, grad_input=of_r)
        return Slopes(of_NG, z, inner_NH)

    @staticmethod
    def back(recurrent: Tensor, inner: Tensor, grads: Views) -> None:
        """Turn the slopes of a level into gradients of its recurrent product."""
        recurrent.view(-1, 3, inner.shape[1]).mul_(grads[0][:, None])

    @staticmethod
    def inputs(recurrent_NG: Tensor, inner_NH: Tensor, grad_NH: Tensor) -> Tensor:
        """Return the gradients of the input half of the gates, given those of the other half."""
        # r multiplies the candidate's recurrent product alone
        return torch.cat([recurrent_NG[:, : 2 * inner_NH.shape[1]], inner_NH * grad_NH], 1)


CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU}
