"""Read and write JSON and tensors so that a file is complete or absent, and damage is detected.

A record is a JSON object with the hash of its content. Tensors are in the safetensors format. Every
file is written under a temporary name and renamed at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from charembed.files import hash_tensors, is_left_over
from charembed.files import write_atomically as write_atomically

from .errors import BadInput, Damaged

# The ways out in messages about damaged files: one of the cache, one of a run.
CACHED = "delete it, and it is made again"
AGAIN = "delete it and run the command that made it once more with --resume, which makes it again"


def sha256(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object together with the hash of its content."""
    # The hash finds an edit by hand as well as a damaged disk.
    write_json(path, {**record, "sha256": _hash_record(record)})


def read_record(path: Path, way_out: str = AGAIN) -> dict[str, Any]:
    """Read the file of `write_record`. Raises Damaged if it is missing or has other content."""
    content = read_bytes(path, way_out)
    try:
        record = json.loads(content.decode("utf-8"))
        intact = record.pop("sha256") == _hash_record(record)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise Damaged(f"{path} is damaged: {way_out}.")
    return dict(record)


def read_bytes(path: Path, way_out: str = AGAIN) -> bytes:
    _check_file(path, way_out)
    return path.read_bytes()


def _check_file(path: Path, way_out: str = AGAIN) -> None:
    """Raise Damaged if there is no file of this name."""
    # A folder of this name is not made again by itself, so the message differs.
    if path.exists() and not path.is_file():
        raise Damaged(f"{path} is no file: {way_out}.")
    if not path.is_file():
        raise Damaged(f"{path} does not exist: {way_out.removeprefix('delete it and ')}.")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts to one safetensors file, with the hash of both.

    One file needs one rename, so there is never one of the two without the other.
    """
    # Contiguous and on the CPU, as the format wants it.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    write_atomically(
        path,
        save(plain, metadata={"facts": text, "sha256": hash_with_facts(hash_tensors(plain), text)}),
    )


def cached(
    path: Path, facts: Mapping[str, Any], make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors of a file of the cache. Make and write them first if there is no file.

    Raises Damaged if the file has other facts or cannot be read.
    """
    if path.exists():
        tensors, saved = read_tensors(path, CACHED)
        if saved != facts:
            raise Damaged(f"{path} is damaged (it holds another text): {CACHED}.")
    else:
        tensors = dict(make())
        write_tensors(path, tensors, facts)
    return tensors


def read_tensors(path: Path, way_out: str = AGAIN) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the file of `write_tensors`. Raises Damaged if it is missing or has other content."""
    _check_file(path, way_out)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            metadata = file.metadata() or {}
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise Damaged(f"{path} is damaged ({error}): {way_out}.") from None
    text = metadata.get("facts", "")
    if metadata.get("sha256") != hash_with_facts(hash_tensors(tensors), text):
        raise Damaged(f"{path} is damaged (its content is not what was saved): {way_out}.")
    facts: dict[str, Any] = json.loads(text)
    return tensors, facts


def clear_left_overs(folder: Path, *, ours: bool = False) -> None:
    """Delete unfinished files of processes that have ended.

    `ours`: no other process writes in this folder, so all unfinished files can go.
    """
    if folder.is_dir():
        # write_atomically names a file .NAME.HOST.PROCESS.NUMBER.part until it is complete.
        for path in [*folder.glob(".*.part"), *folder.glob("seed*/*/.*.part")]:
            if path.is_file() and (ours or is_left_over(path)):
                path.unlink(missing_ok=True)


def hash_with_facts(tensors: str, facts: str) -> str:
    """The hash of a file of tensors, from that of its tensors and from its facts as JSON."""
    return sha256(f"{tensors} {facts}")


def _hash_record(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True))  # the order of the keys does not count


def packaged_files(package: str, suffix: str) -> list[Path]:
    """Return the data files of an installed package, without importing it.

    packaged_files("wordsegment", ".txt") -> [.../bigrams.txt, .../unigrams.txt]

    Raises BadInput if the package is not installed.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise BadInput(
            f"The package {package!r}, which holds the data, is not installed: pip install "
            f"{package}."
        ) from None
    return sorted(Path(str(file.locate())) for file in files if str(file).endswith(suffix))
