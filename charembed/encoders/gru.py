"""The GRU encoder: like the LSTM encoder, with three quarters of its recurrent parameters."""

from __future__ import annotations

from torch import Tensor

from .lstm import RecurrentEncoder


class GRUEncoder(RecurrentEncoder):
    """Run a GRU over a token's characters and project the last hidden state.

    h_t = GRU(E[char_t], h_{t-1});   vector = W h_last + b     (Cho et al. 2014, in nn.GRU's form)

    A E + 3H (E + H + 2) + D (H + 1) parameters. Cost: one step of the GRU per distinct prefix of
    the encoded tokens.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character embedding. Default: 128.
        hidden_size: H, width of the GRU. Default: 128.
    """

    cell, num_gates = "gru", 3

    def weights(self) -> list[Tensor]:
        gru = self.recurrent
        # bias_hh is separate: in nn.GRU's form the reset gate also multiplies the recurrent bias
        return [
            self.chars.weight,
            gru.weight_ih_l0,
            gru.bias_ih_l0,
            gru.weight_hh_l0,
            gru.bias_hh_l0,
        ]
