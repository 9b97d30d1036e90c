"""Which letters a token has, and how often, without their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, PaddedSpellings, Rows
from charembed.spelling import SpellingTable


class BagEncoder(CharEncoder):
    """The sum of a token's character vectors, projected: what letters are worth without their order.

    spelled = W (E[char_1] + ... + E[char_n]) + b  (as the bag of character n-grams of Bojanowski et al. 2017,
    with n = 1)

    A E + D (E + 1) parameters. Cost: C E additions and D E products per token, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character's vector.
        max_chars: characters of a token that are read; the others are passed by.
    """

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        char_dim: int = 128,
        max_chars: int = 20,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__(spellings, dim, init, seed, char_dim=char_dim, max_chars=max_chars)

    def build(self, num_chars: int, dim: int, char_dim: int, max_chars: int) -> None:
        self.chars, self.projection = Rows(num_chars, char_dim), Affine(char_dim, dim)

    def fill(self, generator: torch.Generator) -> None:
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.token_chars.of(ids_U)
        x_UCE = nn.functional.embedding(chars_UC, self.chars.weight)
        char_UD: Tensor = self.projection((x_UCE * real_UC[..., None]).sum(1))
        return char_UD
