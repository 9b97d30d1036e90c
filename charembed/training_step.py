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

    Each question is answered once per embedding and trainer, so later steps do not wait for a GPU.

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
    checked = vars(embedding).setdefault("_references", set())
    reference = vars(trainer).get("ref_model") if trainer is not None else None
    if reference is None or id(reference) in checked:
        return
    zero = _all_zero(embedding, ids_U, char_UD)
    if zero is None:
        return
    checked.add(id(reference))
    # Vectors that are zero, as those of init "zero", start equal to a reference without them. A
    # resumed run has left its start.
    resumed = getattr(getattr(trainer, "state", None), "global_step", 0) > 0
    if zero or resumed or any(isinstance(part, _kind()) for part in reference.modules()):
        return
    raise CharEmbedError(
        "The trainer's ref_model has no character encoder, so the reference would not be the "
        "policy before training: TRL loads it from config._name_or_path, without the letters. Pass "
        "ref_model=copy.deepcopy(model). If the base is meant, call charembed.attach on it too "
        '(init "zero" changes nothing).'
    )


def _kind() -> type[nn.Module]:
    from .embedding import CharEmbedding  # it imports this module

    return CharEmbedding


def _trainer(frame: types.FrameType | None) -> Any:
    """Return the TRL trainer that is computing, or None."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("trl."):
            found = frame.f_locals.get("self")
            if hasattr(found, "__dict__") and "ref_model" in vars(found):
                return found
        frame = frame.f_back
    return None
