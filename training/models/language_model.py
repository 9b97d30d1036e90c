"""What the laboratory asks of a language model. decoder.py answers it, and huggingface.py for any causal
model of transformers.

Axes: B rows, T tokens per row, S tokens per row with what a cache holds, N positions kept, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LanguageModel(nn.Module):
    """ids_BT (B, T) -> logits (B, T, V), or (N, V) for the N positions where `keep_BT` is true, row by row.

    With a `cache`, an empty one at first, it is extended in place: feed the prompt, at once or in pieces,
    then one token at a time. `real_BS`, of the tokens fed so far and now, is false for padding, which stands
    on the left, or behind what all rows share.

    Attributes:
        embedding: path of the input embedding inside the model.
        packs: whether the embedding may be shown several rows as one, without their padding.
        shares: whether a prompt fed in pieces is read as it is at once, so that rows may share the first one.
        pads: whether a row with padding on its left is read as it is without, so that `real_BS` may be given.
    """

    embedding: str
    packs: bool = False
    shares: bool = True
    pads: bool = False

    def forward(
        self,
        ids_BT: Tensor,
        keep_BT: Tensor | None = None,
        cache: Any = None,
        real_BS: Tensor | None = None,
    ) -> Tensor:
        raise NotImplementedError

    @property
    def context(self) -> int | None:
        """The longest row it can read; None where there is no limit."""
        raise NotImplementedError

    def extend_context(self, context: int, generator: torch.Generator) -> None:
        """Make room for longer rows. Raises BadInput where that cannot be done."""
        raise NotImplementedError

    def new_cache(self) -> Any:
        """An empty cache."""
        raise NotImplementedError

    def drop_rows(self, cache: Any, kept: Tensor) -> None:
        """Forget, in place, all rows of a cache but the ones whose numbers are in `kept`."""
        raise NotImplementedError

    def repeat_row(self, cache: Any, num_rows: int) -> None:
        """Make, in place, so many equal rows of the one row of a cache."""
        raise NotImplementedError

    def inner_matrices(self) -> list[nn.Parameter]:
        """The matrices between embeddings and output layer, in a fixed order: those that Muon moves."""
        raise NotImplementedError
