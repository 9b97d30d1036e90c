"""JSON and tensors in files that are complete or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from charembed.files import write_atomically as write_atomically

from .errors import BadInput


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Tensors and JSON facts in one safetensors file: one rename, so both are there or neither."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, metadata={"facts": json.dumps(facts)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote. Raises BadInput for a file that is missing or damaged."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist: finish the run that writes it, or name another folder.")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(
                (file.metadata() or {}).get("facts", "{}")
            )
    except SafetensorError as error:
        raise BadInput(f"{path} is damaged ({error}): delete it and run again with --resume.") from None
