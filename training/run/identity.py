"""What makes a run the run it is: config, data, arithmetic, versions; and whether another is the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from charembed import __version__
from training.config.config import CompareConfig
from training.data.prepare import Data, Facts
from training.errors import BadInput

from .machine import Machine

PACKAGES = (
    "torch", "accelerate", "transformers", "tiktoken", "tokenizers", "safetensors", "scipy", "numpy",
    "wordsegment", "badwords-py",
)  # fmt: skip
DECISIVE = (
    "charembed",
    "torch",
    "accelerate",
    "transformers",
)  # versions that may move the numbers


def short_name(config: CompareConfig) -> str:
    """Eight characters that tell comparisons apart, however many pairs they have."""
    told = {name: value for name, value in config.departures().items() if name != "seeds"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def identity(config: CompareConfig, seed: int, arm: str, facts: Facts) -> str:
    """A hash of all that makes one arm: two saved files with the same identity belong together.

    How many pairs the run has is left out, and so is which arms it has besides, and every field that has its
    default: a later version, with more fields, takes the run for the same one.
    """
    told = config.departures()
    for name in ("seeds", "arms"):
        told.pop(name, None)
    whole = {"config": told, "seed": seed, "arm": arm, "data": facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def describe(data: Data, machine: Machine, preset: str, weights: str) -> dict[str, Any]:
    """Return what config.json holds: config, arithmetic, versions, hashes and the machine.

    Arguments:
        preset: the name of the preset that the config began with.
        weights: the hash of the first values of the model's parameters, with the first seed.
    """
    return {
        "preset": preset,
        "config": data.config.as_dict(),
        "precision": machine.precision(data.config),
        "device": "cuda" if machine.has_gpu else "cpu",
        "versions": {
            "charembed": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "data": data.facts,
        "weights_sha256": weights,
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads_per_arm": machine.threads,
            "processes_per_arm": machine.state.num_processes,
        },
    }


def check_same(
    out: Path, saved: Mapping[str, Any], here: Mapping[str, Any], finished: Callable[[], bool]
) -> None:
    """Raise BadInput when what `describe` says here is not what it said when the run in `out` began.

    A run that is finished may be rendered elsewhere and with other versions; one that goes on may not.
    """
    check_data(out, saved["data"], here["data"])
    was, now = (_decisive(facts) for facts in (saved, here))
    for key, value in now.items():
        if was[key] != value and not finished():
            raise BadInput(
                f"the run in {out} began with {key} {_short(was[key])}; here it is {_short(value)}, which "
                f"may move its numbers: go on with {key} {_short(was[key])}, or choose another --out."
            )


def _decisive(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What may move the numbers besides config and data."""
    return {
        "precision": facts.get("precision"),
        "device": facts.get("device"),
        "first weights (SHA-256)": facts.get("weights_sha256"),
        "threads per arm": facts.get("machine", {}).get("threads_per_arm"),
        "processes per arm": facts.get("machine", {}).get("processes_per_arm"),
        **{package: facts.get("versions", {}).get(package) for package in DECISIVE},
    }


def check_data(out: Path, saved: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise BadInput when corpus, vocabulary, words or spellings are not those that the run began with."""
    for key, value in facts.items():
        if saved.get(key) != value:
            raise BadInput(
                f"the run in {out} had other data: its {key.replace('_', ' ')} is "
                f"{_short(saved.get(key))}, and here it is {_short(value)}: put corpus, words and "
                "model back as they were, or choose another --out."
            )


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


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
