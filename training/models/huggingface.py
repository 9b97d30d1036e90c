"""Any causal language model of transformers, as the laboratory asks it.

Axes: B rows, T tokens per row, S with what a cache holds, P columns that hold a kept position, N positions
kept, M positions of all rows without their padding, V vocabulary.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import charembed
from training.errors import BadInput

from .generate import evaluating, last_places
from .hub import asked_once, first_line
from .language_model import LanguageModel


def read(kind: str, name: str, what: str, **options: Any) -> Any:
    """`transformers.KIND.from_pretrained(name)`, without its warnings: what matters of them is checked here.

    Raises BadInput, in one sentence, for what is not there or cannot be read.
    """
    if os.path.isfile(name):
        raise BadInput(
            f"the model {name!r} is a file: name a folder that save_pretrained wrote, or a hub name."
        )
    is_folder = os.path.isdir(name)
    if is_folder and not os.path.isfile(os.path.join(name, "config.json")):
        raise BadInput(
            f"the folder {name!r} holds no model: it has no config.json. Name a folder that save_pretrained "
            "wrote, or a hub name."
        )
    import transformers  # takes half a second, which other runs need not wait for
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the laboratory has its own
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with nullcontext() if is_folder else asked_once(name, "model"):
            return getattr(transformers, kind).from_pretrained(name, **options)
    except BadInput:
        raise
    except (
        Exception
    ) as error:  # each part of the library has errors of its own for what it finds wrong
        raise BadInput(
            f"{name!r} gives no {what} ({first_line(error)}): name another model."
        ) from None
    finally:
        logging.set_verbosity(verbosity)


def text_config(name: str) -> Any:
    """The config of a pretrained model's text part."""
    return read("AutoConfig", name, "config").get_text_config()


def vocabulary_rows(name: str) -> int:
    """Rows of a pretrained model's input embedding: at least as many as its tokenizer has tokens."""
    rows: int = text_config(name).vocab_size
    return rows


def num_parameters(name: str) -> int:
    """Parameters of a pretrained causal model, by its config alone. Raises BadInput where it makes none."""
    import transformers

    config = read("AutoConfig", name, "config")
    try:
        with torch.device("meta"):
            model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the library finds wrong with the config
        raise BadInput(
            f"{name!r} gives no causal language model ({first_line(error)}): name another model."
        ) from None
    return sum(parameter.numel() for parameter in model.parameters())


def check_context(known: int | None, wanted: int) -> None:
    """Raise BadInput where a model that reads `known` tokens at most is to read more."""
    if known is not None and wanted > known:
        raise BadInput(
            f"the model reads {known} tokens at most, and the config wants rows of {wanted}: choose a "
            "smaller context and finetune_context, or another model."
        )


