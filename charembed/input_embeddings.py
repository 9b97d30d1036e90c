"""Find the input embedding of a model, and the embeddings that share its weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from .adapters import check_reachable
from .embedding import char_embeddings
from .errors import AttachError
from .peft_layers import check_wrappers
from .sharding import is_sharding
from .takeover import check

_WRAPPERS = {"DistributedDataParallel", "DataParallel"}


def find_embeddings(model: Any, path: str | None, tokenizer: Any = None) -> list[nn.Embedding]:
    """Find the embedding to take over, then the embeddings that share its weight.

    Raises AttachError, which lists the embeddings to choose from, if there is no single candidate.
    """
    if not isinstance(model, nn.Module):
        swapped = (
            " Model and tokenizer seem to be swapped." if isinstance(tokenizer, nn.Module) else ""
        )
        kind = type(model).__name__
        raise AttachError(
            f"The model is a {kind}, not a torch.nn.Module.{swapped} Call attach(model, tokenizer)."
        )
    if any(True for _ in char_embeddings(model)):
        raise AttachError(
            "The model already has a CharEmbedding, which can be used as it is. To replace it, "
            "first call charembed.detach(model), which discards its encoder; charembed.save(model, "
            "folder) keeps a trained one."
        )
    for part in model.modules():
        wrapper = type(part).__name__
        if (sharding := is_sharding(part)) or wrapper in _WRAPPERS:
            wrapper = f"FSDP ({wrapper})" if sharding else wrapper
            raise AttachError(
                f"The model is wrapped in {wrapper}, which does not register new parameters. Call "
                "attach first, then wrap the model."
            )
    found: Any
    any_model: Any = model
    try:
        found = any_model.get_input_embeddings() if path is None else model.get_submodule(path)
    except (AttributeError, NotImplementedError):
        missing = f"The model has no module {path!r}."
        if path is None:
            missing = f"{type(model).__name__} has no get_input_embeddings()."
        raise AttachError(f"{missing} {_embeddings_to_choose(model)}") from None
    if found is model:
        raise AttachError(
            "The model is itself the embedding. Use charembed.CharEmbedding.from_embedding instead."
        )
    check_reachable(model, found)
    if not isinstance(found, nn.Embedding):
        raise AttachError(
            f"The input embedding is a {type(found).__name__}, not an nn.Embedding. "
            f"{_embeddings_to_choose(model)}"
        )
    hosts = [found, *_tied_to(found, model)]
    for host in hosts:
        check(host)
    check_wrappers(model, hosts)
    return hosts


def _tied_to(found: nn.Embedding, model: Any) -> Iterator[nn.Embedding]:
    """Yield the other embeddings that share its weight.

    On the meta device no weight is shared yet; there, transformers' own list of tied weights shows
    which embeddings from_pretrained will tie.
    """
    later = {}
    if found.weight.is_meta and hasattr(model, "get_expanded_tied_weights_keys"):
        later = model.get_expanded_tied_weights_keys(all_submodels=True)
    source = {
        part: later.get(f"{path}.weight", f"{path}.weight")
        for path, part in model.named_modules()
        if isinstance(part, nn.Embedding)
    }
    for part in source:
        # the default 0 is never the weight: a parametrized embedding has no parameter "weight"
        same = part._parameters.get("weight", 0) is found.weight or source[part] == source.get(
            found
        )
        if same and part is not found:
            yield part


def _embeddings_to_choose(model: nn.Module) -> str:
    paths = [
        repr(path)
        for path, module in model.named_modules()
        # PEFT's spare copy of a module in modules_to_save is not called
        if isinstance(module, nn.Embedding) and "original_module" not in path.split(".")
    ]
    if not paths:
        return "It has no nn.Embedding at all."
    return f"Name the embedding with module=..., one of {', '.join(paths)}."
