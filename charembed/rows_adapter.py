"""The files of an adapter of PEFT that holds rows: its tensors, adapter_config.json, README.md.

The format is that of PEFT 0.21: https://huggingface.co/docs/peft/developer_guides/checkpoint
Axes: N exported tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from .errors import CharEmbedError
from .files import write_atomically
from .version import __version__

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model"


def trainable_tokens(
    ids: list[int], rows_of: dict[str, Tensor], targets: list[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of a trainable-tokens adapter.

    trainable_tokens([7], {"model.embed_tokens": rows_ND, "lm_head": rows_ND}, ["model.embed_tokens"])

    Arguments:
        ids: the ids (N,).
        rows_of: their rows (N, D) in each table, by the path of the module.
        targets: the modules that PEFT wraps; for a tied head the embedding alone.
    """
    tensors = {f"{_PREFIX}.{path}.trainable_tokens_delta": rows for path, rows in rows_of.items()}
    config = {
        "init_weights": True,
        "peft_type": "TRAINABLE_TOKENS",
        "target_modules": targets,
        "token_indices": ids,
    }
    return tensors, config


def lora(
    ids: list[int],
    embedding: tuple[str, Tensor, int],
    head: tuple[str, Tensor, int] | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of a LoRA adapter that adds to rows, with one rank for each id.

    Arguments:
        ids: the ids (N,).
        embedding: its path, what is added to its rows (N, D), and its number of rows V.
        head: the same of the head. Default: None, the head is unchanged.
    """
    path, change_ND, num_rows = embedding
    tensors = {
        f"{_PREFIX}.{path}.lora_embedding_A": _selected(ids, num_rows),
        f"{_PREFIX}.{path}.lora_embedding_B": change_ND.T.contiguous(),
    }
    targets = [path]
    if head is not None:
        path, change_ND, num_rows = head
        tensors |= {
            f"{_PREFIX}.{path}.lora_A.weight": change_ND.contiguous(),
            f"{_PREFIX}.{path}.lora_B.weight": _selected(ids, num_rows).T.contiguous(),
        }
        targets.append(path)
    config = {
        "bias": "none",
        "fan_in_fan_out": False,
        "lora_alpha": len(ids),  # scaled by alpha / r = 1
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": len(ids),
        "target_modules": targets,
        "use_dora": False,
        "use_rslora": False,
    }
    return tensors, config


def _selected(ids: list[int], num_rows: int) -> Tensor:
    """Return a matrix (N, V) with a one for each id."""
    chosen_NV = torch.zeros(len(ids), num_rows)
    chosen_NV[torch.arange(len(ids)), torch.tensor(ids)] = 1
    return chosen_NV


def check_folder(folder: Any) -> Path:
    """Return the folder as a Path. Raises CharEmbedError if no adapter can be written there."""
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise CharEmbedError(f"folder is {folder!r}; it must be the path of a folder.")
    if str(folder).startswith("hf:"):
        raise CharEmbedError(
            f"folder is {str(folder)!r}. Export to a folder, then upload it: "
            "huggingface_hub.upload_folder(...)."
        )
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise CharEmbedError(f"{path} is a file. Name a folder.")
    if (path / CONFIG).exists():
        raise CharEmbedError(
            f"{path} has an adapter already ({CONFIG}). Name another folder, or delete that one."
        )
    return path


def write_adapter(
    folder: Path, tensors: dict[str, Tensor], config: dict[str, Any], base: dict[str, Any]
) -> None:
    """Write the adapter; its config comes last, and without it PEFT finds no adapter.

    Argument base: the description of the base, which `check_rows` reads.
    """
    metadata = {"format": "pt", "charembed": __version__, "base": json.dumps(base)}
    write_atomically(folder / TENSORS, safetensors.save(tensors, metadata=metadata))
    if not (folder / "README.md").exists():
        write_atomically(folder / "README.md", _card(config, base))
    whole = {"inference_mode": True, "revision": None} | config
    write_atomically(folder / CONFIG, json.dumps(whole, indent=2, sort_keys=True) + "\n")


def _card(config: dict[str, Any], base: dict[str, Any]) -> str:
    name = config["base_model_name_or_path"] or "the base"
    if config["peft_type"] == "LORA":
        head = "Do not merge it into a base with a tied head: both changes would be added to one table."
        held = f"a LoRA adapter of rank {config['r']} that changes the rows of {config['r']} tokens"
    else:
        head = (
            "The head of the base must be tied to its embedding (tie_word_embeddings true). A "
            "separate head would keep its old rows, without an error."
            if base["tied"]
            else "A head of the base must have a table of its own (tie_word_embeddings false)."
        )
        held = f"a trainable-tokens adapter with the rows of {len(config['token_indices'])} tokens"
    lines = [
        f"- The base needs at least {base['num_rows']} rows. An adapter adds none.",
        f"- {head}",
        "- PEFT loads the adapter onto another base of the same width without an error. "
        "charembed.check_rows(base, folder) finds it.",
        "- Use the tokenizer that has these tokens.",
    ]
    about = f"This is {held}, for {name}, written by charembed {__version__}."
    return "\n".join(["---", "library_name: peft", "---", "", about, "", *lines, ""])
