"""Give an existing model its letters, and take them away again.

Only the input embedding changes hands; every other module of the model stays the object it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from .embedding import CharEmbedding
from .encoder import LSTMEncoder
from .spelling import SpellingTable

Model = TypeVar("Model", bound=nn.Module)


def attach(
    model: Model,
    tokenizer: Any,
    *,
    module: str | None = None,
    encoder: nn.Module | None = None,
    init: str = "zero",
    char_dim: int = 128,
    hidden_size: int = 128,
    seed: int = 0,
) -> Model:
    """Replace the model's input embedding by a `CharEmbedding`, in place, and return the model.

    model = charembed.attach(GPT2LMHeadModel(config), tokenizer)

    With the default init "zero" the model's outputs and the base's gradients are bit-identical to what they were, until
    the first update. The global random state is not touched.

    Arguments:
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a list with the bytes of each id, or a SpellingTable.
        module: path of the embedding inside the model ("transformer.wte"); by default `model.get_input_embeddings()`.
        encoder: any module that maps distinct ids (U,) to vectors (U, D); by default an LSTMEncoder made from `tokenizer`,
            `init`, `char_dim`, `hidden_size` and `seed`.

    Raises ValueError, and changes nothing, when there is already a CharEmbedding, no embedding is found, or the tokenizer
    does not fit it.
    """
    host = _find_embedding(model, module)
    if encoder is None:
        if isinstance(tokenizer, SpellingTable):
            table = tokenizer
            if table.num_tokens != host.num_embeddings:
                raise ValueError(
                    f"the spelling table has {table.num_tokens} tokens, but the embedding has {host.num_embeddings} rows: "
                    f"build it with num_tokens={host.num_embeddings}."
                )
        else:
            table = SpellingTable.from_tokenizer(tokenizer, host.num_embeddings)
        encoder = LSTMEncoder(table, host.embedding_dim, char_dim=char_dim, hidden_size=hidden_size, init=init, seed=seed)
    _replace(model, host, CharEmbedding(host, encoder.to(host.weight.device, host.weight.dtype)))
    return model


def detach(model: Model) -> Model:
    """Undo `attach`: the original embedding module returns, with the weights it has now. Idempotent; returns the model."""
    for embedding in list(_char_embeddings(model)):
        embedding.host.train(embedding.training)
        _replace(model, embedding, embedding.host)
    return model


def fold(model: Model) -> Model:
    """Write token + spelled into the original embedding, so that a plain model remains; in place, returns the model.

    The result computes, bit for bit, what the model computed in evaluation mode, at no extra cost and without charembed.
    A head that was tied to the embedding keeps the weights it had, as its own parameter, and `model.config`, where there
    is one, says `tie_word_embeddings = False`. Idempotent.

    Raises ValueError, and changes nothing, when the folded table is not finite.
    """
    folded = [(embedding, embedding.table().clone()) for embedding in _char_embeddings(model)]
    for _, table_VD in folded:
        if not bool(torch.isfinite(table_VD).all()):
            bad = int((~torch.isfinite(table_VD).all(dim=1)).nonzero()[0])
            raise ValueError(f"the vector of token {bad} is not finite, so nothing was folded: fold an earlier checkpoint.")
    for embedding, table_VD in folded:
        tied = any(parameter is embedding.weight for other in model.modules() if other is not embedding for parameter in other.parameters(recurse=False))
        embedding.host.weight = nn.Parameter(table_VD, requires_grad=embedding.weight.requires_grad)
        embedding.host.train(embedding.training)
        _replace(model, embedding, embedding.host)
        config: Any = getattr(model, "config", None)
        if tied and hasattr(config, "tie_word_embeddings"):
            config.tie_word_embeddings = False
    return model


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that charembed added: those of the encoders, none of the base's."""
    return [parameter for embedding in _char_embeddings(model) for parameter in embedding.encoder.parameters()]


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


def _char_embeddings(model: nn.Module) -> Iterator[CharEmbedding]:
    return (module for module in model.modules() if isinstance(module, CharEmbedding))


def _find_embedding(model: nn.Module, path: str | None) -> nn.Embedding:
    if any(True for _ in _char_embeddings(model)):
        raise ValueError("the model already has a CharEmbedding: call charembed.detach(model) first.")
    if path is not None:
        try:
            found: Any = model.get_submodule(path)
        except AttributeError:
            raise ValueError(f"the model has no module {path!r}: {_embeddings_to_choose(model)}") from None
    elif callable(get := getattr(model, "get_input_embeddings", None)):
        found = get()
    else:
        raise ValueError(f"{type(model).__name__} has no get_input_embeddings(): {_embeddings_to_choose(model)}")
    if not isinstance(found, nn.Embedding):
        raise ValueError(f"the input embedding is a {type(found).__name__}, not an nn.Embedding: {_embeddings_to_choose(model)}")
    return found


def _embeddings_to_choose(model: nn.Module) -> str:
    paths = [repr(path) for path, module in model.named_modules() if isinstance(module, nn.Embedding)]
    return f"name the embedding with module=..., one of {', '.join(paths)}." if paths else "it holds no nn.Embedding at all."


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
