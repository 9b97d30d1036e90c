"""From letters to one vector per token.

Axes: U distinct tokens, A alphabet, E character width, H encoder width, D model width, G = 4H gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import AttachError, CharEmbedError
from .prefixes import PrefixTree
from .recurrence import last_states
from .spelling import SpellingTable

# Standard deviations of the characters' vectors and of the output projection; None is 1 / sqrt(hidden_size).
INIT_STD: dict[str, tuple[float, float | None]] = {"zero": (1.0, 0.0), "loud": (1.0, None), "parent": (0.02, 0.02)}
ON_META = "the encoder's parameters are on the meta device: fill them (load_state_dict, or encoder.reset_parameters()) before use."


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

    def __init__(self, table: SpellingTable, dim: int, *, char_dim: int = 128, hidden_size: int = 128, init: str = "zero", seed: int = 0) -> None:
        super().__init__()
        if init not in INIT_STD:
            raise AttachError(f"init is {init!r}; choose one of {', '.join(INIT_STD)}.")
        for name, value in (("char_dim", char_dim), ("hidden_size", hidden_size)):
            if value < 1:
                raise AttachError(f"{name} is {value}; it must be at least 1.")
        self.table, self.init, self.seed = table, init, seed
        self._tree = PrefixTree.from_table(table)
        # Built without values, so that no number is drawn from the global generator; `reset_parameters` fills them in.
        empty: dict[str, Any] = {"device": "meta", "dtype": torch.float32}
        self.chars = nn.Embedding(table.num_chars, char_dim, **empty).to_empty(device="cpu")
        self.lstm = LSTMWeights(char_dim, hidden_size)
        self.projection = nn.Linear(hidden_size, dim, **empty).to_empty(device="cpu")
        self.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments that, with table and dim, build this encoder again."""
        return {"char_dim": self.lstm.input_size, "hidden_size": self.lstm.hidden_size, "init": self.init, "seed": self.seed}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Give every parameter its first value, a function of `init` and `seed` alone: also after `to_empty`, in any dtype."""
        generator = torch.Generator().manual_seed(self.seed)
        bound = 1 / math.sqrt(self.lstm.hidden_size)
        for parameter in self.lstm.parameters():
            parameter.copy_(torch.empty(parameter.shape, dtype=torch.float32, device="cpu").uniform_(-bound, bound, generator=generator))
        chars_std, projection_std = INIT_STD[self.init]
        self.chars.weight.copy_(_normal(self.chars.weight.shape, chars_std, generator))
        self.projection.weight.copy_(_normal(self.projection.weight.shape, bound if projection_std is None else projection_std, generator))
        self.projection.bias.zero_()

    @torch.no_grad()
    def respell(self, table: SpellingTable) -> None:
        """Read other spellings with the same weights; characters that are new get a first vector, the others keep theirs.

        The alphabet of `table` must begin with this encoder's, as `SpellingTable.from_tokenizer(..., alphabet=)` makes it.
        """
        known = self.table.alphabet
        assert table.alphabet[: len(known)] == known, (table.num_chars, len(known))
        std = INIT_STD[self.init][0]
        # Seeded by the character, so that the order in which characters are met does not matter.
        new = [_normal((1, self.lstm.input_size), std, torch.Generator().manual_seed(self.seed + 1 + symbol)) for symbol in table.alphabet[len(known) :]]
        if new:
            # subtle: the Parameter stays the same object, as it does when transformers resizes an embedding
            self.chars.weight.data = torch.cat([self.chars.weight, *(row.to(self.chars.weight) for row in new)])
            self.chars.weight.grad = None  # of the old shape
            self.chars.num_embeddings = table.num_chars
        self.table, self._tree = table, PrefixTree.from_table(table)

    def forward(self, ids_U: Tensor) -> Tensor:
        if self.chars.weight.is_meta:
            raise CharEmbedError(ON_META)
        # The input half of the gates depends on the character alone, so it is a table of A rows, computed once.
        gates_AG = nn.functional.linear(self.chars.weight, self.lstm.weight_ih_l0, self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0)
        last_UH, spelled_U = last_states(gates_AG, self.lstm.weight_hh_l0, self._tree, ids_U)
        spelled_UD: Tensor = self.projection(last_UH)
        return torch.where(spelled_U[:, None], spelled_UD, 0)


class LSTMWeights(nn.Module):
    """The parameters of a one-layer `nn.LSTM`, under its names; `last_states` runs them. (torch.compile refuses to touch an nn.LSTM.)"""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih_l0 = _empty(4 * hidden_size, input_size)
        self.weight_hh_l0 = _empty(4 * hidden_size, hidden_size)
        self.bias_ih_l0 = _empty(4 * hidden_size)
        self.bias_hh_l0 = _empty(4 * hidden_size)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=torch.float32, device="cpu"))


def _normal(shape: Sequence[int], std: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu").normal_(0, std, generator=generator)
