from __future__ import annotations

import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from charembed import LSTMEncoder, SpellingTable
from charembed.prefixes import PrefixTree
from tests.reference import PackedTwin

VOCABULARY = [b"the", b"then", b"there", None, b"a", "naïve 🍓".encode(), b"\xf0\x9f", b"b", b"ab" * 40]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(alphabet="abc", max_size=5).map(str.encode)), min_size=1, max_size=20).filter(any), st.data())
def test_a_plan_spells_exactly_the_tokens_asked_for(spellings: list[bytes | None], draw: st.DataObject) -> None:
    table = SpellingTable.from_bytes(spellings)
    ids = draw.draw(st.lists(st.integers(0, len(spellings) - 1), min_size=1, unique=True))
    plan = PrefixTree.from_spellings(table).plan(torch.tensor(ids))
    texts: list[str] = []
    shorter = [""]
    for chars, parents in zip(plan.chars_N.split(plan.sizes), plan.parents_N.split(plan.sizes), strict=True):
        shorter = [shorter[parent] + chr(table.alphabet[char]) for char, parent in zip(chars.tolist(), parents.tolist(), strict=True)]
        texts += shorter
    wanted = [(spellings[i] or b"").decode() for i in ids]
    assert [["", *texts][node] for node in plan.last_U.tolist()] == wanted
    assert sorted(texts) == sorted({word[:n] for word in wanted for n in range(1, len(word) + 1)})


@pytest.mark.parametrize("init", ["loud", "parent"])
def test_vectors_and_gradients_equal_the_packed_twin(init: str) -> None:
    encoder = LSTMEncoder(SpellingTable.from_bytes(VOCABULARY), 24, char_dim=12, hidden_size=16, init=init)
    twin = PackedTwin(encoder)
    ids = torch.randint(len(VOCABULARY), (3, 7), generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(1))
    distinct, which = torch.unique(ids, return_inverse=True)
    outputs, gradients = [], []
    for output in (encoder(distinct)[which], twin(ids)):
        encoder.zero_grad()
        (output * weights).sum().backward()
        outputs.append(output.detach())
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    assert len(gradients[0]) == len(gradients[1]) == 7
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_pass_gradcheck_in_double_precision() -> None:
    encoder = LSTMEncoder(SpellingTable.from_bytes([b"ab", b"abc", b"b", None]), 3, char_dim=2, hidden_size=3, init="loud").double()
    parameters = tuple(encoder.parameters())
    names = [name for name, _ in encoder.named_parameters()]

    def vectors(*values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(encoder, dict(zip(names, values, strict=True)), (torch.arange(4),))
        return result

    assert torch.autograd.gradcheck(vectors, parameters)


def test_a_token_alone_and_among_others_has_the_same_vector() -> None:
    encoder = LSTMEncoder(SpellingTable.from_bytes(VOCABULARY), 24, init="loud")
    together = encoder(torch.arange(len(VOCABULARY)))
    alone = torch.cat([encoder(torch.tensor([i])) for i in range(len(VOCABULARY))])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_token_without_characters_is_exactly_zero_even_alone() -> None:
    encoder = LSTMEncoder(SpellingTable.from_bytes(VOCABULARY), 24, init="loud")
    nn.init.ones_(encoder.projection.bias)
    assert torch.equal(encoder(torch.tensor([3])), torch.zeros(1, 24))
    assert torch.equal(encoder(torch.tensor([2, 3]))[1], torch.zeros(24))
    assert bool((encoder(torch.tensor([2])) != 0).all())


def test_building_draws_nothing_from_the_global_generator_and_depends_on_the_seed() -> None:
    table = SpellingTable.from_bytes(VOCABULARY)
    before = torch.get_rng_state()
    first, again, other = (LSTMEncoder(table, 8, init="loud", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.lstm.weight_hh_l0, again.lstm.weight_hh_l0)
    assert not torch.equal(first.lstm.weight_hh_l0, other.lstm.weight_hh_l0)


def test_zero_init_contributes_nothing_yet_learns() -> None:
    encoder = LSTMEncoder(SpellingTable.from_bytes(VOCABULARY), 8)
    spelled = encoder(torch.arange(len(VOCABULARY)))
    assert torch.equal(spelled, torch.zeros_like(spelled))
    spelled.sum().backward()
    assert encoder.projection.weight.grad is not None
    assert bool((encoder.projection.weight.grad != 0).any())


def test_the_parents_character_path_has_161408_parameters() -> None:
    table = SpellingTable.from_bytes([character.encode() for character in string.printable])
    assert sum(p.numel() for p in LSTMEncoder(table, 128, init="parent").parameters()) == 161_408


def test_it_learns_to_tell_the_last_letter() -> None:
    words = [f"{a}{b}{c}".encode() for a in "abcd" for b in "abcd" for c in "abcd"]
    encoder = LSTMEncoder(SpellingTable.from_bytes(words), 4, char_dim=8, hidden_size=16, init="loud")
    targets = torch.tensor([word[-1] - ord("a") for word in words])
    seen = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:32]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(encoder(seen), targets[seen]).backward()
        optimizer.step()
    assert (encoder(torch.arange(64)).argmax(1) == targets).float().mean() > 0.95


def test_bf16_autocast_stays_close(table: SpellingTable) -> None:
    encoder = LSTMEncoder(table, 16, init="loud")
    exact = encoder(torch.arange(512))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(torch.arange(512))
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)


def test_an_unknown_init_is_refused() -> None:
    with pytest.raises(ValueError, match="init is 'quiet'; choose one of zero, loud, parent"):
        LSTMEncoder(SpellingTable.from_bytes([b"a"]), 4, init="quiet")
