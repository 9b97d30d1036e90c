"""Train an encoder to spell before the model is trained with it.

Axes: N sampled tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .arguments import check_int, check_number, check_seed
from .embedding import Model, char_embedding_of
from .errors import AttachError
from .scale import SCALE, check_scale, projection_of, scale_vectors
from .spelling_loss import SpellingHeads, ids_with_characters

_Progress = Callable[[int, int, float], object]


def warm_up(
    model: Model,
    *,
    steps: int = 600,
    tokens: int = 512,
    lr: float = 3e-3,
    seed: int = 0,
    scale: float | None = SCALE,
    progress: _Progress | None = None,
) -> Model:
    """Train the attached encoder on the spelling loss alone, set its scale, and return the model.

    charembed.attach(model, tokenizer, encoder="gru", init="normal")
    charembed.warm_up(model, progress=lambda step, steps, loss: print(step, loss))

    `SpellingHeads` predict the first and last 12 characters of each token from its vector. Text is
    not needed. The base and the global random state do not change. For an LSTM of the default size
    `attach(..., init="pretrained")` gives the same without training; warm_up is for other encoders
    and other sizes. If the encoder is in half precision, it is trained in float32 and rounded at
    the end. Existing gradients stay.

    Arguments:
        model: a model with an attached encoder.
        steps: steps of AdamW. Default: 600 (87 seconds of a core for 49,152 tokens).
        tokens: tokens sampled from the vocabulary per step. Default: 512.
        lr: maximum learning rate. Default: 3e-3. It rises linearly over the first thirtieth of the
            steps, then falls along a cosine to a fiftieth.
        seed: seed of the heads and of the sampled tokens. Default: 0.
        scale: as in `set_scale`, set afterwards. Default: 0.35. None: no rescaling.
        progress: function of step number, number of steps and loss (nats per character), called
            after each step. Default: None.

    Raises AttachError if no encoder is attached, if an argument is out of range, if the encoder is
    frozen, or if the loss is not finite. After an error or an interruption the encoder is as
    before.
    """
    embedding = char_embedding_of(model)
    for name, value in (("steps", steps), ("tokens", tokens)):
        check_int(name, value, 1)
    check_number("lr", lr, 3e-3, zero=False)
    check_seed(seed)
    encoder, dim = embedding.encoder_in_use, embedding.embedding_dim
    if scale is not None:  # checked now, because an error after minutes of training is late
        check_scale(scale)
        projection_of(encoder)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise AttachError(
            "The character encoder is frozen. Set requires_grad of its parameters first."
        )
    with torch.inference_mode(False):
        heads = SpellingHeads(embedding.spellings, dim, seed).to(embedding.weight.device)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        # gradients and dtypes of the user, put back at the end
        kept = [(p, p.dtype, p.grad) for p in encoder.parameters()]
        for parameter, _, _ in kept:
            parameter.grad = None
        try:
            encoder.float()  # half precision would lose small updates
            teach(encoder, heads, steps=steps, tokens=tokens, lr=lr, seed=seed, progress=progress)
            if scale is not None:
                scale_vectors(encoder, embedding.weight, scale)
        except BaseException:  # also Ctrl+C
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
    progress: _Progress | None = None,
    ids_L: Tensor | None = None,
) -> None:
    """Train encoder and heads together, in place, on tokens sampled from `ids_L`.

    Arguments are those of `warm_up`, and
        ids_L: (L,) ids to sample from. Default: all tokens with characters.
    """
    parameters = [p for part in (encoder, heads) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    if ids_L is None:
        ids_L = ids_with_characters(encoder.spellings)  # type: ignore[arg-type]
    device = heads.targets_VP.device
    warm = max(1, steps // 30)
    with torch.inference_mode(False), torch.enable_grad():
        for step in range(steps):
            # linear warm-up times a cosine from 1 to 0.02
            rate = min(1.0, (step + 1) / warm) * (
                0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            )
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            ids_N = ids_L[torch.randint(len(ids_L), (tokens,), generator=generator)].to(device)
            loss = heads(encoder(ids_N), ids_N) / heads.num_targets(ids_N)
            if not math.isfinite(nats := float(loss.detach())):
                raise AttachError(
                    f"The spelling loss is {nats} at step {step}. Choose lr below {lr}."
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps, nats)
    optimizer.zero_grad()
