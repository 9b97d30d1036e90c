"""The default: the state of an LSTM after a token's last character."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from charembed.encoder import PRETRAINED, Affine, CharEncoder, Rows, init_name, uniform_
from charembed.prefixes import PrefixTree
from charembed.recurrence import last_states
from charembed.spelling import SpellingTable

from . import pretrained


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


class RecurrentEncoder(CharEncoder):
    """What LSTMEncoder and GRUEncoder share: one step per distinct prefix, the last state projected."""

    cell: ClassVar[str]
    num_gates: ClassVar[int]

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        char_dim: int = 128,
        hidden_size: int | None = None,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        if hidden_size is None:
            hidden_size = pretrained.HIDDEN_SIZE if init_name(init) == PRETRAINED else 128
        super().__init__(spellings, dim, init, seed, char_dim=char_dim, hidden_size=hidden_size)

    def build(self, num_chars: int, dim: int, char_dim: int, hidden_size: int) -> None:
        self.chars = Rows(num_chars, char_dim)
        self.add_module(self.cell, RecurrentWeights(self.num_gates, char_dim, hidden_size))
        self.projection = Affine(hidden_size, dim)

    def fill(self, generator: torch.Generator) -> None:
        for parameter in self.recurrent.parameters():
            uniform_(parameter, self.sizes["hidden_size"] ** -0.5, generator)
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PrefixTree.from_spellings(spellings)

    @property
    def recurrent(self) -> RecurrentWeights:
        return cast(RecurrentWeights, self._modules[self.cell])

    def weights(self) -> list[Tensor]:
        """As `last_states` takes them: the input half of the gates, A rows, and the recurrent half."""
        raise NotImplementedError

    def read(self, ids_U: Tensor) -> Tensor:
        char_UD: Tensor = self.projection(
            last_states(self.cell, self.weights(), self.token_chars, ids_U)
        )
        return char_UD


class LSTMEncoder(RecurrentEncoder):
    """Reads a token's characters with an LSTM; its state after the last one, projected, is the vector.

    h_t, c_t = LSTM(E[char_t], h_{t-1}, c_{t-1}) (Hochreiter & Schmidhuber 1997);  spelled = W h_last + b

    A E + 4H (E + H + 2) + D (H + 1) parameters: 231,168 + 128 A at the default sizes and D = 768.
    Cost: one step of the LSTM per distinct prefix of the tokens asked for, whatever the length of the row.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        hidden_size: H, width of the LSTM; by default 128, and 256 where init is "spelled", which has no other
            sizes.
    """

    cell, num_gates = "lstm", 4
    other_inits = (PRETRAINED,)

    def build(self, num_chars: int, dim: int, char_dim: int, hidden_size: int) -> None:
        if self.init == PRETRAINED:
            pretrained.check_sizes(char_dim, hidden_size)
        super().build(num_chars, dim, char_dim, hidden_size)

    @property
    def chars_seed(self) -> int:
        return pretrained.CHARS_SEED if self.init == PRETRAINED else super().chars_seed

    def fill(self, generator: torch.Generator) -> None:
        if self.init == PRETRAINED:
            return pretrained.fill(self, self.recurrent, generator)
        super().fill(generator)
        if self.init == "parent":  # his forget gates begin open, in both bias vectors
            for bias in (self.recurrent.bias_ih_l0, self.recurrent.bias_hh_l0):
                bias.chunk(4)[1].fill_(1.0)

    def weights(self) -> list[Tensor]:
        lstm = self.recurrent
        bias_G = lstm.bias_ih_l0 + lstm.bias_hh_l0
        return [
            nn.functional.linear(self.chars.weight, lstm.weight_ih_l0, bias_G),
            lstm.weight_hh_l0,
        ]
