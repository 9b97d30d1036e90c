"""Make the letters part of the ordinary embedding, so that a plain model remains."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .attach import check_releasable
from .embedding import Model, char_embeddings
from .errors import CharEmbedError

Exchanged = tuple[nn.Module, dict[str, nn.Parameter]]  # a module, and what it will hold


def fold(model: Model) -> Model:
    """Write token + spelled into the original embedding, so that a plain model remains; returns the model.

    The result computes, bit for bit, what the model computed in evaluation mode, at no extra cost and without
    charembed. A head that was tied to the embedding keeps the weights it had, as its own parameter, and
    `model.config`, where there is one, says `tie_word_embeddings = False`. transformers then ties nothing at
    all when it loads the model, so every other shared parameter becomes one for each module that holds it.
    (UMT5, Switch and UDOP compute something else by that flag: there it stays, with a warning.) Idempotent.

    Raises CharEmbedError, and changes nothing, when the folded table is not finite, AttachError when FSDP or
    accelerate holds the weights.
    """
    embeddings = list(char_embeddings(model))
    check_releasable(embeddings)
    tables = []
    for embedding in embeddings:
        embedding.check_whole()
        tables.append(embedding.table())
        if len(bad := (~torch.isfinite(tables[-1]).all(dim=1)).nonzero()):
            raise CharEmbedError(
                f"the vector of token {int(bad[0])} is not finite, so nothing was folded: fold an earlier "
                "checkpoint."
            )
    weights = {id(embedding.weight) for embedding in embeddings}
    others = [part for part in model.modules() if part not in embeddings]
    tied = len(embeddings) > 1 or any(
        id(p) in weights for part in others for p in part._parameters.values()
    )
    pairs = zip(embeddings, tables, strict=True)
    exchanged = [_exchange(embedding, embedding.weight, table_VD) for embedding, table_VD in pairs]
    configs = _untied_configs(model) if tied else None
    if configs is not None:
        letters = {part for embedding in embeddings for part in embedding.encoder.modules()}
        exchanged += _own_parameters([part for part in others if part not in letters])
    # nothing has changed so far, and what follows only puts in place what is there
    for module, held in exchanged:
        module._parameters.update(held)
    for part, config in configs or ():
        part.config = config
    for embedding in embeddings:
        embedding.release()
    return model


def _exchange(module: nn.Module, parameter: Tensor, values: Tensor) -> Exchanged:
    """One new parameter, with these values, wherever the module has this one."""
    with torch.inference_mode(False):
        own = nn.Parameter(
            values.detach().clone() if values.is_inference() else values.detach(),
            parameter.requires_grad,
        )
    return module, {name: own for name, held in module._parameters.items() if held is parameter}


def _own_parameters(parts: list[nn.Module]) -> Iterator[Exchanged]:
    """A parameter of its own for each module but the first of those that share one."""
    holders: defaultdict[int, list[tuple[nn.Module, nn.Parameter]]] = defaultdict(list)
    for part in parts:
        for parameter in {
            parameter for parameter in part._parameters.values() if parameter is not None
        }:
            holders[id(parameter)].append((part, parameter))
    for _, *shared in holders.values():
        for part, parameter in shared:
            yield _exchange(part, parameter, parameter.detach().clone())


def _untied_configs(model: nn.Module) -> list[tuple[nn.Module, Any]] | None:
    """Copies of the configs, which others may share, that say tie_word_embeddings = False, each with the
    module whose it is; None where no config says True, or one has to."""
    parts = [
        (part, part.config) for part in model.modules() if getattr(part, "config", None) is not None
    ]
    if not any(_ties(config) for _, config in parts):
        return None
    if reads := next((part for part, _ in parts if _reads_whether_tied(part)), None):
        warnings.warn(
            f"{type(reads).__name__} computes something else where config.tie_word_embeddings is False, so "
            "it stays True: from_pretrained keeps embedding and head apart because their values differ, but "
            "tie_weights() and resize_token_embeddings() would tie them again.",
            stacklevel=3,
        )
        return None
    copies: dict[
        int, Any
    ] = {}  # one memo: configs within configs stay the objects that submodules hold
    # a wrapper answers with the config of what it wraps
    mine = [(part, copy.deepcopy(config, copies), "config" in vars(part)) for part, config in parts]
    for config in filter(_ties, copies.values()):
        object.__setattr__(config, "tie_word_embeddings", False)
    return [(part, config) for part, config, own in mine if own]


def _reads_whether_tied(part: nn.Module) -> bool:
    """Does its forward ask the flag, as UMT5's does, which scales what goes into a tied head?"""
    code = getattr(inspect.unwrap(type(part).forward), "__code__", None)
    return code is not None and "tie_word_embeddings" in code.co_names


def _ties(config: Any) -> bool:
    return getattr(config, "tie_word_embeddings", False) is True
