"""The fixed division of a vocabulary into chunks: each id once, similar spellings together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from charembed import ENCODERS, LSTMEncoder, SpellingTable
from charembed.partition import CHUNK, TOKENS_AT_ONCE, chunk_reader, chunks_of, encode_vocabulary
from tests.plugin.hosts import SMALL

WORDS: list[bytes | None] = [f"{i % 97}{'xyz'[i % 3]}{i}".encode() for i in range(5_000)]
WORDS[7] = WORDS[4_000] = None
TABLE = SpellingTable.from_bytes(WORDS)


class Plain(nn.Module):
    """A user's encoder without spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(6_000, 8)

    def forward(self, ids_U: Tensor) -> Any:
        return self.rows(ids_U)


def encoder(table: SpellingTable = TABLE) -> LSTMEncoder:
    return LSTMEncoder(table, 8, init="normal", **SMALL["lstm"])


@pytest.mark.parametrize("rows", [1, 4_096, 4_097, 4_500, 5_000, 6_000])
@pytest.mark.parametrize("of", [encoder(), Plain()], ids=["spelled", "plain"])
def test_the_chunks_are_a_partition_that_repeats(of: nn.Module, rows: int) -> None:
    chunks, again = chunks_of(of, rows), chunks_of(of, rows)
    assert torch.equal(torch.cat(chunks).sort().values, torch.arange(rows))
    assert all(torch.equal(one, other) for one, other in zip(chunks, again, strict=True))
    assert len(chunks) == (1 if rows <= TOKENS_AT_ONCE else -(-rows // CHUNK))


def test_the_chunks_depend_on_the_spellings_and_not_on_the_weights() -> None:
    first, other = encoder(), LSTMEncoder(TABLE, 16, init="normal", seed=4, char_dim=2)
    twin = encoder(SpellingTable.from_bytes(WORDS))
    for one in (other, twin):
        for ours, theirs in zip(chunks_of(first, 5_000), chunks_of(one, 5_000), strict=True):
            assert torch.equal(ours, theirs)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="abé🍓", max_size=15), min_size=1, max_size=30).filter(any))
def test_a_large_vocabulary_is_in_the_order_of_its_spellings(texts: list[str]) -> None:
    table = SpellingTable.from_bytes([text.encode() or None for text in texts])
    rows = TOKENS_AT_ONCE + len(texts)  # the ids after the spellings have no characters
    ids = [i for i in torch.cat(chunks_of(encoder(table), rows)).tolist() if i < len(texts)]
    assert ids == sorted(range(len(texts)), key=lambda i: (texts[i][:12], i))


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_vectors_of_a_chunk_are_rows_of_the_whole(kind: str) -> None:
    of = ENCODERS[kind](
        SpellingTable.from_bytes(WORDS, getattr(ENCODERS[kind], "unit", "codepoint")),
        8,
        init="normal",
        **SMALL[kind],
    )
    like = torch.zeros(1, dtype=torch.bfloat16)
    whole = encode_vocabulary(of, like, 5_100)
    assert whole.dtype == torch.bfloat16
    assert whole.shape == (5_100, 8)
    assert torch.equal(whole[[7, 4_000, 5_001]], torch.zeros(3, 8, dtype=torch.bfloat16))
    with chunk_reader(of, like) as read:
        for ids_U in reversed(chunks_of(of, 5_100)):
            assert torch.equal(read(ids_U), whole[ids_U])
    torch.testing.assert_close(
        whole[:5_000].float(), of(torch.arange(5_000)).detach(), rtol=1e-2, atol=1e-2
    )
