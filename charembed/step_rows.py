"""Equal rows for equal ids in all training forwards of one step, bit for bit.

Axes: U distinct tokens of a batch, N kept tokens, V vocabulary, D model width.

The last bits of a matrix product depend on its number of rows, so the vector of one id differs by
some 1e-7 between two batches. But models that get `inputs_embeds` look for the places of an image
by comparing them with the row of the image token.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from .snapshot import Snapshot


class StepRows:
    """The rows that were encoded since the encoder changed.

    rows = StepRows()
    char_UD = rows.same(key, encoder, event, ids_U, char_UD, 50257)

    The first rows of an id are kept and returned again for all later ones, with the gradient of the
    later ones. So nothing changes if there is one forward per step. The rows are forgotten at an
    optimizer's step, or if a tensor of the encoder changes. They need the memory of the distinct
    ids of one step, at most twice.
    """

    def __init__(self) -> None:
        # Forwards with and without autocast may alternate within a step.
        self._kept: dict[tuple[Any, ...], _Rows] = {}
        self._lock = threading.Lock()

    def same(
        self,
        key: tuple[Any, ...],
        encoder: nn.Module,
        event: tuple[object, object],
        ids_U: Tensor,
        char_UD: Tensor,
        rows: int,
    ) -> Tensor:
        """Return char_UD (U, D) with the kept rows in the place of those with known ids.

        Arguments:
            key: values that must be equal for rows to be equal; the last is the dtype of autocast.
            encoder: the encoder that computed char_UD.
            event: as in `Snapshot`; the second item changes at a step.
            ids_U: (U,) distinct ids.
            char_UD: (U, D) their vectors.
            rows: V, number of ids.
        """
        with self._lock:
            kept, own_UD = self._kept.get(key), char_UD.detach()
            if (
                kept is None
                or kept.event[1] is not event[1]
                or not kept.snapshot.holds(encoder, event)
            ):
                self._kept = {
                    other: rows_of
                    for other, rows_of in self._kept.items()
                    if rows_of.event[1] is event[1] and other[:-1] == key[:-1]
                }
                self._kept[key] = _Rows(event, Snapshot(encoder, event), ids_U, own_UD)
                return char_UD
            with torch.no_grad():
                values_UD = kept.known_or(own_UD, ids_U, rows)
        replaced: Tensor = _Replaced.apply(char_UD, values_UD)  # type: ignore[no-untyped-call]
        return replaced


class _Rows:
    def __init__(
        self,
        event: tuple[object, object],
        snapshot: Snapshot,
        ids_U: Tensor,
        char_UD: Tensor,
    ) -> None:
        self.event, self.snapshot = event, snapshot
        # no copy: most steps have one forward, and then these rows are not used
        self._rows_ND, self._count = char_UD, len(ids_U)
        self._ids_U: Tensor | None = ids_U  # None after the second forward
        self._place_V: Tensor | None = None  # where the row of an id is; -1: nowhere

    def known_or(self, char_UD: Tensor, ids_U: Tensor, rows: int) -> Tensor:
        """Return the kept rows of ids_U, and for other ids the rows of char_UD, which are added.

        No operation waits for a GPU, except for the copy into a larger memory from the third
        forward on.
        """
        if self._place_V is None:
            assert self._ids_U is not None
            self._place_V = torch.full((rows,), -1, device=ids_U.device)
            self._place_V[self._ids_U] = torch.arange(self._count, device=ids_U.device)
        place_U = self._place_V[ids_U]
        known_U = place_U >= 0
        values_UD = torch.where(known_U[:, None], self._rows_ND[place_U.clamp(min=0)], char_UD)
        if self._count + len(ids_U) > len(self._rows_ND):
            self._enlarge(len(ids_U))
        # Known rows are written a second time, because to leave them out would wait for a GPU.
        end = self._count + len(ids_U)
        self._rows_ND[self._count : end] = values_UD
        self._place_V[ids_U] = torch.arange(self._count, end, device=ids_U.device)
        self._count = end
        return values_UD

    def _enlarge(self, more: int) -> None:
        """Copy the rows, each once, into a memory with twice the place for them and for `more`."""
        place_V = self._place_V
        assert place_V is not None
        ids_N = (place_V >= 0).nonzero().flatten() if self._ids_U is None else self._ids_U
        rows_ND = self._rows_ND.new_empty(2 * (len(ids_N) + more), self._rows_ND.shape[1])
        rows_ND[: len(ids_N)] = self._rows_ND[place_V[ids_N]]
        place_V[ids_N] = torch.arange(len(ids_N), device=place_V.device)
        self._rows_ND, self._count, self._ids_U = rows_ND, len(ids_N), None


class _Replaced(torch.autograd.Function):
    """Replace the values of a tensor and pass its gradient through.

    It saves no tensor, so gradient checkpointing finds as many saved tensors with as without it.
    """

    @staticmethod
    def forward(ctx: Any, char_UD: Tensor, values_UD: Tensor) -> Tensor:
        return values_UD

    @staticmethod
    def backward(ctx: Any, grad_UD: Tensor) -> tuple[Tensor, None]:
        return grad_UD, None
