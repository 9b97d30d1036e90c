"""Tasks without words: counting to n and path-star graphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import END, Item, stream
from synthetic_tasks.draws import is_held_out
from synthetic_tasks.sequences.names import NAMES
from tests.tasks import reference_tasks
from tests.tasks.test_synthetic_tasks import built, seeds
from training.data.encodings import published_encoding


@settings(deadline=None)
@given(seed=seeds, m=st.integers(2, 30), more=st.integers(0, 60), most=st.booleans())
def test_counts_equal_the_slow_twin(seed: int, m: int, more: int, most: bool) -> None:
    n = max(m + more, 10)
    (task,) = built(f"{'counting_mfc' if most else 'counting'}:{m}x{n}")
    for split, length in (("seen", n), ("fresh", n), ("longer", n + (n + 1) // 2)):
        item = task.draw(split, Random(seed))
        assert item.answer == reference_tasks.solve_counting(item.prompt)
        opening, symbols = " ".join(item.prompt.split()[:-length]), item.prompt.split()[-length:]
        assert opening == ("most frequent" if most else "counting")
        beginnings = (" ".join([opening, *symbols[: k + 1]]) for k in range(length))
        assert item.running == tuple(map(reference_tasks.solve_counting, beginnings))
        assert set(symbols) <= set(NAMES[:m])


@settings(deadline=None)
@given(
    seed=seeds, num_arms=st.integers(2, 7), arm_length=st.integers(2, 15), names=st.integers(0, 151)
)
def test_paths_equal_the_slow_twin(seed: int, num_arms: int, arm_length: int, names: int) -> None:
    least = max(14, 1 + num_arms * arm_length, 1 + (num_arms + 1) * (arm_length - 1))
    (task,) = built(f"path_star:{num_arms}x{arm_length}" + (f"x{names}" if names >= least else ""))
    sizes = {"seen": (num_arms, arm_length), "fresh": (num_arms, arm_length)}
    sizes |= {"longer_arms": (num_arms, arm_length + 1), "more_arms": (num_arms + 1, arm_length)}
    assert [split.name for split in task.splits] == list(sizes)
    for split, (arms, nodes) in sizes.items():
        item = task.draw(split, Random(seed))
        assert item.answer == reference_tasks.solve_path(item.prompt)
        assert len(item.answer.split()) == nodes
        edges = [
            edge.split() for edge in item.prompt.removeprefix("path ").split(";")[0].split(", ")
        ]
        assert len(edges) == arms * (nodes - 1)
        assert {node for edge in edges for node in edge} <= set(
            NAMES[: names if names >= least else None]
        )
        heads = [head for _, head in edges]
        assert len(set(heads)) == len(heads)
        assert Counter(tail for tail, _ in edges)[item.answer.split()[0]] == arms


def test_graphs_of_few_names_use_them_all_and_those_of_fifty_are_drawn_as_ever() -> None:
    (task,) = built("path_star:2x5x13")
    met = {node for i in range(200) for node in task.draw("fresh", stream(i)).answer.split()}
    assert met == set(NAMES[:13])
    (task,) = built("path_star:2x5")
    assert task.draw("seen", stream("as ever")) == Item(
        "path j o, v V, o ad, y M, v R, M K, R y, V j; v ad:",
        " v V j o ad",
        "path v R y M K; v V j o ad: ad",
    )


def test_the_edges_say_nothing_of_the_goal_by_their_order() -> None:
    """Each of the places in the list is equally often that of the edge to take first."""
    (task,) = built("path_star:2x3")
    places: Counter[int] = Counter()
    for i in range(4000):
        item = task.draw("seen", stream(i))
        edges = item.prompt.removeprefix("path ").split(";")[0].split(", ")
        places[edges.index(" ".join(item.answer.split()[:2]))] += 1
    assert set(places) == {0, 1, 2, 3}
    assert all(900 < count < 1100 for count in places.values()), places


def test_new_graphs_and_new_sequences_are_never_those_of_training() -> None:
    """The sizes are so small that training draws nearly all items."""
    (task,) = built("path_star:2x2")
    seen = {item.key for item in (task.draw("seen", stream("t", i)) for i in range(200_000))}
    fresh = {item.key for item in (task.draw("fresh", stream("f", i)) for i in range(2000))}
    graphs = {key.split(":")[0] for key in seen}
    assert len(graphs) > 0.8 * 58_800 * 7 / 8
    assert graphs.isdisjoint(key.split(":")[0] for key in fresh)
    for spec in ("counting:2x10", "counting_mfc:2x10"):
        (task,) = built(spec)
        sequences = {
            split: {task.draw(split, stream(split, i)).prompt for i in range(8000)}
            for split in ("seen", "fresh")
        }
        assert sequences["seen"].isdisjoint(sequences["fresh"])
        assert len(sequences["fresh"]) > 50


def test_an_eighth_is_held_out() -> None:
    assert sum(is_held_out(f"{i} {i * i}") for i in range(8000)) == pytest.approx(1000, abs=120)


def test_counts_are_balanced() -> None:
    for spec, answers in (
        ("counting:10x100", 20),
        ("counting_mfc:10x100", 11),
        ("counting:4x12", 6),
    ):
        (task,) = built(spec)
        counts = Counter(task.draw("seen", stream(i)).answer for i in range(6000))
        assert len(counts) == answers
        assert max(counts.values()) < 1.25 * 6000 / answers


def test_each_name_is_one_token_of_the_published_vocabularies(cache: Path) -> None:
    assert len(set(NAMES)) == len(NAMES)
    for name in ("gpt2", "cl100k_base"):
        encoding = published_encoding(name, cache)
        assert all(len(encoding.encode_ordinary(" " + node)) == 1 for node in NAMES)
        (task,) = built("path_star:2x5")
        item = task.draw("seen", Random(0))
        prompt, answer = (
            encoding.encode_ordinary(item.prompt),
            encoding.encode_ordinary(item.answer + END),
        )
        assert (
            len(prompt) == 1 + 8 * 3 + 3
        )  # the word, eight edges with comma or semicolon, start, goal, colon
        assert len(answer) == 5 + 1
        assert encoding.encode_ordinary(item.text) == prompt + answer


def test_a_first_step_is_right_whatever_follows_it() -> None:
    (task,) = built("path_star:2x5")
    item = Item("path j o, v V, o ad, y M, v R, M K, R y, V j; v ad:", " v V j o ad", "")
    for written, right in (
        (" v V j o ad", True), ("v V", True), ("v V y M K", True), ("v R y M K", False), ("", False),
        ("V j o ad", False), ("v", False),
    ):  # fmt: skip
        assert task.parts(written, item) == {"first_step": right}
