"""Where training stands, in a file, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .errors import BadInput
from .files import read_tensors, write_atomically, write_tensors

STATE = "state.safetensors"


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Everything training changes, by name; a tied weight once.

    What is derived (spelling tables) is rebuilt, not stored.
    """
    return dict(model.named_parameters())


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


def write_trained(path: Path, parts: Mapping[str, nn.Module], facts: Mapping[str, object]) -> None:
    """The parameters of a model and of what was trained with it, each under the name of its part."""
    write_tensors(path, _named(parts), facts)


def load_trained(path: Path, parts: Mapping[str, nn.Module]) -> None:
    """What `write_trained` wrote, or those parts of it that are asked for."""
    _load_parts(parts, read_tensors(path)[0], path)


def save_state(
    folder: Path,
    phase: str,
    step: int,
    digest: str,
    parts: Mapping[str, nn.Module],
    optimizers: list[Optimizer],
) -> None:
    tensors = _named(parts)
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{index}/{key}": value for key, value in values.items()}
    write_tensors(folder / STATE, tensors, {"phase": phase, "step": step, "batches": digest})


def load_state(
    folder: Path, phase: str, parts: Mapping[str, nn.Module], optimizers: list[Optimizer]
) -> tuple[int, str]:
    """Continue a saved phase: (steps done, hash of the batches so far), or (0, "") when it has not begun."""
    if not (folder / STATE).exists():
        return 0, ""
    tensors, facts = read_tensors(folder / STATE)
    if facts["phase"] != phase:
        return 0, ""
    _load_parts(parts, tensors, folder / STATE)
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith(f"optimizer/{number}/"):
                index, key = name.split("/")[2:]
                saved["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(saved)
    return facts["step"], facts["batches"]


def cut_metrics(path: Path, phase: str, step: int) -> None:
    """Forget the rows of this phase that lie after the saved state: they will be written again."""
    if path.exists():
        rows = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in rows if (row := json.loads(line))["phase"] != phase or row["step"] <= step]
        write_atomically(path, "".join(line + "\n" for line in kept))


def _named(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": value
        for part, module in parts.items()
        for name, value in trained_parameters(module).items()
    }


def _load_parts(parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], source: Path) -> None:
    for part, module in parts.items():
        own = {
            name.removeprefix(f"{part}/"): value
            for name, value in tensors.items()
            if name.startswith(f"{part}/")
        }
        load_parameters(module, own, source)
