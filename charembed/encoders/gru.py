"""An LSTM's smaller sister, over the same tree of prefixes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, Rows, uniform_
from charembed.prefixes import PrefixTree
from charembed.recurrence import last_states
from charembed.spelling import SpellingTable

from .lstm import RecurrentWeights


class GRUEncoder(CharEncoder):
    """Reads a token's characters with a GRU; its state after the last one, projected, is the token's vector.

    h_t = GRU(E[char_t], h_{t-1}) (Cho et al. 2014, in nn.GRU's form);  spelled = W h_last + b

    A E + 3H (E + H + 2) + D (H + 1) parameters: three quarters of the LSTM's recurrent ones. Cost: one step
    of the GRU per distinct prefix of the tokens asked for.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        hidden_size: H, width of the GRU.
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
        self.gru = RecurrentWeights(3, char_dim, hidden_size)
        self.projection = Affine(hidden_size, dim)

    def fill(self, generator: torch.Generator) -> None:
        for parameter in self.gru.parameters():
            uniform_(parameter, self.sizes["hidden_size"] ** -0.5, generator)
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.letters = PrefixTree.from_spellings(spellings)

    def read(self, ids_U: Tensor) -> Tensor:
        gru = self.gru
        gates_AG = nn.functional.linear(self.chars.weight, gru.weight_ih_l0, gru.bias_ih_l0)
        last_UH = last_states("gru", [gates_AG, gru.weight_hh_l0, gru.bias_hh_l0], self.letters, ids_U)
        spelled_UD: Tensor = self.projection(last_UH)
        return spelled_UD
