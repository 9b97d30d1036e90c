"""The mark that `attach` leaves on a model, so that a replaced embedding is noticed.

If `model.set_input_embeddings` or a quantization tool puts another module in the place of the
CharEmbedding, nothing else shows that the model had character vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .errors import AttachError

# plain attributes, which are in no state dict, config or repr, and which copies of the model keep
_ON_MODEL, ON_EMBEDDING = "_charembed_marks", "_mark"


@dataclass(eq=False)
class Mark:
    """The place of one CharEmbedding; the model and the embedding hold the same object.

    Attributes:
        path: path of the embedding in the module that was passed to `attach`.
        released: True after `detach` or `fold` of the embedding, also as part of another module.
    """

    path: str
    released: bool = False


def mark(model: nn.Module, embeddings: Iterable[nn.Module]) -> None:
    """Leave a mark on a model and on its CharEmbeddings."""
    paths = {part: path for path, part in model.named_modules()}
    marks = []
    for embedding in embeddings:
        marks.append(Mark(paths[embedding]))
        vars(embedding)[ON_EMBEDDING] = marks[-1]
    vars(model)[_ON_MODEL] = marks


def remove_marks(model: nn.Module) -> None:
    """Remove the marks of a model and of its parts."""
    for part in model.modules():
        vars(part).pop(_ON_MODEL, None)


def check_module(model: Any) -> None:
    """Raise AttachError if the model is no torch.nn.Module."""
    if not isinstance(model, nn.Module):
        raise AttachError(
            f"The model is a {type(model).__name__}, not a torch.nn.Module. Pass the model first."
        )


def check_marks(model: nn.Module) -> None:
    """Raise AttachError if another module is in the place of a CharEmbedding, or if the model is
    no module."""
    check_module(model)
    for part in model.modules():
        for place in vars(part).get(_ON_MODEL, ()):
            if not place.released:
                _check(part, place)


def _check(part: nn.Module, place: Mark) -> None:
    now: Any = None
    try:
        now = part.get_submodule(place.path)
    except AttributeError:
        # A wrapper moved it, as PEFT does. Any CharEmbedding inside the model is accepted.
        if _has_char_embedding(part):
            return
    # LoRA and modules_to_save keep the CharEmbedding inside the module at its path
    if now is not None and _has_char_embedding(now):
        return
    seen = "removed" if now is None else f"replaced by a {type(now).__name__}"
    raise AttachError(
        f"The embedding at {place.path!r} was {seen} after charembed.attach (set_input_embeddings, "
        "quantization?), so the model has no character vectors any more. Put the CharEmbedding back, "
        "or attach again."
    )


def _has_char_embedding(module: nn.Module) -> bool:
    return any(hasattr(type(part), "host_class") for part in module.modules())
