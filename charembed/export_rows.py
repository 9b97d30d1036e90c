"""Write the rows of some tokens as an adapter of PEFT, so that the base is served unchanged.

Axes: N exported tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import CharEmbedding
from .errors import CharEmbedError
from .model_state import address
from .rows_adapter import check_folder, lora, trainable_tokens, write_adapter
from .rows_base import check_fit, describe
from .token_tables import TokenTables, find_tables, plain_path, taken

_METHODS = ("trainable_tokens", "lora")
# The largest `max_lora_rank` of vLLM 0.33.0.
_MAX_RANK = 512
_COMPARED = 16  # rows whose look-up is compared


def export_rows(
    model: nn.Module,
    ids: Iterable[int],
    folder: str | Path,
    *,
    base: nn.Module | None = None,
    method: str = "trainable_tokens",
) -> None:
    """Write the rows of some tokens as an adapter of PEFT: the base is served unchanged beside it.

    ids = charembed.add_tokens(model, tokenizer, ["strawberry"])
    charembed.export_rows(model, ids, "words")          # words/adapter_config.json, ...
    PeftModel.from_pretrained(base, "words")            # peft alone; charembed is not needed

    The adapter holds the input rows that `charembed.fold` would write (token + character vector)
    and the rows of the head. All other tokens keep the base's rows, without character vectors. An
    adapter adds no rows: the base needs a row for each id.

    The method "trainable_tokens" exchanges rows; PEFT computes with them the same outputs, bit for
    bit, as with a table that has these rows. The method "lora" adds the difference to the base's
    rows, as a LoRA adapter with one rank for each id. Servers that read LoRA alone (vLLM, SGLang)
    take it; the outputs are equal up to rounding.

    Arguments:
        model: a transformers model, with or without an attached encoder, or folded.
        ids: token ids, such as `add_tokens` returns. An id that occurs twice counts once.
        folder: a folder without an adapter; it is created if it is missing.
        base: the model that will be served. The adapter is checked against it, and a warning says
            if it differs from `model` elsewhere. Required by "lora". Default: None, no check.
        method: "trainable_tokens" (default) or "lora", for at most 512 ids.

    Raises CharEmbedError if ids, folder or method are not valid, or if the adapter would give other
    outputs on the base: too few rows, another width, a tied head whose rows differ from the input
    rows, a head with a bias, an embedding whose class does more than scale its rows. Raises
    AttachError if the model cannot be read. Nothing is written then. An interrupted call leaves no
    adapter_config.json, so PEFT finds no adapter.
    """
    path = check_folder(folder)
    if method not in _METHODS:
        raise CharEmbedError(f"method is {method!r}; it must be one of {', '.join(_METHODS)}.")
    with torch.inference_mode(False), torch.no_grad():
        parts = find_tables(model, "model")
        chosen = _checked_ids(ids, parts)
        table_VD = _table(parts)
        rows, head_rows = _rows(parts, table_VD, chosen)
        served = None if base is None else _served(base, model)
        description = describe(parts, served or parts, chosen, lora=method == "lora")
        if served is not None:
            check_fit(description, served)
        _check_scales(parts, chosen)
        if method == "lora":
            tensors, config = _as_lora(parts, served, chosen, rows, head_rows)
        else:
            _check_expressible(parts, served or parts, rows, head_rows)
            held = {parts.path: rows}
            if head_rows is not None:
                held[parts.head_path] = head_rows
            # If both are targets, PEFT 0.21.2 fails in the first forward of a tied base. If the
            # embedding alone is one, it uses the rows in the tied head too, and saves them twice.
            targets = [parts.path] if (served or parts).tied else list(held)
            tensors, config = trainable_tokens(chosen, held, targets)
        if base is not None and served is not None:
            _warn_of_other_differences(parts, table_VD, served, chosen)
    config |= {
        "base_model_name_or_path": _name(model if base is None else base),
        "task_type": "CAUSAL_LM" if _generates(model) else None,
    }
    write_adapter(path, tensors, config, description)


def _checked_ids(ids: Any, parts: TokenTables) -> list[int]:
    """Return the ids in order, each once."""
    if isinstance(ids, Tensor):
        ids = ids.flatten().tolist()
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise CharEmbedError(f"ids is {ids!r}; it must be a list of token ids.")
    found = list(ids)
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < parts.num_rows:
            raise CharEmbedError(
                f"ids has {one!r}; each must be a whole number from 0 to {parts.num_rows - 1}, the "
                "last row of the model. Pass the ids that charembed.add_tokens returned."
            )
    if not found:
        raise CharEmbedError("ids is empty, so there is no row to export. Pass at least one id.")
    return sorted(set(found))


def _table(parts: TokenTables) -> Tensor:
    """Return the input table (V, D) that `fold` would write."""
    embedding = parts.embedding
    # the whole table, because its chunks decide the last bits, which `fold` keeps
    return embedding.table() if isinstance(embedding, CharEmbedding) else embedding.weight


def _rows(parts: TokenTables, table_VD: Tensor, ids: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return the input rows (N, D) and the rows of the head."""
    rows = taken(table_VD, ids)
    head_rows = None if parts.head is None else taken(parts.head.weight, ids)
    for found in (rows, head_rows):
        if found is not None and len(bad := (~torch.isfinite(found).all(dim=1)).nonzero()):
            raise CharEmbedError(
                f"The row of token {ids[int(bad[0])]} is not finite, so nothing was exported. "
                "Export an earlier checkpoint."
            )
    return rows, head_rows


def _served(base: Any, model: nn.Module) -> TokenTables:
    """Return the tables of the base."""
    if base is model:
        raise CharEmbedError(
            "base is the model itself, whose rows are exported. Pass another object: the model "
            "that will be served, as from_pretrained returns it."
        )
    return find_tables(base, "base")


