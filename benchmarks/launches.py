"""Count the operations that start a kernel on a GPU in the character path. Takes seconds, on a CPU.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.launches

A step of a small model on a GPU takes as long as its kernels take to start. Views and allocations
start none and are not counted. A few operations start more than one kernel (`sort`, `_unique2`), so
the number is a lower bound.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import machine
from charembed import CharEmbedding, SpellingTable
from training.data.corpus import load_corpus
from training.data.encodings import published_encoding

# reserve memory, or read a number that the device has computed
NO_KERNEL = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense",
}  # fmt: skip


class Launches(TorchDispatchMode):
    """Count operations by name, without views and allocations.

    with Launches() as launches:
        embedding(ids).sum().backward()
    launches.found.total()

    Works on the CPU, whose operations are those of a GPU except inside fused ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # an operation that returns an alias without writing to it returns a view
        aliases = (each.alias_info for each in func._schema.returns)
        views = any(alias is not None and not alias.is_write for alias in aliases)
        if not views and name not in NO_KERNEL:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def of_a_step(embedding: CharEmbedding, ids_BT: torch.Tensor, bf16: bool) -> tuple[int, int]:
    """The operations of the forward and of the backward."""
    device = ids_BT.device.type
    with Launches() as forward, torch.autocast(device, torch.bfloat16, enabled=bf16):
        vectors = embedding(ids_BT)
    with Launches() as backward:
        vectors.backward(torch.ones_like(vectors))
    return forward.found.total(), backward.found.total()


def main() -> None:
    print(machine())
    gpt2 = published_encoding("gpt2")
    text = load_corpus("sotu").train[1_000_000:1_100_000]
    ids_BT = torch.tensor(gpt2.encode_ordinary(text))[: 4 * 1024].view(4, 1024)
    table = SpellingTable.from_tokenizer(gpt2)
    levels = int(table.lengths_V[ids_BT.unique()].max())
    print(f"{ids_BT.numel()} positions of GPT-2's vocabulary, longest token {levels} characters")
    for kind in ("lstm", "gru"):
        rows = torch.nn.Embedding(table.num_tokens, 768)
        embedding = CharEmbedding.from_embedding(rows, table, encoder=kind, init="normal")
        for bf16 in (False, True):
            forward, backward = of_a_step(embedding, ids_BT, bf16)
            dtype = "bf16 by autocast" if bf16 else "fp32"
            print(f"{kind}, {dtype}: {forward} forward, {backward} backward: {forward + backward}")
            embedding.zero_grad()


if __name__ == "__main__":
    main()
