"""The Spelling Bee encoder: the mean of byte embeddings, each rotated by its position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import INIT_STD, CharEncoder, PaddedSpellings, Rows, normal_
from charembed.errors import AttachError
from charembed.spelling import SpellingTable

_BASE = 10_000.0  # of the rotations' frequencies (RoPE, Su et al. 2021, arXiv 2104.09864)


class BeeEncoder(CharEncoder):
    """The position-aware mean of byte embeddings of Spelling Bee Embeddings (arXiv 2601.18030).

    vector = 1/n (R_0 E[byte_1] + ... + R_{n-1} E[byte_n])

    R_p rotates pairs of columns by the angle p 10000^(-2i/D).

    Difference from the paper: it halves token vector and character vector before adding them. Here
    the token vector stays as it is, because attaching must not change the outputs. With init "zero"
    the byte embeddings are zero; with "normal" they are N(0, 1).

    A D parameters (A = 256). Cost: C A D products, and C D additions per token, C at most
    `max_chars`.

    Arguments: as in `CharEncoder`, and
        max_chars: number of bytes of a token that are used; further ones are ignored. Default: 16,
            as in the paper.

    Raises AttachError if D is odd: its columns then form no pairs.
    """

    unit = "byte"
    deterministic = True

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
                f"The embedding has {dim} columns. The bee encoder rotates pairs of columns, so "
                "the number must be even."
            )
        super().__init__(spellings, dim, init, seed, max_chars=max_chars)

    @property
    def chars_std(self) -> float:
        # Without a projection only zero byte embeddings give zero vectors.
        return 0.0 if self.init == "zero" else INIT_STD[self.init][0]

    def build(self, num_chars: int, dim: int, max_chars: int) -> None:
        self.chars = Rows(num_chars, dim)

    def fill(self, generator: torch.Generator) -> None:
        normal_(self.chars.weight, self.chars_std, generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        # Rotate each byte once for each position, not once for each token that has it there.
        chars_UC, real_UC = self.token_chars.of(ids_U)
        weight_AD, C = self.chars.weight, chars_UC.shape[1]
        frequencies = _BASE ** (
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
        # a last row of zeros, for padding
        turned = nn.functional.pad(turned, (0, 0, 0, 1))
        summed_UD = nn.functional.embedding_bag(rows_UC, turned, mode="sum", padding_idx=none)
        char_UD: Tensor = summed_UD / real_UC.sum(1, keepdim=True).clamp(min=1)
        return char_UD
