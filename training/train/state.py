"""Checkpoints: weights, optimizer states and the position in the training, in a file and back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.errors import BadInput, Damaged
from training.files import AGAIN, read_tensors, sha256, write_tensors

from .dtensors import sharded_like

Parts = Mapping[str, nn.Module]  # the model and, if there are any, its heads, by name
STATE = "state.safetensors"
_OPTIMIZER = "optimizer"  # the first word of the names of the tensors of optimizers
METRICS = "metrics.jsonl"
_FIGURE = "delete it; only a figure of the report loses its lines"


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a run changes: the parameters (a tied weight once), the encoder's scale.

    Spelling tables are rebuilt from the tokenizer, so they are not included.
    """
    buffers = dict(model.named_buffers())
    # the scale of the character vectors is a buffer, and a warm-up on spelling sets it again
    scale = {name: buffers[name] for name in buffers if name.endswith("encoder.loudness")}
    return dict(model.named_parameters()) | scale


@torch.no_grad()
def load_parameters(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy saved parameters into a model.

    Raises BadInput, before anything changes, if names or shapes differ.
    """
    own = trained_parameters(model)
    # names that only one of both has, then shapes
    wrong = sorted(own.keys() ^ tensors.keys())
    wrong += [name for name in own.keys() & tensors if own[name].shape != tensors[name].shape]
    if wrong:
        raise BadInput(
            f"{source} does not fit this model: {wrong[0]} differs (and {len(wrong) - 1} more); "
            "use the config that it was saved with."
        )
    for name, parameter in own.items():
        parameter.copy_(sharded_like(tensors[name], parameter))


@dataclass(frozen=True)
class Position:
    """The position of a run in its training, saved with the weights.

    Attributes:
        run: identity of the run; see run/identity.py.
        step: steps done in this phase.
        batches: hash of the batches of this phase so far.
        tokens: tokens that the model has read in this phase so far, by kind of batch: {"question":
            31200, "text": 8192}; None in files of versions that did not count them.
        metrics_bytes, metrics_sha256: length and hash of metrics.jsonl at this position.
        curve_bytes, curve_sha256: the same of the phase's learning curve, a file of its own; saved
            files of versions without curves have neither.
    """

    run: str = ""
    phase: str = ""
    step: int = 0
    batches: str = ""
    tokens: dict[str, int] | None = None
    metrics_bytes: int = 0
    metrics_sha256: str = sha256("")
    curve_bytes: int = 0
    curve_sha256: str = sha256("")


def load_trained(path: Path, parts: Parts, run: str, phase: str) -> Position:
    """Load the given parts of a file that `save_state` wrote at the end of a phase.

    Raises Damaged for a file that has changed since, BadInput for one of another run or phase.
    """
    tensors, position = _read(path, run)
    if (held := position.phase) != phase:
        raise BadInput(f"{path} holds the weights of the phase {held}, not {phase}: {AGAIN}.")
    _load_parts(parts, tensors, path)
    return position


def save_state(
    path: Path, position: Position, parts: Parts, optimizers: Sequence[Optimizer] = ()
) -> None:
    """Write the parameters of a model and of its heads, and the states of optimizers."""
    write_tensors(path, named_tensors(parts, optimizers), asdict(position))


def named_tensors(parts: Parts, optimizers: Sequence[Optimizer] = ()) -> dict[str, Tensor]:
    """Return all tensors of a state: {"model/wte.weight": ..., "optimizer/0/3/exp_avg": ...}."""
    trained = {part: trained_parameters(module) for part, module in parts.items()}
    tensors = {f"{part}/{name}": own[name] for part, own in trained.items() for name in own}
    for number, optimizer in enumerate(optimizers):
        # safetensors holds flat names, so the nested state is written as a path
        for index, values in optimizer.state_dict()["state"].items():
            own = f"{_OPTIMIZER}/{number}/{index}"
            tensors |= {f"{own}/{key}": value for key, value in values.items()}
    return tensors


def owners(parts: Parts, optimizers: Sequence[Optimizer]) -> Callable[[str], Tensor | None]:
    """Return a function from the name of a tensor of a state to its parameter; None if unknown.

    owners(parts, optimizers)("optimizer/0/3/exp_avg") is parameters_of(optimizers[0])[3]
    """
    found = named_tensors(parts)
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(parameters_of(optimizer)):
            found[f"{_OPTIMIZER}/{number}/{index}"] = parameter

    def owner_of(name: str) -> Tensor | None:
        # the key of an optimizer's value follows the index of its parameter
        of_optimizer = name.startswith(f"{_OPTIMIZER}/")
        return found.get(name.rpartition("/")[0] if of_optimizer else name)

    return owner_of


def load_state(
    path: Path, start: Position, parts: Parts, optimizers: Sequence[Optimizer]
) -> Position:
    """Load a saved phase and return its position, or `start` if the phase has not begun."""
    if not path.exists():
        return start
    tensors, position = _read(path, start.run)
    # the state is of an earlier phase: this one has not saved any yet
    if position.phase != start.phase:
        return start
    fill(parts, optimizers, tensors, path)
    return position


def fill(
    parts: Parts, optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor], source: Path
) -> None:
    """Set modules and optimizers to the tensors of a state, as `named_tensors` names them.

    If the modules are sharded, whole tensors are sharded like them.
    """
    _load_parts(parts, tensors, source)
    for number, optimizer in enumerate(optimizers):
        # a new optimizer has no state yet; only its parameter groups are filled
        saved = optimizer.state_dict()
        trained = parameters_of(optimizer)
        for name in tensors:
            if name.startswith(f"{_OPTIMIZER}/{number}/"):
                index, key = name.split("/")[2:]
                value = sharded_like(tensors[name], trained[int(index)])
                saved["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(saved)


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimizer in the order of the indices of its state."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def check_metrics(path: Path, position: Position, cut: bool = False) -> Any:
    """The running hash of metrics.jsonl up to a position. Raises Damaged if it has changed.

    `cut`: cut the file to its length at the position, because later steps are done again.
    """
    return _check_lines(path, position.metrics_bytes, position.metrics_sha256, cut, AGAIN)


def check_curve(path: Path, position: Position, cut: bool = False) -> Any:
    """The running hash of a learning curve up to a position; see `check_metrics`.

    A curve that is missing begins anew: it is needed for a figure alone, and training a phase
    again for it could take hours.
    """
    size, expected = position.curve_bytes, position.curve_sha256
    if not path.exists():
        size, expected = 0, sha256("")
    return _check_lines(path, size, expected, cut, _FIGURE)


def _check_lines(path: Path, size: int, expected: str, cut: bool, way_out: str) -> Any:
    content = path.read_bytes()[:size] if path.exists() else b""
    digest = hashlib.sha256(content)
    if digest.hexdigest() != expected:
        raise Damaged(f"{path} is damaged (its content is not what was saved): {way_out}.")
    if cut and path.exists():
        os.truncate(path, size)
    return digest


def _read(path: Path, run: str) -> tuple[dict[str, Tensor], Position]:
    tensors, facts = read_tensors(path)
    return tensors, position_of(facts, run, path)


def position_of(facts: Mapping[str, Any], run: str, path: Path) -> Position:
    """Return a saved position. Raises BadInput if it belongs to another run."""
    position = Position(**facts)
    # the identity covers config, data, seed and arm
    if position.run != run:
        what = "another run (with another config, data, seed or arm)"
        raise BadInput(f"{path} belongs to {what}: move it back, or delete it.")
    return position


def _load_parts(parts: Parts, tensors: Mapping[str, Tensor], source: Path) -> None:
    for part, module in parts.items():
        own = [name for name in tensors if name.startswith(f"{part}/")]
        named = {name.removeprefix(f"{part}/"): tensors[name] for name in own}
        load_parameters(module, named, source)
