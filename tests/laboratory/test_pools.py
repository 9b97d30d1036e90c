"""Runs with a mixture of tasks: weights, scratchpad answers, word forms."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from examples import ask, playground
from examples.asking import panel_of
from synthetic_tasks import END, WORD_TASKS, stream
from tests.messages import raises, says
from tests.tasks.test_synthetic_tasks import built
from training.ask.eval_sets import EvalSet, check_cut
from training.ask.evaluated_model import Answer
from training.ask.run_evaluation import answer_lines
from training.ask.scores import eval_rows
from training.config.config import CompareConfig
from training.config.flags import changed
from training.config.presets import preset
from training.data.prepare import Data, prepare
from training.data.questions import Questions, encode_item
from training.errors import BadInput
from training.files import write_record
from training.models.objectives import OBJECTIVES
from training.run.arm import train_arm
from training.run.machine import Machine
from training.run.run import Run


def questions_of(data: Data, *weights: float) -> Questions:
    return Questions(
        tokenizer=data.tokenizer,
        tasks=tuple(built("reverse", "count", "index")),
        weights=weights,
        held_out=frozenset(),
        context=256,
        objective=OBJECTIVES["next_token"],
        dummy=0,
    )


def test_tasks_are_drawn_by_their_weights_and_equal_ones_change_no_draw(data: Data) -> None:
    questions = questions_of(data, 3.0, 1.0, 0.5)
    drawn = Counter(questions.item("w", i)[0].key.split()[0] for i in range(3000))
    assert drawn["reverse"] / 3000 == pytest.approx(3 / 4.5, abs=0.03)
    assert drawn["count"] / 3000 == pytest.approx(1 / 4.5, abs=0.03)
    tasks = built("reverse", "count", "index")
    for weights in ((1.0, 1.0, 1.0), (2.5, 2.5, 2.5)):
        for i in range(50):
            rng = stream("question", "w", i, 0)
            assert questions_of(data, *weights).item("w", i)[0] == rng.choice(tasks).draw(
                "seen", rng
            )


def test_weights_go_from_the_config_to_the_draws_and_not_into_names(
    tiny: CompareConfig, data: Data
) -> None:
    config = changed(tiny, tasks=("reverse*3", "count", "index*0.5", "swap"))
    assert replace(data, config=config).questions().weights == (3.0, 1.0, 0.5, 1.0)
    assert data.questions().weights == (1.0, 1.0, 1.0, 1.0)
    for tasks in (("reverse*2", "reverse"), ("counting", "counting:10x100"), ("swap*2", "swap*3")):
        with raises(BadInput, "once weight"):
            changed(tiny, tasks=tasks)
    with raises(BadInput, "printable word_forms lower"):
        changed(preset("parent"), word_forms="mixed")


WORKED = {
    "tasks": ("count*3", "index", "insert", "longer", "contains"),
    "answer_form": "counted",
    "word_forms": "mixed",
    "finetune_context": 192,
    "arms": ("lstm",),
    "questions": 4,
}


@pytest.fixture(scope="module")
def worked_run(tiny: CompareConfig, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, config = tmp_path_factory.mktemp("runs") / "worked", changed(tiny, **WORKED)
    found = prepare(config, cache)
    assert "with" in str(found.facts["words_left_out"]) or "than" in str(
        found.facts["words_left_out"]
    )
    for task in found.tasks:
        for split in task.splits:
            check_cut(
                found.tokenizer,
                item := task.draw(split.name, stream(0)),
                encode_item(found.tokenizer, item)[0],
            )
    train_arm(Run(folder, found).arm("lstm"), Machine(cache=cache, cpu=True))
    write_record(folder / "config.json", {"config": config.as_dict(), "data": found.facts})
    return folder


def test_a_run_with_work_has_a_row_for_the_result_and_one_for_the_work(
    worked_run: Path, cache: Path
) -> None:
    run = Run.open(worked_run, cache)
    cells = {(row.task, row.split, row.metric) for row in run.rows()}
    splits = ("seen", "unseen_words", "unseen_tokens", "longer_words")
    for task in ("count", "index", "insert", "longer", "contains"):
        for split in splits:
            assert {(task, split, "exact_match"), (task, split, "work_exact_match")} <= cells
    answers = run.answers()
    assert all(" = " in answer["expected"] for answer in answers)
    assert any(not answer["expected"].isascii() for answer in answers), (
        "words with accents are asked about"
    )


def test_the_panel_and_the_page_ask_in_the_form_of_the_run(
    worked_run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    panel = panel_of(str(worked_run), None, cache)
    item = panel.item("insert", "banana", "x 3")
    assert item.written == " b0 a1 n2 a3 n4 a5 = b a n x a n a"
    assert panel.item("insert", "banana", "x3") == item
    assert panel.item("longer", "banana", "tea").answer == " banana"
    for task in panel.tasks:
        drawn = panel.item(task, "banana")
        assert drawn == panel.item(task, "banana")
        assert [answer.right for _, answer in panel.answers(task, drawn)] == [False]
    page = playground.build_app(panel).test_client()
    shown = page.get("/?word=banana&task=insert&letters=x 3").text
    assert "Insert x into banana so that it has index 3, counted from zero." in shown
    says(shown, "<code>")
    says(shown, 'href="/?word=banana&amp;task=insert&amp;letters=y3"')
    says(shown, 'href="/?word=banana&amp;task=insert&amp;letters=x6"')
    refused = page.get("/?word=banana&task=longer&letters=orange")
    assert refused.status_code == 400
    assert "&#39;orange&#39; has 6 letters too" in refused.text
    assert ask.main(["--run", str(worked_run), "--word", "banana", "--cache", str(cache)]) == 0
    says(capsys.readouterr().out, "b0 a1 n2")


def test_marks_of_right_and_half_right_answers_that_show_their_work() -> None:
    (task,) = built("index", form="worked")
    items = [task.draw("seen", stream(i)) for i in range(4)]
    given = [
        items[0].written + END,
        " x =" + items[1].answer,
        items[2].work + " 99" + END,
        items[3].answer,
    ]
    eval_sets, texts = [EvalSet(task, "seen", items)], [[Answer(text) for text in given]]
    rows = eval_rows(eval_sets, texts, "lstm", 0, details=False)
    answers = answer_lines(eval_sets, texts)
    assert [(row.metric, row.value, row.n) for row in rows] == [
        ("exact_match", 0.5, 4),
        ("work_exact_match", 0.5, 4),
    ]
    assert [answer["right"] for answer in answers] == [True, True, False, False]
    assert answers[0]["expected"] == answers[0]["given"] == items[0].written.strip()


def test_a_tokenizer_that_cannot_write_the_work_is_refused(data: Data) -> None:
    class Without(type(data.tokenizer)):  # type: ignore[misc]
        def decode(self, ids: list[int]) -> str:
            return str(super().decode(ids)).replace("=", "")

    (task,) = built("index", form="worked")
    item = task.draw("seen", stream(0))
    tokenizer = Without(data.tokenizer.source)
    with raises(BadInput, "tokenizer = answer_form"):
        check_cut(tokenizer, item, encode_item(tokenizer, item)[0])


def test_the_quick_preset_asks_what_it_asked() -> None:
    config = preset("quick")
    assert (config.data.answer_form, config.data.word_forms) == ("spelled", "lower")
    assert json.loads(json.dumps(config.as_dict()))["data"]["tasks"] == [
        "reverse",
        "count",
        "index",
        "swap",
    ]
    assert replace(config.data, tasks=WORD_TASKS).tasks == WORD_TASKS
