"""Refuse layers of PEFT around the embedding whose merged model would differ from the unmerged one.

While it is not merged, such a layer works on the sum of token and character vector. `merge` changes
the token table alone. Both are equal if the layer adds something that does not depend on the sum
(LoRA), and differ if it scales the sum (DoRA) or rotates it (OFT).
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from .errors import AttachError

# Tuners of PEFT whose embedding layer only adds to the output of its base layer.
_ADDING = ("peft.tuners.lora.", "peft.tuners.hira.", "peft.tuners.tinylora.")
# Between a layer of PEFT and the forward of its base layer are only calls of these modules.
_CALLS = ("torch.nn.modules.module", "accelerate.hooks")


def check_caller(embedding: nn.Embedding, depth: int = 2) -> None:
    """Raise AttachError if a layer of PEFT that would merge wrongly calls the embedding's forward.

    PEFT may wrap the embedding at any time after `attach`, so the callers of the forward are the
    place where it is seen. It costs about a microsecond.
    """
    if "peft" not in sys.modules:
        return
    frame: Any = sys._getframe(depth)
    while frame is not None and frame.f_globals.get("__name__") in _CALLS:
        frame = frame.f_back
    if frame is not None and str(frame.f_globals.get("__name__")).startswith("peft.tuners."):
        caller = frame.f_locals.get("self")
        if getattr(caller, "base_layer", None) is embedding:
            check_layer(caller)


def check_wrappers(model: nn.Module, embeddings: list[nn.Embedding]) -> None:
    """Raise AttachError if a layer of PEFT in the model would merge one of the embeddings wrongly."""
    for part in model.modules():
        base = part._modules.get("base_layer")
        if any(base is one for one in embeddings) and type(part).__module__.startswith("peft."):
            check_layer(part)


def check_layer(layer: Any) -> None:
    """Raise AttachError if the layer is active, unmerged and does not only add to its base."""
    if layer.disable_adapters or layer.merged or not layer.active_adapters:
        return
    # DoRA and other variants; before PEFT 0.16 there was a flag for DoRA alone
    variants = getattr(layer, "lora_variant", None) or getattr(layer, "use_dora", {})
    varied = any(variants.get(name) for name in layer.active_adapters)
    kind = type(layer).__module__
    if varied or not kind.startswith(_ADDING):
        name = "DoRA" if varied else kind.split(".")[2]
        raise AttachError(
            f"PEFT's {name} wraps the embedding. It changes the sum of token and character vector, "
            "but merging it would change the token vector alone, so merged and unmerged model "
            "would differ. Leave the embedding out of target_modules, or use LoRA without DoRA "
            "there (use_dora=False)."
        )
