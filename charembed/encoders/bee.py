"""Spelling Bee: the mean of byte vectors, each turned by its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import INIT_STD, CharEncoder, PaddedSpellings, Rows, normal_
from charembed.errors import AttachError
from charembed.spelling import SpellingTable

BASE = 10_000.0  # of the rotations' frequencies (Su et al. 2021)


class BeeEncoder(CharEncoder):
    """The position-aware mean of byte vectors of Spelling Bee Embeddings (arXiv 2601.18030).

    spelled = 1/n (R_0 E[byte_1] + ... + R_{n-1} E[byte_n]),  R_p the rotation of pairs of columns by p
    BASE^(-2i/D)

    There the token's vector and this one are halved and added; here the token's stays whole, as attaching
    must change nothing. With init "zero" the byte vectors are zero; "loud" makes each of them N(0, 1).
    A D parameters (A = 256). Cost: C A D products, and C D additions per token, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        max_chars: bytes of a token that are read, as there; the others are passed by.

    Raises AttachError for an odd D, whose columns form no pairs.
    """

    unit = "byte"

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        max_chars: int = 16,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        if dim % 2:
            raise AttachError(
                f"the embedding has {dim} columns; the bee encoder turns pairs of them, so it needs an even "
                "number."
            )
        super().__init__(spellings, dim, init, seed, max_chars=max_chars)

    @property
    def chars_std(self) -> float:
        return 0.0 if self.init == "zero" else INIT_STD[self.init][0]

    def build(self, num_chars: int, dim: int, max_chars: int) -> None:
        self.chars = Rows(num_chars, dim)

    def fill(self, generator: torch.Generator) -> None:
        normal_(self.chars.weight, self.chars_std, generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        # each byte is turned once for each place, not once for each token that has it there
        chars_UC, real_UC = self.token_chars.of(ids_U)
        weight_AD, C = self.chars.weight, chars_UC.shape[1]
        frequencies = BASE ** (
            -torch.arange(0, self.dim, 2, device=ids_U.device, dtype=torch.float32) / self.dim
        )
        places_C = torch.arange(C, device=ids_U.device)
        angles = places_C[:, None, None] * frequencies
        cos, sin = angles.cos().to(weight_AD.dtype), angles.sin().to(weight_AD.dtype)
        even, odd = weight_AD[:, 0::2], weight_AD[:, 1::2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).view(
            -1, self.dim
        )
        none = len(turned)
        rows_UC = torch.where(real_UC, places_C * len(weight_AD) + chars_UC, none)
        turned = nn.functional.pad(turned, (0, 0, 0, 1))
        summed_UD = nn.functional.embedding_bag(rows_UC, turned, mode="sum", padding_idx=none)
        char_UD: Tensor = summed_UD / real_UC.sum(1, keepdim=True).clamp(min=1)
        return char_UD
