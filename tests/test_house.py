"""The rooms, the wheel, the README."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

STANDARD = sys.stdlib_module_names
ALLOWED = {
    "charembed": {"torch", "safetensors", "charembed"},
    "synthetic_tasks": {"synthetic_tasks"},
}
OUTSIDE = {"tests", "examples", "benchmarks"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names - STANDARD


@pytest.mark.parametrize("room", ["charembed", "synthetic_tasks", "training"])
def test_imports_follow_the_direction_of_the_data(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        if room in ALLOWED:
            assert imported(path) <= ALLOWED[room], path
        assert imported(path).isdisjoint(OUTSIDE), path


def test_importing_charembed_imports_neither_tokenizers_nor_the_laboratory() -> None:
    others = {"transformers", "tiktoken", "training", "synthetic_tasks", "scipy", "huggingface_hub"}
    script = f"import sys, charembed; print(sorted({others} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_decoder_does_not_know_of_characters() -> None:
    assert imported(ROOT / "training" / "decoder.py") == {"torch"}
    assert "encoder" not in (ROOT / "training" / "decoder.py").read_text()


def test_the_wheel_holds_charembed_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for room in ("charembed", "training", "synthetic_tasks"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"charembed"}
    assert {
        "charembed/py.typed",
        "charembed/spelled.safetensors",
        *(path.relative_to(ROOT).as_posix() for path in (ROOT / "charembed").rglob("*.py")),
    } <= set(names)


def test_the_readme_names_every_file_of_the_rooms() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for room in ("charembed", "training", "synthetic_tasks", "examples", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            if path.name != "__init__.py":
                assert path.name in readme, f"{path} is missing in the README's tree"


def test_ci_runs_the_readmes_test_command() -> None:
    command = 'pip install -c constraints.txt -e ".[lab,test]" && python -m pytest -n 2'
    assert command in (ROOT / "README.md").read_text("utf-8")
    assert command in (ROOT / ".ci" / "run").read_text("utf-8")
