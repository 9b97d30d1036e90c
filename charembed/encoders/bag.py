"""The bag encoder: counts of the characters of a token, without their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, PaddedSpellings, Rows
from charembed.spelling import SpellingTable


class BagEncoder(CharEncoder):
    """Project the sum of a token's character embeddings, without the order of the characters.

    vector = W (E[char_1] + ... + E[char_n]) + b

    This is the bag of character n-grams of Bojanowski et al. 2017 (arXiv 1607.04606) with n = 1. It
    shows how much characters help without their order.

    A E + D (E + 1) parameters. Cost: C E additions and D E products per token, C at most
    `max_chars`.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character embedding. Default: 128.
        max_chars: number of characters of a token that are used; further ones are ignored.
            Default: 20.
    """

    deterministic = True

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
        # multiplied by real_UC, because the padding index 0 is also a character
        char_UD: Tensor = self.projection((x_UCE * real_UC[..., None]).sum(1))
        return char_UD
