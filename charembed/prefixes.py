"""A vocabulary's spellings as a tree of prefixes, so that equal prefixes are computed once.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes), S the characters of all tokens,
L lengths.

A recurrent encoder has the same states for "the", "then" and "there" up to "the". Each distinct
prefix is a node of the tree, and the recurrence takes one step per node. So no state is computed
twice, and no padding is computed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .device_tensors import DeviceTensors
from .spelling import SpellingTable


class Plan(NamedTuple):
    """The nodes that a batch of tokens needs, shortest prefixes first, numbered from 0.

    Attributes:
        sizes: number of nodes of each length, from length 1 on. At least two entries, so the
            recurrent weights always take part in the computation and get a gradient.
        parents_N: (N,) for each node, the index of its parent among the nodes one character
            shorter.
        chars_N: (N,) last character of each node.
        last_U: (U,) node of each token, counted from 1; 0 for a token without characters.
    """

    sizes: list[int]
    parents_N: Tensor
    chars_N: Tensor
    last_U: Tensor


@dataclass(frozen=True, eq=False)
class PrefixTree(DeviceTensors):
    """All distinct prefixes of a spelling table, breadth first: a parent's number is below its
    child's.

    [b"a", b"ab", b"b", None] -> parents_N [0, 0, 0], chars_N [0, 1, 1], path_S [0, 0, 2, 1, 3],
        starts_L [0, 2, 3]

    Attributes:
        parents_N: (N,) the node one character shorter; 0 for prefixes of one character.
        chars_N: (N,) last character of each node.
        path_S: (S + 1,) node of each character of each token, one token after another. The last
            entry is N, no node.
        first_V, lengths_V: (V + 1,) start offset and length of each token in `path_S`. The last row
            is an empty dummy token.
        starts_L: (L + 1,) int64, first node of each length, then N. All others are int32.
    """

    parents_N: Tensor
    chars_N: Tensor
    path_S: Tensor
    first_V: Tensor
    lengths_V: Tensor
    starts_L: Tensor

    @classmethod
    def from_spellings(cls, spellings: SpellingTable) -> PrefixTree:
        """Build the tree level by level, one prefix length at a time."""
        with torch.device("cpu"):
            lengths_V, first_V = spellings.lengths_V.long(), spellings.starts_V
            path_S = torch.zeros(len(spellings.chars_S) + 1, dtype=torch.int32)
            parents, chars, starts = [path_S[:0]], [path_S[:0]], [0]
            for level in range(int(lengths_V.max())):
                place = first_V[lengths_V > level] + level
                keys = spellings.chars_S[place].long()
                # (parent, character) as one number, so torch.unique finds the distinct prefixes
                if level:
                    keys += path_S[place - 1].long() * spellings.num_chars
                keys, which = torch.unique(keys, return_inverse=True)
                parents.append(keys.div(spellings.num_chars, rounding_mode="floor").int())
                chars.append(keys.remainder(spellings.num_chars).int())
                path_S[place] = (which + starts[-1]).int()
                starts.append(starts[-1] + len(keys))
            path_S[-1] = starts[-1]  # no node: the path of the empty dummy token
            pad = torch.nn.functional.pad
            first_V, lengths_V = pad(first_V, (0, 1), value=len(path_S) - 1), pad(lengths_V, (0, 1))
            parents_N, chars_N = torch.cat(parents), torch.cat(chars)
            return cls(
                parents_N, chars_N, path_S, first_V.int(), lengths_V.int(), torch.tensor(starts)
            )

    def plan(self, ids_U: Tensor) -> Plan:
        """Return the part of the tree that the given tokens need: their nodes and all shorter
        prefixes.

        ids_U is (U,). On a GPU it waits for the device twice, regardless of the lengths of the
        tokens.
        """
        device, N = ids_U.device, len(self.parents_N)
        ids_U = ids_U.clamp(max=len(self.lengths_V) - 1)
        first_U, lengths_U = self.first_V[ids_U].long(), self.lengths_V[ids_U].long()
        # subtle: this and `tolist` below are the two waits; sizes given to repeat_interleave and
        # nonzero_static avoid a third and a fourth
        total = int(lengths_U.sum())
        shift_U = first_U - (lengths_U.cumsum(0) - lengths_U)
        place = torch.arange(total, device=device) + shift_U.repeat_interleave(
            lengths_U, output_size=total
        )
        needed_N = torch.zeros(N + 1, dtype=torch.bool, device=device)
        needed_N.index_fill_(0, self.path_S[place].long(), True)
        number_N = needed_N.cumsum(0)  # number of a node in the plan, from 1
        starts_L = torch.nn.functional.pad(number_N, (1, 0))[self.starts_L]
        starts: list[int] = starts_L.tolist()
        kept_N = torch.nonzero_static(needed_N[:N], size=starts[-1]).squeeze(1)
        sizes = [last - first for first, last in itertools.pairwise(starts) if last > first]
        # at least two levels, see Plan.sizes
        sizes += [0] * (2 - len(sizes))
        # A parent's index within its level is its number minus the nodes of shorter lengths. On the
        # first level the value is not used.
        level_N = torch.bucketize(kept_N, self.starts_L, right=True) - 1
        before_N = starts_L[(level_N - 1).clamp(min=0)]
        last_S = torch.where(lengths_U > 0, first_U + lengths_U - 1, len(self.path_S) - 1)
        return Plan(
            sizes=sizes,
            parents_N=number_N[self.parents_N[kept_N]] - 1 - before_N,
            chars_N=self.chars_N[kept_N],
            last_U=torch.where(lengths_U > 0, number_N[self.path_S[last_S]], 0),
        )
