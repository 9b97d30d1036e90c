"""The kinds of phase: on running text, on questions mixed with replayed text, or on spelling alone.

A kind is an entry of KINDS with its batches, its trained parameters and its loss. A phase names its
kind, so a new kind is an entry here and a name in config/phase.py.

Muon (Jordan et al. 2024, `torch.optim.Muon`) trains the matrices inside the model. AdamW trains
embeddings, the output layer, vectors, and the character encoder in a group of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

import charembed
from charembed.spelling_loss import SpellingHeads, ids_with_characters
from training.config.phase import Phase
from training.data.batches import (
    BatchAt,
    epoch_batches,
    spelling_batches,
    text_batches,
    with_spelling,
)
from training.data.prepare import Data
from training.data.replay import mixed_batches, with_other_tokens
from training.data.rivals import RIVALS, Rival
from training.models.language_model import LanguageModel

from .loss import Learner, SpellingLearner
from .muon import WholeMuon

SPELLING_TOKENS = 256  # tokens drawn from the vocabulary in each step with a spelling loss
_BETA1 = 0.9
_Groups = tuple[list[dict[str, Any]], list[nn.Parameter]]  # AdamW's groups, and the inner matrices


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The behaviour of the phases of one kind.

    Attributes:
        batches: (data, phase, seed) -> the batches, functions of the phase's name, seed and k.
        groups: (model, phase) -> the trained parameters.
        learner: (model, heads, base) -> the module with the losses; see loss.py.
        least_tokens: phase -> the least numbers of inputs and of predictions per row.
        trains_model: whether the model itself is trained, and not the character encoder alone.
    """

    batches: Callable[[Data, Phase, int], BatchAt]
    groups: Callable[[LanguageModel, Phase], _Groups]
    learner: Callable[[LanguageModel, SpellingHeads | None, LanguageModel | None], nn.Module]
    least_tokens: Callable[[Phase], tuple[int, int]]
    trains_model: bool = True


def phase_batches(data: Data, phase: Phase, seed: int, arm: str = "plain") -> BatchAt:
    """The batches of a phase of an arm, with tokens for the spelling loss if the phase has one.

    All arms share them, and rivals change some of their rows.
    """
    batch_at, rival = KINDS[phase.kind].batches(data, phase, seed), RIVALS.get(arm, Rival())
    batch_at = rival.batches(batch_at, data, phase, seed)
    if not phase.spelling_loss:
        return batch_at
    ids_L = ids_with_characters(data.spellings)
    spelled_at = with_spelling(batch_at, ids_L, SPELLING_TOKENS, phase.name, seed)
    if phase.spelling_loss == data.config.phase(phase.name).spelling_loss:
        return spelled_at
    # the loss of a rival alone: the other arms have the same rows without these tokens
    return lambda k: replace(spelled_at(k), shared=batch_at(k))


def _text(data: Data, phase: Phase, seed: int) -> BatchAt:
    batches = epoch_batches if phase.epochs else text_batches
    return batches(data.train_ids, phase.batch_size, phase.context, phase.name, seed)


def _questions(data: Data, phase: Phase, seed: int) -> BatchAt:
    questions = data.questions(phase.context).batches(phase.batch_size, phase.name, seed)
    # subtle: the key seeds the random stream, and finetune's has no phase name in it
    key, row = "replay" if phase.name == "finetune" else f"replay {phase.name}", data.config.text
    ids = [data.train_ids] * phase.replays("corpus") + [data.base_ids] * phase.replays("base")
    texts = [text_batches(each, row.batch_size, row.context, key, seed) for each in ids]
    if phase.replays("corpus") and phase.replay_target == "base":
        texts[0] = with_other_tokens(texts[0], ids_with_characters(data.spellings), key, seed)
    return mixed_batches(questions, texts, phase.replay_share)


def _spelling(data: Data, phase: Phase, seed: int) -> BatchAt:
    return spelling_batches(ids_with_characters(data.spellings), phase.batch_size, phase.name, seed)


def _model_groups(model: LanguageModel, phase: Phase) -> _Groups:
    matrices = [parameter for parameter in model.inner_matrices() if parameter.requires_grad]
    inner = {id(parameter) for parameter in matrices}
    char_lr = phase.lr * phase.char_lr_factor
    groups = charembed.param_groups(model, phase.lr, char_lr, weight_decay=0.0)
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in inner]
        if phase.decay == "all":
            group["weight_decay"] = phase.weight_decay
    return [group for group in groups if group["params"]], matrices


def _encoder_groups(model: LanguageModel, phase: Phase) -> _Groups:
    # an arm without an encoder learns to spell from its token embeddings
    table = model.get_submodule(model.embedding).get_parameter("weight")
    params = charembed.parameters(model) or [table]
    return [{"name": "char", "params": params, "lr": phase.lr, "weight_decay": 0.0}], []


KINDS = {
    "text": Kind(
        batches=_text, groups=_model_groups, learner=Learner,
        least_tokens=lambda phase: (phase.context, phase.context),
    ),
    "question": Kind(
        batches=_questions, groups=_model_groups, learner=Learner,
        # of the shortest question with its answer, and of an answer with its end mark
        least_tokens=lambda phase: (8, 2),
    ),
    "spelling": Kind(
        batches=_spelling, groups=_encoder_groups, learner=SpellingLearner,
        least_tokens=lambda phase: (0, 0), trains_model=False,
    ),
}  # fmt: skip


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
        optimizers.append(WholeMuon([inner], lr=phase.lr, adjust_lr_fn="match_rms_adamw"))
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
