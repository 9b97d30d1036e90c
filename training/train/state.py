"""Where training stands, in a file, and back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.errors import BadInput, Damaged
from training.files import AGAIN, read_tensors, sha256, write_tensors

STATE = "state.safetensors"
METRICS = "metrics.jsonl"


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Everything that a run changes, by name; a tied weight once. The letters' loudness is set by a warm-up.

    What is derived (spelling tables) is rebuilt, not stored.
    """
    loudness = {
        name: buffer for name, buffer in model.named_buffers() if name.endswith("encoder.loudness")
    }
    return dict(model.named_parameters()) | loudness


@torch.no_grad()
def load_parameters(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put saved parameters into a model.

    Raises BadInput, before anything changes, when names or shapes differ.
    """
    own = trained_parameters(model)
    wrong = sorted(own.keys() ^ tensors.keys()) + [
        name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape
    ]
    if wrong:
        raise BadInput(
            f"{source} does not fit this model: {wrong[0]} differs (and {len(wrong) - 1} more); use the "
            "config it was saved with."
        )
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


@dataclass(frozen=True)
class Position:
    """Where a run stands when a file of weights is written, besides the weights.

    Attributes:
        run: what the run is; see identity.py.
        step: steps done in this phase.
        batches: hash of the batches this phase has read.
        metrics_bytes, metrics_sha256: how much of metrics.jsonl belongs to it, and its hash.
    """

    run: str = ""
    phase: str = ""
    step: int = 0
    batches: str = ""
    metrics_bytes: int = 0
    metrics_sha256: str = sha256("")


def write_trained(path: Path, parts: Mapping[str, nn.Module], position: Position) -> None:
    """The parameters of a model and of what was trained with it, each under the name of its part."""
    write_tensors(path, _named(parts), asdict(position))


def load_trained(path: Path, parts: Mapping[str, nn.Module], run: str, phase: str) -> Position:
    """What `write_trained` wrote, or those parts of it that are asked for.

    Raises Damaged for a file that is not what was written, BadInput for one of another run.
    """
    tensors, position = _read(path, run)
    if position.phase != phase:
        raise BadInput(
            f"{path} holds the weights of the phase {position.phase}, not {phase}: {AGAIN}."
        )
    _load_parts(parts, tensors, path)
    return position


def save_state(
    path: Path, position: Position, parts: Mapping[str, nn.Module], optimizers: list[Optimizer]
) -> None:
    tensors = _named(parts)
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{index}/{key}": value for key, value in values.items()}
    write_tensors(path, tensors, asdict(position))


def load_state(
    path: Path, start: Position, parts: Mapping[str, nn.Module], optimizers: list[Optimizer]
) -> Position:
    """Continue a saved phase: where it stands, or `start` when it has not begun."""
    if not path.exists():
        return start
    tensors, position = _read(path, start.run)
    if position.phase != start.phase:
        return start
    _load_parts(parts, tensors, path)
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith(f"optimizer/{number}/"):
                index, key = name.split("/")[2:]
                saved["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(saved)
    return position


def check_metrics(path: Path, position: Position) -> Any:
    """The running hash of metrics.jsonl up to the position. Raises Damaged if it is not what was written."""
    content = path.read_bytes()[: position.metrics_bytes] if path.exists() else b""
    digest = hashlib.sha256(content)
    if digest.hexdigest() != position.metrics_sha256:
        raise Damaged(f"{path} is damaged (its content is not what was saved): {AGAIN}.")
    return digest


def cut_metrics(path: Path, position: Position) -> Any:
    """Forget what was written to metrics.jsonl after the position: those steps will be taken again.

    Returns what `check_metrics` does.
    """
    digest = check_metrics(path, position)
    if path.exists():
        os.truncate(path, position.metrics_bytes)
    return digest


def _read(path: Path, run: str) -> tuple[dict[str, Tensor], Position]:
    tensors, facts = read_tensors(path)
    position = Position(**facts)
    if position.run != run:
        raise BadInput(
            f"{path} belongs to another run (its config, data, seed or arm is another): put it back where it "
            "came from, or delete it."
        )
    return tensors, position


def _named(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": value
        for part, module in parts.items()
        for name, value in trained_parameters(module).items()
    }


def _load_parts(
    parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], source: Path
) -> None:
    for part, module in parts.items():
        own = {
            name.removeprefix(f"{part}/"): value
            for name, value in tensors.items()
            if name.startswith(f"{part}/")
        }
        load_parameters(module, own, source)
