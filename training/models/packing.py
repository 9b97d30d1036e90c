"""Rows of different lengths without their padding: all real positions one below the other.

Linear layers read the packed positions. Attention reads a padded block, because packed rows would
attend to each other.

Axes: B rows, T tokens per row, M real positions of all rows, N kept positions, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """Some positions of a block of B rows of T tokens.

    Attributes:
        rows, columns: B and T.
        flat_M: (M,) row * T + column of each position, ascending.
    """

    rows: int
    columns: int
    flat_M: Tensor

    @classmethod
    def where(cls, chosen_BT: Tensor) -> Places:
        """The positions at which a mask is true."""
        rows, columns = chosen_BT.shape
        return cls(rows, columns, chosen_BT.flatten().nonzero().squeeze(1))

    def gather(self, x_BTD: Tensor) -> Tensor:
        """The values at the positions: (B, T, D) -> (M, D)."""
        apply: Any = _Gather.apply
        packed_MD: Tensor = apply(x_BTD.flatten(0, 1), self.flat_M)
        return packed_MD

    def spread(self, x_MD: Tensor) -> Tensor:
        """The values at their positions, and zeros elsewhere: (M, D) -> (B, T, D)."""
        apply: Any = _Spread.apply
        spread_ND: Tensor = apply(x_MD, self.flat_M, self.rows * self.columns)
        return spread_ND.view(self.rows, self.columns, -1)


class Kept(NamedTuple):
    """Kept positions of packed rows.

    Attributes:
        places: their positions in the padded block.
        within: their positions among the packed ones.
    """

    places: Places
    within: Places

    @classmethod
    def of_rows(cls, keep_BT: Tensor) -> tuple[Places, Kept]:
        """The positions that a causal model must read, and the kept ones among them."""
        real, places = Places.where(real_positions(keep_BT)), Places.where(keep_BT)
        within = Places.where(keep_BT.flatten()[real.flat_M][None])
        return real, cls(places, within)

    def of(self, x_MD: Tensor) -> Tensor:
        """The values of packed rows at kept positions: (M, D) -> (N, D)."""
        return self.within.gather(x_MD[None])


def real_positions(keep_BT: Tensor) -> Tensor:
    """A mask of each row's positions up to its last kept one.

    [[False, True, False], [False, False, False]] -> [[True, True, False], [False, False, False]]

    No kept position of a causal model depends on the others.
    """
    # the count of kept positions from here to the end of the row
    return keep_BT.flip(1).cumsum(1).flip(1) > 0


def same_row_mask(real_BT: Tensor) -> Tensor:
    """The mask of one long row in which packed rows attend within themselves: (1, 1, M, M)."""
    rows_M, positions_M = real_BT.nonzero(as_tuple=True)
    same_row_MM = rows_M[:, None] == rows_M
    mask_MM = same_row_MM & (positions_M[:, None] >= positions_M)
    return mask_MM[None, None]


# A position is gathered or written once. So the gradient of one is the other, and not a sum over
# repeated indices, as autograd's own would be; that takes twice the time.
class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, flat_M: Tensor) -> Tensor:
        ctx.save_for_backward(flat_M)
        ctx.size = len(x_SD)
        return x_SD.index_select(0, flat_M)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, None]:
        (flat_M,) = ctx.saved_tensors
        apply: Any = _Spread.apply
        return apply(grad_MD, flat_M, ctx.size), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, flat_M: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(flat_M)
        return x_MD.new_zeros(size, *x_MD.shape[1:]).index_copy_(0, flat_M, x_MD)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor, None, None]:
        (flat_M,) = ctx.saved_tensors
        apply: Any = _Gather.apply
        return apply(grad_SD, flat_M), None, None