class HuggingFace(LanguageModel):
    """A causal model of transformers, `model`, in fp32. Its own head makes the logits, with whatever scale or
    cap it has.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # so that a look at it leaves it in the mode it was in
        self.keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.packs = self.keeps_logits and self._packs_exactly()

    @classmethod
    def load(cls, name: str, context: int) -> HuggingFace:
        """Raises BadInput when no causal model of this name has all its weights and reads rows of `context`
        tokens.
        """
        options = {"dtype": torch.float32, "output_loading_info": True}
        host, told = read("AutoModelForCausalLM", name, "causal language model", **options)
        if missing := sorted(told["missing_keys"]):
            raise BadInput(
                f"{name!r} lacks weights of its own model ({missing[0]} and {len(missing) - 1} more): save "
                "it again, or name another model."
            )
        model = cls(host)
        model.extend_context(context, torch.Generator())
        return model

    @property
    def embedding(self) -> str:  # type: ignore[override]
        table = self.model.get_input_embeddings()
        path: str = next(path for path, module in self.named_modules() if module is table)
        return path

    def forward(
        self,
        ids_BT: Tensor,
        keep_BT: Tensor | None = None,
        cache: Any = None,
        real_BS: Tensor | None = None,
    ) -> Tensor:
        if self.packs and keep_BT is not None and cache is None:
            return self._packed(ids_BT, keep_BT)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            options["past_key_values"] = cache
        if real_BS is not None:
            positions_BS = (real_BS.cumsum(dim=1) - 1).clamp(min=0)
            options |= {
                "attention_mask": real_BS.long(),
                "position_ids": positions_BS[:, -ids_BT.shape[1] :],
            }
        columns_P = None if keep_BT is None else keep_BT.any(dim=0).nonzero().squeeze(1)
        if columns_P is not None and self.keeps_logits:
            options["logits_to_keep"] = columns_P
        logits: Tensor = self.model(input_ids=ids_BT, **options).logits
        if keep_BT is None:
            return logits
        return logits[keep_BT[:, columns_P] if self.keeps_logits else keep_BT]

    def _packed(self, ids_BT: Tensor, keep_BT: Tensor) -> Tensor:
        """The same logits from one row that holds all rows without what follows their last kept position.

        Questions are padded to the longest of their batch, which is a third of it.
        """
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        ends_B = torch.where(keep_BT, places_T + 1, 0).amax(dim=1)
        real_BT = places_T < ends_B[:, None]
        rows_M, positions_M = real_BT.nonzero(as_tuple=True)
        same_row_MM = rows_M[:, None] == rows_M
        logits: Tensor = self.model(
            input_ids=ids_BT[real_BT][None],
            position_ids=positions_M[None],
            attention_mask=(same_row_MM & (positions_M[:, None] >= positions_M))[None, None],
            logits_to_keep=keep_BT[real_BT].nonzero().squeeze(1),
            use_cache=False,
        ).logits
        return logits[0]

    def _packs_exactly(self) -> bool:
        """Does this model take positions and a mask of its own? Asked of two rows, computed either way."""
        self.packs = False
        if next(self.parameters()).device.type == "meta":
            return False
        ids_BT = self._ids([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
        keep_BT = self._ids([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()
        return self._agrees(lambda: self._packed(ids_BT, keep_BT), lambda: self(ids_BT, keep_BT))

    @property
    def context(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def extend_context(self, context: int, generator: torch.Generator) -> None:
        check_context(self.context, context)

    def new_cache(self) -> Any:
        import transformers

        return transformers.DynamicCache(config=self.model.config)

    def drop_rows(self, cache: Any, kept: Tensor) -> None:
        cache.batch_select_indices(kept)

    def repeat_row(self, cache: Any, num_rows: int) -> None:
        cache.batch_repeat_interleave(num_rows)

    @cached_property
    def shares(self) -> bool:  # type: ignore[override]
        """Does this model read a row in two pieces, the first one shared, as it reads it at once?"""
        ids_BT = self._ids([[0, 1, 2, 3, 4], [0, 1, 5, 6, 7]])

        def in_pieces() -> Tensor:
            cache = self.new_cache()
            self(ids_BT[:1, :2], last_places(ids_BT[:1, :2]), cache)
            self.repeat_row(cache, 2)
            found: Tensor = self(ids_BT[:, 2:], last_places(ids_BT[:, 2:]), cache)
            return found

        return self._agrees(in_pieces, lambda: self(ids_BT, last_places(ids_BT)))

    @cached_property
    def pads(self) -> bool:  # type: ignore[override]
        """Does this model read a row with padding on its left, and go on with it, as without the padding?"""
        if getattr(self.model.config.get_text_config(), "sliding_window", None) is not None:
            return False  # a window may count the padding, which short rows would not tell
        ids_BT = self._ids([[0, 1, 2, 3, 4], [9, 9, 5, 6, 7]])

        def padded() -> Tensor:
            cache, real_BS = self.new_cache(), ids_BT != 9
            first = self(ids_BT[:, :4], last_places(ids_BT[:, :4]), cache, real_BS[:, :4])
            return torch.cat(
                [first, self(ids_BT[:, 4:], last_places(ids_BT[:, 4:]), cache, real_BS)]
            )

        def alone() -> Tensor:
            rows = [ids_BT[:1, :4], ids_BT[1:, 2:4], ids_BT[:1], ids_BT[1:, 2:]]
            return torch.cat([self(row, last_places(row)) for row in rows])

        return self._agrees(padded, alone)

    def _ids(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=next(self.parameters()).device)

    @torch.no_grad()
    def _agrees(self, other_way: Callable[[], Tensor], usual_way: Callable[[], Tensor]) -> bool:
        """Does the model say the same, asked in another way, whatever it makes of being asked so?"""
        with evaluating(self):
            expected = usual_way()
            try:
                found = other_way()
            except (
                TypeError,
                ValueError,
                RuntimeError,
                IndexError,
                AttributeError,
                NotImplementedError,
            ):
                return False
        return bool(
            torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        )

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
