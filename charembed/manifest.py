"""The manifest and the tensors of a saved part: read, and checked before anything is built of them.

The hashes show damage. But whoever changes a file can also compute its hashes again, so every value
is checked too: its type, its range, and sizes that would take memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import CheckpointError, MismatchError
from .files import hash_tensors
from .version import __version__

FORMAT = 2
# Format 1 also had the manifest in a JSON file, named the LSTM by its class, and had no hash of the
# base.
_READABLE = (1, 2)
_LSTM_IN_FORMAT_1 = "LSTMEncoder"
AGAIN = "Save it again, or use another copy"
_SAMPLE = 256  # values of the base's token table in `base`
_LAST_CODE_POINT = {"codepoint": 0x10FFFF, "byte": 0xFF}  # of each unit
# safetensors' names of dtypes. A parameter may be saved in any of the first four.
_FLOATS = ("F32", "F16", "BF16", "F64")
_OTHERS = {
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def hash_manifest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the manifest without its own hash."""
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Load the manifest and check its format, its hash and its values.

    Arguments:
        path: the safetensors file.
        known: the encoders by name, `charembed.ENCODERS`.

    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Pass a folder that charembed.save wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            manifest = json.loads((file.metadata() or {}).get("manifest", "null"))
        seen = hash_manifest(manifest) if isinstance(manifest, dict) else ""
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). {AGAIN}.") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise CheckpointError(f"{path} has no manifest of charembed. {AGAIN}.")
    if not _is_int(manifest["format"]) or manifest["format"] not in _READABLE:
        wrote = manifest.get("charembed", "another version")
        raise CheckpointError(
            f"{path} has format {_short(manifest['format'])}, written by charembed "
            f"{_short(wrote)}. This "
            f"version, {__version__}, loads formats 1 to {FORMAT}."
        )
    if seen != (expected := manifest.get("manifest_sha256")):
        raise CheckpointError(
            f"The manifest in {path} is damaged: its SHA-256 is {seen[:12]}..., but it must be "
            f"{_short(expected)[:13]}... {AGAIN}."
        )
    if manifest["format"] == 1:
        manifest["class"] = manifest.get("encoder")
        if manifest["class"] == _LSTM_IN_FORMAT_1:
            manifest["encoder"] = "lstm"
    checks = _CHECKS | (_ENCODER_CHECKS if manifest.get("encoder") in list(known) else {})
    if "base" in manifest:
        checks = checks | {"base": _is_base}
    if wrong := [key for key, is_right in checks.items() if not is_right(manifest.get(key))]:
        raise CheckpointError(
            f"The manifest in {path} lacks keys or has values that are not possible: "
            f"{', '.join(wrong)}. {AGAIN}."
        )
    if manifest.get("unit") and max(manifest["alphabet"]) > _LAST_CODE_POINT[manifest["unit"]]:
        raise CheckpointError(
            f"The alphabet in {path} has the symbol {max(manifest['alphabet'])}, which no "
            f"{manifest['unit']} has. {AGAIN}."
        )
    return manifest


