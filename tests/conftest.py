"""Settings of all tests (one thread, no network) and small real objects that many tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import pytest
import tiktoken
import torch

from charembed import SpellingTable
from tests import warm
from tests.laboratory.runs import ROOT as ROOT
from tests.laboratory.runs import finished as finished
from tests.pages.browser import browser as browser
from tests.pages.panels import half_run as half_run
from tests.pages.panels import panel as panel
from tests.pages.panels import pretrained_folder as pretrained_folder
from tests.pages.panels import telling_run as telling_run
from training.config.config import CompareConfig
from training.config.presets import PRESETS
from training.data.prepare import Data, prepare
from training.run import workers

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_search_for_optimizers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skip the search of `attach` for optimizers among all objects: most of its cost in a test."""
    if request.module.__name__ != "tests.plugin.test_messages":
        monkeypatch.setattr(
            sys.modules["charembed.attach"], "_warn_of_optimizers", lambda model: None
        )


@pytest.fixture(autouse=True, scope="session")
def _warm_workers() -> Iterator[None]:
    """Fork the processes of arms that a run in this process starts; see warm.py."""
    with pytest.MonkeyPatch.context() as patch:
        popen = SimpleNamespace(Popen=warm.Process, PIPE=subprocess.PIPE)
        patch.setattr(workers, "subprocess", popen)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny() -> CompareConfig:
    return PRESETS["tiny"]


@pytest.fixture(scope="session")
def data(tiny: CompareConfig, cache: Path) -> Data:
    """The tiny preset's data: 512 tokens trained on the packaged corpus."""
    return prepare(tiny, cache)


@pytest.fixture(scope="session")
def encoding(data: Data) -> tiktoken.Encoding:
    return data.tokenizer.source


@pytest.fixture(scope="session")
def table(data: Data) -> SpellingTable:
    return data.spellings
