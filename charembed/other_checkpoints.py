"""Checkpoints that Trainer, PEFT and save_pretrained write: they may lack the character encoder.

These libraries take the state dict of a model and keep a part of its keys. Only the call stack
shows which of them reads or writes it, and so which keys the file has.
"""

from __future__ import annotations

import warnings
from typing import Any

from .adapters import caller, is_wrapper
from .errors import CharEmbedError

_NOT_IN_ADAPTER = (
    "PEFT's checkpoint does not hold the character encoder, which reads the letters of each token "
    "and is being trained"
)
_USE_CONFIG = (
    "Pass charembed.peft_config(model, config) to get_peft_model instead of config: the adapter "
    "then holds the encoder."
)


def check_resumed(embedding: Any) -> None:
    """Raise CharEmbedError if Trainer resumes from an adapter that lacks the trained encoder.

    Argument embedding: the CharEmbedding that is given values without those of its encoder.
    """
    # `charembed.load` has already given the encoder its values
    loaded = getattr(embedding.encoder, "_from_part", False)
    if _is_trained(embedding) and not loaded and caller("set_peft_model_state_dict", "peft"):
        if caller("_load_from_checkpoint", "transformers"):
            raise CharEmbedError(f"{_NOT_IN_ADAPTER}, so training cannot resume. {_USE_CONFIG}")
        if caller("_load_best_model", "transformers"):
            warnings.warn(
                f"{_NOT_IN_ADAPTER}: the adapter is that of the best step, the encoder that of the "
                f"last step. {_USE_CONFIG}",
                stacklevel=3,
            )


def warn_of_saving(embedding: Any, prefix: str) -> None:
    """Warn if the file that is being written will lack the encoder when it is loaded.

    Arguments:
        embedding: the CharEmbedding whose values are saved.
        prefix: its path in the state dict, with a dot at the end.
    """
    if caller("get_peft_model_state_dict", "peft"):
        _warn_of_adapter(embedding, prefix)
    elif caller("save_pretrained", "transformers") and not embedding.made_by_class:
        # from_pretrained drops encoder keys without an error. The advice folds a copy: this may
        # be a checkpoint in the middle of training.
        warnings.warn(
            "from_pretrained will not load the character encoder that save_pretrained writes. "
            "Save it with charembed.save(model, folder), or save a plain model with "
            "charembed.fold(copy.deepcopy(model)).save_pretrained(folder).",
            stacklevel=3,
        )


def _warn_of_adapter(embedding: Any, prefix: str) -> None:
    """Warn if PEFT's checkpoint lacks the trained encoder, or if a plain base would drop it."""
    parts = {*prefix.split(".")}
    if is_wrapper(embedding.encoder) or not embedding.holds_encoder or "original_module" in parts:
        return
    if {"base_layer", "modules_to_save"} & parts:
        warnings.warn(
            "This adapter holds the character encoder. If the base has no encoder, PEFT drops those "
            "keys without an error, and the model computes without the letters of its tokens: "
            "call charembed.attach on the base before PeftModel.from_pretrained.",
            stacklevel=4,
        )
    elif _is_trained(embedding) and caller("_save", "transformers"):
        warnings.warn(f"{_NOT_IN_ADAPTER}. {_USE_CONFIG}", stacklevel=4)


def _is_trained(embedding: Any) -> bool:
    return any(parameter.requires_grad for parameter in embedding.encoder.parameters())
