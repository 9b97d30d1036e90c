"""The embedding that was there before: which ones can be taken over, and their own forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import AttachError


class Bare(nn.Module):
    """The host's own forward without the host's hooks, which are the CharEmbedding's now."""

    def __init__(self, host: nn.Embedding) -> None:
        super().__init__()
        self.host = host

    def forward(self, ids: Tensor) -> Tensor:
        return self.host.forward(ids)


def check(host: nn.Embedding) -> None:
    """Raises AttachError for an embedding that is more, or other, than a table whose rows are looked up."""
    if not isinstance(host, nn.Embedding):
        raise AttachError(f"the embedding is a {type(host).__name__}, not an nn.Embedding.")
    if "weight" not in host._parameters or any(host.children()):
        raise AttachError(f"the embedding is a {type(host).__name__} with modules or parametrizations of its own, which charembed cannot take over.")
    if host.max_norm is not None:
        raise AttachError(f"the embedding has max_norm={host.max_norm}, which rewrites its weight at each look-up; charembed needs max_norm=None.")
    if host.weight.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise AttachError(f"the embedding's weight is {host.weight.dtype}: charembed needs a floating-point table; leave the embedding out of quantization.")
    if hasattr(host, "_hf_hook"):
        raise AttachError("the embedding was already placed by accelerate (device_map): load without device_map, attach, then dispatch the model.")
    if "forward" in vars(host):
        raise AttachError("the embedding's forward was replaced on the instance, which charembed would pass by: undo that, or do it in a subclass.")
    if hasattr(host.weight, "device_mesh"):
        raise AttachError("the embedding's weight is already sharded over processes: attach before FSDP or tensor parallelism wraps the model.")
    if type(host).forward is not nn.Embedding.forward and not host.weight.is_meta and not _is_linear(host):
        raise AttachError(
            f"{type(host).__name__}.forward is not linear in the weight (a bias, a norm, dropout?), so token and letters cannot go through it one by one: "
            f"move that out of the embedding."
        )


def _is_linear(host: nn.Embedding) -> bool:
    """Does forward(a) + forward(b) = forward(a + b) hold? Asked with the dropout of now, and without moving the random state."""
    rows_1D = torch.linspace(-1, 1, host.embedding_dim, device=host.weight.device).to(host.weight.dtype)[None]
    ids = torch.zeros(8, dtype=torch.long, device=host.weight.device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        a, b, both = (
            torch.func.functional_call(Bare(host), {"host.weight": rows.expand(host.num_embeddings, -1)}, (ids,))
            for rows in (rows_1D, 0.5 * rows_1D.flip(1), rows_1D + 0.5 * rows_1D.flip(1))
        )
    return bool(torch.isclose(a + b, both, rtol=2e-2, atol=2e-2 * float(both.abs().max())).all())
