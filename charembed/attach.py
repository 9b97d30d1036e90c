"""Give an existing model its letters, and take them away again.

Only the input embedding changes hands; every other module of the model stays the object it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from .embedding import CharEmbedding
from .errors import AttachError, CharEmbedError, SpellingError
from .spelling import SpellingTable

Model = TypeVar("Model", bound=nn.Module)
WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "DataParallel"}


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
    the first update. The global random state is not touched. Attach before DDP, FSDP or an optimizer sees the model.

    Arguments:
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a list with the bytes of each id, or a SpellingTable.
        module: path of the embedding inside the model ("transformer.wte"); by default `model.get_input_embeddings()`.
        encoder: any module that maps distinct ids (U,) to vectors (U, D), in place of the LSTMEncoder that is otherwise
            made from `tokenizer`, `init`, `char_dim`, `hidden_size` and `seed` (see there).

    Raises AttachError when there is already a CharEmbedding or no embedding that can be taken over, SpellingError when the
    tokenizer does not fit it; the model is then unchanged.
    """
    host = find_embedding(model, module)
    with torch.inference_mode(False):
        if encoder is not None:
            embedding = CharEmbedding(host, encoder.to(host.weight.device))
        else:
            table = tokenizer if isinstance(tokenizer, SpellingTable) else SpellingTable.from_tokenizer(tokenizer, host.num_embeddings)
            embedding = CharEmbedding.from_embedding(host, table, init=init, char_dim=char_dim, hidden_size=hidden_size, seed=seed)
    replace(model, host, embedding)
    return model


def detach(model: Model) -> Model:
    """Undo `attach`: the original embedding module returns, with the weights it has now. Idempotent; returns the model."""
    for embedding in list(char_embeddings(model)):
        replace(model, embedding, embedding.release())
    return model


def fold(model: Model) -> Model:
    """Write token + spelled into the original embedding, so that a plain model remains; in place, returns the model.

    The result computes, bit for bit, what the model computed in evaluation mode, at no extra cost and without charembed.
    A head that was tied to the embedding keeps the weights it had, as its own parameter, and `model.config`, where there
    is one, says `tie_word_embeddings = False`. Idempotent.

    Raises CharEmbedError, and changes nothing, when the folded table is not finite, AttachError when FSDP holds the weights.
    """
    for embedding in char_embeddings(model):
        embedding.check_whole()
    folded = [(embedding, embedding.compute_table()) for embedding in char_embeddings(model)]
    for _, table_VD in folded:
        if not bool(torch.isfinite(table_VD).all()):
            bad = int((~torch.isfinite(table_VD).all(dim=1)).nonzero()[0])
            raise CharEmbedError(f"the vector of token {bad} is not finite, so nothing was folded: fold an earlier checkpoint.")
    for embedding, table_VD in folded:
        if _tied(model, embedding):
            _say_untied(model)
        host = embedding.release()
        with torch.inference_mode(False):
            host.weight = nn.Parameter(table_VD, requires_grad=embedding.weight.requires_grad)
        replace(model, embedding, host)
    return model


def respell(model: Model, tokenizer: Any) -> Model:
    """Read the letters of a vocabulary that changed, with what the encoder has learnt; in place, returns the model.

    tokenizer.add_tokens(["strawberry"]); model.resize_token_embeddings(len(tokenizer)); charembed.respell(model, tokenizer)

    New tokens then have their letters without any training. Characters that are new too get a first vector, so that the
    encoder's table of characters grows: build the optimizer afterwards.

    Raises AttachError when there is nothing attached, SpellingError when the tokenizer has more tokens than the embedding.
    """
    embeddings = list(char_embeddings(model))
    if not embeddings:
        raise AttachError("the model has no CharEmbedding to respell: call charembed.attach(model, tokenizer).")
    tables = [_respelled(embedding, tokenizer) for embedding in embeddings]
    for embedding, table in zip(embeddings, tables, strict=True):
        with torch.inference_mode(False):
            embedding.respell(table)
    return model


def _respelled(embedding: CharEmbedding, tokenizer: Any) -> SpellingTable:
    known, rows = embedding.spellings, embedding.num_embeddings
    if not isinstance(tokenizer, SpellingTable):
        return SpellingTable.from_tokenizer(tokenizer, rows, known.unit, known.alphabet)
    if (tokenizer.num_tokens, tokenizer.unit) != (rows, known.unit):
        raise SpellingError(
            f"the spelling table has {tokenizer.num_tokens} tokens in unit {tokenizer.unit!r}, the embedding {rows} rows in {known.unit!r}: "
            f"build it with num_tokens={rows}, unit={known.unit!r}."
        )
    return tokenizer.over(known.alphabet)


def char_embeddings(model: nn.Module) -> Iterator[CharEmbedding]:
    """All CharEmbeddings of a model; there is rarely more than one."""
    return (module for module in model.modules() if isinstance(module, CharEmbedding))


def find_embedding(model: nn.Module, path: str | None) -> nn.Embedding:
    """The embedding to take over. Raises AttachError, naming what there is to choose from."""
    if any(True for _ in char_embeddings(model)):
        raise AttachError("the model already has a CharEmbedding: call charembed.detach(model) first.")
    for part in model.modules():
        if type(part).__name__ in WRAPPERS:
            raise AttachError(f"the model is wrapped in {type(part).__name__}, which would not see new parameters: attach first, wrap afterwards.")
    found: Any
    if path is not None:
        try:
            found = model.get_submodule(path)
        except AttributeError:
            raise AttachError(f"the model has no module {path!r}: {_embeddings_to_choose(model)}") from None
    else:
        try:
            found = model.get_input_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            raise AttachError(f"{type(model).__name__} has no get_input_embeddings(): {_embeddings_to_choose(model)}") from None
    if found is model:
        raise AttachError("the model is the embedding itself: use charembed.CharEmbedding.from_embedding.")
    if not isinstance(found, nn.Embedding):
        raise AttachError(f"the input embedding is a {type(found).__name__}, not an nn.Embedding: {_embeddings_to_choose(model)}")
    if others := [path for path, part in model.named_modules() if isinstance(part, nn.Embedding) and part is not found and part.weight is found.weight]:
        raise AttachError(f"the embedding shares its weight with {', '.join(map(repr, others))}, which would stay without letters: untie them first.")
    return found


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever the model holds `old`."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children would name a module once
            if child is old:
                parent._modules[name] = new


def _say_untied(model: nn.Module) -> None:
    """Write tie_word_embeddings = False into copies of the configs: another model may share them."""
    configs = [(part, config) for part in model.modules() if (config := getattr(part, "config", None)) is not None]
    copies = {id(config): copy.deepcopy(config) for _, config in configs if getattr(config, "tie_word_embeddings", False) is True}
    for config in copies.values():
        object.__setattr__(config, "tie_word_embeddings", False)
    for part, config in configs:
        if id(config) in copies and "config" in vars(part):  # a wrapper answers with the config of what it wraps
            part.config = copies[id(config)]


def _tied(model: nn.Module, embedding: CharEmbedding) -> bool:
    others = (part for part in model.modules() if part is not embedding)
    return any(parameter is embedding.weight for part in others for parameter in part.parameters(recurse=False))


def _embeddings_to_choose(model: nn.Module) -> str:
    paths = [repr(path) for path, module in model.named_modules() if isinstance(module, nn.Embedding)]
    return f"name the embedding with module=..., one of {', '.join(paths)}." if paths else "it holds no nn.Embedding at all."
