"""Output layer and cross-entropy together, in chunks, with the gradient made in the forward pass.

The logits are the largest tensor of a small model's step: 34 MB for 2,048 positions and 4,096
tokens, and the usual way reads and writes as much about ten times. Here a chunk of them stays in
the cache of the processor until its part of every gradient is added; then the next one takes its
memory.

Source: Hsu et al. 2024 (arXiv 2410.10989), in plain torch.

Axes: N positions, n positions of a chunk, V vocabulary, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_CACHED = 2**19  # logits that the second-level cache of one core holds: 2 MiB in fp32


def cross_entropy(
    vectors_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> Tensor:
    """Cross-entropy of an output layer in nats, summed over positions: (N, D) -> ().

    cross_entropy(vectors_ND, head.weight, head.bias, targets_N)
        == F.cross_entropy(head(vectors_ND), targets_N, reduction="sum")

    Sums are made in fp32, or in the dtype of the vectors if it is wider. Products use the dtype of
    autocast if it is enabled. There is no second derivative, and one backward pass.
    """
    device, products = vectors_ND.device.type, vectors_ND.dtype
    if torch.is_autocast_enabled(device):
        products = torch.get_autocast_dtype(device)
    inputs = vectors_ND, weight_VD, bias_V
    # the forward of a Function runs without gradients, so it cannot ask for itself
    needed = [
        torch.is_grad_enabled() and each is not None and each.requires_grad for each in inputs
    ]
    apply: Any = _CrossEntropy.apply
    with torch.autocast(device, enabled=False):
        loss: Tensor = apply(*inputs, targets_N, products, needed)
    return loss


def rows_at_once(width: int, vocabulary: int) -> int:
    """Positions of a chunk: (128, 4096) -> 128, (768, 50257) -> 768.

    As many as the cache holds, but not fewer than the width, because each chunk reads the whole
    weight.
    """
    return max(width, _CACHED // vocabulary)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor,
        products: torch.dtype, needed: list[bool],
    ) -> Tensor:  # fmt: skip
        sums = torch.promote_types(vectors_ND.dtype, torch.float32)
        loss = vectors_ND.new_zeros((), dtype=sums)
        ctx.dtypes = vectors_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        by_vectors, by_weight, by_bias = ctx.gradients = [
            torch.zeros_like(each, dtype=sums) if asked and each is not None else None
            for each, asked in zip((vectors_ND, weight_VD, bias_V), needed, strict=True)
        ]
        vectors_ND, weight_VD = vectors_ND.to(products), weight_VD.to(products)
        bias_V = None if bias_V is None else bias_V.to(products)
        rows = rows_at_once(weight_VD.shape[1], len(weight_VD))
        for first in range(0, len(vectors_ND), rows):
            here = slice(first, first + rows)
            targets_n1 = targets_N[here, None]
            logits_nV = F.linear(vectors_ND[here], weight_VD, bias_V).to(sums)
            right_n1, top_n1 = logits_nV.gather(1, targets_n1), logits_nV.amax(1, keepdim=True)
            # in place: a second tensor of this size would not fit the cache
            powers_nV = logits_nV.sub_(top_n1).exp_()
            total_n1 = powers_nV.sum(1, keepdim=True)
            loss += (total_n1.log() + top_n1 - right_n1).sum()
            if not any(needed):
                continue
            # d loss / d logits: the probabilities, less one at the target
            slope_nV = powers_nV.div_(total_n1)
            slope_nV.scatter_add_(1, targets_n1, torch.full_like(right_n1, -1.0))
            if by_bias is not None:
                by_bias += slope_nV.sum(0)
            slope_nV = slope_nV.to(products)
            if by_vectors is not None:
                by_vectors[here] = slope_nV @ weight_VD
            if by_weight is not None and products == sums:
                by_weight.addmm_(slope_nV.t(), vectors_ND[here])
            elif by_weight is not None:
                # halves are added up in fp32
                by_weight += slope_nV.t() @ vectors_ND[here]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        # they are scaled in place: a second pass would scale them twice
        assert gradients is not None, "a second backward pass through this loss"
        scaled = (
            None if each is None else each.mul_(grad).to(dtype)
            for each, dtype in zip(gradients, ctx.dtypes, strict=True)
        )  # fmt: skip
        return *scaled, None, None, None
