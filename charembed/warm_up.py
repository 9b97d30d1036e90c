"""Teach an encoder to spell before a model sees it.

Axes: N tokens drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .embedding import Model, char_embedding_of
from .errors import AttachError
from .scale import SCALE, check_scale, projection_of, scale_vectors
from .spelling_loss import SpellingHeads, ids_with_characters

Progress = Callable[[int, int, float], object]


def warm_up(
    model: Model,
    *,
    steps: int = 600,
    tokens: int = 512,
    lr: float = 3e-3,
    seed: int = 0,
    scale: float | None = SCALE,
    progress: Progress | None = None,
) -> Model:
    """Train the attached letters on spelling alone, set their loudness, and return the model.

    charembed.attach(model, tokenizer, encoder="gru", init="normal")
    charembed.warm_up(model, progress=lambda step, steps, loss: print(step, loss))

    From a token's vector, heads that are thrown away say the letter at each of its first and last 12 places.
    Only spellings are read: no text, and of the model nothing but how loud its table is. For an LSTM
    `attach(..., init="pretrained")` gives the same in a moment; this is for the other encoders, and for other
    sizes. Neither the base nor the global random state is touched.

    Arguments:
        steps: of AdamW; 600 by default, 87 seconds of a core on a vocabulary of 49,152 tokens.
        tokens: drawn from the vocabulary in each step; 512 by default.
        lr: the highest rate, reached after a thirtieth of the steps; it then falls along a cosine to a
            fiftieth.
        seed: of the heads and of what is drawn.
        scale: as in `set_scale`; None leaves the vectors as loud as training made them.
        progress: called after each step with its number, the number of steps, and the loss in nats a letter.

    Raises AttachError where nothing is attached, an argument cannot be, the letters are frozen, or the loss
    is not finite. Interrupted, it leaves the letters as they were. Letters in half precision are trained in
    float32 and rounded at the end; gradients that were there stay.
    """
    embedding = char_embedding_of(model)
    for name, value in (("steps", steps), ("tokens", tokens)):
        if type(value) is not int or value < 1:
            raise AttachError(f"{name} is {value!r}; it must be a whole number of 1 or more.")
    if not (isinstance(lr, int | float) and math.isfinite(lr) and lr > 0):
        raise AttachError(f"lr is {lr!r}; it must be a number above 0, such as 3e-3.")
    encoder, dim = embedding.encoder, embedding.embedding_dim
    if scale is not None:
        check_scale(scale)
        projection_of(encoder)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise AttachError("the letters are frozen: let their parameters require a gradient first.")
    with torch.inference_mode(False):
        heads = SpellingHeads(embedding.spellings, dim, seed).to(embedding.weight.device)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        kept = [(p, p.dtype, p.grad) for p in encoder.parameters()]
        for parameter, _, _ in kept:
            parameter.grad = None
        try:
            encoder.float()
            teach(encoder, heads, steps=steps, tokens=tokens, lr=lr, seed=seed, progress=progress)
            if scale is not None:
                scale_vectors(encoder, embedding.weight, scale)
        except BaseException:
            encoder.load_state_dict(before)
            raise
        finally:
            encoder.to(kept[0][1])
            for parameter, _, gradient in kept:
                parameter.grad = gradient
    return model


def teach(
    encoder: nn.Module,
    heads: SpellingHeads,
    *,
    steps: int,
    tokens: int,
    lr: float,
    seed: int,
    progress: Progress | None = None,
    ids_L: Tensor | None = None,
) -> None:
    """Train encoder and heads together on tokens drawn from `ids_L`, by default all that have letters."""
    parameters = [p for part in (encoder, heads) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    ids_L = ids_with_characters(encoder.spellings) if ids_L is None else ids_L  # type: ignore[arg-type]
    device = heads.targets_VP.device
    warm = max(1, steps // 30)
    with torch.inference_mode(False), torch.enable_grad():
        for step in range(steps):
            scale = min(1.0, (step + 1) / warm) * (
                0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            )
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            ids_N = ids_L[torch.randint(len(ids_L), (tokens,), generator=generator)].to(device)
            loss = heads(encoder(ids_N), ids_N) / heads.num_targets(ids_N)
            if not math.isfinite(nats := float(loss.detach())):
                raise AttachError(
                    f"the spelling loss is {nats} at step {step}: lower lr, which is {lr}."
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps, nats)
    optimizer.zero_grad()
