"""Models that the tests prompt with questions about words: arms of a run, a pretrained model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from examples.asking import Panel, panel_of
from tests.laboratory import pretrained
from training.config.config import CompareConfig
from training.data.prepare import Data
from training.files import write_record
from training.run.arm import train_arm
from training.run.folder import read_config
from training.run.machine import Machine
from training.run.run import Run

PAIR = ("matched", "lstm")  # both have vectors to add, which some readers need


@pytest.fixture(scope="session")
def half_run(
    tiny: CompareConfig, data: Data, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two pairs with only the first finished: the files that the playground reads."""
    folder, config = tmp_path_factory.mktemp("runs") / "pair", replace(tiny, seeds=2, arms=PAIR)
    run = Run(folder, replace(data, config=config))
    for arm in config.arms:
        train_arm(run.arm(arm, 0), Machine(cache=cache, cpu=True))
    write_record(folder / "config.json", {"config": config.as_dict(), "data": data.facts})
    return folder


def run_in(folder: Path, data: Data) -> Run:
    """The run in a folder, with its own arms and without a search for its data."""
    return Run(folder, replace(data, config=read_config(folder)))


@pytest.fixture(scope="session")
def panel(half_run: Path, cache: Path) -> Panel:
    return panel_of(str(half_run), None, cache)


@pytest.fixture(scope="session")
def pretrained_folder(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretrained model."""
    tokenizer = pretrained.train_tokenizer(data.tokenizer.decode(data.train_ids[:40_000].tolist()))
    return pretrained.save(
        tmp_path_factory.mktemp("pretrained") / "llama", pretrained.llama(), tokenizer
    )


@pytest.fixture
def telling_run(half_run: Path, data: Data, tmp_path: Path) -> Path:
    """The run with changed scores: `lstm` answers all questions of three tasks correctly."""
    copy = shutil.copytree(half_run, tmp_path / "telling")
    for name in ("matched", "lstm"):
        arm = run_in(copy, data).arm(name, 0)
        answers = arm.answers()
        for answer in answers:
            answer["right"] = name == "lstm" and answer["task"] != "index"
        arm.finish(arm.rows(), answers, arm.batches())
    return copy
