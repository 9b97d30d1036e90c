"""What other tools need of a folded model: fields of config.json, and a warning if a head is dropped.

transformers 5 stores the rotary embedding in one field, `rope_parameters`. Many tools still read
the fields of transformers 4 and use a default of their own, without an error, if those are missing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import CharEmbedError
from .files import write_atomically

# GPT-NeoX had names of its own for the base and for the rotated share of each head.
_NEOX = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
_NAMES = {"gpt_neox": _NEOX, "gpt_neox_japanese": _NEOX}
# Classes with one rope for each type of layer that had top-level fields in transformers 4.
_LOCAL_BASE = {"gemma3_text", "gemma3n_text"}
# llama.cpp's converter skips `lm_head.weight` of these, as their released models are tied.
_HEAD_IS_SKIPPED = {"GemmaForCausalLM", "Gemma2ForCausalLM"}
_SCALED = {"linear", "dynamic", "yarn", "llama3", "longrope"}


def complete_config(folder: str | Path) -> dict[str, Any]:
    """Add to a saved config.json the fields that other tools read, and return the added fields.

    model.save_pretrained("plain")
    charembed.complete_config("plain")     # {"rope_theta": 500000.0, "rope_scaling": {...}}

    mlx-lm and mistral.rs read `rope_theta`, `rope_scaling` and `partial_rotary_factor` at the top
    level, where transformers 5 no longer writes them; llama.cpp's converter and mlx-lm read GPT-2's
    `n_ctx`. `rope_parameters` stays, and transformers loads the same model. `charembed.fold` sets
    the same fields on the config of the model, except for scaled ropes (yarn, llama3, linear):
    transformers reads a field `rope_scaling` of the file, but does not let a config hold one. A
    field that exists is not changed. A rope that these fields cannot express is left alone.

    Raises CharEmbedError if the folder has no readable config.json.
    """
    if not isinstance(folder, str | Path):
        raise CharEmbedError(
            f"folder is {folder!r}; it must be the path of a folder that save_pretrained wrote."
        )
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CharEmbedError(
            f"{path} cannot be read ({error}). Name a folder that save_pretrained wrote."
        ) from None
    if not isinstance(config, dict):
        raise CharEmbedError(
            f"{path} holds a {type(config).__name__}, not an object. Name a folder that "
            "save_pretrained wrote."
        )
    added: dict[str, Any] = {}
    for part in list(_with_inner(config)):
        new = _missing(part, scaled=True)
        part.update(new)
        added |= new
    if added:
        write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    return added


def set_config_fields(model: nn.Module) -> None:
    """Set the missing fields on the configs of a model of transformers, for its save_pretrained.

    A scaled rope is left alone: its base without its scaling would be wrong in tools that refuse a
    config without a base.
    """
    for config in _configs(getattr(model, "config", None)):
        for name, value in _missing(config.to_dict(), scaled=False).items():
            setattr(config, name, value)


def warn_of_skipped_head(model: nn.Module) -> None:
    """Warn if another tool drops the head that fold is about to separate from the embedding."""
    names = {type(part).__name__ for part in model.modules()}
    for name in sorted(names & _HEAD_IS_SKIPPED):
        warnings.warn(
            f"llama.cpp's converter skips the separate head of a folded {name} without an error, "
            "and the GGUF file computes other outputs. Use transformers, CTranslate2 or ONNX "
            "Runtime for this model (docs/compatibility.md).",
            stacklevel=3,
        )


def check_exportable(part: str) -> None:
    """Raise CharEmbedError if a tracer runs that has no operator for `part` of an encoder.

    `torch.export` and `torch.compile` have one, so they pass.
    """
    if torch.compiler.is_compiling():
        refused = "ONNX" if torch.compiler.is_exporting() and _exports_to_onnx() else None
    else:
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        refused = "TorchScript" if tracing else None
    if refused:
        raise CharEmbedError(
            f"{refused} has no operator for {part} of a character encoder. Fold before export: "
            "charembed.fold(model)."
        )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _exports_to_onnx() -> bool:
    # Dynamo replaces the function of torch by False, and torch.onnx tries Dynamo after an error.
    return torch.onnx.is_in_onnx_export()


def _with_inner(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a config and those inside it: that of a model of text and images holds its decoder's."""
    yield config
    for value in config.values():
        if isinstance(value, dict):
            yield from _with_inner(value)


def _configs(config: Any) -> Iterator[Any]:
    """Yield a config of transformers and those inside it; nothing for other objects."""
    if hasattr(config, "to_dict") and hasattr(config, "model_type"):
        yield config
        for part in vars(config).values():
            yield from _configs(part)


def _missing(config: dict[str, Any], *, scaled: bool) -> dict[str, Any]:
    """Return the fields to add to one config, without those of configs inside it."""
    kind, rope = config.get("model_type"), config.get("rope_parameters")
    fields = _rope_fields(kind, rope, scaled) if isinstance(rope, dict) else {}
    if kind == "gpt2" and "n_positions" in config:
        fields["n_ctx"] = config["n_positions"]
    return {name: value for name, value in fields.items() if name not in config}


def _rope_fields(kind: Any, rope: dict[str, Any], scaled: bool) -> dict[str, Any]:
    """Return the fields of transformers 4 for `rope_parameters`, {} if there are none."""
    by_layer = {name: value for name, value in rope.items() if isinstance(value, dict)}
    if not by_layer:
        return _flat_fields(kind, rope, scaled)
    if kind in _LOCAL_BASE and by_layer.keys() == {"full_attention", "sliding_attention"}:
        local = by_layer["sliding_attention"]
        fields = _flat_fields(kind, by_layer["full_attention"], scaled)
        if fields and local.get("rope_type") == "default" and "rope_theta" in local:
            # transformers adds `rope_scaling` to the parameters of full attention, which have a
            # base already
            return fields | {"rope_local_base_freq": local["rope_theta"]}
        return {}
    first, *others = by_layer.values()
    # layers with different ropes cannot be expressed, as no tool reads a common field for them
    return _flat_fields(kind, first, False) if all(one == first for one in others) else {}


def _flat_fields(kind: Any, rope: dict[str, Any], scaled: bool) -> dict[str, Any]:
    rope_type = rope.get("rope_type", "default")
    if rope.get("rope_theta") is None or rope_type not in (
        {"default"} | (_SCALED if scaled else set())
    ):
        return {}
    names = _NAMES.get(kind, {})
    fields = {
        names.get(name, name): rope[name]
        for name in ("rope_theta", "partial_rotary_factor")
        if rope.get(name) is not None
    }
    return fields if rope_type == "default" else fields | {"rope_scaling": dict(rope)}
