"""The base that an adapter of rows was made for: a description in the file, and the check.

Axes: N exported tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .embedding import CharEmbedding
from .errors import CharEmbedError, CheckpointError, MismatchError
from .files import hash_tensors
from .rows_adapter import TENSORS
from .token_tables import TokenTables, find_tables, taken

_SAMPLED = 16  # rows, and values of each row
_TYPES: dict[str, Any] = {
    "num_rows": int,
    "columns": int | None,
    "path": str,
    "head_path": str,
    "widths": list,
    "tied": bool | None,
    "base": dict,
}


def check_rows(base: nn.Module, folder: str | Path) -> None:
    """Raise MismatchError if the adapter in the folder was exported for another base.

    base = AutoModelForCausalLM.from_pretrained(...)
    charembed.check_rows(base, "words")
    PeftModel.from_pretrained(base, "words")     # by itself PEFT loads it onto any base of this width

    The rows of both tables, their width and their paths are compared, whether the head is tied, and
    the values of 16 other rows. A base of another precision is compared within 2 %.

    Arguments:
        base: the model to be served, before PEFT wraps it.
        folder: a folder that `charembed.export_rows` wrote.

    Raises CheckpointError if the folder has no such adapter, or if its file is damaged.
    """
    check_fit(_read(folder), find_tables(base, "base"))


def describe(
    tables: TokenTables, base: TokenTables, ids: list[int], *, lora: bool
) -> dict[str, Any]:
    """Return the description of a base, for the adapter's file.

    Arguments:
        tables: those of the model whose rows are exported.
        base: those of the base.
        ids: the exported ids, in order.
        lora: True for a LoRA adapter. It adds to the base's rows of the ids, so their values are
            compared too. Other adapters exchange these rows.
    """
    weight = base.embedding.weight
    others = sorted(set(range(base.num_rows)) - set(ids))
    own = [token for token in ids if token < base.num_rows] if lora else []
    compared = _evenly(others) + _evenly(own)
    return {
        "num_rows": ids[-1] + 1,
        "columns": weight.shape[0] if lora else None,
        "path": tables.path,
        "head_path": tables.head_path,
        "widths": tables.widths,
        "tied": None if lora else base.tied,
        "base": {"rows": compared} | _values(weight, compared),
    }


def check_fit(description: dict[str, Any], served: TokenTables) -> None:
    """Raise MismatchError if the adapter would compute other outputs on this base."""
    kind = type(served.model).__name__
    needed, columns = description["num_rows"], description["columns"]
    if isinstance(served.embedding, CharEmbedding):
        raise MismatchError(
            "base has a character encoder, and PEFT would skip it. Pass the plain model that will "
            "be served."
        )
    paths = [description["path"], description["head_path"]]
    if paths != [served.path, served.head_path]:
        raise MismatchError(
            f"The base ({kind}) has its tables at {served.path!r} and {served.head_path!r}, the "
            f"adapter is for {paths[0]!r} and {paths[1]!r}. Pass a base of the class of the model."
        )
    if description["widths"] != served.widths:
        raise MismatchError(
            f"The tables of the base ({kind}) have width {served.widths[0]}, the rows of the adapter "
            f"{description['widths'][0]}. Pass the base that the model was made from."
        )
    rows = served.embedding.weight.shape[0]
    if served.num_rows < needed:
        raise MismatchError(
            f"The base has {served.num_rows} rows, and the adapter needs {needed}. An adapter adds "
            f"no rows: call base.resize_token_embeddings({needed}, mean_resizing=False), then "
            "export for that base, save it and serve it."
        )
    if columns not in (None, rows):
        raise MismatchError(
            f"The base has {rows} rows, and the LoRA adapter was made for {columns}. Export it "
            "again with this base."
        )
    if description["tied"] not in (None, served.tied):
        raise MismatchError(
            f"The head of the base is {_tied(served.tied)}, and the adapter is for one that is "
            f"{_tied(description['tied'])}, so PEFT would use other rows. Export it again with "
            "this base."
        )
    _check_values(description["base"], served.embedding.weight)


def _check_values(known: dict[str, Any], weight: Tensor) -> None:
    rows = [row for row in known["rows"] if row < len(weight)]
    if not rows:  # every row was exported
        return
    now = _values(weight, rows)
    if now["dtype"] == known["dtype"] and len(rows) == len(known["rows"]):
        same = now["sha256"] == known["sha256"]
    else:
        here = torch.tensor(now["sample"])
        there = torch.tensor(known["sample"])[: len(rows)]
        # bfloat16 has 8 bits of precision, so 2 % covers the rounding of either table
        same = torch.allclose(here, there, rtol=2e-2, atol=1e-2 * float(there.abs().max()))
    if not same:
        raise MismatchError(
            "The adapter is for another base: the rows of other tokens differ. Load the base that "
            "it was exported for, or export it again with this base."
        )


def _values(weight: Tensor, rows: list[int]) -> dict[str, Any]:
    """Return dtype and hash of some rows, and a sample of their values."""
    found_RD = taken(weight, rows)
    columns = torch.linspace(0, weight.shape[1] - 1, _SAMPLED).long()
    sample = found_RD[:, columns].float().tolist()
    return {
        "dtype": str(weight.dtype),
        "sha256": hash_tensors({"rows": found_RD}),
        # 6 digits are enough for a comparison within 2 %
        "sample": [[float(f"{value:.6g}") for value in row] for row in sample],
    }


def _evenly(ids: list[int]) -> list[int]:
    count = min(_SAMPLED, len(ids))
    return [ids[k * len(ids) // count] for k in range(count)]


def _tied(tied: bool) -> str:
    return "tied to its embedding" if tied else "a table of its own"


def _read(folder: Any) -> dict[str, Any]:
    """Return the description in an adapter's file. Raises CheckpointError."""
    if not isinstance(folder, str | Path):
        raise CharEmbedError(f"folder is {folder!r}; it must be the path of a folder.")
    path = Path(folder) / TENSORS
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist. Pass a folder that charembed.export_rows wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {}).get("base", "null"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Export it again.") from None
    if not isinstance(found, dict) or not _is_description(found):
        raise CheckpointError(
            f"{path} does not say for which base it is. Only adapters that charembed.export_rows "
            "wrote can be checked."
        )
    return found


def _is_description(found: dict[str, Any]) -> bool:
    if not all(isinstance(found.get(key, ...), kind) for key, kind in _TYPES.items()):
        return False
    base = found["base"]
    rows, sample = base.get("rows"), base.get("sample")
    return (
        isinstance(rows, list)
        and all(isinstance(row, int) and row >= 0 for row in rows)
        and isinstance(sample, list)
        and [len(row) if isinstance(row, list) else -1 for row in sample] == [_SAMPLED] * len(rows)
        and all(isinstance(value, float) for row in sample for value in row)
        and len(found["widths"]) == 2
    )
