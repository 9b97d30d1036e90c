"""The spelling loss of an arm: the vectors that the heads read letters from, and the accuracy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import charembed
from charembed import SpellingTable
from charembed.spelling_loss import IGNORED, SpellingHeads
from charembed.vector_table import TOKENS_AT_ONCE

_PLACES = 10  # letters of a token that the heads predict


def reader(model: nn.Module, path: str) -> nn.Module:
    """The module whose vectors the heads read: the encoder, or the embedding if there is none."""
    embedding = model.get_submodule(path)
    if isinstance(embedding, charembed.CharEmbedding):
        encoder: nn.Module = embedding.encoder
        return encoder
    return embedding


def heads_for(model: nn.Module, path: str, spellings: SpellingTable, seed: int) -> SpellingHeads:
    """Make heads for the spellings of the arm's own encoder (false ones in the arm `shuffled`)."""
    # the encoder's own table: shuffled in one arm
    own = getattr(reader(model, path), "spellings", None) or spellings
    width = model.get_submodule(path).get_parameter("weight").shape[1]
    return SpellingHeads(own, width, seed, _PLACES, 0)


@torch.no_grad()
def letters_read(encoder: nn.Module, heads: SpellingHeads, ids_L: Tensor) -> tuple[float, float]:
    """Accuracy of the heads on some tokens: by letter (including end marks), and by token."""
    letters, right, whole = 0, 0, 0
    # in pieces, to bound the memory
    for ids_N in torch.split(ids_L, TOKENS_AT_ONCE):
        targets_NP = heads.targets_VP[ids_N]
        wrong_NP = (heads.read(encoder(ids_N)) != targets_NP) & (targets_NP != IGNORED)
        counted = int((targets_NP != IGNORED).sum())
        letters, right = letters + counted, right + counted - int(wrong_NP.sum())
        whole += int((~wrong_NP.any(1)).sum())
    return right / letters, whole / len(ids_L)
