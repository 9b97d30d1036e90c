"""StrawberryBench: its items are drawn as its program draws them, and its rule finds the count."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS, as_rows, strawberry_bench
from tests.conftest import ROOT
from tests.messages import raises
from tests.tasks.test_formats import DATA, named, published

FOLDER = DATA / "strawberry_bench"
EXCERPT = ROOT.parent / "shared" / "formats" / "strawberry_bench" / "items.jsonl"
WORDS = ["zero", "one", "two", "three", "Twenty", "ten", "eleven", "none", "stone", "one1"]
PIECES = [*WORDS, "ANSWER:", "answer :", "ANSWER", "3", "12", "007", "٣", "²", "x3", ".", "-", " "]


def count_of(text: str) -> str | None:
    """The rule, character by character: a number after ANSWER:, a lone number, a number word."""
    for start in range(len(text)):
        if text[start : start + 6].lower() != "answer":
            continue
        rest = text[start + 6 :].lstrip()
        if rest.startswith(":") and (digits := leading(rest[1:].lstrip())):
            return str(int(digits))
    tokens = split_words(text)
    for token in tokens:
        if token and all(letter.isdecimal() for letter in token):
            return str(int(token))
    for number, word in enumerate(strawberry_bench._NUMBER_WORDS):
        if word in [token.lower() for token in tokens]:
            return str(number)
    return None


def leading(text: str) -> str:
    digits = ""
    for letter in text:
        if not letter.isdecimal():
            break
        digits += letter
    return digits


def split_words(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    marked = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in text)
    return marked.split(" ")


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("2, no, ANSWER: 3")
@example("two or one")
@example("There are 3 r's, not two")
@example("ANSWER: three, 2")
@example("3rd of 4")
def test_the_count_is_found_by_the_rule(text: str) -> None:
    assert strawberry_bench.count_in(text) == count_of(text)


def test_a_number_that_python_does_not_convert_is_no_answer() -> None:
    assert strawberry_bench.count_in("9" * 5000) is None


def test_the_items_are_drawn_as_its_program_draws_them() -> None:
    """One call of the generator after the other, written out."""
    program: dict[str, object] = {}
    exec((FOLDER / "data" / "generate_dataset.py").read_text("utf-8"), program)
    kinds = [
        ("easy", "EASY_WORDS", "TEMPLATES", 4),
        ("medium", "MEDIUM_WORDS", "TEMPLATES", 4),
        ("hard", "HARD_WORDS", "TEMPLATES", 4),
        ("sentence", "SENTENCES", "SENTENCE_TEMPLATES", 4),
        ("paragraph", "PARAGRAPHS", "PARAGRAPH_TEMPLATES", 5),
        ("names", "NAMES", "NAME_TEMPLATES", 4),
        ("foreign", "NON_ENGLISH_WORDS", "FOREIGN_TEMPLATES", 4),
    ]
    rng = random.Random(7)
    expected = []
    for kind, texts, templates, most in kinds:
        for text in program[texts]:  # type: ignore[attr-defined]
            word, language = (text, "") if isinstance(text, str) else text
            letters = sorted({letter for letter in word.lower() if letter != " "})
            for letter in rng.sample(letters, min(most, len(letters))):
                template = rng.choice(program[templates])  # type: ignore[arg-type]
                expected.append((kind, word, letter, template, language))
            if rng.random() < 0.45:
                template = rng.choice(program[templates])  # type: ignore[arg-type]
                first = next(c for c in "abcdefghijklmnopqrstuvwxyz" if c not in letters)
                expected.append((kind, word, first, template, language))
    rng.shuffle(expected)
    tasks = published("strawberry_bench")
    assert list(tasks) == [f"strawberry_bench/{kind}" for kind, *_ in kinds]
    for kind, *_ in kinds:
        task = tasks[f"strawberry_bench/{kind}"]
        assert task.prompt_format.system == "Count. Write a number."
        assert [(item.prompt, item.answer, named(item.key)) for item in task.items] == [
            (
                template.format(letter=letter, word=word, language=language),
                f" {sum(c == letter for c in word.lower())}",
                [letter, word],
            )
            for its_kind, word, letter, template, language in expected
            if its_kind == kind
        ]
    assert any(item.answer == " 0" for task in tasks.values() for item in task.items)


def test_the_hubs_rows_are_the_same_questions_without_the_system_message() -> None:
    ours = published("strawberry_bench")["strawberry_bench/easy"]
    rows = as_rows(
        {
            "id": "sb_1", "word": named(item.key)[1], "letter": named(item.key)[0],
            "question": item.prompt, "answer": int(item.answer), "difficulty": "easy",
            "zero_count": False,
        }
        for item in ours.items
    )  # fmt: skip
    (task,) = FORMATS["strawberry_bench"].read({"test": rows})
    assert task.name == "strawberry_bench-like/easy"  # another prompt
    assert [item.prompt for item in task.items] == [item.prompt for item in ours.items]
    both = FORMATS["strawberry_bench"].load(FOLDER / "prompts.py") | {"dataset.jsonl": rows}
    (task,) = FORMATS["strawberry_bench"].read(both)
    assert (task.name, task.items) == ("strawberry_bench/easy", ours.items)
    with raises(TaskError, "tough easy"):
        FORMATS["strawberry_bench"].read({"test": [rows[0] | {"difficulty": "tough"}]})
    with raises(TaskError, "generate_dataset.py"):
        FORMATS["strawberry_bench"].read(FORMATS["strawberry_bench"].load(FOLDER / "prompts.py"))


@pytest.mark.skipif(not EXCERPT.exists(), reason="the excerpts lie beside the checkout")
def test_the_excerpts_counts_are_those_of_the_rule() -> None:
    rows = [json.loads(line) for line in Path(EXCERPT).read_text("utf-8").splitlines()]
    assert len(rows) >= 20
    for row in rows:
        assert row["difficulty"] in strawberry_bench.TASKS
        assert strawberry_bench._solve(row["word"], row["letter"]) == str(row["expected"])
        assert strawberry_bench.count_in(f"ANSWER: {row['expected']}") == str(row["expected"])


@pytest.mark.parametrize("answer", ["three", "3.0", "", None, "[3]"])
def test_a_row_whose_answer_is_no_count_is_refused(answer: str | None) -> None:
    """No text would be right: the rule reads whole numbers."""
    row = {"difficulty": "easy", "word": "tea", "letter": "e", "question": "?"}
    form = FORMATS["strawberry_bench"]
    for good in (1, "1", " 01"):
        (task,) = form.read({"test": as_rows([row | {"answer": good}])})
        assert task.is_right("ANSWER: 1", task.items[0])
    rows = as_rows([row | {"answer": 1}, row | {"answer": answer}])
    with raises(TaskError, "row 2 test whole"):
        form.read({"test": rows})
