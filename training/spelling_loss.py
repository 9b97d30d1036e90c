"""The spelling loss: from a token's vector, small linear heads say the letter at each of its first places.

The heads are trained with the model, kept for resuming, and thrown away at the end: they make the vector one
from which the letters can be read, and take no part in anything else.

Axes: N tokens drawn, P places, A alphabet, V vocabulary, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charembed
from charembed import SpellingTable

PLACES = 10
TOKENS = 256  # drawn from the vocabulary in each step of text or questions
IGNORED = -100


class SpellingHeads(nn.Module):
    """vectors_ND (N, D), ids_N -> nats, summed over the letters of these tokens and the ends after them."""

    targets_VP: Tensor

    def __init__(self, spellings: SpellingTable, dim: int, seed: int) -> None:
        super().__init__()
        self.symbols = len(spellings.alphabet) + 1
        self.heads = nn.Linear(dim, PLACES * self.symbols, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.heads.weight.normal_(0, dim**-0.5, generator=torch.Generator().manual_seed(seed))
            self.heads.bias.zero_()
        self.register_buffer("targets_VP", spelling_targets(spellings), persistent=False)

    def num_targets(self, ids_N: Tensor) -> int:
        return int((self.targets_VP[ids_N.to(self.targets_VP.device)] != IGNORED).sum())

    def forward(self, vectors_ND: Tensor, ids_N: Tensor) -> Tensor:
        logits = self.heads(vectors_ND).float().view(-1, self.symbols)
        return F.cross_entropy(
            logits, self.targets_VP[ids_N].flatten(), ignore_index=IGNORED, reduction="sum"
        )


def spelling_targets(spellings: SpellingTable) -> Tensor:
    """(V, P): the letter at each place, the alphabet's size where the token ends, and nothing after that.

    b"the" over "eht" -> [2, 1, 0, 3, ignored, ...]; a token without letters -> ignored throughout.
    """
    chars_VC = F.pad(spellings.chars_VC.long(), (0, max(0, PLACES - spellings.chars_VC.shape[1])))[:, :PLACES]
    lengths_V1, places_P = spellings.lengths_V.long()[:, None], torch.arange(PLACES)
    targets_VP = torch.where(places_P < lengths_V1, chars_VC, IGNORED)
    return torch.where((places_P == lengths_V1) & (lengths_V1 > 0), len(spellings.alphabet), targets_VP)


def lettered_ids(spellings: SpellingTable) -> Tensor:
    """The ids of all tokens that have letters."""
    return spellings.lengths_V.nonzero().squeeze(1)


def reader(model: nn.Module, path: str) -> nn.Module:
    """What makes the vector that letters are read from: the encoder, or without one the embedding itself."""
    embedding = model.get_submodule(path)
    if isinstance(embedding, charembed.CharEmbedding):
        encoder: nn.Module = embedding.encoder
        return encoder
    return embedding


def heads_for(model: nn.Module, path: str, spellings: SpellingTable, seed: int) -> SpellingHeads:
    """Heads for the letters that the arm's encoder is given, so that shuffled ones stay wrong."""
    own = getattr(reader(model, path), "spellings", None) or spellings
    return SpellingHeads(own, model.get_submodule(path).get_parameter("weight").shape[1], seed)
