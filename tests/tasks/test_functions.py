"""Functions in context: the task against a slow twin, its splits, its baselines."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import Item, stream
from synthetic_tasks.draws import is_held_out
from synthetic_tasks.errors import TaskError
from tests.messages import raises
from tests.tasks.reference_tasks import MIXTURE, solve_functions
from tests.tasks.test_synthetic_tasks import built

INSIDE = [(name,) for family in MIXTURE for name in family]
COMPOSED = [
    (one, other)
    for first in MIXTURE
    for second in MIXTURE
    if first is not second
    for one in first
    for other in second
]
PROGRAMS = {
    "seen": INSIDE, "fresh": INSIDE, "longer": INSIDE, "held_out_family": [("neighbours",)],
    "composed": COMPOSED,
}  # fmt: skip


def strings(item: Item) -> list[str]:
    """All inputs; the last one is the question's."""
    *examples, last = item.prompt.removeprefix("examples ").removesuffix(":").split("; ")
    return [*(example.split(" > ")[0] for example in examples), last]


@settings(deadline=None, max_examples=400)
@given(seed=st.integers(0, 2**32), examples=st.integers(0, 5), longest=st.integers(3, 8))
def test_answers_are_among_those_of_the_slow_twin(seed: int, examples: int, longest: int) -> None:
    (task,) = built(f"functions:{examples}x{longest}")
    assert [split.name for split in task.splits] == [
        "seen",
        "fresh",
        "held_out_family",
        "composed",
        "longer",
    ]
    for split, programs in PROGRAMS.items():
        item = task.draw(split, Random(seed))
        assert item.answer in solve_functions(item.prompt, programs)
        inside = solve_functions(item.prompt, INSIDE)
        if split in ("held_out_family", "composed"):
            assert item.answer not in inside, "no function of the mixture explains it"
            assert not any(task.parts(item.answer, item).values()) or examples
        lengths = {len(string.split()) for string in strings(item)} | {len(item.answer.split())}
        assert len(lengths) == 1
        low, high = (longest + 1, longest + 2) if split == "longer" else (3, longest)
        assert low <= lengths.pop() <= high
        assert len(strings(item)) == examples + 1


def test_four_thousand_items_inside_the_mixture_have_one_answer_and_it_is_right() -> None:
    (task,) = built("functions:2x5")
    for i in range(4000):
        item = task.draw("fresh", stream("oracle", i))
        assert solve_functions(item.prompt, INSIDE) == {item.answer}
        assert task.parts(item.answer, item) == {"of_the_mixture": True}


def test_of_the_mixture_is_what_a_wrong_choice_among_trained_functions_says() -> None:
    (task,) = built("functions:1x3")
    item = Item("examples a b c > b a c; d e f:", " e d f", "")
    for answer in ("f e d", "e f d", "f d e", "e f g", "D E F", "d d d"):
        assert task.parts(answer, item) == {"of_the_mixture": True}
    for answer in ("e d f", "d e f", "", "f e", "F E D"):
        assert task.parts(answer, item) == {"of_the_mixture": False}


def test_training_never_has_a_string_that_is_asked_about() -> None:
    """The length is so short that training contains most strings."""
    (task,) = built("functions:1x3")
    trained = {
        string for i in range(12_000) for string in strings(task.draw("seen", stream("t", i)))
    }
    assert len(trained) > 0.9 * 16 * 15 * 14 * 7 / 8
    assert not any(map(is_held_out, trained))
    for split in ("fresh", "held_out_family", "composed"):
        last = {strings(task.draw(split, stream(split, i)))[-1] for i in range(500)}
        assert last.isdisjoint(trained)
        assert len(last) > 150


def test_families_are_drawn_alike_and_neither_copying_nor_a_constant_helps() -> None:
    (task,) = built("functions:1x4")
    items = [task.draw("fresh", stream("families", i)) for i in range(3000)]
    families: Counter[int] = Counter()
    for item in items:
        assert item.answer.split() != strings(item)[-1].split()
        (family,) = [
            number
            for number, names in enumerate(MIXTURE)
            if item.answer in solve_functions(item.prompt, [(name,) for name in names])
        ]
        families[family] += 1
    assert sorted(families) == [0, 1, 2, 3, 4]
    assert all(500 < count < 700 for count in families.values()), families
    assert task.baseline(items) < 0.02


@pytest.mark.parametrize("sizes", ["17", "2x2", "2x13", "x", "2x4x6", "-1"])
def test_sizes_that_cannot_be_are_named_with_the_way_out(sizes: str) -> None:
    with raises(TaskError, f"functions:{sizes}"):
        built(f"functions:{sizes}")


def test_three_spellings_name_one_task() -> None:
    assert [task.name for task in built("functions", "functions:2", "functions:2x4")] == [
        "functions:2x4"
    ] * 3
