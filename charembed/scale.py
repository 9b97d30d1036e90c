"""The scale of the character vectors relative to the token embeddings.

Axes: V vocabulary, L tokens with characters, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_number
from .embedding import Model, char_embedding_of
from .encoder import Affine, CharEncoder
from .errors import AttachError
from .partition import TOKENS_AT_ONCE
from .spelling_loss import ids_with_characters

_SAMPLE = 8_192  # tokens that the standard deviations are measured on
# Default. The spelling can be decoded from the first step at a small cost in text quality;
# docs/LOG.md compares other values.
SCALE = 0.35


def set_scale(model: Model, scale: float = SCALE) -> Model:
    """Set the standard deviation of the character vectors, in place, and return the model.

    charembed.set_scale(model, 0.5)     # half the standard deviation of the token embeddings

    Afterwards the character vectors have mean zero and `scale` times the standard deviation of the
    token embeddings around their mean. Both are measured over the tokens with characters, over
    8,192 of them if there are more. Only a factor of the vectors and the bias of the projection
    change.

    A pretrained model's text quality drops with large character vectors until it has been trained
    with them. Training does not change the factor, so vectors with scale 0 stay zero.

    Arguments:
        model: a model with an attached encoder that has a projection.
        scale: 0 or more. Default: 0.35.

    Raises AttachError if the scale is negative or not finite, if no encoder is attached, if the
    weights are on the meta device or not finite, if all vectors are equal (init "zero"), or if the
    encoder has no projection. After an error the model is unchanged.
    """
    check_scale(scale)
    embedding = char_embedding_of(model)
    scale_vectors(embedding.encoder_in_use, embedding.weight, scale)
    return model


def check_scale(scale: float) -> None:
    """Raise AttachError if the scale is no finite number of 0 or more."""
    check_number("scale", scale, f'{SCALE}, or "auto" in attach')


@torch.inference_mode(False)
@torch.no_grad()
def scale_vectors(encoder: nn.Module, weight_VD: Tensor, scale: float) -> None:
    """Set the scale as `set_scale` does, for an encoder and a token table (V, D)."""
    projection = projection_of(encoder)
    if weight_VD.is_meta:
        raise AttachError(
            "The token table is on the meta device, so its standard deviation is unknown. Load the "
            "weights first, or pass scale=None and call charembed.set_scale(model) later."
        )
    spellings: Any = getattr(encoder, "spellings", None)
    ids_L = torch.arange(len(weight_VD)) if spellings is None else ids_with_characters(spellings)
    # evenly spaced: neighbouring ids have similar frequencies, and no random state is used
    sample = torch.linspace(0, len(ids_L) - 1, min(len(ids_L), _SAMPLE)).long()
    ids_L = ids_L[sample].to(weight_VD.device)
    _, table_std = moments(lambda ids: weight_VD[ids], ids_L)
    # `read` of a CharEncoder gives the vectors before the factor that is set below
    vectors = encoder.read if isinstance(encoder, CharEncoder) else encoder
    with torch.autocast(weight_VD.device.type, enabled=False):
        mean_D, std = moments(vectors, ids_L)
    for name, deviation in (("token table", table_std), ("character vectors", std)):
        if not math.isfinite(deviation):
            raise AttachError(
                f"The standard deviation of the {name} is not finite. Check the values for NaN and "
                "infinity."
            )
    if scale and not std > 0:
        raise AttachError(
            f"The vectors of all tokens are equal (init {getattr(encoder, 'init', None)!r}), so no "
            f"factor gives them the scale {scale}. Attach with init='pretrained' or 'normal', or "
            "first call charembed.warm_up(model)."
        )
    factor = scale * table_std / std if scale else 0.0
    if not torch.tensor(factor).to(projection.weight.dtype).isfinite():
        raise AttachError(
            f"scale is {scale!r}, too large for {projection.weight.dtype}. Choose about {SCALE}."
        )
    projection.bias.sub_(mean_D.to(projection.bias))
    if isinstance(encoder, CharEncoder):
        encoder.set_output_scale(factor)
    else:  # an encoder of the user's own has no such factor
        projection.weight.mul_(factor)
        projection.bias.mul_(factor)


def projection_of(encoder: nn.Module) -> Affine | nn.Linear:
    """Return the last map of an encoder. Raises AttachError if it has no projection."""
    projection: Any = getattr(encoder, "projection", None)
    if not isinstance(projection, Affine | nn.Linear):
        raise AttachError(
            f"The encoder is a {type(encoder).__name__}, which has no projection to change. Use an "
            "encoder of charembed.ENCODERS that has one, or scale the vectors yourself."
        )
    return projection


@torch.no_grad()
def moments(rows: Callable[[Tensor], Tensor], ids_L: Tensor) -> tuple[Tensor, float]:
    """Return the mean row (D,) and the standard deviation of all entries around it, in float64.

    Arguments:
        rows: function ids (N,) -> rows (N, D), called on parts of ids_L to bound the memory.
        ids_L: (L,) ids to measure.
    """
    total, squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for ids in torch.split(ids_L, TOKENS_AT_ONCE):
        part = rows(ids).double()
        total, squares = total + part.sum(0), squares + part.square().sum(0)
    mean_D = total / len(ids_L)
    # clamp: rounding can make a zero variance slightly negative
    return mean_D, float((squares / len(ids_L) - mean_D.square()).clamp(min=0).mean().sqrt())
