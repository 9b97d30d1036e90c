"""Prompts of several tasks in one loop: shared prefixes, limits and stops of their own."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laboratory.pretrained import gemma2, gpt2, llama
from tests.laboratory.test_respondents import asked_shapes, loud_model
from training.models.generate import SHARED, generate, grouped_by_prefix, num_shared
from training.models.huggingface import HuggingFace


def prompts_of(prefixes: list[tuple[int, int]], seed: int = 0) -> list[list[int]]:
    """Prompts with (length of a prefix, prompts with it), in a random order."""
    draw = random.Random(seed)
    found = []
    for length, number in prefixes:
        prefix = [draw.randrange(50) for _ in range(length)]
        for _ in range(number):
            found.append(prefix + [draw.randrange(50) for _ in range(draw.randint(1, 6))])
    draw.shuffle(found)
    return found


def one_by_one(
    model: Any, prompts: list[list[int]], limits: list[int], stops: list[set[int]], **options: Any
) -> list[list[int]]:
    return [
        generate(model, [prompt], max_new_tokens=limit, stop=stop, **options)[0]
        for prompt, limit, stop in zip(prompts, limits, stops, strict=True)
    ]


MIXTURES = {
    "several prefixes": [(SHARED, 3), (2 * SHARED + 5, 4), (SHARED + 9, 2)],
    "and prompts of their own": [(SHARED + 2, 3), (SHARED + 7, 3), (3, 1), (0, 2), (40, 1)],
    "one prefix": [(30, 9)],
    "no prefix": [(1, 1), (2, 1), (7, 1), (5, 1)],
}


@pytest.mark.parametrize("kind", ["decoder", "llama", "gpt2"])
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("keep_stop", [True, False])
def test_prompts_of_several_tasks_are_answered_as_alone(
    kind: str, mixture: str, keep_stop: bool
) -> None:
    model, prompts = loud_model(kind), prompts_of(MIXTURES[mixture])
    limits = [3 + 5 * (number % 3) for number in range(len(prompts))]
    stops = [{*range(10 * (number % 4), 10 * (number % 4) + 6)} for number in range(len(prompts))]
    together = generate(
        model, prompts, max_new_tokens=limits, stop=stops, context=64, keep_stop=keep_stop
    )
    assert model.joins == (kind in ("llama", "gpt2"))
    alone = one_by_one(model, prompts, limits, stops, context=64, keep_stop=keep_stop)
    assert together == alone
    lengths = set(map(len, together))
    assert len(lengths) > 1, "limits and stops must matter"


def test_each_prefix_is_read_once_and_all_rests_together() -> None:
    model, prompts = loud_model("llama"), prompts_of([(20, 5), (33, 7)])
    assert model.joins
    seen = asked_shapes(model)
    generate(model, prompts, max_new_tokens=2, context=64)
    short = [len(prompt) - 20 for prompt in prompts if len(prompt) < 30]
    long = [len(prompt) - 33 for prompt in prompts if len(prompt) > 30]
    reads = [(1, 20), (5, max(short)), (1, 33), (7, max(long))]
    assert sorted(seen[:4]) == sorted(reads)
    assert seen[4:] == [(12, 1)]


def test_stopped_rows_that_stay_in_the_batch_do_not_leave_the_context() -> None:
    model = loud_model("gpt2")  # 128 learned positions
    prompts = [[7] * 60, *([n, n + 1, n + 2] for n in range(8)), *([n] * 90 for n in range(9))]
    limits = [2, *[38] * 8, *[38] * 9]
    prompts[0] = list(range(50)) * 2 + [1] * 25
    together = generate(model, prompts, max_new_tokens=limits, context=128)
    assert together == one_by_one(model, prompts, limits, [set()] * len(prompts), context=128)


def test_stopped_rows_leave_the_batch_together() -> None:
    model = loud_model("llama")
    prompts = [[number, 3, 5] for number in range(32)]
    seen = asked_shapes(model)
    generate(model, prompts, max_new_tokens=[*range(1, 33)], context=64)
    sizes = [rows for rows, _ in seen][-32:]
    assert sizes[:5] == [32, 32, 32, 32, 28], "an eighth at once"
    assert sizes[-1] == 1


def test_a_model_that_cannot_join_caches_gets_one_prefix_at_most() -> None:
    assert HuggingFace(llama()).joins
    assert HuggingFace(gpt2().eval()).joins
    assert not HuggingFace(gemma2().eval()).joins
    wrong = HuggingFace(llama())
    right = wrong.join

    def twisted(caches: Any) -> Any:
        return right(caches[::-1])

    wrong.join = twisted  # type: ignore[method-assign]
    assert not wrong.joins


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3 * SHARED), st.integers(1, 4)), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_groups_are_a_division_with_true_prefixes(
    prefixes: list[tuple[int, int]], seed: int
) -> None:
    prompts = prompts_of(prefixes, seed)
    groups = grouped_by_prefix(prompts)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(prompts)))
    for rows, shared in groups:
        assert shared == 0 or (len(rows) > 1 and shared >= SHARED)
        assert shared <= num_shared([prompts[row] for row in rows])
    if len(prompts) <= 6:
        assert price(prompts, groups) == min(price(prompts, each) for each in divisions(prompts))


def price(prompts: list[list[int]], groups: Any) -> int:
    """Tokens to encode, and SHARED more for each group with a prefix."""
    return sum(
        sum(len(prompts[row]) - shared for row in rows) + (shared and shared + SHARED)
        for rows, shared in groups
    )


def divisions(prompts: list[list[int]], rows: tuple[int, ...] | None = None) -> Any:
    """Every division of the prompts into groups with their longest prefixes."""
    rows = tuple(range(len(prompts))) if rows is None else rows
    if not rows:
        yield []
        return
    first, others = rows[0], rows[1:]
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            group = [first, *chosen]
            shared = num_shared([prompts[row] for row in group]) if chosen else 0
            if chosen and shared < SHARED:
                continue
            rest = tuple(row for row in others if row not in chosen)
            for others_of in divisions(prompts, rest):
                yield [(group, shared), *others_of]


def test_one_limit_and_one_stop_are_of_all_prompts() -> None:
    model, prompts = loud_model("llama"), prompts_of([(20, 3), (2, 2)])
    options: dict[str, Any] = {"context": 64}
    each = generate(model, prompts, max_new_tokens=[6] * 5, stop=[{1, 2, 3}] * 5, **options)
    assert generate(model, prompts, max_new_tokens=6, stop=[1, 2, 3], **options) == each
    assert torch.is_grad_enabled()
