"""Rows for tokens that a table never held, from their letters, in closed form.

A trained table says something of its tokens' spelling, in a way that the model reads. How much of a row
follows from the letters is found by ridge regression from the states of the shipped LSTM, where letters can
be read off linearly, to the rows of the tokens that the model knows. (MIMICK, Pinter et al. 2017, arXiv
1707.06961, trains an LSTM for this.)

Axes: V tokens, L of them known, H width of the states, D width of a row (none for a bias).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .encoders import LSTMEncoder, pretrained
from .scale import moments
from .spelling import SpellingTable
from .vector_table import TOKENS_AT_ONCE, encode_vocabulary

RIDGE = 1_000.0  # four tokens for each of the H inputs: little beside a vocabulary, much beside 300 tokens


@torch.no_grad()
def readable_states(spellings: Sequence[bytes | None]) -> Tensor:
    """(V, H): from these the letters can be read off; over usual tokens they have mean 0 and variance 1."""
    table = SpellingTable.from_bytes(spellings)
    encoder = LSTMEncoder(table, pretrained.HIDDEN_SIZE, init="pretrained")
    learnt = pretrained.tensors()
    encoder.projection.weight.copy_(learnt[f"{pretrained.STATES}.weight"])
    encoder.projection.bias.copy_(learnt[f"{pretrained.STATES}.bias"])
    return encode_vocabulary(encoder, encoder.projection.weight, len(spellings))


@torch.no_grad()
def rows_from_spellings(
    table_VD: Tensor, states_VH: Tensor, known_L: Tensor
) -> Callable[[Tensor], Tensor]:
    """Fit, and give back what says of ids (N,) which rows (N, D) their letters make likely.

    guess = rows_from_spellings(embedding.weight, states_VH, known_L);  guess(torch.tensor([49152])) -> (1, 576)

    Only the rows of the known tokens are read. The guesses are on the CPU, in float32. Cost: L H (H + D)
    products.
    """
    mean_H, mean_D = (
        moments(table.__getitem__, known_L)[0].cpu() for table in (states_VH, table_VD)
    )
    states_HH = RIDGE * torch.eye(len(mean_H), dtype=torch.float64)
    rows_HD = torch.zeros(len(mean_H), *mean_D.shape, dtype=torch.float64)
    for ids in torch.split(known_L, TOKENS_AT_ONCE):
        centred = states_VH[ids].double() - mean_H
        states_HH += centred.T @ centred
        rows_HD += centred.T @ (table_VD[ids].cpu().double() - mean_D)
    weights_HD = torch.linalg.solve(states_HH, rows_HD)
    return lambda ids_N: ((states_VH[ids_N].double() - mean_H) @ weights_HD + mean_D).float()
