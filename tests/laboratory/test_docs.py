"""The Python blocks of the README and the guides run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import ROOT
from tests.messages import says


def blocks(path: Path) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    assert found, path
    return found


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.environ | {"PYTHONPATH": str(ROOT)}
    return warm.run([sys.executable, "-c", script], cwd=folder, env=path)


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    for block in blocks(ROOT / "README.md"):
        done = run(block, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")  # no warning, such as on bos and eos


def test_every_block_about_wrapping_runs_in_one_session(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "wrapping.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trainable params: " in done.stdout
    assert "['char_embedding.safetensors']" in done.stdout
    assert "torch.Size([1, 8, 32])" in done.stdout


def test_every_block_about_frameworks_runs_in_one_session(tmp_path: Path) -> None:
    without = [block for block in blocks(ROOT / "docs" / "frameworks.md") if "trl" not in block]
    done = run("\n".join(without), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plain" / "config.json").is_file()


@pytest.mark.slow
def test_the_blocks_with_trl_run_after_the_others(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    done = run("\n".join(blocks(ROOT / "docs" / "frameworks.md")), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_guide_that_imports_an_optional_package_names_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known, base = extras["optional-dependencies"], {"torch", "charembed", "safetensors"}
    lab = {re.split(r"\W", name.replace("-", "_"))[0] for name in known["lab"]}
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL))
        imported = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))
        own = {"training", "synthetic_tasks", "examples", *sys.stdlib_module_names}
        for name in imported - base - lab - own:
            (extra, *_) = [key for key in known if name in known[key] and key != "test"]
            assert re.search(rf"pip install [^`]*\[[^`]*\b{extra}\b", path.read_text("utf-8")), path


def test_every_row_about_frameworks_names_its_test() -> None:
    rows = re.findall(
        r"^\| (?!tool|---).*`(\w+)` \|$",
        (ROOT / "docs" / "frameworks.md").read_text("utf-8"),
        re.MULTILINE,
    )
    tests = "".join(
        (ROOT / "tests" / "plugin" / name).read_text("utf-8")
        for name in ("test_frameworks.py", "test_frameworks_trl.py", "test_peft.py")
    )
    assert len(rows) >= 20
    assert [name for name in rows if f"def {name}(" not in tests] == []


def test_every_block_about_the_laboratory_runs_in_one_session(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "laboratory.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[b'a', b'e', None]\n"


def test_every_block_about_evaluating_runs_in_one_session(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "evaluating.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("count unseen_tokens exact_match") == 2
    assert done.stdout.count("GPT2LMHeadModel: ") >= 4
    assert (tmp_path / "with" / "report.html").is_file()
    assert done.stdout.count("right, majority baseline") == 20


def test_every_block_about_the_retrofit_runs_in_one_session(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "retrofit.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "equal: True" in done.stdout
    assert "[' ', 'b', 'l', 'u', 'e', 'b', 'e', 'r', 'r', 'y']" in done.stdout
    assert re.search(r"^20 \d+\.\d\d nats", done.stdout, re.MULTILINE)


def test_every_block_about_benchmarks_runs_in_one_session(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "benchmarks.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cute-like/spell True 0.2" in done.stdout
    says(done.stdout, "CUTE cute")


def test_every_block_about_compatibility_runs(tmp_path: Path) -> None:
    done = run("\n".join(blocks(ROOT / "docs" / "compatibility.md")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{}\n"
