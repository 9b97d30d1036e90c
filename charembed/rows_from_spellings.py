"""Rows for tokens that a table does not have, predicted from their spellings in closed form.

A trained table encodes part of each token's spelling, in a form that the model uses. A ridge
regression from the states of the pretrained LSTM, which encode the characters linearly, to the
rows of the known tokens estimates that part. (MIMICK, Pinter et al. 2017, arXiv 1707.06961, trains
an LSTM for the same task.)

Axes: V tokens, L of them known, H width of the states, D width of a row (none for a bias).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .encoders import LSTMEncoder, pretrained
from .partition import TOKENS_AT_ONCE, chunk_reader, chunks_of
from .progress import Advance
from .scale import moments
from .spelling import SpellingTable

# Weight of the ridge penalty, about four tokens for each of the H inputs. It matters little for a
# whole vocabulary and much for 300 tokens.
RIDGE = 1_000.0


@torch.no_grad()
def readable_states(spellings: Sequence[bytes | None], progress: Advance | None = None) -> Tensor:
    """Return the pretrained LSTM's states (V, H), which encode the characters linearly.

    readable_states([b"the", None]) -> (2, 256)

    Over usual tokens they have mean 0 and variance 1. `progress` is a function of the number of
    read and of all spellings.
    """
    table = SpellingTable.from_bytes(spellings)
    encoder = LSTMEncoder(table, pretrained.HIDDEN_SIZE, init="pretrained")
    learnt = pretrained.tensors()
    encoder.projection.weight.copy_(learnt[f"{pretrained.STATES}.weight"])
    encoder.projection.bias.copy_(learnt[f"{pretrained.STATES}.bias"])
    # the projection is now the normalization of the states, so the vectors are the states
    states_VH, done = torch.empty(len(spellings), pretrained.HIDDEN_SIZE), 0
    with chunk_reader(encoder, encoder.projection.weight) as read:
        for ids_U in chunks_of(encoder, len(spellings)):
            states_VH[ids_U] = read(ids_U)
            done += len(ids_U)
            if progress is not None:
                progress(done, len(spellings))
    return states_VH


@torch.no_grad()
def rows_from_spellings(
    table_VD: Tensor, states_VH: Tensor, known_L: Tensor
) -> Callable[[Tensor], Tensor]:
    """Fit the regression and return a function that predicts rows: ids (N,) -> (N, D).

    predict = rows_from_spellings(embedding.weight, states_VH, known_L)
    predict(torch.tensor([49152]))     # (1, 576), float32 on the CPU

    Arguments:
        table_VD: rows of the table; only those of the known tokens are used.
        states_VH: `readable_states` of all tokens, known and new.
        known_L: (L,) ids to fit on.

    Cost: L H (H + D) products.
    """
    # centring takes the place of an intercept, which the ridge penalty must not shrink
    mean_H, mean_D = (
        moments(table.__getitem__, known_L)[0].cpu() for table in (states_VH, table_VD)
    )
    states_HH = RIDGE * torch.eye(len(mean_H), dtype=torch.float64)
    rows_HD = torch.zeros(len(mean_H), *mean_D.shape, dtype=torch.float64)
    for ids in torch.split(known_L, TOKENS_AT_ONCE):
        centred = states_VH[ids].double() - mean_H
        states_HH += centred.T @ centred
        rows_HD += centred.T @ (table_VD[ids].cpu().double() - mean_D)
    # normal equations in float64; H is only 256, so they are small
    weights_HD = torch.linalg.solve(states_HH, rows_HD)
    return lambda ids_N: ((states_VH[ids_N].double() - mean_H) @ weights_HD + mean_D).float()
