"""Convolutions over a token's characters, the strongest response of each filter, a highway layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, PaddedSpellings, Rows, uniform_
from charembed.errors import AttachError
from charembed.spelling import SpellingTable


class CNNEncoder(CharEncoder):
    """The character CNN of Kim et al. 2016 (arXiv 1508.06615), as ELMo and CharacterBERT use it.

    y = for each width w: max over places of tanh(filters_w * E[char_1..C])  (K filters each, F = K times the
    widths) z = t y' + (1 - t) y,  t = sigmoid(W_t y + b_t),  y' = relu(W_h y + b_h);  spelled = W z + b

    A filter's window begins at each character of the token and reads zeros past its end, so padding changes
    nothing. A E + K E (sum of widths) + F + 2F (F + 1) + D (F + 1) parameters, where F = K times the number
    of widths.
    Cost: about C K E (sum of widths) + F (2F + D) products per token, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        widths: characters that a filter reads.
        filters: K, of each width.
        max_chars: characters of a token that are read; the others are passed by (GPT-2: 99.9 % have 17 or
            fewer).
    """

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        char_dim: int = 32,
        widths: Sequence[int] = (1, 2, 3, 4, 5),
        filters: int = 48,
        max_chars: int = 20,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        if not isinstance(widths, tuple | list) or not widths:
            raise AttachError(
                f"widths is {widths!r}; it must be a tuple of one whole number or more."
            )
        sizes = {
            "char_dim": char_dim,
            "widths": tuple(widths),
            "filters": filters,
            "max_chars": max_chars,
        }
        super().__init__(spellings, dim, init, seed, **sizes)

    def build(
        self,
        num_chars: int,
        dim: int,
        char_dim: int,
        widths: Sequence[int],
        filters: int,
        max_chars: int,
    ) -> None:
        features = filters * len(widths)
        self.chars = Rows(num_chars, char_dim)
        self.filters = nn.ModuleList(Affine(width * char_dim, filters) for width in widths)
        self.gate, self.transform = Affine(features, features), Affine(features, features)
        self.projection = Affine(features, dim)

    def fill(self, generator: torch.Generator) -> None:
        for part in (*self.filters, self.transform, self.gate):
            uniform_(part.weight, part.weight.shape[1] ** -0.5, generator)
            part.bias.zero_()
        self.gate.bias.fill_(-2.0)  # at first the highway mostly carries, as in Kim et al.
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.token_chars.of(ids_U)
        x_UCE = nn.functional.embedding(chars_UC, self.chars.weight) * real_UC[..., None]
        found = []
        for width, part in zip(self.sizes["widths"], self.filters, strict=True):
            windows = nn.functional.pad(x_UCE, (0, 0, 0, width - 1)).unfold(
                1, width, 1
            )  # (U, C, E, width)
            responses_UCK = torch.tanh(part(windows.flatten(2)))
            # below every tanh, and finite, so that a token without characters has a gradient of zero and not
            # of NaN
            found.append(responses_UCK.masked_fill(~real_UC[..., None], -2.0).amax(1))
        y_UF = torch.cat(found, dim=1)
        t_UF = torch.sigmoid(self.gate(y_UF))
        char_UD: Tensor = self.projection(
            t_UF * torch.relu(self.transform(y_UF)) + (1 - t_UF) * y_UF
        )
        return char_UD
