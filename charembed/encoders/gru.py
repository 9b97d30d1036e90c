"""An LSTM's smaller sister, over the same tree of prefixes."""

from __future__ import annotations

from torch import Tensor, nn

from .lstm import RecurrentEncoder


class GRUEncoder(RecurrentEncoder):
    """Reads a token's characters with a GRU; its state after the last one, projected, is the token's vector.

    h_t = GRU(E[char_t], h_{t-1}) (Cho et al. 2014, in nn.GRU's form);  spelled = W h_last + b

    A E + 3H (E + H + 2) + D (H + 1) parameters: three quarters of the LSTM's recurrent ones. Cost: one step
    of the GRU per distinct prefix of the tokens asked for.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        hidden_size: H, width of the GRU.
    """

    cell, num_gates = "gru", 3

    def weights(self) -> list[Tensor]:
        gru = self.recurrent
        gates_AG = nn.functional.linear(self.chars.weight, gru.weight_ih_l0, gru.bias_ih_l0)
        return [gates_AG, gru.weight_hh_l0, gru.bias_hh_l0]
