"""reasoning-gym: its items and its own scores equal the package's, of which nothing is run else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS, reasoning_gym
from synthetic_tasks.formats import reasoning_gym_marks as marks
from synthetic_tasks.formats.reasoning_gym_draws import TASKS
from tests.messages import raises
from tests.tasks.test_formats import DATA, WORDS, named, published

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package's own data sets: name -> dataset(seed, size, settings).

    The folders' __init__ files, which import eleven other packages, are passed over.
    """
    before = set(sys.modules)
    root = reasoning_gym._installed()
    for name, folder in (
        ("reasoning_gym", root),
        ("reasoning_gym.algorithmic", root / "algorithmic"),
    ):
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        monkeypatch.setitem(sys.modules, name, importlib.util.module_from_spec(spec))

    def create(task: str, **settings: Any) -> Any:
        module = importlib.import_module(f"reasoning_gym.algorithmic.{task}")
        factory = importlib.import_module("reasoning_gym.factory")
        dataset, config = factory.DATASETS[module.DATASET_NAME]
        return dataset(config=config(**settings))

    yield create
    for name in set(sys.modules) - before:
        del sys.modules[name]


def settings_of(task: str, level: str) -> dict[str, Any]:
    found = getattr(TASKS[task], level)
    return {name: int(value) if value == int(value) else value for name, value in found.items()}


@needs_package
@pytest.mark.parametrize("task", list(TASKS))
def test_the_items_are_the_packages_own(package: Any, task: str) -> None:
    """The published 50 and 250 fresh ones, in both settings; the package's data set has seed 45."""
    for level in ("hard", "easy"):
        settings = settings_of(task, level) if level == "hard" else {}  # easy: its defaults
        theirs = [
            (entry["question"], entry["answer"])
            for entry in package(task, seed=45, size=300, **settings)
        ]
        ours = []
        sources = [("", 50), ("fresh", 250)] if level == "hard" else [("easy", 300)]
        for source, n in sources:
            generate = reasoning_gym.packaged(source, [task])
            assert generate is not None
            (one,) = generate([], n, 0)
            ours += [(item.prompt, item.answer[1:]) for item in one.items]
        assert ours == theirs


@needs_package
@pytest.mark.parametrize("task", list(TASKS))
def test_the_own_score_is_the_packages_own(package: Any, task: str) -> None:
    """Of right answers, of the item's own text, and of damaged answers of both."""
    own_score = TASKS[task].own_score
    rng = Random(task)
    dataset = package(task, seed=45, size=60)
    for entry in dataset:
        right = entry["answer"]
        tried: list[str | None] = [None, "", " ", right, right + "x", right.upper(), f" {right} "]
        tried += [f"1{right}", "12", right[::-1], repr(list(right)), right.replace(",", " ,")]
        tried += [", ".join(sorted(right.split(", "))), " ".join(right.split()[::-1])]
        for _ in range(20):
            letters = list(right)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(letters) + 1)
                letters[at : at + rng.randint(0, 1)] = rng.choice([[], ["e"], [","], [right[0]]])
            tried.append("".join(letters))
        for answer in tried:
            score = own_score(answer, right)
            assert score == dataset.score_answer(answer, entry), (answer, right)
            assert 0 <= score <= 1 + 1e-9  # one sum of fractions is a little above 1
            # an exact match has the whole point
            if answer is not None and TASKS[task].equal(answer, right):
                assert score == 1


def test_half_a_point_for_17_and_a_reversal_that_is_too_long() -> None:
    assert marks.contained("17", "1") == 0.5
    assert marks.by_place("nusx", "nus") == 0.8
    assert marks.by_place("gnideehxx", "gnideeh") == pytest.approx(1)
    assert marks.whole_or_list("['A', 'B']", "AB") == 0.1
    assert marks.whole_or_list("__import__('os').getcwd()", "AB") == 0


@given(
    st.lists(
        st.sampled_from(["<answer>", "</answer>", "<answer", "\n", " ", "x", "<answer>3</answer>"]),
        max_size=9,
    ).map("".join)
)
def test_the_answer_is_between_the_last_tags(text: str) -> None:
    """One tag after the other, as a person would look for them."""
    found, rest = None, text
    while "<answer>" in rest:
        _, _, rest = rest.partition("<answer>")
        if "</answer>" not in rest:
            break
        inside, _, rest = rest.partition("</answer>")
        found = inside.strip()
    assert reasoning_gym.read_answer_tags(text) == found


