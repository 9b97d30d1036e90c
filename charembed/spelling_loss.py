"""The spelling loss: linear heads predict the characters of a token from its vector.

The heads predict the character at each position, counted from the beginning and from the end of
the token. They are trained together with the encoder and then discarded. So the vectors encode the
spelling in a form that a linear map can decode.

Axes: N sampled tokens, P positions, A alphabet, L characters to predict, K width of a code, D model
width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .arguments import check_int, check_seed
from .encoder import seeded_rows
from .spelling import SpellingTable

PLACES = 12  # positions from each end of a token
_CODE = 128  # K
_END = -1  # symbol after the last character
IGNORED = -100  # positions after the end: no target, the ignore_index of torch's cross entropy


class SpellingHeads(nn.Module):
    """Linear heads and loss: vectors_ND (N, D), ids_N (N,) -> loss in nats, summed over characters.

    heads = SpellingHeads(embedding.spellings, embedding.embedding_dim, seed=0)
    loss = heads(embedding.encoder(ids_N), ids_N) / heads.num_targets(ids_N)     # nats per
    character

    One head for each position maps the vector to a code. The logits are its dot products with the
    fixed codes of the characters in `ids_N`. The end after the last character is also predicted. A
    code depends on the character alone, so heads that are trained on one vocabulary work on
    another.

    Arguments:
        spellings: SpellingTable of the whole vocabulary.
        dim: D, width of the vectors.
        seed: seed of the heads' initial values.
        places: number of positions from the beginning, 0 or more. Default: 12.
        from_end: number of positions from the end, counted backwards. Default: 12. P is the sum.

    Raises AttachError if a size is no int in its range, or if P is 0.
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
        check_int("dim", dim, 1)
        check_int("places", places, 0)
        check_int("from_end", from_end, 0)
        check_int("places + from_end", places + from_end, 1)
        check_seed(seed)
        self.places = places + from_end
        self.heads = nn.Linear(dim, self.places * _CODE, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.heads.weight.normal_(0, dim**-0.5, generator=torch.Generator().manual_seed(seed))
            self.heads.bias.zero_()
        # scaled to length about 1, so initial logits do not grow with K
        codes_AK = seeded_rows([*spellings.alphabet, _END], _CODE) * _CODE**-0.5
        self.register_buffer("codes_AK", codes_AK, persistent=False)
        self.register_buffer(
            "targets_VP", spelling_targets(spellings, places, from_end), persistent=False
        )

    def num_targets(self, ids_N: Tensor) -> int:
        """Return the number of characters and ends that the loss sums over."""
        return int((self.targets_VP[ids_N.to(self.targets_VP.device)] != IGNORED).sum())

    def forward(self, vectors_ND: Tensor, ids_N: Tensor, among_M: Tensor | None = None) -> Tensor:
        """Return the cross-entropy in nats, summed over all targets of these tokens.

        Arguments:
            vectors_ND: (N, D) the vectors of the tokens.
            ids_N: (N,) their ids.
            among_M: (M,) ids that include `ids_N`. A character is predicted among those that occur
                in them, so the losses of parts of a batch add up if each gets the ids of all parts.
                Default: None, ids_N.
        """
        targets_NP = self.targets_VP[ids_N]
        real_NP = targets_NP != IGNORED
        # logits only over characters that occur here: large alphabets have thousands of characters
        if among_M is None:
            occurring, right_L = torch.unique(targets_NP[real_NP], return_inverse=True)
        else:
            all_MP = self.targets_VP[among_M]
            occurring = torch.unique(all_MP[all_MP != IGNORED])
            right_L = torch.searchsorted(occurring, targets_NP[real_NP])
        logits = self.codes(vectors_ND)[real_NP] @ self.codes_AK[occurring].T
        return F.cross_entropy(logits.float(), right_L, reduction="sum")

    def codes(self, vectors_ND: Tensor) -> Tensor:
        """Return the predicted code of each position: (N, D) -> (N, P, K)."""
        codes: Tensor = self.heads(vectors_ND)
        return codes.view(-1, self.places, _CODE)

    @torch.no_grad()
    def read(self, vectors_ND: Tensor) -> Tensor:
        """Return the predicted character of each position: (N, D) -> (N, P), indices into the
        alphabet.

        A predicted end is the size of the alphabet.
        """
        return (self.codes(vectors_ND) @ self.codes_AK.T).argmax(-1)


def spelling_targets(spellings: SpellingTable, places: int, from_end: int = 0) -> Tensor:
    """Return the targets of all tokens: (V, P), indices into the alphabet.

    b"the" over the alphabet "eht" with 5 positions and 4 from the end
    -> [2, 1, 0, 3, IGNORED] and [0, 1, 2, 3]

    The position after the last character has the size of the alphabet (the end), further positions
    IGNORED. A token without characters has IGNORED at all positions.

    Arguments:
        spellings: SpellingTable of the vocabulary.
        places: number of positions from the beginning.
        from_end: number of positions from the end, counted backwards. Default: 0.
    """
    chars_VC, lengths_V1 = spellings.chars_VC.long(), spellings.lengths_V.long()[:, None]
    forward_P, backward_P = torch.arange(places), torch.arange(from_end)
    # positions beyond the token on either side are masked below
    places_VP = torch.cat(
        [forward_P.expand(spellings.num_tokens, -1), lengths_V1 - 1 - backward_P], dim=1
    )
    counted_P = torch.cat([forward_P, backward_P])
    letters_VP = chars_VC.gather(1, places_VP.clamp(0, chars_VC.shape[1] - 1))
    targets_VP = torch.where(counted_P < lengths_V1, letters_VP, IGNORED)
    return torch.where(
        (counted_P == lengths_V1) & (lengths_V1 > 0), len(spellings.alphabet), targets_VP
    )


def ids_with_characters(spellings: SpellingTable) -> Tensor:
    """Return the ids of all tokens that have characters: (L,) int64."""
    return spellings.lengths_V.nonzero().squeeze(1)
