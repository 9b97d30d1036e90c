"""The examples run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from examples.asking import newest_run
from examples.toy_model import save_toy_model
from tests import warm
from tests.conftest import ROOT
from tests.messages import raises, says
from training.data.prepare import Data


def run(name: str, *args: str | Path, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"examples.{name}", *args]
    return warm.run(command, typed, cwd=ROOT, env=os.environ | {"COLUMNS": "120"})


def test_quickstart_shows_the_three_promises() -> None:
    done = run("quickstart")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged: True") == 2
    says(done.stdout, "charembed none")


def test_the_toy_tokenizer_writes_the_text_that_it_reads(tmp_path: Path) -> None:
    save_toy_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (" the strawberry", "the straw berry", " a n\nb 🍓"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_look_inside_a_token_shows_the_way_of_the_data(cache: Path) -> None:
    done = run("look_inside_a_token", "--preset", "tiny", "--cache", cache, "the naïve 🍓")
    assert done.returncode == 0, done.stderr
    assert "'h' 'e'" in done.stdout
    assert "<0xF0>" in done.stdout
    assert "embedded_BTD" in done.stdout
    says(run("look_inside_a_token", "--preset", "tiny", "--cache", cache, "").stderr, "empty")


def test_ask_lets_both_arms_answer(half_run: Path, cache: Path) -> None:
    done = run("ask", "--run", half_run, "--cache", cache, typed="banana\n\n")
    assert done.returncode == 0, done.stderr
    assert "reverse banana:  a n a n a b" in done.stdout
    assert done.stdout.count("lstm") == done.stdout.count("matched") == 4


def test_ask_shows_a_suggested_word_where_no_one_types(
    telling_run: Path, cache: Path, data: Data
) -> None:
    assert data.splits is not None
    done = run("ask", "--run", telling_run, "--cache", cache, typed="")
    assert done.returncode == 0, done.stderr
    assert "unseen tokens" in done.stdout
    assert any(f"reverse {word}:" in done.stdout for word in data.splits.unseen_tokens)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run", "tests"], "config.json"),
        (
            ["--run", "RUN", "--word", "Straße"],
            "Straße Sß 1 40",
        ),
    ],
)
def test_ask_refuses_in_one_sentence(
    flags: list[str], message: str, half_run: Path, cache: Path
) -> None:
    done = run(
        "ask", *[str(half_run) if flag == "RUN" else flag for flag in flags], "--cache", cache
    )
    assert done.returncode == 2
    says(done.stderr, message)
    assert len(done.stderr.splitlines()) == 1


def test_ask_without_any_run_says_how_to_make_one(tmp_path: Path) -> None:
    with raises(ValueError, "python -m training.compare"):
        newest_run(tmp_path)