def _check_scales(parts: TokenTables, ids: list[int]) -> None:
    """Raise CharEmbedError if the embedding's class does more than look up and scale.

    PEFT multiplies by `embed_scale`, if there is one, and does nothing else that the class may do.
    """
    embedding = parts.embedding
    host = embedding.as_host() if isinstance(embedding, CharEmbedding) else embedding
    forward = type(host).forward
    if forward is nn.Embedding.forward:
        return
    some = torch.tensor(ids[:_COMPARED], device=host.weight.device)
    expected = host.weight[some] * getattr(host, "embed_scale", 1.0)
    try:
        found = forward(host, some)
    except TypeError:  # it needs other arguments
        found = None
    if found is None or not torch.allclose(found, expected, rtol=1e-2):
        raise CharEmbedError(
            f"The embedding's class {type(host).__name__} has a forward that does more than scale "
            "the rows, and adapters of PEFT leave that out. Fold and save the whole model."
        )


def _check_expressible(
    parts: TokenTables, served: TokenTables, rows: Tensor, head_rows: Tensor | None
) -> None:
    """Raise CharEmbedError if PEFT's trainable tokens would compute other outputs."""
    bias = getattr(parts.head, "bias", None)
    if bias is not None and bool(bias.any()):
        raise CharEmbedError(
            f"The head {parts.head_path!r} has a bias, and PEFT's trainable tokens leave it out of "
            'the logits of all tokens. Pass method="lora" and base=..., or fold and save the whole '
            "model."
        )
    if head_rows is not None and served.tied and not torch.equal(rows, head_rows):
        raise CharEmbedError(
            "The head of the base is tied to its embedding, so PEFT uses one row for both, but "
            "the input rows have character vectors and the head's rows have not. Pass "
            'method="lora" and base=..., or serve a base with a head of its own and pass it as base.'
        )


def _as_lora(
    parts: TokenTables,
    served: TokenTables | None,
    ids: list[int],
    rows: Tensor,
    head_rows: Tensor | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of the LoRA adapter. Raises CharEmbedError if it cannot be made."""
    if served is None:
        raise CharEmbedError(
            'method="lora" stores the difference to the rows of the base. Pass the model that will '
            "be served: base=AutoModelForCausalLM.from_pretrained(...)."
        )
    if len(ids) > _MAX_RANK:
        raise CharEmbedError(
            f'method="lora" needs one rank for each of the {len(ids)} ids, and servers take at most '
            f'{_MAX_RANK} (vLLM). Export fewer, or pass method="trainable_tokens".'
        )
    biases = [getattr(part.head, "bias", None) for part in (parts, served)]
    if (biases[0] is None) != (biases[1] is None) or (
        biases[0] is not None and not torch.equal(*(taken(bias, ids) for bias in biases))
    ):
        raise CharEmbedError(
            f"The bias of the head {parts.head_path!r} differs from the base's for these ids, and an "
            "adapter cannot hold it. Copy the base's values into it, or save the whole model."
        )
    change = _change(rows, served.embedding.weight, ids)
    head_change = None if head_rows is None else _change(head_rows, served.head.weight, ids)
    return lora(
        ids,
        (parts.path, change, served.embedding.weight.shape[0]),
        None
        if head_change is None or not head_change.any()
        else (parts.head_path, head_change, served.head.weight.shape[0]),
    )


def _change(rows: Tensor, table_VD: Tensor, ids: list[int]) -> Tensor:
    # float32: rounded once, when it is added to the base's row
    return rows.float() - taken(table_VD, ids).float()


def _warn_of_other_differences(
    parts: TokenTables, table_VD: Tensor, served: TokenTables, ids: list[int]
) -> None:
    """Warn if the model differs from the base outside the exported rows."""
    V = min(parts.num_rows, served.num_rows)
    tables = [(table_VD, served.embedding.weight)]
    if parts.head is not None:
        tables.append((parts.head.weight, served.head.weight))
    differs_V = torch.zeros(V, dtype=torch.bool)
    for here, there in tables:
        differs_V |= _differing(here[:V], there[:V]).any(dim=1)
    differs_V[[one for one in ids if one < V]] = False
    in_tables = {address(table) for _, table in tables}
    own = {plain_path(name): parameter for name, parameter in parts.model.named_parameters()}
    names = [
        name
        for name, there in served.model.named_parameters()
        if address(there) not in in_tables and _differs(own.get(plain_path(name)), there)
    ]
    if names or differs_V.any():
        first = f" (the first is {names[0]})" if names else ""
        warnings.warn(
            f"The model differs from the base in {int(differs_V.sum())} other rows and in "
            f"{len(names)} other parameters{first}. The adapter does not hold them, so base and "
            "adapter compute other outputs than this model. To keep them, fold and save the whole "
            "model.",
            stacklevel=3,
        )


def _differs(here: Tensor | None, there: Tensor) -> bool:
    return here is None or here.shape != there.shape or bool(_differing(here, there).any())


def _differing(here: Tensor, there: Tensor) -> Tensor:
    """Compare values; tensors of two precisions are compared in the lower one."""
    dtype = min(here.dtype, there.dtype, key=lambda dtype: dtype.itemsize)
    return here.detach().cpu().to(dtype) != there.detach().cpu().to(dtype)


def _name(model: Any) -> str | None:
    """Return the name or folder that the model was loaded from."""
    name = getattr(model, "name_or_path", None) or None
    return os.fspath(name) if isinstance(name, str | os.PathLike) else None


def _generates(model: Any) -> bool:
    return bool(getattr(model, "can_generate", lambda: False)())
