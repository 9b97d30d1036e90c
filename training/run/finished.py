"""Thin names that evaluate, probe and examples still import; run.py has them as methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .run import ANSWERS as ANSWERS
from .run import RESULTS as RESULTS
from .run import read_finished, read_lines


def trained_phases(config: Any) -> list[Any]:
    return [phase for phase in config.phases if phase.steps]


def finished_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return read_lines(read_finished(folder, name))
