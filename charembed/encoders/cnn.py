"""The CNN encoder: convolutions over the characters, max over positions, a highway layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, PaddedSpellings, Rows, uniform_
from charembed.errors import AttachError
from charembed.spelling import SpellingTable


class CNNEncoder(CharEncoder):
    """The character CNN of Kim et al. 2016 (arXiv 1508.06615), as in ELMo and CharacterBERT.

    y = for each width w: max over positions of tanh(filters_w * E[char_1..C])     K filters each
    z = t y' + (1 - t) y,   t = sigmoid(W_t y + b_t),   y' = relu(W_h y + b_h)
    vector = W z + b

    A filter's window begins at each character of the token and extends over zeros past its end, so
    padding does not change the result.

    A E + K E (sum of widths) + F + 2F (F + 1) + D (F + 1) parameters, F = K times the number of
    widths.
    Cost: about C K E (sum of widths) + F (2F + D) products per token, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character embedding. Default: 32.
        widths: numbers of characters that a filter covers. Default: (1, 2, 3, 4, 5).
        filters: K, number of filters for each width. Default: 48.
        max_chars: number of characters of a token that are used; further ones are ignored.
            Default: 20. (99.9 % of GPT-2's tokens have 17 or fewer.)

    Raises AttachError if widths is no tuple or list of at least one int >= 1.
    """

    deterministic = True

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
            raise AttachError(f"widths is {widths!r}; it must be a tuple of at least one int.")
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
        # Kim et al.: a negative bias, so the highway layer first passes most of its input through
        self.gate.bias.fill_(-2.0)
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.token_chars.of(ids_U)
        # zero vectors at padding, because windows extend past the end of a token
        x_UCE = nn.functional.embedding(chars_UC, self.chars.weight) * real_UC[..., None]
        found = []
        for width, part in zip(self.sizes["widths"], self.filters, strict=True):
            # (U, C, E, width)
            windows = nn.functional.pad(x_UCE, (0, 0, 0, width - 1)).unfold(1, width, 1)
            responses_UCK = torch.tanh(part(windows.flatten(2)))
            # -2 is below every tanh. It is not -inf, because a token without characters would then
            # get a NaN gradient instead of zero.
            found.append(responses_UCK.masked_fill(~real_UC[..., None], -2.0).amax(1))
        y_UF = torch.cat(found, dim=1)
        t_UF = torch.sigmoid(self.gate(y_UF))
        char_UD: Tensor = self.projection(
            t_UF * torch.relu(self.transform(y_UF)) + (1 - t_UF) * y_UF
        )
        return char_UD
