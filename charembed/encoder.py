"""From letters to one vector per token.

Axes: U distinct tokens, N nodes of the prefix tree, A alphabet, E character width, H encoder width, D model width, G = 4H gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .prefixes import Plan, build_tree, plan
from .spelling import SpellingTable

INITS = ("zero", "loud", "parent")


class LSTMEncoder(nn.Module):
    """Reads the characters of a token with an LSTM; its state after the last character, projected, is the token's vector.

    ids_U (U,) -> spelled_UD (U, D); a token without characters gets exactly zero.

    h_t, c_t = LSTM(E[char_t], h_{t-1}, c_{t-1}) (Hochreiter & Schmidhuber 1997);  spelled = W h_last + b

    Arguments:
        table: the spellings.
        dim: D, the width of the model's embedding.
        char_dim: E, width of a character's vector.
        hidden_size: H, width of the LSTM.
        init: "zero" (projection zero: attaching changes nothing until the first update), "loud" (characters N(0, 1) and
            projection N(0, 1/H), to learn from scratch) or "parent" (the parent experiment: N(0, 0.02) and zero biases).
        seed: of a private generator; the global random state is neither read nor moved.
    """

    _parents_N: Tensor
    _chars_N: Tensor
    _nodes_V: Tensor

    def __init__(self, table: SpellingTable, dim: int, *, char_dim: int = 128, hidden_size: int = 128, init: str = "zero", seed: int = 0) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"init is {init!r}; choose one of {', '.join(INITS)}.")
        self.table = table
        # Built without values, so that no number is drawn from the global generator; `_init_parameters` fills them in.
        self.chars = nn.Embedding(table.num_chars, char_dim, device="meta").to_empty(device="cpu")
        self.lstm = nn.LSTM(char_dim, hidden_size, device="meta").to_empty(device="cpu")
        self.projection = nn.Linear(hidden_size, dim, device="meta").to_empty(device="cpu")
        parents_N, chars_N, nodes_V, self._starts = build_tree(table)
        self.register_buffer("_parents_N", parents_N, persistent=False)
        self.register_buffer("_chars_N", chars_N, persistent=False)
        self.register_buffer("_nodes_V", nodes_V, persistent=False)
        self._init_parameters(init, torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _init_parameters(self, init: str, generator: torch.Generator) -> None:
        bound = 1 / math.sqrt(self.lstm.hidden_size)
        for parameter in self.lstm.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
        self.chars.weight.normal_(0, 0.02 if init == "parent" else 1, generator=generator)
        self.projection.weight.normal_(0, {"zero": 0.0, "loud": bound, "parent": 0.02}[init], generator=generator)
        self.projection.bias.zero_()

    def forward(self, ids_U: Tensor) -> Tensor:
        nodes = plan(self._parents_N, self._chars_N, self._nodes_V, self._starts, ids_U)
        states_NH = nn.functional.pad(self.states(nodes), (0, 0, 0, 1))  # a last row for -1, tokens without characters
        spelled_UD: Tensor = self.projection(states_NH[nodes.nodes_U])
        return torch.where(nodes.nodes_U[:, None] >= 0, spelled_UD, 0)

    def states(self, nodes: Plan) -> Tensor:
        """(N, H): the LSTM's hidden state after each prefix of the plan."""
        parameters: dict[str, Tensor] = dict(self.lstm.named_parameters())
        weight_GH = parameters["weight_hh_l0"]
        # The input half of the gates depends on the character alone, so it is a table of A rows, computed once.
        bias_G = parameters["bias_ih_l0"] + parameters["bias_hh_l0"]
        gates_AG = nn.functional.linear(self.chars.weight, parameters["weight_ih_l0"], bias_G)
        device = gates_AG.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_GH.dtype
        with torch.autocast(device, enabled=False):
            apply: Callable[..., Tensor] = _PrefixLSTM.apply
            return apply(gates_AG.to(weight_GH.dtype), weight_GH, nodes, dtype)


class _PrefixLSTM(torch.autograd.Function):
    """The recurrence over a prefix tree, level by level: one dense product per level, weight gradient in one product.

    Written out because autograd would keep a graph of a dozen operations per level and add up the weight gradient level
    by level; `tests/reference.py` holds the slow twin (nn.LSTM on packed sequences).
    """

    @staticmethod
    def forward(ctx: Any, gates_AG: Tensor, weight_GH: Tensor, nodes: Plan, dtype: torch.dtype) -> Tensor:
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
        ctx.nodes, ctx.dtype, ctx.num_chars = nodes, dtype, len(gates_AG)
        ctx.save_for_backward(gates_NG, cells_NH, tanh_cells_NH, states_NH, weight_GH)
        return states_NH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states_NH: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gates_NG, cells_NH, tanh_cells_NH, states_NH, weight_GH = ctx.saved_tensors
        nodes: Plan = ctx.nodes
        second = nodes.starts[1] if len(nodes.starts) > 1 else 0
        grad_states_NH = grad_states_NH.clone()
        grad_cells_NH = torch.zeros_like(cells_NH)
        grad_gates_NG = torch.empty_like(gates_NG)
        weight = weight_GH.to(ctx.dtype)
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
            grad_states_NH.index_add_(0, parents, (grad_gates_NG[first:last].to(ctx.dtype) @ weight).to(grad_states_NH.dtype))
        grad_gates_AG = gates_NG.new_zeros(ctx.num_chars, gates_NG.shape[1]).index_add_(0, nodes.chars_N, grad_gates_NG)
        earlier_NH = states_NH.index_select(0, nodes.parents_N[second:])
        grad_weight_GH = grad_gates_NG[second:].to(ctx.dtype).t() @ earlier_NH.to(ctx.dtype)
        return grad_gates_AG, grad_weight_GH.to(weight_GH.dtype), None, None
