"""How loud the letters are beside the tokens.

Axes: V vocabulary, L tokens with letters, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import Model, char_embedding_of
from .encoder import Affine, CharEncoder
from .errors import AttachError
from .spelling_loss import ids_with_characters
from .vector_table import TOKENS_AT_ONCE

SAMPLE = 8_192  # tokens that the loudness is measured on
SCALE = (
    0.35  # letters that can be read from the first step, at a small price: docs/LOG.md has others
)


def set_scale(model: Model, scale: float = SCALE) -> Model:
    """Scale the letters to a share of the tokens' loudness, in place, and return the model.

    charembed.set_scale(model, 0.5)     # spelled vectors with half the standard deviation of the token table

    Over the tokens with letters (over 8,192 of them, where there are more) the spelled vectors then have mean
    zero and `scale` times (0.35 by default) the standard deviation of these tokens' rows around their mean.
    Only a factor of the vectors and the projection's bias change. A pretrained model's text suffers from loud
    letters until it has been trained with them. With scale 0 they are silent, and training, which does not
    move the factor, cannot make them louder.

    Raises AttachError for a scale below 0 or not finite, where nothing is attached or the weights are not
    there or not finite, for vectors that are all equal (init "zero"), and for an encoder without a
    projection; the model is then unchanged.
    """
    check_scale(scale)
    embedding = char_embedding_of(model)
    scale_vectors(embedding.encoder, embedding.weight, scale)
    return model


def check_scale(scale: float) -> None:
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not (number and math.isfinite(scale) and scale >= 0):
        raise AttachError(f"scale is {scale!r}; it must be a number of 0 or more, such as {SCALE}.")


@torch.inference_mode(False)
@torch.no_grad()
def scale_vectors(encoder: nn.Module, weight_VD: Tensor, scale: float) -> None:
    """`set_scale`, for an encoder beside a table."""
    projection = projection_of(encoder)
    if weight_VD.is_meta:
        raise AttachError(
            "the table is on the meta device, so how loud it is cannot be told: load the weights first, or "
            "pass scale=None and call charembed.set_scale(model) later."
        )
    spellings: Any = getattr(encoder, "spellings", None)
    ids_L = torch.arange(len(weight_VD)) if spellings is None else ids_with_characters(spellings)
    sample = torch.linspace(0, len(ids_L) - 1, min(len(ids_L), SAMPLE)).long()  # evenly spread
    ids_L = ids_L[sample].to(weight_VD.device)
    _, table_std = moments(lambda ids: weight_VD[ids], ids_L)
    vectors = encoder.read if isinstance(encoder, CharEncoder) else encoder  # before any loudness
    with torch.autocast(weight_VD.device.type, enabled=False):
        mean_D, std = moments(vectors, ids_L)
    for what, deviation in (("rows of the table", table_std), ("vectors of the letters", std)):
        if not math.isfinite(deviation):
            raise AttachError(f"the {what} are not all finite, so their loudness cannot be told.")
    if scale and not std > 0:
        raise AttachError(
            f"the vectors of all tokens are equal (init {getattr(encoder, 'init', None)!r}), so no scale "
            "makes them louder: attach with init='pretrained' or 'normal', or call charembed.warm_up(model) first."
        )
    factor = scale * table_std / std if scale else 0.0
    if not torch.tensor(factor).to(projection.weight.dtype).isfinite():
        raise AttachError(
            f"scale is {scale!r}, too loud for {projection.weight.dtype}: choose about {SCALE}."
        )
    projection.bias.sub_(mean_D.to(projection.bias))
    if isinstance(encoder, CharEncoder):
        encoder.set_output_scale(factor)
    else:
        projection.weight.mul_(factor)
        projection.bias.mul_(factor)


def projection_of(encoder: nn.Module) -> Affine | nn.Linear:
    """The last map of an encoder. Raises AttachError for one that ends with none."""
    projection: Any = getattr(encoder, "projection", None)
    if not isinstance(projection, Affine | nn.Linear):
        raise AttachError(
            f"the encoder is a {type(encoder).__name__}, without a projection that could be changed: change "
            "its vectors yourself, or take one of charembed.ENCODERS that has one."
        )
    return projection


@torch.no_grad()
def moments(rows: Callable[[Tensor], Tensor], ids_L: Tensor) -> tuple[Tensor, float]:
    """The mean row (D,), and the standard deviation of all entries around it, in float64."""
    total, squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for ids in torch.split(ids_L, TOKENS_AT_ONCE):
        part = rows(ids).double()
        total, squares = total + part.sum(0), squares + part.square().sum(0)
    mean_D = total / len(ids_L)
    return mean_D, float((squares / len(ids_L) - mean_D.square()).clamp(min=0).mean().sqrt())
