"""Scores of answers: correct or not, readable or not, letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import Item, Material, build_task, distinct
from synthetic_tasks.formats import BenchmarkTask
from synthetic_tasks.formats import reasoning_gym_marks as marks
from tests.tasks.test_synthetic_tasks import SAMPLES
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import Answer
from training.ask.scores import eval_rows, letters_right, parsed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.text(max_size=12))
def test_no_text_breaks_the_marking(texts: list[str], answer: str) -> None:
    items = [Item(f"q {n}", f" {answer}", f"task {answer} {n}") for n in range(len(texts))]
    exam = EvalSet(BenchmarkTask("any", tuple(items)), "all", items)
    rows = eval_rows([exam], [[Answer(text) for text in texts]], "x", 0)
    right = sum(text.split("\n")[0].strip() == answer.strip() for text in texts)
    assert rows[0].value == right / len(texts)
    for row in rows:
        assert row.n == len(texts)
        assert row.metric.endswith("corrected") or 0 <= row.value <= 1


def test_a_text_without_an_answer_is_told_apart_from_a_wrong_one() -> None:
    items = [Item(f"q{n}", f" {n}", f"q {n}") for n in range(4)]
    exam = EvalSet(BenchmarkTask("numbers", tuple(items)), "all", items)
    answers = [Answer(text) for text in (" 0", " 7\n", " seven", "")]
    assert parsed(exam, answers) == ["0", "7", None, None]
    values = {row.metric: row.value for row in eval_rows([exam], [answers], "x", 0)}
    assert (values["exact_match"], values["unreadable"]) == (0.25, 0.5)
    assert values["exact_match_corrected"] == pytest.approx(0)
    assert "letters_right" not in values


def test_letters_are_compared_place_by_place() -> None:
    assert letters_right("a t t", " a e t") == pytest.approx(2 / 3)
    assert letters_right("aet", " a e t") == 1
    assert letters_right("xaet", "aet") == 0
    assert letters_right(None, "aet") == 0


def test_a_benchmarks_own_score_is_a_mean_beside_exact_match() -> None:
    """reasoning-gym gives "17" half a point if 1 is right, and a text without an answer none."""
    items = [Item(f"q{n}", " 1", f"q {n}") for n in range(4)]
    exam = EvalSet(BenchmarkTask("counts", tuple(items)), "all", items, own_score=marks.contained)
    answers = [Answer(text) for text in (" 1", " 17", " 7", "")]
    rows = {row.metric: row for row in eval_rows([exam], [answers], "x", 0)}
    assert rows["exact_match"].value == 0.25
    own = rows["own_score"]
    assert (own.value, own.n, own.majority) == (0.375, 4, None)
    assert own.low is not None
    assert own.high is not None
    assert 0 <= own.low < 0.375 < own.high <= 1


def test_direct_and_scratchpad_answers_of_one_set_are_scored_apart() -> None:
    task = build_task("count", Material(SAMPLES, "varied"))
    items = distinct(task, "unseen_wordings", 20, "apart")
    with_work = sum(bool(item.work) for item in items)
    assert 0 < with_work < 20
    # A model that always answers directly: right by the form of some questions only.
    answers = [Answer(item.answer) for item in items]
    exam = EvalSet(task, "unseen_wordings", items)
    rows = {row.metric: row for row in eval_rows([exam], [answers], "x", 0, details=False)}
    assert {name: (row.value, row.n) for name, row in rows.items()} == {
        "exact_match": (1 - with_work / 20, 20),
        "direct_exact_match": (1, 20 - with_work),
        "scratchpad_exact_match": (0, with_work),
        "work_exact_match": (0, with_work),
    }
