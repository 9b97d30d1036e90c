"""Small real runs of the command, in their own processes or in this one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.warm import Cold, Process, run
from training.intervals import read_rows

ROOT = Path(__file__).parent.parent.parent
TINY = ["--preset", "tiny", "--quiet", "--cpu"]
COMMAND = [sys.executable, "-m", "training.compare", *TINY]


@pytest.fixture(scope="session")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two pairs; its arms trained in parallel processes."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    finish("--seeds", "2", "--out", out, "--cache", cache)
    return out


def start(
    *flags: str | Path, command: Sequence[str] = COMMAND, cold: bool = False, **options: Any
) -> subprocess.Popen[str]:
    """Start the command in a session of its own, with a pipe for its standard error.

    Args:
        cold: start a fresh interpreter, which still has to import torch.
        options: `ignored` and `file_size` of `Warm`.
    """
    return (Cold if cold else Process)(
        [*command, *map(str, flags)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(*flags: str | Path) -> None:
    """Run the command to its end."""
    done = run([*COMMAND, *map(str, flags)], cwd=ROOT)
    assert done.returncode == 0, done.stderr


def numbers(out: Path) -> list[tuple[object, ...]]:
    """Return all results except times."""
    return [
        tuple(vars(row).values())
        for row in read_rows(out / "results.json")
        if "seconds" not in row.metric
    ]


def losses(out: Path) -> list[tuple[object, ...]]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(row["arm"], row["seed"], row["phase"], row["step"], row["loss_nats"]) for row in rows]


def children(pid: int) -> list[int]:
    """Return the living children of a process (Linux)."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Return True if the process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def left_overs(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*.part")]
