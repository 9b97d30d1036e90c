"""What one training step computes: a model's loss on a batch, and where it is wanted the spelling loss.

A learner is what is handed to accelerate: all that has a gradient in a phase, and nothing else, is in it.

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
    """A batch's tensors -> (cross-entropy, spelling loss), in nats, each summed over what it counts.

    With a `base`, running text is there to say what the base says of it, and the first of them is the
    divergence from that.
    """

    def __init__(
        self, model: LanguageModel, heads: SpellingHeads | None, base: LanguageModel | None = None
    ) -> None:
        super().__init__()
        self.model, self.heads = model, heads
        self.base = [base]  # in a list it is no part of what is trained and prepared

    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        keep_BT: Tensor | None,
        spelled_N: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if keep_BT is None and self.base[0] is not None:
            nats = divergence(self.model, self.base[0], ids_BT)
        else:
            nats = summed_loss(self.model, ids_BT, targets_BT, keep_BT)
        if self.heads is None or spelled_N is None:
            return nats, torch.zeros_like(nats)
        return nats, self.heads(reader(self.model, self.model.embedding)(spelled_N), spelled_N)


class SpellingLearner(nn.Module):
    """The encoder and the heads alone: the model does not move."""

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
    """Cross-entropy in nats, summed over the tokens that count; logits are computed for these alone."""
    logits = model(ids_BT, keep_BT)
    targets = targets_BT.flatten() if keep_BT is None else targets_BT[keep_BT]
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets, reduction="sum")


def divergence(model: nn.Module, base: nn.Module, ids_BT: Tensor) -> Tensor:
    """Nats that the model loses, summed over all tokens, where the base's own predictions are the truth.

    The Kullback-Leibler divergence as a loss, with the untrained model as the teacher: learning without
    forgetting (Li & Hoiem 2016, arXiv 1606.09282), on text.
    """
    with torch.no_grad():
        truth_BTV = base(ids_BT).float().log_softmax(-1)
    return F.kl_div(
        model(ids_BT).float().log_softmax(-1), truth_BTV, log_target=True, reduction="sum"
    )
