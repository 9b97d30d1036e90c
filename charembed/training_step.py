"""Faults that show at the first training step: a frozen encoder, a reference without encoder."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import in_use, is_wrapper
from .errors import CharEmbedError


def check_training_step(embedding: Any, ids_U: Tensor, char_UD: Tensor) -> None:
    """Warn if the encoder is frozen at zero; raise CharEmbedError if TRL's reference lacks it.

    Each check is made once per embedding and trainer, so later steps do not wait for a GPU.

    Arguments:
        embedding: the CharEmbedding that computes.
        ids_U: (U,) distinct ids of the batch.
        char_UD: (U, D) their character vectors.
    """
    if not torch.is_grad_enabled() or not embedding.training:
        return
    if "trl" in sys.modules:
        _check_reference(embedding, ids_U, char_UD)
    # If every parameter is frozen, the vectors carry no gradient.
    if not char_UD.requires_grad and not vars(embedding).get("_frozen_checked", False):
        _check_frozen(embedding, ids_U, char_UD)


def _check_frozen(embedding: Any, ids_U: Tensor, char_UD: Tensor) -> None:
    raw = embedding.encoder
    if is_wrapper(raw) and in_use(raw) is raw.original_module:
        return  # the adapter is disabled on purpose
    zero = _all_zero(embedding, ids_U, char_UD)
    if zero is None:
        return
    embedding._frozen_checked = True
    if zero:
        warnings.warn(
            "All parameters of the character encoder are frozen and its vectors are zero, so the "
            "model learns nothing about letters in this training. PEFT freezes the encoder: pass "
            "charembed.peft_config(model, config) instead of config to get_peft_model or to the "
            "trainer. Without PEFT, set requires_grad of charembed.parameters(model).",
            stacklevel=2,
        )


def _all_zero(embedding: Any, ids_U: Tensor, char_UD: Tensor) -> bool | None:
    """True if all vectors are zero; None if no token of the batch has characters."""
    if bool(char_UD.any()):
        return False
    spellings = getattr(in_use(embedding.encoder), "spellings", None)
    if spellings is None:
        return True
    ids_U = ids_U.cpu()
    lengths_U = spellings.lengths_V[ids_U[ids_U < len(spellings.lengths_V)]]
    return True if bool(lengths_U.any()) else None


def _check_reference(embedding: Any, ids_U: Tensor, char_UD: Tensor) -> None:
    trainer = _trainer(sys._getframe(1))
    if trainer is None:
        return
    reference = vars(trainer)["ref_model"]
    checked = vars(embedding).setdefault("_references", set())
    if (key := id(trainer if reference is None else reference)) in checked:
        return
    zero = _all_zero(embedding, ids_U, char_UD)
    if zero is None:
        return
    checked.add(key)
    if reference is None:
        if char_UD.requires_grad and _moves(trainer, embedding):
            raise CharEmbedError(
                "The trainer's reference is this model with its adapter disabled or exchanged, but "
                "the character encoder is trained outside of the adapter, so the reference would "
                "change in each step. Pass charembed.peft_config(model, config) "
                "instead of config, and leave the rest frozen."
            )
        return
    # Vectors that are zero, as those of init "zero", start equal to a reference without them. A
    # resumed run has left its start.
    resumed = getattr(getattr(trainer, "state", None), "global_step", 0) > 0
    if zero or resumed or any(isinstance(part, type(embedding)) for part in reference.modules()):
        return
    raise CharEmbedError(
        "The trainer's ref_model has no character encoder, so the reference would not be the "
        "policy before training: TRL loads it from config._name_or_path. Pass "
        "ref_model=copy.deepcopy(model), or set trainer.ref_model if the trainer has no such "
        'argument. If the base is meant, call charembed.attach on it too (init "zero" changes '
        "nothing)."
    )


def _moves(trainer: Any, embedding: nn.Module) -> bool:
    """True if a PEFT model is its own reference, and no adapter holds the encoder."""
    arguments = getattr(trainer, "args", None)
    # GRPO has no reference with beta 0; log-probabilities that were computed before do not move
    unused = getattr(trainer, "beta", 1) == 0 or getattr(
        arguments, "precompute_ref_log_probs", False
    )
    if unused or not any(hasattr(part, "peft_config") for part in trainer.model.modules()):
        return False
    return not any(
        is_wrapper(part) and (part is embedding.encoder or embedding in part.modules())
        for part in trainer.model.modules()
    )


def _trainer(frame: types.FrameType | None) -> Any:
    """Return the TRL trainer that is computing, or None."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("trl."):
            found = frame.f_locals.get("self")
            if hasattr(found, "__dict__") and "ref_model" in vars(found):
                return found
        frame = frame.f_back
    return None
