"""The identity of a run and of an arm: hashes of config and data; the facts in config.json."""

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
from training.flags import flag_of

from .machine import USUAL, Machine, departures
from .processes import facts_of

# config.json records the versions of these packages.
_PACKAGES = (
    "torch", "accelerate", "transformers", "tiktoken", "tokenizers", "safetensors", "scipy",
    "numpy", "wordsegment", "badwords-py",
)  # fmt: skip
# Other versions of these may change the numbers, so an unfinished run does not go on with them.
_DECISIVE = ("charembed", "torch", "accelerate", "transformers")


def short_name(config: CompareConfig) -> str:
    """Return eight hexadecimal digits that name a comparison, with any number of seeds."""
    fields = {name: value for name, value in config.departures().items() if name != "seeds"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]


def identity(config: CompareConfig, seed: int, arm: str, facts: Facts) -> str:
    """Return the hash of one arm. Saved files with the same identity belong together.

    The other seeds and the other arms do not count. Fields with their default values are left
    out, so an arm keeps its identity if a later version adds a field.
    """
    whole = {"config": config.departures_of(arm), "seed": seed, "arm": arm, "data": facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def describe(data: Data, machine: Machine, preset: str, weights: str) -> dict[str, Any]:
    """Return the content of config.json: config, arithmetic, versions, hashes and the machine.

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
            **{package: version(package) for package in _PACKAGES},
        },
        "data": data.facts,
        "weights_sha256": weights,
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads_per_arm": machine.threads,
            **facts_of(machine),
            **departures(machine),
        },
    }


def check_same(
    out: Path, saved: Mapping[str, Any], here: Mapping[str, Any], finished: Callable[[], bool]
) -> None:
    """Raise BadInput if `here` differs from the `saved` facts so that the numbers could change.

    Both are as `describe` returns them. A finished run may be rendered on another machine and with
    other versions; a run that is not finished may not go on there.
    """
    check_data(out, saved["data"], here["data"])
    was, now = (_decisive(facts) for facts in (saved, here))
    for key, value in now.items():
        # `finished` reads and hashes every file of the run, so it is called last.
        if was[key] != value and not finished():
            raise BadInput(
                f"the run in {out} began with {key} {_short(was[key])}; here it is "
                f"{_short(value)}, which may change its numbers: go on with {key} "
                f"{_short(was[key])}, or choose another --out."
            )


def _decisive(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts besides config and data that may change the numbers."""
    # get: config.json of an older version may lack a fact.
    return {
        "precision": facts.get("precision"),
        "device": facts.get("device"),
        "first weights (SHA-256)": facts.get("weights_sha256"),
        "threads per arm": facts.get("machine", {}).get("threads_per_arm"),
        **{
            flag_of(name): facts.get("machine", {}).get(name, usual)
            for name, usual in USUAL.items()
        },
        **{package: facts.get("versions", {}).get(package) for package in _DECISIVE},
    }


def other_processes(saved: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return a note for a run that goes on over other processes than it began with; "" if not.

    The batches are the same functions of seed and step, so such a run may go on.
    """

    def shown(facts: Mapping[str, Any]) -> str:
        known = facts.get("machine", {})
        count, sharding = known.get("processes_per_arm", 1), known.get("sharding")
        return f"{count} process{'es' if count > 1 else ''}" + f" ({sharding})" * bool(sharding)

    was, now = shown(saved), shown(here)
    if was == now:
        return ""
    return (
        f"The run began with {was} per arm, and goes on with {now}: the batches stay the same, and "
        "last digits may change (with dropout, other units are dropped)."
    )


def check_data(out: Path, saved: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise BadInput if corpus, vocabulary, words or spellings are not those of the saved facts."""
    for key, value in facts.items():
        if saved.get(key) != value:
            raise BadInput(
                f"the run in {out} had other data: its {key.replace('_', ' ')} is "
                f"{_short(saved.get(key))}, and here it is {_short(value)}: restore corpus, words "
                "and model, or choose another --out."
            )


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


def cpu_name() -> str:
    """Return the name of the processor: "Intel(R) Xeon(R) Processor @ 2.60GHz"."""
    info = Path("/proc/cpuinfo")  # Linux; `platform` does not know the name there
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
