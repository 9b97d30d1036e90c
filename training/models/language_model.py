"""The interface of a language model in the laboratory; decoder.py and huggingface.py implement it.

Axes: B rows, T tokens per row, S tokens per row including the cache, N kept positions,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import BadInput

from .chunked_loss import Head, divergence

Mask = Tensor | None  # of booleans; None: all true


class LanguageModel(nn.Module):
    """ids_BT (B, T) -> logits (B, T, V), or (N, V) for the N positions where `keep_BT` is true.

    With `targets_N`, one for each of these positions, it returns their cross-entropy instead, in
    nats, summed: (). With `base`, another model, it returns KL(base, model) at all positions,
    summed. The logits of all positions need not exist together for either.

    A `cache` is extended in place. Start with `new_cache()`, feed the prompt at once or in pieces,
    then one token at a time. `real_BS` is false at padding, for all tokens in the cache and in
    ids_BT; padding comes first in a row, or directly after a prefix that all rows share.

    Attributes:
        embedding: path of the input embedding inside the model.
        shares: whether a prompt in pieces gives its logits; then rows may share the first piece.
        pads: whether padding on the left leaves a row's logits; then `real_BS` may be given.
        joins: whether caches of different lengths may be joined, with padding behind short ones.
    """

    embedding: str
    shares: bool = True
    pads: bool = False
    joins: bool = False

    def forward(
        self, ids_BT: Tensor, keep_BT: Mask = None, cache: Any = None, real_BS: Mask = None,
        targets_N: Tensor | None = None, base: LanguageModel | None = None,
    ) -> Tensor:  # fmt: skip
        raise NotImplementedError

    def output(self, ids_BT: Tensor) -> Head | Tensor:
        """The output layer with the vectors that it reads at all positions, (N, D).

        The logits, (N, V), if they are not a linear layer of such vectors.
        """
        raise NotImplementedError

    def divergence_from(self, base: LanguageModel, ids_BT: Tensor) -> Tensor:
        """KL(base, model) in nats, summed over all positions; `base` gets no gradient."""
        with torch.no_grad():
            known = base.output(ids_BT)
        return divergence(self.output(ids_BT), known)

    @property
    def context(self) -> int | None:
        """The longest row that the model can read; None if there is no limit."""
        raise NotImplementedError

    def extend_context(self, context: int, generator: torch.Generator) -> None:
        """Allow rows of `context` tokens. Raises BadInput if the model cannot read them."""
        raise NotImplementedError

    def new_cache(self) -> Any:
        """An empty cache."""
        raise NotImplementedError

    def drop_rows(self, cache: Any, kept: Tensor) -> None:
        """Remove all rows of a cache except those with the indices `kept`, in place."""
        raise NotImplementedError

    def repeat_row(self, cache: Any, num_rows: int) -> None:
        """Repeat the only row of a cache `num_rows` times, in place."""
        raise NotImplementedError

    def join(self, caches: Sequence[Any]) -> Any:
        """Return a cache of all rows of several caches; shorter ones are padded at their end.

        An empty cache among others has no rows, so none may be empty.
        """
        raise NotImplementedError

    def checkpoint_gradients(self) -> None:
        """Compute the blocks again in the backward pass, from now on: less memory, equal numbers.

        Raises BadInput if the model cannot.
        """
        raise BadInput(
            "gradient checkpointing is for Hugging Face models, and this is a "
            f"{type(self).__name__}: leave --gradient-checkpointing out (--accumulate also saves "
            "memory)."
        )

    def inner_matrices(self) -> list[nn.Parameter]:
        """The matrices between embeddings and output layer, in a fixed order; Muon trains them."""
        raise NotImplementedError
