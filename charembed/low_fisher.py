"""Write the letters where the model's text is least sensitive.

Axes: B rows, T tokens per row, D model width, K directions kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .embedding import Model, char_embedding_of
from .errors import AttachError
from .scale import SCALE, check_scale, projection_of, scale_vectors

SHARE = 0.28  # of the directions: 161 of SmolLM2's 576
ROWS_AT_ONCE = 8


def project_to_low_fisher(
    model: Model, ids_BT: Tensor, *, share: float = SHARE, scale: float | None = SCALE
) -> Model:
    """Project the letters onto the directions to which the model's loss on some text is least sensitive.

    charembed.attach(model, tokenizer, init="pretrained")
    ids_BT = tokenizer(texts, return_tensors="pt")["input_ids"]  # a few thousand tokens
    charembed.project_to_low_fisher(model, ids_BT)

    The gradients of the loss at the embedding's output say how much text minds a step in each direction; the
    letters are projected onto the eigenvectors of their covariance with the smallest eigenvalues, and made as
    loud as before. At equal loudness they then disturb the text several times less (docs/retrofit.md), and
    are learnt as soon. Some of what can be read is lost: of SmolLM2's tokens a linear map read 0.82 whole
    before and 0.74 after. Nothing is trained, and no gradient is left behind.

    Arguments:
        ids_BT: (B, T) token ids of any text, without padding; as many tokens as the model is wide, or more.
        share: K / D, above 0 and up to 1; 0.28 by default.
        scale: as in `set_scale`, set afterwards, 0.35 by default; None leaves the vectors as loud as the
            projection makes them.

    Raises AttachError where nothing is attached, for ids that are no tensor or too few, for a share that
    cannot be, for an encoder without a projection, for a model whose output is no logits, and for a loss that
    is not finite; the model is then unchanged.
    """
    embedding = char_embedding_of(model)
    projection = projection_of(embedding.encoder)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise AttachError(f"share is {share!r}; it must be above 0 and at most 1.")
    if scale is not None:
        check_scale(scale)
    width = embedding.embedding_dim
    if not isinstance(ids_BT, Tensor):
        raise AttachError(
            f"the ids are a {type(ids_BT).__name__}; they must be a tensor of rows of text, (B, T)."
        )
    if ids_BT.dim() != 2 or ids_BT.shape[1] < 2 or ids_BT.numel() < width:
        raise AttachError(
            f"the ids have the shape {tuple(ids_BT.shape)}; they must be rows of text, of {width} tokens or "
            "more in all, as the model is that wide."
        )
    low_DK = sensitivity(model, embedding, ids_BT.long())[1][:, : max(1, round(share * width))]
    with torch.inference_mode(False), torch.no_grad():
        before = {name: value.clone() for name, value in projection.state_dict().items()}
        low_DK = low_DK.to(projection.weight)
        projection.weight.copy_(low_DK @ (low_DK.T @ projection.weight))
        projection.bias.copy_(low_DK @ (low_DK.T @ projection.bias))
        try:
            if scale is not None:
                scale_vectors(embedding.encoder, embedding.weight, scale)
        except BaseException:
            projection.load_state_dict(before)
            raise
    return model


def sensitivity(model: nn.Module, embedding: nn.Module, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), ascending, and eigenvectors (D, D) of the covariance of the loss's gradients at the
    embedding's output, in float64: the directions of the smallest ones are those that text minds least.

    The covariance is the empirical Fisher information with respect to the embedded tokens.
    """
    caught: list[Tensor] = []

    def catch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        caught.append(leaf)
        return leaf

    training = [part for part in model.modules() if part.training]
    handle = embedding.register_forward_hook(catch)
    covariance_DD = torch.zeros((), dtype=torch.float64)
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            for part_BT in torch.split(ids_BT, ROWS_AT_ONCE):
                caught.clear()
                logits = _logits(model(part_BT))[:, :-1].float()
                loss = nn.functional.cross_entropy(
                    logits.flatten(0, 1), part_BT[:, 1:].flatten(), reduction="sum"
                )
                (gradient_BTD,) = torch.autograd.grad(loss, caught[0])
                rows_ND = gradient_BTD.flatten(0, 1).double().cpu()
                covariance_DD = covariance_DD + rows_ND.T @ rows_ND
    finally:
        handle.remove()
        for part in training:
            part.training = True
    if not covariance_DD.isfinite().all():
        raise AttachError(
            "the model's loss on this text is not finite: pass other text, or mend the model."
        )
    values_D, directions_DD = torch.linalg.eigh(covariance_DD)
    return values_D, directions_DD


def _logits(output: Any) -> Tensor:
    found = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(found, Tensor) or found.dim() != 3:
        raise AttachError(
            f"the model answers with a {type(output).__name__} without logits (B, T, V): pass a causal "
            "language model."
        )
    return found
