"""Tokens that begin alike share their first states: the spellings of a vocabulary as one tree of prefixes.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes).

A recurrent encoder reads "the", "then" and "there" with the same states up to "the". Each distinct prefix is a node of
the tree, so one step of the recurrence per node is all the work there is: nothing is computed twice, nothing is padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import registry
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


@dataclass(frozen=True, eq=False)
class PrefixTree:
    """All distinct prefixes of a spelling table, breadth first, so that a parent's number is below its children's.

    [b"a", b"ab", b"b", None] -> parents_N [-1, -1, 0], chars_N [0, 1, 1], nodes_V [0, 2, 1, -1, -1], starts [0, 2, 3]

    Plain tensors rather than buffers, because it follows from the spellings: a model that is built on the meta device or
    emptied keeps it, and DDP has nothing to broadcast.

    Attributes:
        parents_N, chars_N: as in `Plan`; -1 is the parent of the first level.
        nodes_V: (V + 1,) the node of each token, -1 for tokens without characters; the last entry is for ids beyond the table.
        starts: as in `Plan`.
        key: by which a compiled operator finds the tree.
    """

    parents_N: Tensor
    chars_N: Tensor
    nodes_V: Tensor
    starts: list[int]
    key: str = field(init=False)
    _elsewhere: dict[torch.device, PrefixTree] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", registry.register(self))

    @classmethod
    def from_table(cls, table: SpellingTable) -> PrefixTree:
        with torch.device("cpu"):
            lengths_V, first_V = table.lengths_V.long(), table.starts_V
            nodes_V = torch.full((table.num_tokens + 1,), -1)
            parents, chars, starts = [nodes_V[:0]], [nodes_V[:0]], [0]  # empty, for a vocabulary without any letter
            for level in range(int(lengths_V.max())):
                alive = (lengths_V > level).nonzero().squeeze(1)
                keys = nodes_V[alive] * table.num_chars + table.chars_S[first_V[alive] + level]
                keys, which = torch.unique(keys, return_inverse=True)
                parents.append(keys.div(table.num_chars, rounding_mode="floor"))
                chars.append(keys.remainder(table.num_chars))
                nodes_V[alive] = which + starts[-1]
                starts.append(starts[-1] + len(keys))
            return cls(torch.cat(parents), torch.cat(chars), nodes_V, starts)

    def on(self, device: torch.device) -> PrefixTree:
        """The same tree on another device; moved there once."""
        if device == self.nodes_V.device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = PrefixTree(self.parents_N.to(device), self.chars_N.to(device), self.nodes_V.to(device), self.starts)
        return self._elsewhere[device]

    def plan(self, ids_U: Tensor) -> Plan:
        """The part of the tree that the given tokens need: their nodes and all shorter prefixes of them."""
        wanted_U = self.nodes_V[ids_U.clamp(max=len(self.nodes_V) - 1)]
        needed_N = torch.zeros(len(self.parents_N) + 1, dtype=torch.bool, device=ids_U.device)
        needed_N[wanted_U] = True  # subtle: -1, a token without characters, marks the spare last entry
        for first, last in zip(reversed(self.starts[1:-1]), reversed(self.starts[2:]), strict=True):
            needed_N[self.parents_N[first:last][needed_N[first:last]]] = True
        new_number_N = needed_N.cumsum(0) - 1  # with the spare entry, so that there is a number 0 where there is no node
        kept = needed_N[:-1].nonzero().squeeze(1)
        new_starts: list[int] = torch.searchsorted(kept, torch.tensor(self.starts, device=kept.device)).tolist()
        depth = next((level for level in range(1, len(new_starts)) if new_starts[level] == len(kept)), 0)
        return Plan(
            starts=new_starts[: depth + 1],
            parents_N=new_number_N[self.parents_N[kept].clamp(min=0)],
            chars_N=self.chars_N[kept],
            nodes_U=torch.where(wanted_U < 0, -1, new_number_N[wanted_U.clamp(min=0)]),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PrefixTree, (self.parents_N, self.chars_N, self.nodes_V, self.starts)  # in another process it has another key

    def __deepcopy__(self, memo: dict[int, Any]) -> PrefixTree:
        return self  # never written to, so the copies of a model can share it
