"""Control encoders, which see less than the characters of a token.

They separate the effects of size, of form and of a single letter from the effect of the characters.

Axes: U distinct tokens, V vocabulary, R rows of a table, K its width, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charembed import SpellingTable

_LONGEST = 32  # tokens of this length or more share a row


class TableEncoder(nn.Module):
    """A projected row of a small table for each token: ids_U (U,) -> (U, D).

    Arguments:
        rows_V: row of each token; tokens may share one. Row -1 gives exactly zero.
        trained: whether the table is trained; the projection always is.
        init: "zero" (projection zero), "normal" (rows N(0, 1), projection N(0, 1/K)) or "parent"
            (both N(0, 0.02)).
    """

    rows_V: Tensor

    def __init__(
        self, rows_V: Tensor, width: int, dim: int, *, init: str, seed: int, trained: bool = True
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # made on meta, so that the global generator is not moved
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
        if not trained:
            # not persistent: the seed makes the same numbers again, so they need not be stored
            table = self.table.weight.detach().clone()
            del self.table.weight
            self.table.register_buffer("weight", table, persistent=False)

    def forward(self, ids_U: Tensor) -> Tensor:
        rows_U = self.rows_V[ids_U]
        char_UD: Tensor = self.projection(F.embedding(rows_U.clamp(min=0), self.table.weight))
        return torch.where((rows_U >= 0)[:, None], char_UD, 0)


def every_token(spellings: SpellingTable) -> Tensor:
    """A row of its own for each token."""
    return torch.arange(spellings.num_tokens)


def its_length(spellings: SpellingTable) -> Tensor:
    """One row for all tokens with the same number of characters."""
    # length 0 becomes row -1, which gives a vector of zeros
    return spellings.lengths_V.long().clamp(max=_LONGEST) - 1


def its_first_letter(spellings: SpellingTable) -> Tensor:
    """One row for all tokens with the same first letter, after a leading space if there is one."""
    letters = spellings.chars_VC.long()
    # -1 matches no character of a vocabulary without spaces
    space = spellings.alphabet.index(ord(" ")) if ord(" ") in spellings.alphabet else -1
    place_V = ((letters[:, 0] == space) & (spellings.lengths_V > 1)).long()
    first_V = letters.gather(1, place_V[:, None]).squeeze(1)
    return torch.where(spellings.lengths_V > 0, first_V, -1)


def same_size(spellings: SpellingTable, dim: int, num_parameters: int) -> int:
    """The width at which a table over all tokens and its projection have about `num_parameters`."""
    return max(1, round((num_parameters - dim) / (spellings.num_tokens + dim)))
