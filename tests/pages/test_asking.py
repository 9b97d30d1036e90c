"""Models for questions about words, and facts about a word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from examples.asking import Panel, first_word, panel_of, suggestions
from tests.messages import raises
from tests.pages.panels import run_in
from training.config.config import CompareConfig
from training.config.flags import changed
from training.data.prepare import Data, prepare
from training.errors import BadInput, Damaged
from training.files import write_record
from training.run.arm import train_arm
from training.run.folder import read_config
from training.run.machine import Machine
from training.run.run import Run


def test_the_panel_says_what_the_arms_said_in_their_exam(panel: Panel, half_run: Path) -> None:
    for arm in panel.models:
        recorded = (half_run / "seed0" / arm / "answers.jsonl").read_text().splitlines()
        for row in map(json.loads, recorded[::5]):
            task, *letters, word = row["prompt"].removesuffix(":").split()
            item = panel.item(task, word, "".join(letters))
            answer = dict(panel.answers(task, item))[arm]
            assert (item.prompt, answer.right) == (row["prompt"], row["right"])
            shorter, longer = sorted(
                (row["given"], answer.text), key=len
            )  # both are stopped somewhere
            assert longer.startswith(shorter)


@pytest.mark.parametrize("wording", ["compact", "sentences"])
def test_a_rival_with_prompts_of_its_own_is_asked_in_these(
    tiny: CompareConfig, cache: Path, tmp_path: Path, wording: str
) -> None:
    arms = ("plain", "spelled_prompt")
    config = changed(tiny, arms=arms, wording=wording, finetune_context=160, questions=2)
    run = Run(tmp_path, prepare(config, cache))
    for name in arms:
        train_arm(run.arm(name, 0), Machine(cache=cache, cpu=True))
    write_record(tmp_path / "config.json", {"config": config.as_dict(), "data": run.data.facts})
    panel = panel_of(str(tmp_path), None, cache)
    for letters in ("", "n"):
        item = panel.item("count", "banana", letters)
        own = panel.item_for("spelled_prompt", "count", item)
        assert panel.item_for("plain", "count", item) == item
        assert own.prompt == item.prompt.replace("banana", "banana b a n a n a")
        assert (own.key, own.answer) == (item.key, item.answer)
    recorded = run.arm("spelled_prompt", 0).answers()[::5]
    for row in recorded if wording == "compact" else ():
        task, *rest, word = row["key"].split()
        item = panel.item(task, word, "".join(rest))
        assert panel.item_for("spelled_prompt", task, item).prompt == row["prompt"]
        assert dict(panel.answers(task, item))["spelled_prompt"].right == row["right"]


@pytest.mark.parametrize(
    ("wrote", "word"),
    [
        (" ananab, which is", "ananab"),
        (" a n a n a b is", "ananab"),
        (": a-n-a-n-a-b.", "ananab"),
        ("  3.", "3"),
        (" ?!", ""),
        ("", ""),
    ],
)
def test_the_first_word_of_what_a_pretrained_model_writes_counts(wrote: str, word: str) -> None:
    assert first_word(wrote) == word


# Suggested words


def test_suggested_are_words_with_unseen_tokens_that_letters_alone_got_right(
    telling_run: Path, data: Data
) -> None:
    assert data.splits is not None
    found = list(suggestions(run_in(telling_run, data), 0))
    assert found == list(suggestions(run_in(telling_run, data), 0))
    assert {one.task for one in found} == {"reverse", "count", "swap"}
    for task in ("reverse", "count", "swap"):
        words = [one.word for one in found if one.task == task]
        assert 1 <= len(words) == len(set(words)) <= 5
        assert set(words) <= set(data.splits.unseen_tokens)


def test_without_a_telling_exam_nothing_is_suggested(half_run: Path, data: Data) -> None:
    config = read_config(half_run)
    for arms in (("lstm", "matched"), ("lstm",), ("matched",), ("matched", "shuffled")):
        run = Run(half_run, replace(data, config=replace(config, arms=arms)))
        assert list(suggestions(run, 0)) == []


def test_damaged_answers_are_named(telling_run: Path, data: Data) -> None:
    (telling_run / "seed0" / "lstm" / "answers.jsonl").write_text('{"task": "reverse"')
    with raises(Damaged, "lstm/answers.jsonl --resume"):
        list(suggestions(run_in(telling_run, data), 0))


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [
        ("RUN", 5, "seed 5 0 1"),
        ("RUN", 1, "seed1"),
        ("EMPTY", None, "config.json"),
        (
            "NOWHERE",
            None,
            "NOWHERE",
        ),
        ("MODEL", 0, "seed 0 --seed"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    name: str,
    seed: int | None,
    message: str,
    half_run: Path,
    pretrained_folder: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    folders = {"RUN": half_run, "EMPTY": tmp_path, "MODEL": pretrained_folder}
    with raises(BadInput, message):
        panel_of(str(folders.get(name, name)), seed, cache)


def test_a_run_about_no_word_is_refused(half_run: Path, cache: Path, tmp_path: Path) -> None:
    config = read_config(half_run)
    (tmp_path / "seed0").mkdir()
    counting = replace(config, data=replace(config.data, tasks=("counting:3x8",)))
    write_record(tmp_path / "config.json", {"config": counting.as_dict()})
    with raises(BadInput, "words"):
        panel_of(str(tmp_path), None, cache)
