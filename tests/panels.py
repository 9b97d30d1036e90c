"""Whom the tests ask about words: the arms of a run, and a pretrained model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from examples.asking import Panel, panel_of
from tests import pretrained
from training.config import CompareConfig
from training.data import Data
from training.folder import arm_folder
from training.run import RunOptions, run_arm


@pytest.fixture(scope="session")
def half_run(tiny: CompareConfig, data: Data, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two pairs, of which the first is finished: what the playground reads of a run, and no more."""
    folder, config = tmp_path_factory.mktemp("runs") / "pair", replace(tiny, seeds=2)
    options = RunOptions(cache=cache, cpu=True, progress=False)
    for arm in config.arms:
        run_arm(config, 0, arm, arm_folder(folder, 0, arm), options, data)
    (folder / "config.json").write_text(json.dumps({"config": config.as_dict()}))
    return folder


@pytest.fixture(scope="session")
def panel(half_run: Path, cache: Path) -> Panel:
    return panel_of(str(half_run), None, cache)


@pytest.fixture(scope="session")
def pretrained_folder(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model's folder."""
    tokenizer = pretrained.train_tokenizer(data.tokenizer.decode(data.train_ids[:40_000].tolist()))
    return pretrained.save(tmp_path_factory.mktemp("pretrained") / "llama", pretrained.llama(), tokenizer)


@pytest.fixture
def telling_run(half_run: Path, data: Data, tmp_path: Path) -> Path:
    """The run with an exam in which the letters tell: `lstm` has every question of three tasks right."""
    copy = shutil.copytree(half_run, tmp_path / "telling")
    for arm in ("matched", "lstm"):
        path = arm_folder(copy, 0, arm) / "answers.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["right"] = arm == "lstm" and row["task"] != "index"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return copy
