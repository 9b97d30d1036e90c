"""Which embeddings can be taken over, and which encoders fit them."""

from __future__ import annotations

import inspect
import types
from typing import Any

import torch
from torch import Tensor, nn

from .encoders import ENCODERS
from .errors import AttachError
from .spelling import SpellingTable

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check(host: nn.Embedding) -> None:
    """Raises AttachError for an embedding that is more, or other, than a table whose rows are looked up."""
    if not isinstance(host, nn.Embedding):
        raise AttachError(f"the embedding is a {type(host).__name__}, not an nn.Embedding.")
    kind = type(host).__name__
    if "weight" not in host._parameters or any(host.children()):
        raise AttachError(
            f"the embedding is a {kind} with modules or parametrizations of its own, which charembed cannot "
            "take over."
        )
    if host.max_norm is not None:
        raise AttachError(
            f"the embedding has max_norm={host.max_norm}, which rewrites its weight at each look-up; "
            "charembed needs max_norm=None."
        )
    if host.weight.dtype not in FLOATS:
        raise AttachError(
            f"the embedding's weight is {host.weight.dtype}: charembed needs a floating-point table; leave "
            "the embedding out of quantization."
        )
    if hasattr(host, "_hf_hook"):
        raise AttachError(
            "the embedding was already placed by accelerate (device_map): load without device_map, attach, "
            "then dispatch the model."
        )
    if (own := vars(host).get("forward")) is not None and own != types.MethodType(
        type(host).forward, host
    ):
        raise AttachError(
            "the embedding's forward was replaced on the instance, which charembed would pass by: undo that, "
            "or do it in a subclass."
        )
    if hasattr(host.weight, "device_mesh"):
        raise AttachError(
            "the embedding's weight is already sharded over processes: attach before FSDP or tensor "
            "parallelism wraps the model."
        )
    if (
        type(host).forward is not nn.Embedding.forward
        and not host.weight.is_meta
        and not _is_linear(host)
    ):
        raise AttachError(
            f"{kind}.forward is not linear in the weight (a bias, a norm, dropout?), so token and letters "
            "cannot go through it one by one: move that out of the embedding."
        )


def check_size(spellings: SpellingTable, host: nn.Embedding) -> None:
    """Raises AttachError for spellings of another number of tokens than the embedding has rows."""
    if spellings.num_tokens != host.num_embeddings:
        raise AttachError(
            f"the spelling table has {spellings.num_tokens} tokens, but the embedding has "
            f"{host.num_embeddings} rows: build it with num_tokens={host.num_embeddings}."
        )


def encoder_for(
    host: nn.Embedding, name: str, spellings: SpellingTable, arguments: dict[str, Any]
) -> nn.Module:
    """A new encoder of a named kind, on the host's device. Raises AttachError for what does not fit."""
    if name not in ENCODERS:
        raise AttachError(
            f"there is no encoder {name!r}: choose one of {', '.join(ENCODERS)}, or pass a module."
        )
    known = [
        key
        for key in inspect.signature(ENCODERS[name]).parameters
        if key not in ("spellings", "dim")
    ]
    if "gain" in arguments.keys() - known:
        raise AttachError("attach has no argument 'gain': it is called scale since version 0.2.")
    if unknown := sorted(arguments.keys() - known):
        raise AttachError(
            f"the encoder {name!r} has no argument {unknown[0]!r}: it takes {', '.join(known)}."
        )
    check_size(spellings, host)
    with torch.random.fork_rng(
        devices=[]
    ):  # an encoder of the user's own may draw its first values
        made: nn.Module = ENCODERS[name](spellings, host.embedding_dim, **arguments)
    # float32 even where the host has half precision: small updates of an LSTM would be lost there
    return made.to(host.weight.device, torch.promote_types(host.weight.dtype, torch.float32))


def _is_linear(host: nn.Embedding) -> bool:
    """Does forward(a) + forward(b) = forward(a + b) hold? Asked without moving the random state."""
    a_1D = torch.linspace(-1, 1, host.embedding_dim, device=host.weight.device).to(
        host.weight.dtype
    )[None]
    b_1D = 0.5 * a_1D.flip(1)
    ids = torch.zeros(8, dtype=torch.long, device=host.weight.device)

    def through(row_1D: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(
            host, {"weight": row_1D.expand(host.num_embeddings, -1)}, (ids,)
        )
        return out

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        a, b, both = through(a_1D), through(b_1D), through(a_1D + b_1D)
    return bool(torch.isclose(a + b, both, rtol=2e-2, atol=2e-2 * float(both.abs().max())).all())
