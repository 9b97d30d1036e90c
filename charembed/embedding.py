"""The token embedding that also knows the letters.

Axes: B batch, T tokens per row, U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CharEmbedding(nn.Embedding):
    """An `nn.Embedding` whose vectors are token + spelled: ids_BT (B, T) -> (B, T, D).

    It takes the host's embedding over: `weight` stays the same Parameter under the same state-dict key, so tied heads,
    `isinstance` checks and plain checkpoints keep working. The encoder is any module that maps distinct ids (U,) to
    vectors (U, D). Because those depend on the id alone,

    - in training each distinct token of a batch is encoded once and gathered;
    - in evaluation the sum for the whole vocabulary is one table, computed once and looked up.
    """

    encoder: nn.Module

    def __init__(self, host: nn.Embedding, encoder: nn.Module) -> None:
        if host.max_norm is not None:
            raise ValueError(f"the embedding has max_norm={host.max_norm}, which rewrites its weight at each look-up; charembed needs max_norm=None.")
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = host.num_embeddings, host.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = host.padding_idx, host.max_norm, host.norm_type
        self.scale_grad_by_freq, self.sparse = host.scale_grad_by_freq, host.sparse
        self.weight = host.weight
        self.encoder = encoder
        self._host = (host,)  # subtle: in a tuple, so that it is no submodule and the keys stay the host's
        self._table: tuple[Any, Tensor] | None = None
        self.train(host.training)

    @property
    def host(self) -> nn.Embedding:
        """The embedding that was there before."""
        return self._host[0]

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., D). Raises ValueError for an id outside the table (on a GPU torch's own assertion comes first)."""
        try:
            return self._vectors(ids)
        except IndexError:
            wrong = ids[(ids < 0) | (ids >= self.num_embeddings)]
            if len(wrong) == 0:
                raise
            raise ValueError(
                f"token id {int(wrong[0])} is outside the embedding of {self.num_embeddings} tokens: use the tokenizer that the model "
                f"was built for, or resize the embedding first."
            ) from None

    def _vectors(self, ids: Tensor) -> Tensor:
        if self.training:
            return self._token_plus_spelled(ids)
        exact: Tensor = self._look_up(self.table(), ids)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            # The value of the table, bit for bit, with the gradient of the sum: x - x is exactly zero.
            smooth = self._token_plus_spelled(ids)
            return exact + (smooth - smooth.detach())
        return exact

    def _token_plus_spelled(self, ids_BT: Tensor) -> Tensor:
        token_BTD = self._look_up(self.weight, ids_BT)
        ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        spelled_UD: Tensor = self.encoder(ids_U)
        if self.padding_idx is not None:
            # subtle: the padding row gets no gradient in a look-up, and that is a row of the vocabulary, not of this batch
            spelled_UD, which_BT = nn.functional.pad(spelled_UD, (0, 0, self.padding_idx + 1, 0)), which_BT + self.padding_idx + 1
        spelled_BTD = self._look_up(spelled_UD.to(self.weight.dtype), which_BT)
        return token_BTD + spelled_BTD

    def _look_up(self, weight: Tensor, ids: Tensor) -> Tensor:
        """Rows of `weight`, through the host's own forward (Gemma-like hosts scale there)."""
        if type(self.host).forward is nn.Embedding.forward:
            return nn.functional.embedding(ids, weight, self.padding_idx)
        rows: Tensor = torch.func.functional_call(self.host, {"weight": weight}, (ids,))
        return rows

    @torch.no_grad()
    def table(self) -> Tensor:
        """(V, D): token + spelled for every id; recomputed when a parameter has changed since the last call."""
        state = tuple((p.data_ptr(), p._version, p.dtype) for p in self.parameters())
        if self._table is None or self._table[0] != state:
            ids_V = torch.arange(self.num_embeddings, device=self.weight.device)
            with torch.autocast(self.weight.device.type, enabled=False):
                self._table = state, self.weight + self.encoder(ids_V).to(self.weight.dtype)
        return self._table[1]

    def train(self, mode: bool = True) -> CharEmbedding:
        self._table = None  # an optimizer that writes through .data leaves no trace in the versions
        super().train(mode)
        return self
