"""The spelling loss in the laboratory: from which vector of an arm the letters are read, and how well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import charembed
from charembed import SpellingTable
from charembed.spelling_loss import IGNORED, SpellingHeads
from charembed.vector_table import TOKENS_AT_ONCE

FIRST_PLACES = 10  # of a token, that are read


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
    width = model.get_submodule(path).get_parameter("weight").shape[1]
    return SpellingHeads(own, width, seed, FIRST_PLACES, 0)


@torch.no_grad()
def letters_read(encoder: nn.Module, heads: SpellingHeads, ids_L: Tensor) -> tuple[float, float]:
    """The shares of letters (ends among them) and of whole tokens that are read right, over some tokens."""
    letters, right, whole = 0, 0, 0
    for ids_N in torch.split(ids_L, TOKENS_AT_ONCE):
        targets_NP = heads.targets_VP[ids_N]
        wrong_NP = (heads.read(encoder(ids_N)) != targets_NP) & (targets_NP != IGNORED)
        counted = int((targets_NP != IGNORED).sum())
        letters, right = letters + counted, right + counted - int(wrong_NP.sum())
        whole += int((~wrong_NP.any(1)).sum())
    return right / letters, whole / len(ids_L)
