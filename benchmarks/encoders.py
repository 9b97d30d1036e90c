"""Measure each encoder on GPT-2's vocabulary: forward and backward of the character path alone.

Takes two minutes.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.encoders

Beside the time, the table gives the number of parameters at the default sizes and the memory held
between forward and backward.
"""

from __future__ import annotations

import torch

import charembed
from benchmarks.measure import interleaved, machine, show
from benchmarks.wrapping import CACHE, running_text
from charembed import SpellingTable
from charembed.tokenizers import token_bytes
from training.data.encodings import published_encoding

WIDTH = 768


def main() -> None:
    print(machine())
    ids_U = running_text().unique()
    spellings = token_bytes(published_encoding("gpt2", CACHE))
    tables = {unit: SpellingTable.from_bytes(spellings, unit) for unit in ("codepoint", "byte")}
    gradient_UD, steps = torch.randn(len(ids_U), WIDTH), {}
    for name, kind in charembed.ENCODERS.items():
        encoder = kind(tables[kind.unit], WIDTH, init="normal")
        held: set[tuple[int, int]] = set()

        def keep(tensor: torch.Tensor, held: set[tuple[int, int]] = held) -> torch.Tensor:
            held.add((tensor.data_ptr(), tensor.untyped_storage().nbytes()))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encoder(ids_U).backward(gradient_UD)

        def step(encoder: torch.nn.Module = encoder) -> None:
            encoder.zero_grad()
            encoder(ids_U).backward(gradient_UD)

        steps[name] = step
        size = sum(parameter.numel() for parameter in encoder.parameters())
        print(
            f"{name}: {size:,} parameters, {sum(n for _, n in held) / 2**20:.0f} MiB held for the backward"
        )
    show(f"{len(ids_U)} distinct tokens, forward + backward", interleaved(steps), "lstm")


if __name__ == "__main__":
    main()
