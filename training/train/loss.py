"""The losses of a training step: the model's loss on a batch, and the spelling loss.

The spelling loss is that of heads that predict the letters of a token from its vector.

A learner is the module that accelerate wraps. It contains every parameter with a gradient in the
phase, and nothing else.

Axes: B rows, T tokens per row, N tokens drawn from the vocabulary, P letters that heads predict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import charembed
from charembed import SpellingTable
from charembed.partition import TOKENS_AT_ONCE
from charembed.spelling_loss import IGNORED, SpellingHeads
from training.models.language_model import LanguageModel, Mask

_PLACES = 10  # letters of a token that the heads predict


class Learner(nn.Module):
    """A batch's tensors -> (loss of the rows, spelling loss), in nats, summed over targets.

    The loss of the rows is cross-entropy, or KL(base, model) on rows of text if `base` is given.
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
        keep_BT: Mask,
        spelled_N: Tensor | None,
        among_M: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        # rows of questions have a mask, rows of text have none
        if keep_BT is None and self.base[0] is not None:
            nats = divergence(self.model, self.base[0], ids_BT)
        else:
            nats = summed_loss(self.model, ids_BT, targets_BT, keep_BT)
        # every learner returns two losses; without heads the second one is zero
        if self.heads is None or spelled_N is None:
            return nats, torch.zeros_like(nats)
        vectors_ND = reader(self.model, self.model.embedding)(spelled_N)
        return nats, self.heads(vectors_ND, spelled_N, among_M)


class SpellingLearner(nn.Module):
    """The spelling loss alone; only the character encoder and the heads are trained."""

    def __init__(self, model: LanguageModel, heads: SpellingHeads | None, base: object) -> None:
        super().__init__()
        assert heads is not None, "a phase of spelling needs heads"
        self.reader, self.heads = reader(model, model.embedding), heads

    def forward(self, *tensors: Any) -> tuple[Tensor, Tensor]:
        spelled_N, among_M = tensors[3:]
        nats: Tensor = self.heads(self.reader(spelled_N), spelled_N, among_M)
        return torch.zeros_like(nats), nats


def summed_loss(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Mask) -> Tensor:
    """Cross-entropy in nats, summed over the kept positions; other logits are not computed."""
    targets_N = targets_BT.flatten() if keep_BT is None else targets_BT[keep_BT]
    # a call of the model itself, which hooks and wrappers of it see
    nats: Tensor = model(ids_BT, keep_BT, targets_N=targets_N)
    return nats


def divergence(model: nn.Module, base: LanguageModel, ids_BT: Tensor) -> Tensor:
    """KL(base, model) in nats, summed over all tokens; the logits do not exist together.

    Distillation from the model before training: learning without forgetting (Li & Hoiem 2016, arXiv
    1606.09282), on text.
    """
    # a call of the model itself, which hooks and wrappers of it see
    nats: Tensor = model(ids_BT, base=base)
    return nats


def reader(model: nn.Module, path: str) -> nn.Module:
    """The module whose vectors the heads read: the encoder, or the embedding if there is none."""
    embedding = model.get_submodule(path)
    has_encoder = isinstance(embedding, charembed.CharEmbedding)
    return embedding.get_submodule("encoder") if has_encoder else embedding


def heads_for(model: nn.Module, path: str, spellings: SpellingTable, seed: int) -> SpellingHeads:
    """Make heads for the spellings of the arm's own encoder (false ones in the arm `shuffled`)."""
    # the encoder's own table: shuffled in one arm
    own = getattr(reader(model, path), "spellings", None) or spellings
    width = model.get_submodule(path).get_parameter("weight").shape[1]
    return SpellingHeads(own, width, seed, _PLACES, 0)


@torch.no_grad()
def letters_read(encoder: nn.Module, heads: SpellingHeads, ids_L: Tensor) -> tuple[float, float]:
    """Accuracy of the heads on some tokens: by letter (including end marks), and by token."""
    letters, right, whole = 0, 0, 0
    # in pieces, to bound the memory
    for ids_N in torch.split(ids_L, TOKENS_AT_ONCE):
        targets_NP = heads.targets_VP[ids_N]
        wrong_NP = (heads.read(encoder(ids_N)) != targets_NP) & (targets_NP != IGNORED)
        counted = int((targets_NP != IGNORED).sum())
        letters, right = letters + counted, right + counted - int(wrong_NP.sum())
        whole += int((~wrong_NP.any(1)).sum())
    return right / letters, whole / len(ids_L)
