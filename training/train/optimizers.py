"""Optimizers and learning rates of a phase.

Muon (Jordan et al. 2024, `torch.optim.Muon`) trains the matrices inside the model. AdamW trains
embeddings, the output layer, vectors, and the character encoder in a group of its own.
"""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from training.config.phase import Phase
from training.models.language_model import LanguageModel

from .kinds import KINDS

_BETA1 = 0.9


def build_optimizers(
    model: LanguageModel, phase: Phase, heads: nn.Module | None = None
) -> list[Optimizer]:
    """Make the optimizers of a phase. Each group has its peak rate as "peak_lr", for `set_lr`."""
    groups, matrices = KINDS[phase.kind].groups(model, phase)
    if heads is not None:
        # no decay: heads are thrown away after training
        params = list(heads.parameters())
        groups.append({"name": "heads", "params": params, "lr": phase.lr, "weight_decay": 0.0})
    decay = phase.weight_decay
    inner = {"name": "inner", "params": matrices, "lr": phase.lr, "weight_decay": decay}
    optimizers: list[Optimizer] = []
    if matrices and phase.optimizer == "muon":
        # updates get the size of AdamW's, so that one learning rate serves both
        optimizers.append(Muon([inner], lr=phase.lr, adjust_lr_fn="match_rms_adamw"))
    elif matrices:
        groups.insert(0, inner)
    # fused: one kernel for all parameters of a group
    optimizers.append(AdamW(groups, lr=phase.lr, betas=(_BETA1, phase.beta2), fused=True))
    # the schedule scales this value; "lr" itself changes in each step
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def lr_scale(step: int, steps: int, warmup: int, schedule: str = "cosine") -> float:
    """Learning rate as a share of its peak: a linear warm-up, then a cosine to 0.1, or constant.

    lr_scale(0, 100, 10) -> 0.1; lr_scale(10, 100, 10) -> 1.0; lr_scale(99, 100, 10) -> about 0.1
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    # max(1, ...): no division by zero if the warm-up takes all steps
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizers: list[Optimizer], scale: float) -> None:
    """Set every group's learning rate to `scale` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
