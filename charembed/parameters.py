"""Which parameters are charembed's, for optimizers and for people."""

from __future__ import annotations

from typing import Any

from torch import nn

from .attach import char_embeddings


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that charembed added: those of the encoders, none of the base's.

    To train the letters alone: `model.requires_grad_(False)`, then `p.requires_grad_()` for each p of these.
    """
    return [parameter for embedding in char_embeddings(model) for parameter in embedding.encoder.parameters()]


def param_groups(model: nn.Module, lr: float, char_lr: float | None = None, weight_decay: float = 0.1) -> list[dict[str, Any]]:
    """Groups for an optimizer: base matrices with decay, base vectors without, and the encoder by itself without.

    torch.optim.AdamW(charembed.param_groups(model, lr=3e-4, char_lr=1e-3))

    An embedding's large learning rate or weight decay would ruin the encoder, so it has its own group ("name" tells which).
    `char_lr` is `lr` by default. Frozen parameters are left out.
    """
    own = {id(parameter) for parameter in parameters(model)}
    base = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in own]
    groups = [
        {"name": "base", "params": [p for p in base if p.dim() >= 2], "lr": lr, "weight_decay": weight_decay},
        {"name": "base_vectors", "params": [p for p in base if p.dim() < 2], "lr": lr, "weight_decay": 0.0},
        {"name": "char", "params": [p for p in parameters(model) if p.requires_grad], "lr": lr if char_lr is None else char_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def print_trainable_parameters(model: nn.Module) -> None:
    """One line, as PEFT prints it, with the letters' share of what is trained.

    trainable params: 428,416 || all params: 124,868,224 || trainable%: 0.3431 || of the trainable, letters: 428,416
    """
    own = {id(parameter) for parameter in parameters(model)}
    every = {id(parameter): parameter for parameter in model.parameters()}
    trained = {key: parameter.numel() for key, parameter in every.items() if parameter.requires_grad}
    total, trainable = sum(parameter.numel() for parameter in every.values()), sum(trained.values())
    letters = sum(count for key, count in trained.items() if key in own)
    share = 100 * trainable / max(total, 1)
    print(f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f} || of the trainable, letters: {letters:,}")
