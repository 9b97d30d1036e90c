"""The LSTM encoder (the default): the hidden state after a token's last character."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from charembed.compiled_recurrence import compiled_vectors
from charembed.encoder import PRETRAINED, Affine, CharEncoder, Rows, init_name, uniform_
from charembed.export import check_exportable
from charembed.prefixes import PrefixTree
from charembed.recurrence import last_states
from charembed.spelling import SpellingTable

from . import pretrained


class _RecurrentWeights(nn.Module):
    """Parameters of a one-layer nn.LSTM or nn.GRU under its names, so their state dicts can be
    loaded.

    It is not an nn.LSTM, because torch.compile does not support nn.LSTM.
    """

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
    """Base of LSTMEncoder and GRUEncoder: one step per distinct prefix, the last state projected.

    A subclass sets `cell`, a name in `cells.CELLS`, and `num_gates`, and defines `weights`.
    """

    zeroes = True
    cell: ClassVar[str]
    num_gates: ClassVar[int]
    deterministic = True

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
        # named after the cell, so saved parts have keys such as lstm.weight_ih_l0
        self.add_module(self.cell, _RecurrentWeights(self.num_gates, char_dim, hidden_size))
        self.projection = Affine(hidden_size, dim)

    def fill(self, generator: torch.Generator) -> None:
        for parameter in self.recurrent.parameters():
            uniform_(parameter, self.sizes["hidden_size"] ** -0.5, generator)
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PrefixTree.from_spellings(spellings)

    @property
    def recurrent(self) -> _RecurrentWeights:
        """The module with the recurrent parameters. Its key in state dicts is `cell`."""
        return cast(_RecurrentWeights, self._modules[self.cell])

    def weights(self) -> list[Tensor]:
        """Return the weights that `last_states` takes.

        They are the character embeddings (A, E), the input half of the gates (G, E) with its bias
        (G,), the recurrent half (G, H), and for a GRU its recurrent bias (G,).
        """
        raise NotImplementedError

    def read(self, ids_U: Tensor) -> Tensor:
        check_exportable("the recurrence")
        weights, projection = self.weights(), self.projection
        if torch.compiler.is_compiling():
            # The custom op projects each distinct token once. A module in place of ours is called.
            ours = type(projection) is Affine
            both = [projection.weight, projection.bias] if ours else []
            found_U = compiled_vectors(self.cell, weights, both, self.token_chars, ids_U)
            return found_U if ours else self.zeroed(projection(found_U), ids_U)
        plan = self.token_chars.on(weights[0].device).plan(ids_U)
        char_UD: Tensor = projection(last_states(self.cell, weights, plan))
        # not torch.where: it would take two passes, and most often there are few such tokens
        return char_UD.index_fill(0, plan.without_E, 0) if len(plan.without_E) else char_UD


class LSTMEncoder(RecurrentEncoder):
    """Run an LSTM over a token's characters and project the last hidden state.

    h_t, c_t = LSTM(E[char_t], h_{t-1}, c_{t-1});   vector = W h_last + b
    (Hochreiter & Schmidhuber 1997)

    A E + 4H (E + H + 2) + D (H + 1) parameters: 231,168 + 128 A at the default sizes and D = 768.
    Cost: one step of the LSTM per distinct prefix of the encoded tokens.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character embedding. Default: 128.
        hidden_size: H, width of the LSTM. Default: 128, or 256 with init "pretrained", which has no
            other sizes.

    Raises AttachError if init is "pretrained" and the sizes are not those of the pretrained LSTM.
    """

    cell, num_gates = "lstm", 4
    other_inits = (PRETRAINED,)

    def build(self, num_chars: int, dim: int, char_dim: int, hidden_size: int) -> None:
        if self.init == PRETRAINED:
            pretrained.check_sizes(char_dim, hidden_size)
        super().build(num_chars, dim, char_dim, hidden_size)

    @property
    def chars_seed(self) -> int:
        # The pretrained LSTM was trained with these character embeddings.
        return pretrained.CHARS_SEED if self.init == PRETRAINED else super().chars_seed

    def fill(self, generator: torch.Generator) -> None:
        if self.init == PRETRAINED:
            return pretrained.fill(self, self.recurrent, generator)
        super().fill(generator)
        # The parent experiment starts with open forget gates: 1 in both bias vectors.
        if self.init == "parent":
            for bias in (self.recurrent.bias_ih_l0, self.recurrent.bias_hh_l0):
                bias.chunk(4)[1].fill_(1.0)

    def weights(self) -> list[Tensor]:
        lstm = self.recurrent
        # both biases are added to the same gates, so they can be added once for each character
        bias_G = lstm.bias_ih_l0 + lstm.bias_hh_l0
        return [self.chars.weight, lstm.weight_ih_l0, bias_G, lstm.weight_hh_l0]