def test_the_published_items_are_draws_45_to_94_and_fresh_ones_follow() -> None:
    task = published("reasoning_gym")["reasoning_gym/spell_backward"]
    words = [word for word in (DATA / "reasoning_gym/data/words3to10.txt").read_text().split()]
    usable = [word for word in words if word.isalnum() and len(word) >= 5]
    drawn = [Random(i).choice(usable) for i in range(45, 95)]
    assert [named(item.key) for item in task.items] == [[word] for word in drawn]
    assert task.items[0].prompt == f"Backward {{braces}}: {drawn[0]}"
    assert task.prompt_format.system == "Think, then answer.\n<answer>like this</answer>\n"


def test_some_jumbled_words_are_unchanged() -> None:
    task = published("reasoning_gym")["reasoning_gym/letter_jumble"]
    same = total = 0
    for item in task.items:
        (jumbled,) = named(item.key)
        for one, right in zip(jumbled.split(), item.answer.split(), strict=True):
            assert sorted(one) == sorted(right)
            same, total = same + (one == right), total + 1
    assert 0.01 < same / total < 0.1


def test_an_imitation_solves_its_own_questions() -> None:
    tasks = {
        task.name.partition("/")[2]: task
        for task in FORMATS["reasoning_gym"].generate(WORDS, 20, 3)
    }
    assert list(tasks) == list(TASKS)
    for name, task in tasks.items():
        for item in task.items:
            arguments, right = named(item.key), item.answer.strip()
            assert task.is_right(f"<answer>{right}</answer>", item)
            assert not task.is_right(right, item)
            if name == "spell_backward":
                assert right == "".join(reversed(arguments[0]))
            elif name == "letter_counting":
                assert int(right) == sum(letter == arguments[0] for letter in arguments[1])
            elif name == "string_insertion":
                assert right == inserted(arguments[0])
            elif name == "caesar_cipher":
                pairs = zip(arguments[0], right, strict=True)
                moved = {(ord(a) - ord(b)) % 26 for a, b in pairs if b != " "}
                assert len(moved) == 1
            elif name == "palindrome_generation":
                assert sorted(right) == sorted(arguments[0].split(", "))
                assert right == right[::-1]
            elif name == "word_sorting":
                words = sorted(arguments[1].split(", "))
                assert right.split(", ") == (words if arguments[0] == "ascending" else words[::-1])


def inserted(text: str) -> str:
    """Each step by the sentence of the question."""
    if len(text) < 4:
        return text
    row = text[:4]
    steps = {(ord(b) - ord(a)) % 5 for a, b in pairwise(row)}
    if steps == {1}:
        return row + row[0] + inserted(text[4:])
    return text[0] + inserted(text[1:])


def test_other_palindromes_of_the_same_letters_are_right() -> None:
    (task,) = (t for t in FORMATS["reasoning_gym"].generate(WORDS, 5, 0) if "palin" in t.name)
    item = task.items[0]._replace(answer=" abcba")
    assert task.is_right("<answer>bacab</answer>", item)
    assert not task.is_right("<answer>aabbc</answer>", item)
    assert not task.is_right("<answer>abcbaa</answer>", item)


def test_a_name_that_is_no_task_and_a_missing_package_say_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raises(TaskError, "backwards spell_backward"):
        reasoning_gym.packaged("", ["backwards"])
    with raises(TaskError, "newest reasoning_gym=fresh"):
        reasoning_gym.packaged("newest", [])
    assert reasoning_gym.packaged(str(DATA), []) is None
    monkeypatch.setattr(reasoning_gym, "find_spec", lambda name: None)
    with raises(TaskError, "pip install reasoning-gym==0.1.25"):
        reasoning_gym.packaged("", [])
    assert reasoning_gym.packaged("like", []) is not None  # an imitation needs no package


def test_another_version_that_draws_other_items_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reasoning_gym, "_installed", lambda: DATA / "reasoning_gym")
    with raises(TaskError, "spell_backward 0.1.25"):
        reasoning_gym.packaged("", ["spell_backward"])


def test_three_tasks_are_asked_if_none_is_named() -> None:
    generate = reasoning_gym.packaged("like", [])
    assert generate is not None
    names = [f"reasoning_gym-like/{task}" for task in reasoning_gym.PUBLISHED_TASKS]
    assert [task.name for task in generate(WORDS, 2, 0)] == names
