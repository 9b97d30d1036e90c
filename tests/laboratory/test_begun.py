"""The facts about the start of a run: its command, its commit, its date."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.config.config import CompareConfig
from training.config.flags import changed, parse
from training.config.presets import PRESETS, QUICK, preset
from training.models.smollm2 import SMOLLM2
from training.run.begun import command_of, commit_of, same_code, start


def git(folder: Path, *command: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *named, *command], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "training").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "training" / "loop.py").write_text("steps = 1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_commit_is_that_of_the_checkout_and_changes_of_code_are_seen(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_of(checkout) == (commit, False)
    (checkout / "notes.txt").write_text("mine")
    assert commit_of(checkout) == (commit, False), "notes beside the code change no number"
    (checkout / "training" / "new.py").write_text("")
    assert commit_of(checkout) == (commit, True), "a new file of code may be imported"
    (checkout / "training" / "new.py").unlink()
    (checkout / "training" / "loop.py").write_text("steps = 2\n")
    assert commit_of(checkout) == (commit, True)


def test_another_repository_around_the_code_or_in_the_environment_is_not_its_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit_of(checkout / "training") == (None, False), "a copy inside of a repository"
    assert commit_of(tmp_path) == (None, False)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as inside of a git hook
    assert commit_of(checkout) == (commit, False)
    monkeypatch.setenv("PATH", str(other))
    assert commit_of(checkout) == (None, False), "without git the commit is unknown"


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == (None, False)


def test_starts_with_changes_are_never_surely_the_same_code() -> None:
    one = start("") | {"commit": "1" * 40, "changed": False}
    assert same_code(one, dict(one))
    assert not same_code(one, one | {"commit": "2" * 40})
    assert not same_code(one | {"changed": True}, one | {"changed": True})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", one["date"])


def record(config: CompareConfig, name: str = "quick", **facts: Any) -> dict[str, Any]:
    return {"preset": name, "config": config.as_dict(), "machine": {"gpu": None}} | facts


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"arms": ("plain", "gru"), "seeds": 3, "finetune_lr": 1e-5},
        {"corpus": "it's a text with spaces; $HOME.txt", "finetune_warmup": 7},
        {"corpus": "-old.txt", "words": "ls \n"},
        {"tasks": ("path_star:2x5", "reverse*3"), "objective": "reversed"},
    ],
)
def test_a_shell_reads_the_config_of_the_run_from_its_command(given: dict[str, Any]) -> None:
    for name in ("quick", "tiny"):
        config = changed(preset(name), **given)
        command = command_of(record(config, name))
        # a shell splits the line, not Python: quotes have to survive it
        script = f"for word in {command}; do printf '%s\\0' \"$word\"; done"
        words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        python, dash_m, program, *flags = words.stdout.split("\0")[:-1]
        assert [python, dash_m, program] == ["python", "-m", "training.compare"]
        assert parse(flags, None)[0] == config


def test_the_command_names_the_packaged_model_and_not_its_folder_in_somebodys_cache() -> None:
    config = preset("smollm2")
    cached = replace(config, model=replace(config.model, model=f"/home/me/.cache/{SMOLLM2}"))
    words = shlex.split(command_of(record(cached, "smollm2")))
    assert words == ["python", "-m", "training.compare", "--preset", "smollm2"]


def test_what_can_change_the_last_digits_is_part_of_the_command() -> None:
    on_cpu = record(QUICK, device="cpu", machine={"gpu": "a GPU", "threads_per_arm": 2})
    assert command_of(on_cpu).endswith("--preset quick --threads 2 --cpu")
    spread = record(QUICK, machine={"gpu": None, "processes_per_arm": 4})
    assert command_of(spread).startswith("accelerate launch --num_processes 4 -m training.compare")


def test_the_run_of_a_study_has_the_command_of_the_study() -> None:
    config = replace(QUICK, seeds=3)
    command = command_of(record(config, "study counting, tiny"))
    assert command == "python -m training.study counting --size tiny --seeds 3"


def test_a_config_that_this_version_cannot_read_has_no_command() -> None:
    assert command_of({"preset": "quick", "config": {"abacus": 1}}) == ""
    assert command_of(record(QUICK, "a preset of tomorrow")) == ""
    assert command_of({}) == ""
    assert all(command_of(record(config, name)) for name, config in PRESETS.items())
