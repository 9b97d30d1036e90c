"""Which parameter is moved by what, and how fast.

Muon (Jordan et al. 2024, `torch.optim.Muon`) moves the matrices inside the decoder's blocks; AdamW moves embeddings, the
output layer, vectors and the character path, which has a group of its own.
"""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

import charembed

BETAS = (0.9, 0.95)


def build_optimizers(model: nn.Module, *, kind: str, lr: float, char_lr: float, weight_decay: float) -> list[Optimizer]:
    """The optimizers of one phase. Each group remembers its peak rate as "peak_lr"; see `set_lr`.

    Weight decay pulls at the blocks' matrices alone.
    """
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() == 2]
    ours = {id(p) for p in matrices}
    groups = charembed.param_groups(model, lr, char_lr, weight_decay=0.0)
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in ours]
    groups = [group for group in groups if group["params"]]
    inner = {"name": "blocks", "params": matrices, "lr": lr, "weight_decay": weight_decay}
    optimizers: list[Optimizer] = []
    if kind == "muon":
        optimizers.append(Muon([inner], lr=lr, adjust_lr_fn="match_rms_adamw"))
    else:
        groups.insert(0, inner)
    optimizers.append(AdamW(groups, lr=lr, betas=BETAS, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def lr_scale(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate at a step: up in a line over `warmup` steps, then down along a cosine to a tenth.

    lr_scale(0, 100, 10) -> 0.1; lr_scale(10, 100, 10) -> 1.0; lr_scale(99, 100, 10) -> about 0.1
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizers: list[Optimizer], scale: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
