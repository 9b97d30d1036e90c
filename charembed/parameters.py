"""Which parameters are charembed's, for optimizers and for people."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from .embedding import Model, char_embeddings


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that charembed added: those of the encoders, none of the base's."""
    found = (
        parameter
        for embedding in char_embeddings(model)
        for parameter in embedding.encoder.parameters()
    )
    return list(dict.fromkeys(found))


def freeze_base(model: Model) -> Model:
    """Train the letters alone: no other parameter takes gradients any more; in place, returns the model."""
    model.requires_grad_(False)
    for parameter in parameters(model):
        parameter.requires_grad_()
    return model


def param_groups(
    model: nn.Module, lr: float, char_lr: float | None = None, weight_decay: float = 0.1
) -> list[dict[str, Any]]:
    """Groups for an optimizer: base matrices with decay, base vectors without, and the encoder by itself
    without.

    torch.optim.AdamW(charembed.param_groups(model, lr=3e-4, char_lr=1e-3))

    An embedding's large learning rate or weight decay would ruin the encoder, so it has its own group ("name"
    tells which). `char_lr` is `lr` by default. Frozen parameters are left out.
    """
    letters = [parameter for parameter in parameters(model) if parameter.requires_grad]
    own = set(map(id, letters))
    base = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in own
    ]
    char_lr = lr if char_lr is None else char_lr
    groups = [
        {
            "name": "base",
            "params": [p for p in base if p.dim() >= 2],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "base_vectors",
            "params": [p for p in base if p.dim() < 2],
            "lr": lr,
            "weight_decay": 0.0,
        },
        {"name": "char", "params": letters, "lr": char_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class ParameterCounts(NamedTuple):
    """Numbers of parameters, each counted once; `encoder`: the trainable ones that charembed added."""

    trainable: int
    all: int
    encoder: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """How many parameters a model has: ParameterCounts(trainable=428416, all=124868224, encoder=428416)."""
    own = set(map(id, parameters(model)))
    every = list(model.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    letters = sum(parameter.numel() for parameter in trained if id(parameter) in own)
    return ParameterCounts(sum(p.numel() for p in trained), sum(p.numel() for p in every), letters)


def print_trainable_parameters(model: nn.Module) -> None:
    """One line, as PEFT prints it, with the letters' share of what is trained.

    trainable params: 428,416 || all params: 124,868,224 || trainable%: 0.3431 || of the trainable, letters:
        428,416
    """
    trainable, total, letters = count_parameters(model)
    share = 100 * trainable / max(total, 1)
    print(
        f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f} || "
        f"of the trainable, letters: {letters:,}"
    )
