"""Slow forms of a training step of the own decoder, which tests and benchmarks compare with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.decoder import Decoder
from training.models.language_model import Mask


def padded_loss(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Mask) -> Tensor:
    """Every position through every block, padding too, and all kept logits at once."""
    assert isinstance(model, Decoder)
    x_BTD = model.wte(ids_BT) + model.wpe(torch.arange(ids_BT.shape[1], device=ids_BT.device))
    for block in model.blocks:
        x_BTD, _ = block(x_BTD, None)
    x_BTD = model.ln_f(x_BTD)
    logits = model.lm_head(x_BTD if keep_BT is None else x_BTD[keep_BT])
    targets_N = targets_BT.flatten() if keep_BT is None else targets_BT[keep_BT]
    logits_NV = logits.view(-1, logits.shape[-1])
    # fp32 at least, as in training with bf16
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits_NV.to(wide), targets_N, reduction="sum")


def whole_divergence(model: nn.Module, base: nn.Module, ids_BT: Tensor) -> Tensor:
    """KL(base, model) from the logits of all positions at once."""
    with torch.no_grad():
        base_BTV = base(ids_BT).float().log_softmax(-1)
    model_BTV = model(ids_BT).float().log_softmax(-1)
    # kl_div(input, target) is KL(target, input): the base comes second
    return F.kl_div(model_BTV, base_BTV, log_target=True, reduction="sum")
