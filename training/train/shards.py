"""The state of a training with sharded weights (FSDP2), in files that each process writes.

    shards/pretrain-200/   shard-00001-model-00001-of-00001.safetensors   (of the first process)
                           shard-00002-model-00001-of-00001.safetensors   (of the second one)
                           record.json     position and hashes, written last: the folder of a save
                                           that was killed has none

torch.distributed.checkpoint writes and reads the tensors, in safetensors files: its usual format
would be unpickled. Any number of processes can read a state, also one without FSDP2. All processes
must see the same folder.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed.checkpoint
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from training.errors import Broke, Damaged
from training.files import AGAIN, read_record, write_record

from .dtensors import is_sharded, whole
from .state import (
    STATE,
    Parts,
    Position,
    fill,
    load_state,
    named_tensors,
    owners,
    position_of,
    save_state,
    trained_parameters,
)

_DCP: Any = torch.distributed.checkpoint  # its types do not export what it exports
_SHARDS, _RECORD = "shards", "record.json"


@torch.no_grad()
def gather(sharded: Parts, into: Parts) -> None:
    """Copy the trained weights of sharded modules into whole ones; all processes must call it."""
    for part, module in into.items():
        values = trained_parameters(sharded[part])
        # one by one, so that there is no second whole model in memory
        for name, own in trained_parameters(module).items():
            own.copy_(whole(values[name]))


def save(
    folder: Path,
    position: Position,
    parts: Parts,
    optimizers: Sequence[Optimizer],
    accelerator: Accelerator,
) -> None:
    """Write the state of a training: one file, or shards if it is sharded; delete older states.

    All processes must call it. Raises Broke, in all of them, if one cannot write its shard.
    """
    tensors, main = named_tensors(parts, optimizers), accelerator.is_main_process
    if any(map(is_sharded, tensors.values())):
        place = _write_shards(folder / _SHARDS, position, tensors, accelerator)
        if main:
            (folder / STATE).unlink(missing_ok=True)
            for other in place.parent.iterdir():
                if other != place:
                    shutil.rmtree(other)
    elif main:
        save_state(folder / STATE, position, parts, optimizers)
        shutil.rmtree(folder / _SHARDS, ignore_errors=True)
    accelerator.wait_for_everyone()


def load(folder: Path, start: Position, parts: Parts, optimizers: Sequence[Optimizer]) -> Position:
    """Load the last state of the phase of `start` and return its position, or `start`.

    All processes must call it. The state may be of any number of processes, sharded or not.
    """
    found = _newest(folder / _SHARDS, start)
    if found is None:
        return load_state(folder / STATE, start, parts, optimizers)
    place, files, position = found
    fill(parts, optimizers, _read_shards(place, files, owners(parts, optimizers)), place)
    return position


def forget(folder: Path) -> None:
    """Delete the states of an arm's training."""
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder / _SHARDS, ignore_errors=True)


def _write_shards(
    folder: Path, position: Position, tensors: Mapping[str, Tensor], accelerator: Accelerator
) -> Path:
    place = folder / f"{position.phase}-{position.step}"
    if accelerator.is_main_process:
        shutil.rmtree(place, ignore_errors=True)  # of a save that was killed
        place.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with _one_sentence(place):
        # contiguous, as the format wants it
        plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        writer = _DCP.HuggingFaceStorageWriter(str(place), save_distributed=True)
        _DCP.save(plain, storage_writer=writer)
    paths = sorted(place.glob("*.safetensors"))
    mine = paths[accelerator.process_index :: accelerator.num_processes]
    digests = gather_object([(path.name, _sha256(path)) for path in mine])
    if accelerator.is_main_process:
        # it makes the state count; until then the one before does
        write_record(place / _RECORD, {"position": asdict(position), "files": dict(digests)})
    return place


def _newest(folder: Path, start: Position) -> tuple[Path, dict[str, str], Position] | None:
    """Return the place, the hashes of the files and the position of the last complete state."""
    found: tuple[Path, dict[str, str], Position] | None = None
    for path in sorted(folder.glob(f"{start.phase}-*/{_RECORD}")):
        record = read_record(path)
        position = position_of(record["position"], start.run, path)
        if found is None or position.step > found[2].step:
            found = path.parent, record["files"], position
    return found


def _read_shards(
    place: Path, files: Mapping[str, str], owner_of: Callable[[str], Tensor | None]
) -> dict[str, Tensor]:
    """Read a state. A tensor of the shape of its parameter is sharded as this one is.

    Raises Damaged if a file is missing or has other content than was saved.
    """
    for name, digest in files.items():
        if not (place / name).is_file() or _sha256(place / name) != digest:
            raise Damaged(
                f"{place / name} is damaged (its content is not what was saved): {AGAIN}."
            )
    reader = _DCP.HuggingFaceStorageReader(str(place))
    tensors = dict[str, Tensor]()
    for name, saved in reader.read_metadata().state_dict_metadata.items():
        owner, facts = owner_of(name), cast(Any, saved)
        if owner is not None and is_sharded(owner) and owner.shape == facts.size:
            tensors[name] = torch.empty_like(owner, dtype=facts.properties.dtype)
        else:
            tensors[name] = torch.empty(facts.size, dtype=facts.properties.dtype)
    with _one_sentence(place), warnings.catch_warnings():
        # torch warns that it reads in a single process, also if that was asked for
        warnings.simplefilter("ignore", UserWarning)
        alone = not any(map(is_sharded, tensors.values()))
        _DCP.load(tensors, storage_reader=reader, no_dist=alone)
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as file:  # which may be larger than the memory
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _one_sentence(place: Path) -> Iterator[None]:
    """Turn a CheckpointException, which is no Exception but a BaseException, into Broke."""
    try:
        yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        seen = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise Broke(
            f"The sharded state in {place} could not be written or read ({seen}). The state that "
            "was saved before it is kept: correct this and start again with --resume."
        ) from None
