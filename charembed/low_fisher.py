"""Project the character vectors onto directions of low Fisher information of the model's loss.

Axes: B rows, T tokens per row, D model width, K directions kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .embedding import Model, char_embedding_of
from .errors import AttachError
from .scale import SCALE, check_scale, projection_of, scale_vectors

SHARE = 0.28  # K / D: 161 of SmolLM2's 576 directions
_ROWS_AT_ONCE = 8  # rows of text per backward pass: bounds the memory


def project_to_low_fisher(
    model: Model, ids_BT: Tensor, *, share: float = SHARE, scale: float | None = SCALE
) -> Model:
    """Project the character vectors onto low-Fisher directions, in place, and return the model.

    charembed.attach(model, tokenizer, init="pretrained")
    ids_BT = tokenizer(texts, return_tensors="pt")["input_ids"]  # a few thousand tokens
    charembed.project_to_low_fisher(model, ids_BT)

    The low-Fisher directions are the eigenvectors with the smallest eigenvalues of the covariance
    of the loss's gradients at the embedding's output (the empirical Fisher information). The
    model's loss is least sensitive to changes in these directions. At equal scale, projected
    vectors raise the loss on text several times less (docs/retrofit.md), and the model learns to
    use them equally fast. The projection loses some spelling information: a linear map predicted
    all characters of 0.82 of SmolLM2's tokens before and of 0.74 after. Nothing is trained and no
    gradient is left.

    Arguments:
        model: a model with an attached encoder that has a projection.
        ids_BT: (B, T) token ids of any text, without padding. B T must be at least D.
        share: K / D, above 0 and at most 1. Default: 0.28.
        scale: as in `set_scale`, applied after the projection. Default: 0.35. None: no rescaling.

    Raises AttachError if no encoder is attached, if ids_BT is no tensor or has too few tokens, if
    share is out of range, if the encoder has no projection, if the model returns no logits, or if
    its loss is not finite. After an error the model is unchanged.
    """
    embedding = char_embedding_of(model)
    projection = projection_of(embedding.encoder_in_use)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise AttachError(f"share is {share!r}; it must be above 0 and at most 1.")
    if scale is not None:
        check_scale(scale)
    width = embedding.embedding_dim
    if not isinstance(ids_BT, Tensor):
        raise AttachError(
            f"ids_BT is a {type(ids_BT).__name__}; it must be a tensor of token ids (B, T)."
        )
    if ids_BT.dim() != 2 or ids_BT.shape[1] < 2 or ids_BT.numel() < width:
        raise AttachError(
            f"ids_BT has the shape {tuple(ids_BT.shape)}; it must be (B, T) with T >= 2 and at "
            f"least {width} tokens in all, the width of the model."
        )
    low_DK = sensitivity(model, embedding, ids_BT.long())[1][:, : max(1, round(share * width))]
    with torch.inference_mode(False), torch.no_grad():
        before = {name: value.clone() for name, value in projection.state_dict().items()}
        low_DK = low_DK.to(projection.weight)
        # P = U U^T applied to the affine map W x + b: (P W) x + P b
        projection.weight.copy_(low_DK @ (low_DK.T @ projection.weight))
        projection.bias.copy_(low_DK @ (low_DK.T @ projection.bias))
        try:
            if scale is not None:
                scale_vectors(embedding.encoder_in_use, embedding.weight, scale)
        except BaseException:
            projection.load_state_dict(before)  # also after Ctrl+C
            raise
    return model


def sensitivity(model: nn.Module, embedding: nn.Module, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (D,) and eigenvectors (D, D) of the empirical Fisher information.

    Both are float64, in ascending order of the eigenvalues; column k belongs to eigenvalue k. The
    matrix is the uncentred covariance of the gradients of the summed next-token loss with respect
    to the embedding's output.
    """
    caught: list[Tensor] = []

    def catch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        # a leaf, so the gradient stops at the embedding's output and no parameter gets one
        leaf = output.detach().requires_grad_()
        caught.append(leaf)
        return leaf

    # evaluation mode: dropout would add noise to the gradients
    training = [part for part in model.modules() if part.training]
    handle = embedding.register_forward_hook(catch)
    covariance_DD = torch.zeros((), dtype=torch.float64)
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            for part_BT in torch.split(ids_BT, _ROWS_AT_ONCE):
                caught.clear()
                # summed in float32: half precision would round the loss and its gradient
                logits = _logits(model(part_BT))[:, :-1].float()
                loss = nn.functional.cross_entropy(
                    logits.flatten(0, 1), part_BT[:, 1:].flatten(), reduction="sum"
                )
                (gradient_BTD,) = torch.autograd.grad(loss, caught[0])
                # float64, because the smallest eigenvalues decide
                rows_ND = gradient_BTD.flatten(0, 1).double().cpu()
                covariance_DD = covariance_DD + rows_ND.T @ rows_ND
    finally:
        handle.remove()
        for part in training:
            part.training = True
    if not covariance_DD.isfinite().all():
        raise AttachError(
            "The model's loss on this text is not finite. Pass other text, or check the model's "
            "weights."
        )
    values_D, directions_DD = torch.linalg.eigh(covariance_DD)
    return values_D, directions_DD


def _logits(output: Any) -> Tensor:
    """Return the logits (B, T, V) of a model output: an object with logits, a tuple or a tensor."""
    found = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(found, Tensor) or found.dim() != 3:
        raise AttachError(
            f"The model returns a {type(output).__name__} without logits (B, T, V). Pass a causal "
            "language model."
        )
    return found
