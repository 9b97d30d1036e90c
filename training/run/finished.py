"""What a finished arm leaves in its folder: weights, metrics, answers, rows, and last `done.json`.

The arm is done when done.json is there, with the hash of every file that is read of a finished arm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.config.config import CompareConfig
from training.config.phase import Phase
from training.errors import BadInput, Damaged
from training.files import (
    AGAIN,
    read_bytes,
    read_record,
    sha256,
    write_atomically,
    write_json,
    write_record,
)
from training.intervals import Row
from training.train.state import METRICS

DONE = "done.json"
RESULTS, ANSWERS = "results.json", "answers.jsonl"


def trained_phases(config: CompareConfig) -> list[Phase]:
    return [phase for phase in config.phases if phase.steps]


def phase_file(phase: Phase) -> str:
    return f"{phase.name}.safetensors"


def write_finished(
    folder: Path,
    config: CompareConfig,
    rows: Sequence[Row],
    answers: Sequence[dict[str, Any]],
    batches: Mapping[str, str],
    run: str,
) -> None:
    """The rows, every answer with its mark, and last that the arm is done.

    `batches` is the hash of all batches of each phase, `run` what the arm is (see identity.py).
    """
    write_atomically(folder / ANSWERS, "".join(json.dumps(answer) + "\n" for answer in answers))
    write_json(folder / RESULTS, [asdict(row) for row in rows])
    names = [ANSWERS, RESULTS]
    if phases := trained_phases(config):
        names += [METRICS, phase_file(phases[-1])]
    files = {name: sha256((folder / name).read_bytes()) for name in names}
    write_record(folder / DONE, {"run": run, "files": files, "batches": batches})


def is_finished(folder: Path, run: str) -> bool:
    """Is every file of a finished arm there?

    Raises Damaged for one that is not what was written, and BadInput for an arm of another run.
    """
    if not (folder / DONE).exists():
        return False
    done = read_record(folder / DONE)
    if done["run"] != run:
        raise BadInput(
            f"{folder} holds an arm of another run (its config, data, seed or arm is another): put it back "
            "where it came from, or delete it."
        )
    files = done["files"]
    if not all((folder / name).exists() for name in files):
        return False
    for name in files:
        read_finished(folder, name)
    return True


def read_finished(folder: Path, name: str) -> bytes:
    """A file of a finished arm. Raises Damaged for one that is missing or not what was written."""
    content = read_bytes(folder / name)
    if read_record(folder / DONE)["files"][name] != sha256(content):
        raise Damaged(f"{folder / name} is damaged (its content is not what was saved): {AGAIN}.")
    return content


def read_batches(folder: Path) -> dict[str, str]:
    """The hash of all batches of each phase."""
    return dict(read_record(folder / DONE)["batches"])


def finished_rows(folder: Path) -> list[Row]:
    return [Row(**row) for row in json.loads(read_finished(folder, RESULTS))]


def finished_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl or answers.jsonl; none where the arm was not trained."""
    if name not in read_record(folder / DONE)["files"]:
        return []
    return [json.loads(line) for line in read_finished(folder, name).splitlines()]
