"""Detection of FSDP, which writes its own values over the weights when it shards them again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .errors import AttachError

# FSDP1 wraps the module; `fully_shard` and `replicate` exchange its class.
_SHARDING = {"FullyShardedDataParallel", "FSDPModule", "ReplicateModule"}
GATHER = (
    "First gather them into an unsharded copy of the model (torch.distributed.checkpoint.state_dict."
    "get_model_state_dict with full_state_dict=True)."
)


def is_sharding(module: nn.Module) -> bool:
    """True for a module of FSDP, whether its weights are sharded or gathered at the moment."""
    return any(kind.__name__ in _SHARDING for kind in type(module).__mro__)


def check_unsharded(model: nn.Module, embedding: nn.Module, *, gathered: bool = False) -> None:
    """Raise AttachError if FSDP manages the weights of an embedding.

    After an evaluation the weights of the root are whole until the next forward pass, so their
    shapes do not show it.

    Arguments:
        model: the model that the user passes; FSDP may have wrapped another one around it.
        embedding: the embedding inside it.
        gathered: if True, the embedding is accepted inside FSDP1's summon_full_params, which
            writes changes back. Default: False.
    """
    inside = set(embedding.modules())
    for part in _sharding_modules(model):
        if part not in inside and embedding not in set(part.modules()):
            continue
        state = getattr(getattr(part, "training_state", None), "name", None)
        if gathered and state == "SUMMON_FULL_PARAMS":
            continue
        raise AttachError(
            f"FSDP ({type(part).__name__}) manages the weights, so they are sharded over "
            f"processes, and a change is lost when they are sharded again. {GATHER}"
        )


def _sharding_modules(model: nn.Module) -> Iterator[nn.Module]:
    yield from filter(is_sharding, model.modules())
    # The user may pass the inner model, which has no reference to its wrapper.
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        fsdp: Any = sys.modules.get("torch.distributed.fsdp")
        bases = [getattr(fsdp, name, None) for name in _SHARDING]
        kinds = {kind for base in bases if base is not None for kind in with_subclasses(base)}
        if kinds:
            yield from (thing for thing in gc.get_objects() if type(thing) in kinds)


def with_subclasses(kind: Any) -> set[Any]:
    """Return a class and all classes that are derived from it."""
    return {kind}.union(*map(with_subclasses, kind.__subclasses__()))
