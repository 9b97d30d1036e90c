"""How a run began: its command, the version and the git commit of the code, and the date.

These are facts for readers of the page. No identity and no config holds them, so they change no
number, and runs of versions that did not record them still open.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from charembed import __version__
from training.config.config import CompareConfig
from training.config.flags import command_for
from training.errors import BadInput
from training.flags import flag_of
from training.models.smollm2 import SMOLLM2

from .machine import USUAL

_ROOT = Path(__file__).parent.parent.parent  # of the checkout: training/ is in no wheel
_CODE = ("charembed/", "training/", "synthetic_tasks/")
_SECONDS = 20  # git on a slow disk; without an answer the commit stays unknown


def start(command: str) -> dict[str, Any]:
    """Return the facts of a start, now.

    start("python -m training.compare --preset quick") -> {"command": "python -m ...",
    "date": "2026-11-30 10:50 UTC", "charembed": "0.2.0", "commit": "0b4c031...", "changed": False}

    Arguments:
        command: the line for a shell that makes the same; "" if it was called from Python.

    `commit` is None outside of a checkout of charembed. `changed`: files of the commit had other
    content, or there were new files of code.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit, changed = commit_of(_ROOT)
    facts = {"command": command, "date": now, "charembed": __version__}
    return {**facts, "commit": commit, "changed": changed}


def commit_of(root: Path) -> tuple[str | None, bool]:
    """Return the git commit of a checkout, and whether its code differs from that commit.

    commit_of(Path("charembed")) -> ("0b4c031...", False); (None, False) if it is no checkout.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    # a copy of the code inside of another repository has that repository's commit, not its own
    if top is None or not _same(Path(top), root):
        return None, False
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    lines = (_git(root, "status", "--porcelain", "--untracked-files=all") or "").splitlines()
    # an untracked file counts if it is code: notes and results beside it change no number
    changed = any(not line.startswith("??") or line[3:].startswith(_CODE) for line in lines)
    return (commit, changed) if commit else (None, False)


def _git(root: Path, *command: str) -> str | None:
    """Return the output of a git command; None if git is missing or fails."""
    # GIT_DIR and its like are set inside of a git hook, and would name another repository
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        # no optional locks: `status` would write into the index of somebody's checkout
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *command], env=own, timeout=_SECONDS,
            capture_output=True, text=True, errors="replace", check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def same_code(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two starts certainly had the same code: one version, one commit, no changes."""
    known = ("charembed", "commit", "changed")
    return not one["changed"] and all(one[name] == other[name] for name in known)


def command_of(record: Mapping[str, Any]) -> str:
    """Return the command that makes a run, from the content of its config.json.

    {"preset": "quick", "config": {"seeds": 3, ...}, ...}
    -> "python -m training.compare --preset quick --seeds 3"

    Flags that only say where and how fast are left out. "" if the record has no preset that this
    version knows, or a config that it cannot read.
    """
    name = record.get("preset", "")
    try:
        config = CompareConfig.from_dict(record["config"])
        command = _of_study(name, config) or command_for(name, _portable(config))
    except (BadInput, KeyError):
        return ""
    machine = record.get("machine", {})
    if (threads := machine.get("threads_per_arm", 1)) > 1:
        command += f" --threads {threads}"
    if machine.get("gpu") and record.get("device") == "cpu":
        command += " --cpu"
    for name in USUAL.keys() & machine.keys():
        given = machine[name]
        command += f" {flag_of(name)}" + ("" if given is True else f" {given}")
    if (processes := machine.get("processes_per_arm", 1)) > 1:
        file = " --config_file examples/accelerate/fsdp2.yaml" if "sharding" in machine else ""
        launched = f"accelerate launch{file} --num_processes {processes} -m"
        command = command.replace("python -m", launched, 1)
    return command


def _of_study(name: str, config: CompareConfig) -> str:
    """The command of a study, whose runs have "study counting, tiny" for a preset; else "".

    The preset of a study whose points have their own numbers of seeds is "study map, tiny", or
    "study map, tiny, seeds 4" if the command gave a number for all of them.
    """
    if not name.startswith("study "):
        return ""
    study, size, *given = name.removeprefix("study ").split(", ")
    if study == "map":
        seeds = [word for one in given for word in f"--{one}".split()]
    else:
        seeds = ["--seeds", str(config.seeds)] if config.seeds > 1 else []
    return shlex.join(["python", "-m", "training.study", study, "--size", size, *seeds])


def _portable(config: CompareConfig) -> CompareConfig:
    """The config with the packaged model under its name; a run holds its folder in the cache."""
    if Path(config.model.model).name != SMOLLM2:
        return config
    return replace(config, model=replace(config.model, model=SMOLLM2))
