"""Tokens that begin alike share their first states: the spellings of a vocabulary as one tree of prefixes.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes).

A recurrent encoder reads "the", "then" and "there" with the same states up to "the". Each distinct prefix is a node of
the tree, so one step of the recurrence per node is all the work there is: nothing is computed twice, nothing is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .spelling import SpellingTable


@dataclass(frozen=True, eq=False)
class Plan:
    """The nodes that some tokens need, shortest prefixes first, renumbered from 0.

    Attributes:
        starts: node number at which each length begins, and the end: nodes `starts[l]` to `starts[l + 1]` have l + 1 characters.
        parents_N: (N,) number of the prefix that is one character shorter; meaningless on the first level.
        chars_N: (N,) last character.
        nodes_U: (U,) the node of each token asked for; -1 for a token without characters.
    """

    starts: list[int]
    parents_N: Tensor
    chars_N: Tensor
    nodes_U: Tensor


def build_tree(table: SpellingTable) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """All distinct prefixes of a spelling table, breadth first, so that a parent's number is below its children's.

    [b"a", b"ab", b"b", None] -> parents [-1, -1, 0], chars [0, 1, 1], nodes_V [0, 2, 1, -1], starts [0, 2, 3]

    Returns parents_N, chars_N, nodes_V (all int64) and the number at which each level begins, with the end.
    """
    chars_VC, lengths_V = table.chars_VC.long(), table.lengths_V.long()
    nodes_V = torch.full_like(lengths_V, -1)
    parents, chars, starts = [], [], [0]
    for level in range(chars_VC.shape[1]):
        alive = (lengths_V > level).nonzero().squeeze(1)
        keys, which = torch.unique(nodes_V[alive] * table.num_chars + chars_VC[alive, level], return_inverse=True)
        parents.append(keys.div(table.num_chars, rounding_mode="floor"))
        chars.append(keys.remainder(table.num_chars))
        nodes_V[alive] = which + starts[-1]
        starts.append(starts[-1] + len(keys))
    return torch.cat(parents), torch.cat(chars), nodes_V, starts


def plan(parents_N: Tensor, chars_N: Tensor, nodes_V: Tensor, starts: list[int], ids_U: Tensor) -> Plan:
    """The part of the tree that the given tokens need: their nodes and all shorter prefixes of them."""
    wanted_U = nodes_V[ids_U]
    needed_N = torch.zeros(len(parents_N) + 1, dtype=torch.bool, device=ids_U.device)
    needed_N[wanted_U] = True  # subtle: -1, a token without characters, marks the spare last entry
    for first, last in zip(reversed(starts[1:-1]), reversed(starts[2:]), strict=True):
        needed_N[parents_N[first:last][needed_N[first:last]]] = True
    needed_N = needed_N[:-1]
    kept = needed_N.nonzero().squeeze(1)
    new_number_N = needed_N.cumsum(0) - 1
    new_starts: list[int] = torch.searchsorted(kept, torch.tensor(starts, device=kept.device)).tolist()
    depth = next((level for level in range(1, len(new_starts)) if new_starts[level] == len(kept)), 0)
    return Plan(
        starts=new_starts[: depth + 1],
        parents_N=new_number_N[parents_N[kept].clamp(min=0)],
        chars_N=chars_N[kept],
        nodes_U=torch.where(wanted_U < 0, -1, new_number_N[wanted_U.clamp(min=0)]),
    )
