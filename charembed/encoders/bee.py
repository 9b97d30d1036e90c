"""Spelling Bee: the mean of byte vectors, each turned by its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoder import INIT_STD, CharEncoder, PaddedSpellings, Rows, normal_
from ..errors import AttachError
from ..spelling import SpellingTable

BASE = 10_000.0  # of the rotations' frequencies (Su et al. 2021)


class BeeEncoder(CharEncoder):
    """The position-aware mean of byte vectors of Spelling Bee Embeddings (arXiv 2601.18030).

    spelled = 1/n (R_0 E[byte_1] + ... + R_{n-1} E[byte_n]),  R_p the rotation of pairs of columns by p BASE^(-2i/D)

    There the token's vector and this one are halved and added; here the token's stays whole, as attaching must change
    nothing. With init "zero" the byte vectors are zero; "loud" makes each of them N(0, 1).
    256 D parameters. Cost: C D products per token, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        max_chars: bytes of a token that are read, as there; the others are passed by.

    Raises AttachError for an odd D, whose columns form no pairs.
    """

    unit = "byte"

    def __init__(
        self, spellings: SpellingTable, dim: int, *, max_chars: int = 16, init: str = "zero", seed: int = 0
    ) -> None:
        if dim % 2:
            raise AttachError(f"the embedding has {dim} columns; the bee encoder turns pairs of them, so it needs an even number.")
        super().__init__(spellings, dim, init, seed, max_chars=max_chars)

    @property
    def chars_std(self) -> float:
        return 0.0 if self.init == "zero" else INIT_STD[self.init][0]

    def build(self, num_chars: int, dim: int, max_chars: int) -> None:
        self.chars = Rows(num_chars, dim)

    def fill(self, generator: torch.Generator) -> None:
        normal_(self.chars.weight, self.chars_std, generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.letters = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.letters.of(ids_U)
        x_UCD = nn.functional.embedding(chars_UC, self.chars.weight) * real_UC[..., None]
        places_C = torch.arange(chars_UC.shape[1], device=ids_U.device, dtype=torch.float32)
        frequencies = BASE ** (-torch.arange(0, self.dim, 2, device=ids_U.device, dtype=torch.float32) / self.dim)
        angles = places_C[:, None] * frequencies
        cos, sin = angles.cos().to(x_UCD.dtype), angles.sin().to(x_UCD.dtype)
        even, odd = x_UCD[..., 0::2], x_UCD[..., 1::2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(2)
        return turned.sum(1) / real_UC.sum(1, keepdim=True).clamp(min=1)
