"""The folder of a run: its config.json, its lock, and whether a run may be written into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from training.config.config import CompareConfig
from training.config.fields import described
from training.config.flags import settings
from training.config.phase import Phase
from training.errors import BadInput
from training.files import clear_left_overs, read_record

CONFIG, _LOCK = "config.json", ".lock"
WAY_OUT = (
    "delete it and run the command that made it once more with --resume, which writes it again"
)


def is_run(name: str | Path) -> bool:
    """Is this the name of a folder, and not of a pretrained model's folder?

    A pretrained model also has a config.json, but with a "model_type".
    """
    config = Path(name) / CONFIG  # bytes are enough: the file need not be valid JSON
    return Path(name).is_dir() and not (config.is_file() and b'"model_type"' in config.read_bytes())


def read_facts(out: Path) -> dict[str, Any]:
    """Read the config.json of a run. Raises BadInput if it is missing, Damaged if changed."""
    if not (out / CONFIG).is_file():
        raise BadInput(f"{out} is no run folder: it has no {CONFIG}.")
    # Without a hash the file is somebody else's; with a wrong hash it is damaged.
    found = None
    with suppress(ValueError):
        found = json.loads((out / CONFIG).read_bytes())
    if isinstance(found, dict) and "sha256" not in found:
        raise BadInput(
            f"{out} is no run folder, or one of an older version: its {CONFIG} has no hash. Name "
            "another folder."
        )
    return read_record(out / CONFIG, WAY_OUT)


def read_config(out: Path) -> CompareConfig:
    """Return the config of the run in a folder. Raises BadInput if there is none."""
    saved = read_facts(out)["config"]
    try:
        return CompareConfig.from_dict(saved)
    except BadInput as error:
        # The values are the folder's, not those of the command: an arm may have been removed since.
        raise BadInput(
            f"the run in {out} cannot be read by this version: {error} Restore what is missing, or "
            "choose another --out."
        ) from None


def check_folder(out: Path, config: CompareConfig, resume: bool) -> None:
    """Raise BadInput if a run must not be written into the folder, and change nothing.

    A new or empty folder is right, and with `resume` a folder of the same run. If the run has more
    seeds than the folder, it goes on where the smaller one ended.
    """
    # The lock and unfinished files begin with a dot; a stopped start may have left them.
    if not out.exists() or all(path.name.startswith(".") for path in out.iterdir()):
        return
    if not (out / CONFIG).is_file():
        # A run whose config.json was deleted can write it again.
        if not resume or not any(out.glob("seed*")):
            raise BadInput(f"{out} exists and is no run folder: choose another --out.")
        return
    # the steps of an epoch are known when the text is, and they are compared with it
    held, config = read_config(out).without_epoch_steps(), config.without_epoch_steps()
    if held.seeds > config.seeds and held == replace(config, seeds=held.seeds):
        raise BadInput(
            f"{out} already holds {held.seeds} pairs, more than the {config.seeds} of this "
            f"command: use --seeds {held.seeds} --resume, or choose another --out."
        )
    saved, wanted = settings(held), settings(config)
    (steps,) = (item for item in described(Phase) if item.name == "steps")
    # of a phase in epochs, either here or there, the number of steps is a placeholder
    placeholders = {"seeds"} | {
        phase.setting(steps) for phase in (*held.phases, *config.phases) if phase.epochs
    }
    different = [
        name
        for name in wanted
        if name not in placeholders
        and (name not in saved or saved[name].value != wanted[name].value)
    ]
    if different or replace(held, seeds=1).as_dict() != replace(config, seeds=1).as_dict():
        values = [
            f"{name} is {saved[name].value!r} there and {wanted[name].value!r} here"
            for name in different
            if name in saved
        ]
        listed = "; ".join(values[:5]) or "its phases or their fields are others"
        raise BadInput(
            f"{out} holds another run: {listed}. Use the same values, or choose another --out."
        )
    if not resume and held.seeds == config.seeds:
        raise BadInput(
            f"{out} already holds this run: go on with it or render it again with --resume, or "
            "choose another --out."
        )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from writing into the folder, and delete unfinished files of a dead one.

    Raises BadInput if another process writes there.
    """
    out.mkdir(parents=True, exist_ok=True)
    # The system frees the lock if this process is killed. No timeout: a run may take hours.
    lock = filelock.FileLock(out / _LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BadInput(
            f"another run is writing into {out}: wait until it ends, or choose another --out."
        ) from None
    try:
        clear_left_overs(out, ours=True)
        yield
    finally:
        lock.release()
