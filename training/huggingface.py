"""Any causal language model of transformers, as the laboratory asks it.

Axes: B rows, T tokens per row, P columns that hold a kept position, N positions kept, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging

import charembed

from .errors import BadInput
from .models import LanguageModel

disable_progress_bar: Callable[[], None] = logging.disable_progress_bar


def read(kind: Any, name: str, what: str, **options: Any) -> Any:
    """`kind.from_pretrained(name)`.

    Raises BadInput, in one sentence, for what is not there or cannot be read.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise BadInput(
            f"the folder {name!r} holds no model: it has no config.json. Name a folder that save_pretrained "
            "wrote, or a hub name."
        )
    disable_progress_bar()  # the laboratory has its own
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadInput(
            f"{name!r} gives no {what} ({str(error).strip().splitlines()[0].rstrip('.')}): name another "
            "model."
        ) from None


def vocabulary_rows(name: str) -> int:
    """Rows of a pretrained model's input embedding: at least as many as its tokenizer has tokens."""
    rows: int = read(transformers.AutoConfig, name, "config").get_text_config().vocab_size
    return rows


class HuggingFace(LanguageModel):
    """A causal model of transformers, `model`, in fp32. Its own head makes the logits, with whatever scale or
    cap it has.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @classmethod
    def load(cls, name: str, context: int) -> HuggingFace:
        """Raises BadInput when no causal model of this name reads rows of `context` tokens."""
        model = cls(
            read(transformers.AutoModelForCausalLM, name, "causal language model", dtype=torch.float32)
        )
        model.extend_context(context, torch.Generator())
        return model

    @property
    def embedding(self) -> str:  # type: ignore[override]
        table = self.model.get_input_embeddings()
        path: str = next(path for path, module in self.named_modules() if module is table)
        return path

    def forward(self, ids_BT: Tensor, keep_BT: Tensor | None = None, cache: Any = None) -> Tensor:
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            options["past_key_values"] = cache
        columns_P = None if keep_BT is None else keep_BT.any(dim=0).nonzero().squeeze(1)
        if columns_P is not None and self.keeps_logits:
            options["logits_to_keep"] = columns_P
        logits: Tensor = self.model(input_ids=ids_BT, **options).logits
        if keep_BT is None:
            return logits
        return logits[keep_BT[:, columns_P] if self.keeps_logits else keep_BT]

    @property
    def context(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def extend_context(self, context: int, generator: torch.Generator) -> None:
        if self.context is not None and context > self.context:
            raise BadInput(
                f"the model reads {self.context} tokens at most, and the config wants rows of {context}: "
                "choose a smaller context and "
                f"finetune_context, or another model."
            )

    def new_cache(self) -> Any:
        return transformers.DynamicCache(config=self.model.config)

    def drop_rows(self, cache: Any, kept: Tensor) -> None:
        cache.batch_select_indices(kept)

    def inner_matrices(self) -> list[nn.Parameter]:
        outer = {id(parameter) for parameter in charembed.parameters(self)}
        for module in self.modules():
            if isinstance(module, nn.Embedding) or module is self.model.get_output_embeddings():
                outer |= {id(parameter) for parameter in module.parameters()}
        return [
            parameter
            for parameter in self.parameters()
            if parameter.dim() == 2 and id(parameter) not in outer
        ]
