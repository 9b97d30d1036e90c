"""The word that a question is about, and the place of the letter in question."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from synthetic_tasks import WORD_TASKS, Item, Material, Subject, build_task, one_list
from synthetic_tasks.formats import FORMATS, BenchmarkTask, cute
from synthetic_tasks.task import Task
from tests.tasks.excerpts import excerpt
from tests.tasks.reference_formats import PLACES
from tests.tasks.test_formats import DATA, WORDS, made, named, published


def only_letter(word: str, letters: Sequence[str]) -> int | None:
    """The slow twin: the first place of the only letter of the word that is named."""
    found = [letter for letter in letters if word.find(letter) >= 0]
    return word.find(found[0]) if len(found) == 1 else None


# Name of a task without its format -> the subject, from the arguments of the question in order.
def twin(task: str, given: Sequence[str]) -> Subject | None:
    task = task.removesuffix("_rand")
    if task.endswith("_word"):
        return None  # a sentence
    if task == "spell_inverse":
        return Subject("".join(given[0].split(" ")))
    if task in ("spell", "orth", "sem", "SimpleSpelling", "count_unique_chars", "reverse"):
        return Subject(given[0])
    if task == "index":
        place = PLACES.index(given[1]) if given[1] in PLACES else int(given[1])
        return Subject(given[0], place)
    if task == "find_last_occurrence":
        return Subject(given[0], len(given[0]) - 1 - given[0][::-1].find(given[1]))
    if task == "count":  # Spelling Bee's letters are capitals
        return Subject(given[0], only_letter(given[0], [given[1].lower()]))
    if task.endswith("_char"):  # the word is last
        return Subject(given[-1], only_letter(given[-1], given[:-1]))
    return Subject(given[0], only_letter(given[0], given[1:]))


@pytest.mark.parametrize("name", ["cute", "cute-hub", "charbench", "nanochat", "spelling_bee"])
def test_the_subject_of_a_benchmarks_item_is_its_word(name: str) -> None:
    for task in [*published(name).values(), *made(name)]:
        for item in task.items:
            assert task.subject(item) == twin(task.name.partition("/")[2], named(item.key))


def test_one_task_of_reasoning_gym_is_about_a_word() -> None:
    for task in [*published("reasoning_gym").values(), *made("reasoning_gym")]:
        for item in task.items:
            is_word = task.name.endswith("/spell_backward")
            assert task.subject(item) == (Subject(named(item.key)[0]) if is_word else None)


def test_the_subject_of_strawberry_bench_ignores_case_and_sentences_have_none() -> None:
    for task in [*published("strawberry_bench").values(), *made("strawberry_bench")]:
        for item in task.items:
            letter, text = named(item.key)
            subject = None if " " in text else Subject(text, only_letter(text.lower(), [letter]))
            assert task.subject(item) == subject


def test_the_subject_of_execute_is_that_of_cute() -> None:
    for task in [*published("execute").values(), *made("execute")]:
        for item in task.items:
            assert task.subject(item) == twin(task.name.rpartition("/")[2], named(item.key))


def test_questions_about_several_words_have_no_subject() -> None:
    tasks: list[BenchmarkTask] = [*published("langgame").values(), *made("langgame")]
    tasks += [published("cute")[f"cute/{task}"] for task in cute.TASKS if task.endswith("_word")]
    assert {task.subject(item) for task in tasks for item in task.items} == {None}
    assert BenchmarkTask("own", (Item("a b", " c", "own\ta\tb"),)).subject(
        Item("a b", " c", "own\ta\tb")
    ) is None  # fmt: skip
    assert Task.subject(build_task("path_star:2x5", Material()), Item("", "", "")) is None


def test_a_row_of_spelling_bee_without_metadata_has_no_subject(tmp_path: Path) -> None:
    form = FORMATS["spelling_bee"]
    tables = form.load(DATA / "spelling_bee")
    rows = [row | {"metadata": ""} for row in tables["spelling_bee.jsonl"]]
    for task in form.read(tables | {"spelling_bee.jsonl": rows}):
        assert {task.subject(item) for item in task.items} == {None}


@pytest.mark.parametrize("name", WORD_TASKS)
def test_the_subject_of_a_word_tasks_item_is_the_last_word_of_its_key(name: str) -> None:
    task = build_task(name, Material(one_list(tuple(WORDS))))
    for seed in range(20):
        item = task.draw("seen", Random(seed))
        _, *arguments, word = item.key.split()
        places = {
            "first_letter": 0,
            "last_letter": len(word) - 1,
            "nth_letter": int(arguments[0]) if name == "nth_letter" else None,
            "last_index": word.rfind(arguments[0]) if arguments else None,
            "insert": None,
            "exchange": None,
        }
        expected = places[name] if name in places else only_letter(word, arguments)
        assert task.subject(item) == Subject(word, expected)


# The excerpts


def test_subjects_of_the_real_files_of_cute() -> None:
    data = excerpt("cute_repo/data")
    tables = FORMATS["cute"].load(data) | {
        "prompts.py": FORMATS["cute"].load(DATA / "cute")["prompts.py"]
    }
    tasks = FORMATS["cute"].read(tables)
    assert len(tasks) == 21
    for task in tasks:
        name = task.name.partition("/")[2]
        with (data / f"{name}.tsv").open(newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))[1:]
        for item, (*given, _) in zip(task.items, rows, strict=True):
            assert task.subject(item) == twin(name, given)


def test_subjects_of_the_real_file_of_spelling_bee() -> None:
    path = excerpt("spelling_bee/spelling_bee.jsonl")
    form = FORMATS["spelling_bee"]
    yaml = form.load(DATA / "spelling_bee")["spelling_bee.yaml"]
    found = {
        item.prompt: task.subject(item)
        for task in form.read(form.load(path) | {"spelling_bee.yaml": yaml})
        for item in task.items
    }
    for row in map(json.loads, path.read_text().splitlines()):
        subject = next(subject for prompt, subject in found.items() if row["input"] in prompt)
        known = row["metadata"]
        place = known.get("index", only_letter(known["word"], known.get("char", "").lower() or []))
        assert subject == Subject(known["word"], place)
