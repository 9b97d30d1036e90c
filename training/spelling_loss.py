"""The spelling loss in the laboratory: from which vector of an arm the letters are read."""

from __future__ import annotations

from torch import nn

import charembed
from charembed import SpellingTable
from charembed.spelling_loss import SpellingHeads

PLACES = 10
TOKENS = 256  # drawn from the vocabulary in each step of text or questions


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
    return SpellingHeads(own, model.get_submodule(path).get_parameter("weight").shape[1], seed, PLACES, 0)
