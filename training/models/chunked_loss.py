"""Output layer and loss together, in chunks, with the gradient made in the forward pass.

The logits are the largest tensor of a small model's step: 34 MB for 2,048 positions and 4,096
tokens, and the usual way reads and writes as much about ten times. Here a chunk of them stays in
the cache of the processor until its part of every gradient is added; then the next one takes its
memory.

Source: Hsu et al. 2024 (arXiv 2410.10989), in plain torch.

Axes: N positions, n positions of a chunk, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_CACHED = 2**19  # logits that the second-level cache of one core holds: 2 MiB in fp32
# logits of a chunk (they may be overwritten), the chunk, whether a gradient is needed -> the loss,
# and d loss / d logits
_Part = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]


class Head(NamedTuple):
    """An output layer and the vectors that it reads.

    logits = vectors_ND @ weight_VD.t() + bias_V
    """

    vectors_ND: Tensor
    weight_VD: Tensor
    bias_V: Tensor | None

    def logits(self, here: slice) -> Tensor:
        """The logits of some positions, in the dtype of autocast if it is enabled."""
        return F.linear(self.vectors_ND[here], self.weight_VD, self.bias_V)


def cross_entropy(
    vectors_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> Tensor:
    """Cross-entropy of an output layer in nats, summed over positions: (N, D) -> ().

    cross_entropy(vectors_ND, head.weight, head.bias, targets_N)
        == F.cross_entropy(head(vectors_ND), targets_N, reduction="sum")

    Sums are made in fp32, or in the dtype of the vectors if it is wider. Products use the dtype of
    autocast if it is enabled. There is no second derivative, and one backward pass.
    """

    def part(logits_nV: Tensor, here: slice, slope: bool) -> tuple[Tensor, Tensor | None]:
        targets_n1 = targets_N[here, None]
        right_n1, top_n1 = logits_nV.gather(1, targets_n1), logits_nV.amax(1, keepdim=True)
        # in place: a second tensor of this size would not fit the cache
        powers_nV = logits_nV.sub_(top_n1).exp_()
        total_n1 = powers_nV.sum(1, keepdim=True)
        nats = (total_n1.log() + top_n1 - right_n1).sum()
        if not slope:
            return nats, None
        # the probabilities, less one at the target
        slope_nV = powers_nV.div_(total_n1)
        return nats, slope_nV.scatter_add_(1, targets_n1, torch.full_like(right_n1, -1.0))

    return _in_chunks(Head(vectors_ND, weight_VD, bias_V), part)


def divergence(own: Head | Tensor, base: Head | Tensor) -> Tensor:
    """KL(base, own) of two distributions in nats, summed over positions: ().

    divergence(Head(vectors_ND, head.weight, head.bias), base_logits_NV)

    Arguments:
        own: the output layer that is trained; or its logits (N, V), which then exist together.
        base: the same of the distribution that is to be kept. It gets no gradient.

    Sums and products as in `cross_entropy`.
    """
    base_at = base.__getitem__ if isinstance(base, Tensor) else base.logits
    vectors = own if isinstance(own, Tensor) else own.vectors_ND
    # both must be rounded alike: the divergence of a model from itself is exactly 0
    device = vectors.device.type
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def part(logits_nV: Tensor, here: slice, slope: bool) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(device, dtype, enabled=enabled), torch.no_grad():
            base_nV = base_at(here)
        base_nV = base_nV.to(logits_nV.dtype).log_softmax(1)
        own_nV, share_nV = logits_nV.log_softmax(1), base_nV.exp()
        nats = (base_nV.sub_(own_nV).mul_(share_nV)).sum()
        return nats, own_nV.exp_().sub_(share_nV) if slope else None

    if isinstance(own, Head):
        return _in_chunks(own, part)
    base_NV = base_at(slice(None)).detach().float().log_softmax(-1)
    # kl_div(input, target) is KL(target, input): the base comes second
    return F.kl_div(own.float().log_softmax(-1), base_NV, log_target=True, reduction="sum")


def _in_chunks(head: Head, part: _Part) -> Tensor:
    device, products = head.vectors_ND.device.type, head.vectors_ND.dtype
    if torch.is_autocast_enabled(device):
        products = torch.get_autocast_dtype(device)
    # the forward of a Function runs without gradients, so it cannot ask for itself
    needed = [torch.is_grad_enabled() and each is not None and each.requires_grad for each in head]
    apply: Any = _Chunks.apply
    with torch.autocast(device, enabled=False):
        loss: Tensor = apply(*head, part, products, needed)
    return loss


def rows_at_once(width: int, vocabulary: int) -> int:
    """Positions of a chunk: (128, 4096) -> 128, (768, 50257) -> 768.

    As many as the cache holds, but not fewer than the width, because each chunk reads the whole
    weight.
    """
    return max(width, _CACHED // vocabulary)


class _Chunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, part: _Part,
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
            logits_nV = F.linear(vectors_ND[here], weight_VD, bias_V).to(sums)
            nats, slope_nV = part(logits_nV, here, any(needed))
            loss += nats
            if slope_nV is None:
                continue
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
