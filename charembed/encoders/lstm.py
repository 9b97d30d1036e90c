"""The default: the state of an LSTM after a token's last character."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, Rows, uniform_
from charembed.prefixes import PrefixTree
from charembed.recurrence import last_states
from charembed.spelling import SpellingTable


class RecurrentWeights(nn.Module):
    """The parameters of a one-layer nn.LSTM or nn.GRU under its names. (torch.compile refuses an nn.LSTM.)"""

    def __init__(self, num_gates: int, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(
            torch.empty(num_gates * hidden_size, input_size, dtype=torch.float32)
        )
        self.weight_hh_l0 = nn.Parameter(
            torch.empty(num_gates * hidden_size, hidden_size, dtype=torch.float32)
        )
        self.bias_ih_l0 = nn.Parameter(torch.empty(num_gates * hidden_size, dtype=torch.float32))
        self.bias_hh_l0 = nn.Parameter(torch.empty(num_gates * hidden_size, dtype=torch.float32))


class LSTMEncoder(CharEncoder):
    """Reads a token's characters with an LSTM; its state after the last one, projected, is the token's
    vector.

    h_t, c_t = LSTM(E[char_t], h_{t-1}, c_{t-1}) (Hochreiter & Schmidhuber 1997);  spelled = W h_last + b

    A E + 4H (E + H + 2) + D (H + 1) parameters: 231,168 + 128 A at the default sizes and D = 768.
    Cost: one step of the LSTM per distinct prefix of the tokens asked for, whatever the length of the row.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        hidden_size: H, width of the LSTM.
    """

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        char_dim: int = 128,
        hidden_size: int = 128,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__(spellings, dim, init, seed, char_dim=char_dim, hidden_size=hidden_size)

    def build(self, num_chars: int, dim: int, char_dim: int, hidden_size: int) -> None:
        self.chars = Rows(num_chars, char_dim)
        self.lstm = RecurrentWeights(4, char_dim, hidden_size)
        self.projection = Affine(hidden_size, dim)

    def fill(self, generator: torch.Generator) -> None:
        hidden_size = self.sizes["hidden_size"]
        for parameter in self.lstm.parameters():
            uniform_(parameter, hidden_size**-0.5, generator)
        if self.init == "parent":  # his forget gates begin open, in both bias vectors
            for bias in (self.lstm.bias_ih_l0, self.lstm.bias_hh_l0):
                bias[hidden_size : 2 * hidden_size] = 1.0
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.letters = PrefixTree.from_spellings(spellings)

    def read(self, ids_U: Tensor) -> Tensor:
        # the input half of the gates depends on the character alone, so it is a table of A rows, computed
        # once
        bias_G = self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0
        gates_AG = nn.functional.linear(self.chars.weight, self.lstm.weight_ih_l0, bias_G)
        spelled_UD: Tensor = self.projection(
            last_states("lstm", [gates_AG, self.lstm.weight_hh_l0], self.letters, ids_U)
        )
        return spelled_UD
