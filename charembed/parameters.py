"""Lists, groups and counts of the parameters that charembed adds."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from .adapters import modules_in_use
from .arguments import check_number
from .embedding import CharEmbedding, Model
from .mark import check_marks, check_module


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the character encoders, without those of the base model.

    torch.nn.utils.clip_grad_norm_(charembed.parameters(model), 1.0)

    If PEFT keeps a copy of the encoder for each adapter, they are those of the copy in use.
    """
    check_marks(model)
    found = (
        parameter
        for _, part in modules_in_use(model)
        if isinstance(part, CharEmbedding)
        for parameter in part.encoder_in_use.parameters()
    )
    # embeddings that share their weight share the encoder; a dict drops the duplicates in order
    return list(dict.fromkeys(found))


def freeze_base(model: Model) -> Model:
    """Set requires_grad of the encoder's parameters alone, in place, and return the model.

    charembed.freeze_base(model)     # the base model gets no gradients any more
    """
    check_module(model)
    # all off, then on again for the encoder, whose parameters are part of the model too
    model.requires_grad_(False)
    for parameter in parameters(model):
        parameter.requires_grad_()
    return model


def param_groups(
    model: nn.Module, lr: float, char_lr: float | None = None, weight_decay: float = 0.1
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer: matrices and vectors of the base, and the encoder.

    torch.optim.AdamW(charembed.param_groups(model, lr=3e-4, char_lr=1e-3))

    The base's matrices have weight decay; its vectors (norms, biases) and the encoder have none.
    The encoder has its own group because the learning rates and weight decays that suit an
    embedding table would ruin it. Each group has a "name": "base", "base_vectors" or "char". Empty
    groups and frozen parameters are left out.

    Arguments:
        model: a model with an attached encoder.
        lr: learning rate of the base.
        char_lr: learning rate of the encoder. Default: lr.
        weight_decay: of the base's matrices. Default: 0.1.

    Raises AttachError if a rate or the weight decay is no finite number of 0 or more.
    """
    # a tensor with one value: optimizers take learning rates of this kind too
    for name, value, example in (
        ("lr", lr, 3e-4),
        ("char_lr", lr if char_lr is None else char_lr, 1e-3),
        ("weight_decay", weight_decay, 0.1),
    ):
        if not isinstance(value, Tensor):
            check_number(name, value, example)
    encoder = [parameter for parameter in parameters(model) if parameter.requires_grad]
    own = set(map(id, encoder))
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
        {"name": "char", "params": encoder, "lr": char_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class ParameterCounts(NamedTuple):
    """Numbers of parameters, each counted once.

    Attributes:
        trainable: parameters with requires_grad.
        all: all parameters of the model.
        encoder: trainable parameters of the character encoder.
    """

    trainable: int
    all: int
    encoder: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters.

    count_parameters(model) -> ParameterCounts(trainable=428416, all=124868224, encoder=428416)
    """
    own = set(map(id, parameters(model)))
    every = list(model.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    encoder = sum(parameter.numel() for parameter in trained if id(parameter) in own)
    return ParameterCounts(sum(p.numel() for p in trained), sum(p.numel() for p in every), encoder)


def print_trainable_parameters(model: nn.Module) -> None:
    """Print one line as PEFT does, with the encoder's share of the trainable parameters.

    trainable params: 428,416 || all params: 124,868,224 || trainable%: 0.3431 || of the trainable,
    character encoder: 428,416
    """
    trainable, total, encoder = count_parameters(model)
    # max: a model without any parameters is no error
    share = 100 * trainable / max(total, 1)
    print(
        f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f} || "
        f"of the trainable, character encoder: {encoder:,}"
    )
