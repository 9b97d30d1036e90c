"""Attention of packed rows in models of transformers: within each row, on the padded block.

A mask over one long row has a score for each pair of positions of all rows: for 32 questions 30
times the scores that are needed. Here the mask says only which cells of the padded block are real,
and scores are computed between positions of a row.

Axes: B rows, T tokens of the longest one, M positions of all rows without padding, H heads,
K key heads, G query heads that share a key head, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .packing import Places, same_row_mask

# Beyond it, scores in memory take longer than torch's kernel, which keeps none (Xeon, one thread).
LONGEST = 128


def mask_of(real_BT: Tensor) -> Tensor:
    """The mask of packed rows for `packed_rows`: (B, T) -> (1, 1, b, t).

    Rows and columns without a real position are left out.
    """
    rows_B, columns_T = real_BT.any(1), real_BT.any(0)
    # subtle: no other attention takes a mask of integers, so one that gets it fails and never
    # attends across rows; models hand on a mask of four axes unchanged
    return real_BT[rows_B][:, columns_T].long()[None, None]


def packed_rows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """An attention function of transformers: its sdpa, except for a mask from `mask_of`.

    query (1, H, M, D), key and value (1, K, M, D) -> (1, M, H, D).
    """
    if attention_mask is not None and attention_mask.dtype == torch.long:
        real_BT = attention_mask[0, 0]
        if _fits(real_BT, query, dropout, options):
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            return _within_rows(query, key, value, real_BT, scale), None
        attention_mask = same_row_mask(real_BT.bool())
    out, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
    return out, None


def _fits(real_BT: Tensor, query: Tensor, dropout: float, options: dict[str, Any]) -> bool:
    """Whether the block has fewer scores than the long row, and nothing changes them."""
    B, T = real_BT.shape
    fewer = query.shape[2] ** 2 > B * T**2
    # units would drop out that do not drop out in the long row
    changes = [options.get(name) for name in ("position_bias", "softcap", "cache")]
    return fewer and not dropout and all(each is None for each in changes)


def _within_rows(
    query: Tensor, key: Tensor, value: Tensor, real_BT: Tensor, scale: float
) -> Tensor:
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # before the block is made, so that a narrow block is written
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    # the number of positions is known, so a GPU need not be waited for
    flat_M = torch.nonzero_static(real_BT.flatten(), size=query.shape[2]).squeeze(1)
    queries, keys = (_of_heads(flat_M, real_BT.shape, x.shape[1]) for x in (query, key))
    blocks = [
        places.spread(x_1HMD[0].transpose(0, 1).flatten(0, 1))
        for x_1HMD, places in ((query, queries), (key, keys), (value, keys))
    ]
    attend = _by_products if kind == "cpu" and real_BT.shape[1] <= LONGEST else _by_kernel
    with torch.autocast(kind, enabled=False):
        out = attend(*blocks, len(real_BT), scale)
    return queries.gather(out).view(1, -1, query.shape[1], value.shape[3])


def _of_heads(flat_M: Tensor, block: torch.Size, heads: int) -> Places:
    """The places of M positions of all heads, (M, H), in a block (B * H, T).

    One copy then also moves the axis of heads in front of the axis of tokens.
    """
    B, T = block
    heads_H = torch.arange(heads, device=flat_M.device)
    flat_MH = (flat_M // T * heads)[:, None] * T + heads_H * T + (flat_M % T)[:, None]
    return Places(B * heads, T, flat_MH.flatten())


def _by_products(query: Tensor, key: Tensor, value: Tensor, rows: int, scale: float) -> Tensor:
    """Causal attention on blocks (B * H, T, D) and (B * K, T, D).

    For rows as short as questions, a kernel's overhead is more than their scores: on a CPU in bf16
    it takes nine times the time.
    """
    T, groups = query.shape[1], len(query) // len(key)
    # the query heads of a key head are one product
    queries = query.view(len(key), groups * T, -1)
    # rows are keys here, and the future of a query is below its column's diagonal
    future = query.new_full((T, T), -torch.inf).tril(-1).repeat(1, groups)
    # subtle: because softmax over a last axis of less than 16 numbers uses no vectors of the CPU:
    # findings/torch_softmax_short_rows.sh
    scores = torch.baddbmm(future, key, queries.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(1).transpose(1, 2), value).view(*query.shape[:2], -1)


def _by_kernel(query: Tensor, key: Tensor, value: Tensor, rows: int, scale: float) -> Tensor:
    """The same by torch's kernel."""
    query, key, value = (x.unflatten(0, (rows, -1)) for x in (query, key, value))
    shared = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=shared
    )
    return out.flatten(0, 1)


# subtle: under the name of sdpa and not a new one, because models compare this name before they make
# a mask sparse. sdpa itself refuses a mask of integers, so no other call changes.
AttentionInterface.register("sdpa", packed_rows)
