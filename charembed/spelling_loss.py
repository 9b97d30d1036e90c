"""The spelling loss: from a token's vector, small linear heads say the letter at each of its places, counted
from its beginning and from its end.

The heads are trained with the encoder and thrown away: they make the vector one from which the letters can be
read, and take no part in anything else.

Axes: N tokens drawn, P places, A alphabet, L letters that count, K width of a code, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import seeded_rows
from .spelling import SpellingTable

PLACES = 12
CODE = 128
END = -1  # stands where a character would, after the last one
IGNORED = -100


class SpellingHeads(nn.Module):
    """vectors_ND (N, D), ids_N -> nats, summed over the letters of these tokens and the ends after them.

    heads = SpellingHeads(embedding.spellings, embedding.embedding_dim, seed=0)
    heads(embedding.encoder(ids_N), ids_N) / heads.num_targets(ids_N)     # a scalar: nats a letter

    A head for each place turns the vector into a code; its dot products with the fixed codes of the
    characters that occur in `ids_N` are the logits. A code is a function of the character alone, so heads
    that were trained on one vocabulary read the letters of another.

    Arguments:
        spellings: of the whole vocabulary.
        dim: D, the width of the vectors.
        seed: of the heads' first values.
        places: how many of a token's first characters are read, 0 or more; 12 by default.
        from_end: how many of its last ones, from the last one backwards; 12 by default. P is the sum.
    """

    targets_VP: Tensor
    codes_AK: Tensor

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        seed: int,
        places: int = PLACES,
        from_end: int = PLACES,
    ) -> None:
        super().__init__()
        self.places = places + from_end
        self.heads = nn.Linear(dim, self.places * CODE, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.heads.weight.normal_(0, dim**-0.5, generator=torch.Generator().manual_seed(seed))
            self.heads.bias.zero_()
        codes_AK = seeded_rows([*spellings.alphabet, END], CODE) * CODE**-0.5
        self.register_buffer("codes_AK", codes_AK, persistent=False)
        self.register_buffer(
            "targets_VP", spelling_targets(spellings, places, from_end), persistent=False
        )

    def num_targets(self, ids_N: Tensor) -> int:
        """How many letters, and ends after them, the loss of these tokens is summed over."""
        return int((self.targets_VP[ids_N.to(self.targets_VP.device)] != IGNORED).sum())

    def forward(self, vectors_ND: Tensor, ids_N: Tensor) -> Tensor:
        targets_NP = self.targets_VP[ids_N]
        real_NP = targets_NP != IGNORED
        occurring, right_L = torch.unique(targets_NP[real_NP], return_inverse=True)
        logits = self.codes(vectors_ND)[real_NP] @ self.codes_AK[occurring].T
        return F.cross_entropy(logits.float(), right_L, reduction="sum")

    def codes(self, vectors_ND: Tensor) -> Tensor:
        """(N, P, K): what each place is said to hold."""
        codes: Tensor = self.heads(vectors_ND)
        return codes.view(-1, self.places, CODE)

    @torch.no_grad()
    def read(self, vectors_ND: Tensor) -> Tensor:
        """(N, P): at each place the index into the alphabet of what is read, its size where an end is."""
        return (self.codes(vectors_ND) @ self.codes_AK.T).argmax(-1)


def spelling_targets(spellings: SpellingTable, places: int, from_end: int = 0) -> Tensor:
    """(V, P): the letter at each place, the alphabet's size where the token ends, and nothing after that.

    b"the" over "eht", 5 places, 4 from the end -> [2, 1, 0, 3, ignored] and [0, 1, 2, 3]; a token without
    letters -> ignored throughout.
    """
    chars_VC, lengths_V1 = spellings.chars_VC.long(), spellings.lengths_V.long()[:, None]
    forward_P, backward_P = torch.arange(places), torch.arange(from_end)
    places_VP = torch.cat(
        [forward_P.expand(spellings.num_tokens, -1), lengths_V1 - 1 - backward_P], dim=1
    )  # beyond the token on either side
    counted_P = torch.cat([forward_P, backward_P])
    letters_VP = chars_VC.gather(1, places_VP.clamp(0, chars_VC.shape[1] - 1))
    targets_VP = torch.where(counted_P < lengths_V1, letters_VP, IGNORED)
    return torch.where(
        (counted_P == lengths_V1) & (lengths_V1 > 0), len(spellings.alphabet), targets_VP
    )


def ids_with_characters(spellings: SpellingTable) -> Tensor:
    """The ids of all tokens that have letters."""
    return spellings.lengths_V.nonzero().squeeze(1)
