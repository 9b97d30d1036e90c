"""The layout: the direction of imports and the contents of the wheel."""

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
# The folders and files of training/, each importing from those before it alone.
LAYERS = (
    "errors", "flags", "interrupts", "files", "progress", "intervals", "differences", "models", "config", 
    "data", "train", "ask", "run", "report", "evaluate", "probe", "compare", "study", "ship",
)  # fmt: skip


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


def modules_of_training(path: Path) -> set[str]:
    """Return the folders and files of training/ that a file imports, without its own folder."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        start = package[: len(package) - node.level + 1] if node.level else ()
        module = (*start, *(node.module or "").split(".")) if node.module else start
        if module[:1] == ("training",):
            found |= {(*module, alias.name)[1] for alias in node.names}
    return found - {package[1] if len(package) > 1 else path.stem}


def test_each_layer_of_the_laboratory_imports_the_layers_below_it_alone() -> None:
    seen = set()
    for path in (ROOT / "training").rglob("*.py"):
        layer = path.relative_to(ROOT / "training").with_suffix("").parts[0]
        if layer != "__init__":
            seen.add(layer)
            below = LAYERS[: LAYERS.index(layer)]
            assert modules_of_training(path) <= set(below), path
    assert seen == set(LAYERS)


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
    assert imported(ROOT / "training" / "models" / "decoder.py") == {"torch", "training"}
    assert "encoder" not in (ROOT / "training" / "models" / "decoder.py").read_text()


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
        "charembed/encoders/pretrained.safetensors",
        *(path.relative_to(ROOT).as_posix() for path in (ROOT / "charembed").rglob("*.py")),
    } <= set(names)


def test_the_repository_holds_no_large_file_and_no_stray_folder() -> None:
    """A model of 538 MB was committed once: a command had written its folder into the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [path for path in files if path.exists() and path.stat().st_size > 1_000_000]
    assert not large
    folders = {path.relative_to(ROOT).parts[0] for path in files if path.parent != ROOT}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert not [folder for folder in folders if f"{folder}/" not in readme and folder[0] != "."]
