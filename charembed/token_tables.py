"""Find the token tables of a model: the rows of its embedding and those of its head.

Axes: N tokens, V vocabulary, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import CharEmbedding
from .errors import AttachError
from .model_state import address
from .sharding import check_unsharded

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WRAPPER_NAMES = ("_orig_mod", "module")  # added to paths by torch.compile and DDP


@dataclass(frozen=True, kw_only=True)
class TokenTables:
    """Where a model holds its token tables.

    tables = find_tables(model, "model")
    tables.path, tables.head_path     # "model.embed_tokens", "lm_head"
    """

    model: Any
    path: str
    embedding: nn.Embedding
    head_path: str
    head: Any  # None if the model has no output layer
    tied: bool

    @property
    def num_rows(self) -> int:
        """Rows that both tables have."""
        heads = [] if self.head is None else [self.head.weight.shape[0]]
        return min([self.embedding.weight.shape[0], *heads])

    @property
    def widths(self) -> list[int | None]:
        """Columns of the embedding and of the head."""
        head = None if self.head is None else self.head.weight.shape[1]
        return [self.embedding.weight.shape[1], head]


def find_tables(model: Any, argument: str) -> TokenTables:
    """Find embedding and head. Raises AttachError if an adapter of rows cannot be made for them."""
    if not isinstance(model, nn.Module) or not hasattr(model, "get_input_embeddings"):
        raise AttachError(
            f"{argument} is a {type(model).__name__} without get_input_embeddings(). Pass a model of "
            "transformers."
        )
    if hasattr(model, "peft_config"):
        raise AttachError(
            f"{argument} has an adapter of PEFT already. Merge it first (merge_and_unload), or pass "
            "the base."
        )
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    head: Any = _head(model)
    if not isinstance(embedding, nn.Embedding):
        raise AttachError(
            f"The input embedding of {argument} is a {type(embedding).__name__}, not an "
            "nn.Embedding, so its rows cannot be exported. Save the whole model."
        )
    check_unsharded(model, embedding)
    if isinstance(embedding, CharEmbedding):
        embedding.check_whole()
    for table in [embedding.weight, *([] if head is None else [head.weight])]:
        if table.is_meta or table.dtype not in _FLOATS or table.dim() != 2:
            raise AttachError(
                f"A token table of {argument} has dtype {table.dtype} on device {table.device}. "
                "Load the model without quantization and offloading, then export."
            )
    others = [
        part
        for part in model.modules()
        if isinstance(part, nn.Embedding)
        and part is not embedding
        and address(part.weight) == address(embedding.weight)
    ]
    if others or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise AttachError(
            f"{type(model).__name__} looks its rows up in {len(others) + 1} embeddings (encoder and "
            "decoder), and an adapter of PEFT would change one of them. Save the whole model: "
            "charembed.fold(model).save_pretrained(...)."
        )
    return TokenTables(
        model=model,
        path=_path(model, embedding),
        embedding=embedding,
        head_path="" if head is None else _path(model, head),
        head=head,
        # PEFT reads the flag alone, also if the tables are separate in spite of it
        tied=head is not None
        and (
            address(head.weight) == address(embedding.weight)
            or getattr(getattr(model, "config", None), "tie_word_embeddings", False) is True
        ),
    )


def _head(model: Any) -> Any:
    """Return the output layer, None if the model has none."""
    try:
        head = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return head if isinstance(getattr(head, "weight", None), Tensor) else None


def _path(model: nn.Module, part: nn.Module) -> str:
    return plain_path(next(path for path, found in model.named_modules() if found is part))


def plain_path(path: str) -> str:
    """Return a module's path without the names of wrappers."""
    return ".".join(name for name in path.split(".") if name not in _WRAPPER_NAMES)


def taken(table_VD: Tensor, ids: list[int]) -> Tensor:
    """Return a copy of some rows (N, D) on the CPU."""
    return (
        table_VD.detach()[torch.tensor(ids, dtype=torch.long, device=table_VD.device)]
        .cpu()
        .contiguous()
    )
