"""Encoders that see less than the letters: how much of a gain is size, form, or a single letter?

Axes: U distinct tokens, V vocabulary, R rows of a table, K its width, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charembed import SpellingTable

LONGEST = 32  # lengths from here on count as one


class TableEncoder(nn.Module):
    """A row of a small table for each token, projected: ids_U (U,) -> (U, D).

    Arguments:
        rows_V: the row that each token looks up; tokens may share one. A token with row -1 gets exactly zero.
        trained: whether the table learns; the projection always does.
        init: "zero" (projection zero), "normal" (rows N(0, 1), projection N(0, 1/K)) or "parent" (both N(0,
            0.02)).
    """

    rows_V: Tensor

    def __init__(
        self, rows_V: Tensor, width: int, dim: int, *, init: str, seed: int, trained: bool = True
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(int(rows_V.max()) + 1, width, device="meta").to_empty(
            device="cpu"
        )
        self.projection = nn.Linear(width, dim, device="meta").to_empty(device="cpu")
        self.register_buffer("rows_V", rows_V, persistent=False)
        with torch.no_grad():
            self.table.weight.normal_(0, 0.02 if init == "parent" else 1, generator=generator)
            self.projection.weight.normal_(
                0, {"zero": 0.0, "normal": width**-0.5, "parent": 0.02}[init], generator=generator
            )
            self.projection.bias.zero_()
        if not trained:  # a buffer: made of the seed again, never stored
            table = self.table.weight.detach().clone()
            del self.table.weight
            self.table.register_buffer("weight", table, persistent=False)

    def forward(self, ids_U: Tensor) -> Tensor:
        rows_U = self.rows_V[ids_U]
        char_UD: Tensor = self.projection(F.embedding(rows_U.clamp(min=0), self.table.weight))
        return torch.where((rows_U >= 0)[:, None], char_UD, 0)


def every_token(spellings: SpellingTable) -> Tensor:
    """A row of its own for each token, whatever its letters."""
    return torch.arange(spellings.num_tokens)


def its_length(spellings: SpellingTable) -> Tensor:
    """One row for all tokens of the same number of characters."""
    return spellings.lengths_V.long().clamp(max=LONGEST) - 1


def its_first_letter(spellings: SpellingTable) -> Tensor:
    """One row for all tokens that begin with the same letter, whether or not a space stands before it."""
    letters = spellings.chars_VC.long()
    space = spellings.alphabet.index(ord(" ")) if ord(" ") in spellings.alphabet else -1
    place_V = ((letters[:, 0] == space) & (spellings.lengths_V > 1)).long()
    first_V = letters.gather(1, place_V[:, None]).squeeze(1)
    return torch.where(spellings.lengths_V > 0, first_V, -1)


def same_size(spellings: SpellingTable, dim: int, num_parameters: int) -> int:
    """The width at which a table over all tokens and its projection have about so many parameters."""
    return max(1, round((num_parameters - dim) / (spellings.num_tokens + dim)))
