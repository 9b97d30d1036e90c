"""The losses of a training step: the model's loss on a batch, and the spelling loss.

A learner is the module that accelerate wraps. It contains every parameter with a gradient in the
phase, and nothing else.

Axes: B rows, T tokens per row, N tokens drawn from the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charembed.spelling_loss import SpellingHeads
from training.models.language_model import LanguageModel

from .spelling import reader


class Learner(nn.Module):
    """A batch's tensors -> (loss of the rows, spelling loss), in nats, each summed over its
    targets.

    The loss of the rows is cross-entropy. If `base` is given, it is KL(base, model) on rows of
    text.
    """

    def __init__(
        self, model: LanguageModel, heads: SpellingHeads | None, base: LanguageModel | None = None
    ) -> None:
        super().__init__()
        self.model, self.heads = model, heads
        # subtle: in a list it is no submodule, so accelerate and the optimizers do not see it
        self.base = [base]

    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        keep_BT: Tensor | None,
        spelled_N: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        # rows of questions have a mask, rows of text have none
        if keep_BT is None and self.base[0] is not None:
            nats = divergence(self.model, self.base[0], ids_BT)
        else:
            nats = summed_loss(self.model, ids_BT, targets_BT, keep_BT)
        # every learner returns two losses; without heads the second one is zero
        if self.heads is None or spelled_N is None:
            return nats, torch.zeros_like(nats)
        return nats, self.heads(reader(self.model, self.model.embedding)(spelled_N), spelled_N)


class SpellingLearner(nn.Module):
    """The spelling loss alone; only the character encoder and the heads are trained."""

    def __init__(self, model: LanguageModel, heads: SpellingHeads) -> None:
        super().__init__()
        self.reader, self.heads = reader(model, model.embedding), heads

    def forward(self, *tensors: Any) -> tuple[Tensor, Tensor]:
        spelled_N: Tensor = tensors[-1]
        nats: Tensor = self.heads(self.reader(spelled_N), spelled_N)
        return torch.zeros_like(nats), nats


def summed_loss(
    model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Tensor | None
) -> Tensor:
    """Cross-entropy in nats, summed over the kept positions; other logits are not computed."""
    # in fp32 below: bf16 would lose digits in a sum over thousands of tokens
    logits = model(ids_BT, keep_BT)
    targets = targets_BT.flatten() if keep_BT is None else targets_BT[keep_BT]
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets, reduction="sum")


def divergence(model: nn.Module, base: nn.Module, ids_BT: Tensor) -> Tensor:
    """KL(base, model) in nats, summed over all tokens.

    Distillation from the model before training: learning without forgetting (Li & Hoiem 2016, arXiv
    1606.09282), on text.
    """
    with torch.no_grad():
        base_BTV = base(ids_BT).float().log_softmax(-1)
    # kl_div(input, target) is KL(target, input): the base comes second
    return F.kl_div(
        model(ids_BT).float().log_softmax(-1), base_BTV, log_target=True, reduction="sum"
    )
