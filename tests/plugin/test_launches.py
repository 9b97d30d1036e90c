"""Kernels of the recurrence: a level of the prefix tree starts few of them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.launches import Launches, of_a_step
from charembed import CharEmbedding, SpellingTable
from tests.plugin.hosts import SMALL


def launches(kind: str, longest: int, bf16: bool) -> int:
    table = SpellingTable.from_bytes([b"abcdefghijklmnopqrstuvwxyz"[:longest], b"z"])
    embedding = CharEmbedding.from_embedding(
        torch.nn.Embedding(2, 16), table, encoder=kind, init="normal", **SMALL[kind]
    )
    return sum(of_a_step(embedding, torch.arange(2)[None], bf16))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_further_character_starts_few_kernels(kind: str, bf16: bool) -> None:
    # a GPU starts each operation by itself, and a step waits for them one after the other
    further = (launches(kind, 24, bf16) - launches(kind, 8, bf16)) / 16
    assert further <= (20 if bf16 else 16)


def test_the_count_leaves_out_views_and_allocations() -> None:
    with Launches() as found:
        rows = torch.empty(4, 4)
        rows[1:].view(12).add_(1).mul(2)
    assert found.found == {"add_": 1, "mul": 1}
