"""Checks of the embedding that an encoder is attached to, and construction of the encoder."""

from __future__ import annotations

import inspect
import types
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from .encoders import ENCODERS
from .errors import AttachError
from .host_forward import check_forward
from .spelling import SpellingTable

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check(host: nn.Embedding) -> None:
    """Raise AttachError if the embedding is not a plain table lookup that charembed can take
    over."""
    if not isinstance(host, nn.Embedding):
        raise AttachError(f"The embedding is a {type(host).__name__}, not an nn.Embedding.")
    kind = type(host).__name__
    if "weight" not in host._parameters or hasattr(host, "parametrizations"):
        raise AttachError(
            f"The embedding is a {kind} with pruned or parametrized tensors, which charembed does "
            "not support. Remove the parametrizations first."
        )
    if hasattr(host, "host_class"):
        raise AttachError(
            "The embedding already has an encoder, which can be used as it is. To replace it, first "
            "call embedding.release(), which discards the encoder."
        )
    if hasattr(host, "encoder"):
        raise AttachError(
            f"The embedding is a {kind} with an attribute encoder, where charembed keeps the "
            "character encoder. Give it another name."
        )
    if host.max_norm is not None:
        raise AttachError(
            f"The embedding has max_norm={host.max_norm}, which changes its weight at each lookup. "
            "Set max_norm to None."
        )
    if host.weight.dtype not in _FLOATS:
        raise AttachError(
            f"The embedding's weight is {host.weight.dtype}; it must be a floating-point table. "
            "Leave the embedding out of quantization."
        )
    if hasattr(host, "_hf_hook"):
        raise AttachError(
            "accelerate has already placed the embedding (device_map). Load the model without "
            "device_map, attach, then dispatch it."
        )
    if (own := vars(host).get("forward")) is not None and own != types.MethodType(
        type(host).forward, host
    ):
        raise AttachError(
            "The embedding's forward was replaced on the instance, and charembed would not call "
            "it. Undo that, or replace it in a subclass."
        )
    if hasattr(host.weight, "device_mesh"):
        raise AttachError(
            "The embedding's weight is already sharded over processes. Attach before FSDP or "
            "tensor parallelism wraps the model."
        )
    check_rows(host)
    # On meta the forward cannot be tried, and a wrong one is not found here.
    if type(host).forward is not nn.Embedding.forward and not host.weight.is_meta:
        check_forward(host)


def check_rows(embedding: nn.Embedding) -> None:
    """Raise AttachError if the weight is not (num_embeddings, embedding_dim)."""
    if tuple(embedding.weight.shape) != (embedding.num_embeddings, embedding.embedding_dim):
        raise AttachError(
            f"The weight has the shape {tuple(embedding.weight.shape)}, but num_embeddings is "
            f"{embedding.num_embeddings} and embedding_dim is {embedding.embedding_dim}. Set both "
            "to the weight's shape."
        )


def check_size(spellings: SpellingTable, host: nn.Embedding) -> None:
    """Raise AttachError if the spellings are not as many as the rows of the embedding."""
    if spellings.num_tokens != host.num_embeddings:
        raise AttachError(
            f"The spelling table has {spellings.num_tokens} tokens, but the embedding has "
            f"{host.num_embeddings} rows. Build the table with num_tokens={host.num_embeddings}."
        )


def encoder_for(
    host: nn.Embedding, name: str, spellings: SpellingTable, arguments: dict[str, Any]
) -> nn.Module:
    """Build a named encoder on the host's device.

    Raises AttachError if the name or an argument is unknown, or if the spellings do not fit.
    """
    if name not in ENCODERS:
        raise AttachError(
            f"encoder is {name!r}; it must be one of {', '.join(ENCODERS)}, or a module."
        )
    known = [
        key
        for key in inspect.signature(ENCODERS[name]).parameters
        if key not in ("spellings", "dim")
    ]
    if "gain" in arguments.keys() - known:
        raise AttachError("attach has no argument 'gain'. It is called scale since version 0.2.")
    if unknown := sorted(arguments.keys() - known):
        raise AttachError(
            f"The encoder {name!r} has no argument {unknown[0]!r}. It takes {', '.join(known)}."
        )
    check_size(spellings, host)
    # An encoder for a host on meta has no values either: they are loaded, or set when the model is
    # materialized. fork_rng: an encoder of the user's own may draw from the global generator.
    device = torch.device("meta") if host.weight.is_meta else nullcontext()
    with torch.random.fork_rng(devices=[]), device:
        made: nn.Module = ENCODERS[name](spellings, host.embedding_dim, **arguments)
    # float32 also if the host has half precision, in which small updates of an LSTM would be lost
    return made.to(host.weight.device, torch.promote_types(host.weight.dtype, torch.float32))
