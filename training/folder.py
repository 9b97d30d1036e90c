"""The folder of a run: what lies where, whose it is, and what its config.json says."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .config import CompareConfig
from .data import Data
from .errors import BadInput
from .flags import settings
from .run import resolve_precision

PACKAGES = (
    "torch", "accelerate", "transformers", "tiktoken", "tokenizers", "safetensors", "scipy", "numpy",
    "wordsegment", "badwords-py",
)  # fmt: skip


def arm_folder(out: Path, seed: int, arm: str) -> Path:
    return out / f"seed{seed}" / arm


def read_config(out: Path) -> CompareConfig:
    """The config of the run in a folder. Raises BadInput when there is none."""
    if not (out / "config.json").is_file():
        raise BadInput(f"{out} is no run folder: it has no config.json.")
    return CompareConfig.from_dict(json.loads((out / "config.json").read_text("utf-8"))["config"])


def check_folder(out: Path, config: CompareConfig, resume: bool) -> None:
    """Refuse to write into a folder that holds something else. Raises BadInput, and changes nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "config.json").is_file():
        raise BadInput(f"{out} exists and is no run folder: choose another --out.")
    saved = settings(read_config(out))
    wanted = settings(config)
    different = [name for name in wanted if name not in saved or saved[name].value != wanted[name].value]
    if different or read_config(out).as_dict() != config.as_dict():
        name = different[0] if different else "list of phases"
        here, asked = (repr(held[name].value) if name in held else "another" for held in (saved, wanted))
        raise BadInput(
            f"{out} holds another run: its {name} is {here}, not {asked} ({len(different)} fields differ); "
            "choose another --out."
        )
    if not resume:
        raise BadInput(
            f"{out} already holds this run: go on with it or render it again with --resume, or choose "
            "another --out."
        )


def describe(config: CompareConfig, options: argparse.Namespace, data: Data, weights: str) -> dict[str, Any]:
    """What makes the run repeatable: config, arithmetic, versions, hashes, and the machine.

    `weights` is the hash of the model's first values, with the first seed.
    """
    return {
        "preset": options.preset,
        "config": config.as_dict(),
        "precision": resolve_precision(config.precision, options.cpu),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "data": data.facts,
        "weights_sha256": weights,
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads_per_arm": options.threads,
        },
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
