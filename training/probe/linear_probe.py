"""Linear probes: discriminant analysis with shrinkage, and ridge regression.

Discriminant analysis models each class as a Gaussian, with one covariance for all classes (Fisher
1936) that is shrunk towards a multiple of the identity (Friedman 1989). It is linear in the vector
and solved in closed form. All places share their sums of products, so 24 places cost little more
than one. On SmolLM2's table it is better than logistic regression (first letter of held-out tokens
0.93 against 0.92) in a hundredth of the time.

Axes: N tokens, F training tokens, H held-out ones, D width of the vectors, K classes, P places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from charembed.spelling_loss import IGNORED

from .tokens import ProbeSplit

# Shrinkage in units of the mean variance. The first of equally good ones is taken: the strongest.
STRENGTHS = (1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3)
LEAST = 1e-3  # shrinkage if hardly anything varies; all tokens together have variance 1
_CHUNK = 8_192  # tokens whose products are summed at once; fewer are summed in float64


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a table by the parts of a split, standardised per column by `fit`."""

    fit: Tensor
    check: Tensor
    held: Tensor

    @classmethod
    def of(cls, vectors_ND: Tensor, split: ProbeSplit) -> Vectors:
        """Standardise and divide (N, D) vectors; a constant column becomes zeros."""
        fit = vectors_ND[split.fit].float()
        mean, std = fit.mean(0), fit.std(0)
        std = torch.where(std > 0, std, 1)
        parts = (split.fit, split.check, split.held)
        return cls(*((vectors_ND[part].float() - mean) / std for part in parts))


def read_classes(vectors: Vectors, split: ProbeSplit, classes_NP: Tensor) -> Tensor:
    """Predict the class at each place of each held-out token: (H, P).

    classes_NP is IGNORED if a token has no such place; such tokens are left out at that place.
    The shrinkage of each place is the one with the most right answers on `check`.
    """
    fit_FP = classes_NP[split.fit]
    read_HP = torch.zeros(len(split.held), classes_NP.shape[1], dtype=torch.long)
    gram_DD = torch.zeros(2 * vectors.fit.shape[1:], dtype=torch.float64)
    there_F = torch.zeros(len(fit_FP), dtype=torch.bool)  # the tokens in the sums so far
    for place in (fit_FP != IGNORED).sum(0).argsort(stable=True).tolist():
        now_F = fit_FP[:, place] != IGNORED
        # Places are nested: a token with a tenth letter has a ninth one. So the sums of the rarer
        # place are continued; if the places are not nested, they start again.
        if bool((there_F & ~now_F).any()):
            gram_DD, there_F = torch.zeros_like(gram_DD), torch.zeros_like(there_F)
        gram_DD, there_F = gram_DD + _products(vectors.fit[now_F & ~there_F]), now_F
        known = classes_NP[split.check, place] != IGNORED
        if not bool(now_F.any()):
            continue
        # Only the classes that occur: `_discriminants` needs at least one token of each.
        occurring_K, numbers = torch.unique(fit_FP[now_F, place], return_inverse=True)
        best, check = -1, classes_NP[split.check, place][known]
        for weights_DK, bias_K in _discriminants(gram_DD, vectors.fit[now_F], numbers):
            predicted = occurring_K[(vectors.check[known] @ weights_DK + bias_K).argmax(1)]
            right = int((predicted == check).sum())
            if right > best:
                best = right
                read_HP[:, place] = occurring_K[(vectors.held @ weights_DK + bias_K).argmax(1)]
    return read_HP


def _products(vectors_FD: Tensor) -> Tensor:
    """Return the sum of the outer products of each vector with itself: (D, D), float64."""
    total = torch.zeros(2 * vectors_FD.shape[1:], dtype=torch.float64)
    for chunk in torch.split(_in_full(vectors_FD), _CHUNK):
        total += chunk.T @ chunk
    return total


def _in_full(vectors_FD: Tensor) -> Tensor:
    # The variance of a few vectors may be smaller than the rounding errors of float32.
    return vectors_FD.double() if len(vectors_FD) < _CHUNK else vectors_FD


def _discriminants(
    gram_DD: Tensor, vectors_FD: Tensor, classes_F: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights (D, K) and biases (K) for each of STRENGTHS.

    `gram_DD` are the `_products` of the same vectors. Every class from 0 on must occur.
    """
    counts_K = torch.bincount(classes_F).double()
    vectors_FD = _in_full(vectors_FD)
    zeros_KD = vectors_FD.new_zeros(len(counts_K), vectors_FD.shape[1])
    sums_KD = zeros_KD.index_add_(0, classes_F, vectors_FD).double()
    means_KD = sums_KD / counts_K[:, None]
    within_DD = (gram_DD - sums_KD.T @ means_KD) / len(classes_F)
    for strength in STRENGTHS:
        weights_DK = _shrunk_solve(within_DD, means_KD.T, strength)
        bias_K = (counts_K / len(classes_F)).log() - 0.5 * (means_KD.T * weights_DK).sum(0)
        yield weights_DK.float(), bias_K.float()


def _shrunk_solve(covariance_DD: Tensor, right_DK: Tensor, strength: float) -> Tensor:
    """Return (covariance + strength * mean variance * identity)^-1 right; 0 if nothing varies."""
    variance = float(covariance_DD.diagonal().mean())
    shrunk = covariance_DD.clone()
    shrunk.diagonal().add_(strength * max(variance, 0.0) + LEAST)
    return torch.cholesky_solve(right_DK, torch.linalg.cholesky(shrunk))


def contained_scores(vectors: Vectors, split: ProbeSplit, contained_NK: Tensor) -> Tensor:
    """Score each held-out token for each property (bool) by ridge regression: (H, K).

    Only the order of the scores counts. One strength serves all properties: the one with the
    largest mean area under the curve on `check`.
    """
    has_FK = contained_NK[split.fit].double()
    covariance_DD = _products(vectors.fit) / len(has_FK)
    with_DK = vectors.fit.T.double() @ (has_FK - has_FK.mean(0)) / len(has_FK)
    best, scores_HK = -1.0, torch.zeros(len(split.held), contained_NK.shape[1])
    for strength in STRENGTHS:
        weights_DK = _shrunk_solve(covariance_DD, with_DK, strength).float()
        area = areas(vectors.check @ weights_DK, contained_NK[split.check]).nanmean()
        if float(area) > best:
            best, scores_HK = float(area), vectors.held @ weights_DK
    return scores_HK


def areas(scores_HK: Tensor, contained_HK: Tensor) -> Tensor:
    """Return the area under the ROC curve of each property: (K).

    It is the probability that a token with the property scores above one without it; 0.5 is
    chance. NaN if all tokens have the property, or none. Computed by ranks, a tie counts half
    (Mann & Whitney 1947).
    """
    ranks_HK = torch.from_numpy(stats.rankdata(scores_HK.numpy(), axis=0))
    with_K = contained_HK.sum(0).double()
    without_K = len(contained_HK) - with_K
    above_K = (ranks_HK * contained_HK).sum(0) - with_K * (with_K + 1) / 2
    return above_K / (with_K * without_K)