def check_path(path: Any) -> None:
    """Raise CheckpointError if the path is no str and no Path."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise CheckpointError(f"path is {path!r}; it must be a folder, or 'hf:owner/name'.")


def check_layers(config: Mapping[str, Any], path: Path) -> None:
    """Raise MismatchError if the config has more layers than the file has tensors.

    Each layer has parameters. Other sizes cost nothing on meta, but a billion layers are a billion
    modules there too.
    """
    with _opened(path) as file:
        tensors = len(file.keys())
    layers = config.get("layers", 0)
    if _is_int(layers) and layers > tensors:
        raise MismatchError(
            f"The config in {path} has {_short(layers)} layers, but the file has {tensors} "
            f"tensors. {AGAIN}."
        )


def read_tensors(path: Path, expected: Mapping[str, Tensor], sha256: str) -> dict[str, Tensor]:
    """Load the tensors; names, shapes and dtypes are compared before anything is allocated.

    Arguments:
        path: the safetensors file.
        expected: the state dict of the encoder that gets them, for example on meta.
        sha256: hash of the tensors in the manifest.

    Raises MismatchError if the tensors are another encoder's, CheckpointError if they are damaged.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        seen = {name: found.get_shape() for name, found in slices.items()}
        shapes = {name: list(tensor.shape) for name, tensor in expected.items()}
        if seen != shapes:
            other = [name for name in seen | shapes if seen.get(name) != shapes.get(name)]
            first = other[0]
            raise MismatchError(
                f"{path} is for another encoder: {len(other)} tensors differ, the first is "
                f"{first!r} with the shape {seen.get(first)} in the file and {shapes.get(first)} in "
                "the encoder. Pass the encoder that the part was saved with."
            )
        for name, found in slices.items():
            _check_dtype(path, name, found.get_dtype(), expected[name].dtype)
        # subtle: cloned into aligned memory, because matrix products with unaligned weights may
        # differ in the last bit
        tensors = {name: file.get_tensor(name).clone() for name in slices}
    if (hashed := hash_tensors(tensors)) != sha256:
        raise CheckpointError(
            f"{path} is damaged: the SHA-256 of its tensors is {hashed[:12]}..., but the manifest "
            f"has {sha256[:12]}... {AGAIN}."
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} in {path} is not finite. Use an earlier copy.")
    return tensors


def build(
    make: Callable[..., nn.Module], arguments: tuple[Any, ...], config: Mapping[str, Any]
) -> nn.Module:
    """Build an encoder of the manifest's config. Raises CheckpointError if it does not take it."""
    try:
        return make(*arguments, **config)
    except Exception as error:  # of whatever class: a wrong config may fail anywhere
        raise CheckpointError(
            f"The manifest has a config that the encoder does not take: {_short(dict(config))} "
            f"({_cut(str(error))}). {AGAIN}."
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; damage is a CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}). {AGAIN}.") from None


def _check_dtype(path: Path, name: str, found: str, expected: torch.dtype) -> None:
    allowed = _FLOATS if expected.is_floating_point else (_OTHERS.get(expected),)
    if found not in allowed and allowed != (None,):
        raise CheckpointError(
            f"{name} in {path} has the dtype {found}; it must be {' or '.join(map(str, allowed))}. "
            f"{AGAIN}."
        )


def _short(value: Any) -> str:
    """Return a value for a message. A damaged file may have a value of any size."""
    try:
        text = repr(value)
    except RecursionError:  # nested a thousand times
        return f"a {type(value).__name__}"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    # subtle: a comparison, because float() of an integer beyond the floats raises an error
    number = _is_int(value) or isinstance(value, float)
    return number and abs(value) <= torch.finfo(torch.float32).max


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1_000


def _is_alphabet(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_int(symbol) and 0 <= symbol <= 0x10FFFF for symbol in value)
        and len(set(value)) == len(value)
    )


def _is_base(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_is_text(value.get(key)) for key in ("dtype", "sha256"))
        and isinstance(sample := value.get("sample"), list)
        and len(sample) == _SAMPLE
        and all(map(_is_finite, sample))
    )


_Check = Callable[[Any], bool]
_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("module", "encoder", "class", "tensors_sha256"), _is_text),
    **dict.fromkeys(("num_tokens", "embedding_dim"), _is_int),
}
# of manifests with an encoder of ENCODERS
_ENCODER_CHECKS: dict[str, _Check] = {
    "config": lambda value: isinstance(value, dict),
    "unit": lambda value: isinstance(value, str) and value in _LAST_CODE_POINT,
    "alphabet": _is_alphabet,
    "spellings_sha256": _is_text,
    "loudness": lambda value: value is None or (_is_finite(value) and value >= 0),
}
