"""The benchmarks start; the GPU benchmark runs its commands on a tiny model on the CPU."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from tests import warm
from tests.conftest import ROOT
from tests.messages import says


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_every_benchmark_can_be_imported(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")


@pytest.mark.slow  # nothing but this benchmark uses the code
def test_the_gpus_benchmark_runs_dry_and_says_when_there_is_no_gpu() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu"]
    done = warm.run([*command, "--dry-run"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "folded gives the same bits: True" in done.stdout
    if not torch.cuda.is_available():
        refused = warm.run(command, cwd=ROOT)
        assert refused.returncode == 2
        says(refused.stderr, "GPU --dry-run")
        assert refused.stderr.count("\n") == 1
