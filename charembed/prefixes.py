"""Tokens that begin alike share their first states: the spellings of a vocabulary as one tree of prefixes.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes), S the characters of all tokens, L lengths.

A recurrent encoder reads "the", "then" and "there" with the same states up to "the". Each distinct prefix is
a node of the tree, so one step of the recurrence per node is all the work there is: nothing is computed
twice, nothing is padding.
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
    """The nodes that some tokens need, shortest prefixes first, renumbered from 0.

    Attributes:
        sizes: number of nodes of each length, from one character on; two lengths at least, so that every
            weight takes part.
        parents_N: (N,) for each node the place of its parent among the nodes that are one character shorter.
        chars_N: (N,) last character.
        last_U: (U,) the node of each token asked for, counted from 1; 0 for a token without characters.
    """

    sizes: list[int]
    parents_N: Tensor
    chars_N: Tensor
    last_U: Tensor


@dataclass(frozen=True, eq=False)
class PrefixTree(DeviceTensors):
    """All distinct prefixes of a spelling table, breadth first, so that a parent's number is below its
    children's.

    [b"a", b"ab", b"b", None] -> parents_N [0, 0, 0], chars_N [0, 1, 1], path_S [0, 0, 2, 1], starts_L [0, 2,
    3]

    Attributes:
        parents_N, chars_N: (N,) the node that is one character shorter (0 on the first level), and the last
            character.
        path_S: (S + 1,) the node of each character of each token, one token after another; at the end N, no
            node.
        first_V, lengths_V: (V + 1,) where in `path_S` a token begins, and its characters; at the end an id
            without.
        starts_L: (L + 1,) int64, the first node of each length, and at the end N; the others are int32.
    """

    parents_N: Tensor
    chars_N: Tensor
    path_S: Tensor
    first_V: Tensor
    lengths_V: Tensor
    starts_L: Tensor

    @classmethod
    def from_spellings(cls, spellings: SpellingTable) -> PrefixTree:
        with torch.device("cpu"):
            lengths_V, first_V = spellings.lengths_V.long(), spellings.starts_V
            path_S = torch.zeros(len(spellings.chars_S) + 1, dtype=torch.int32)
            parents, chars, starts = [path_S[:0]], [path_S[:0]], [0]
            for level in range(int(lengths_V.max())):
                place = first_V[lengths_V > level] + level
                keys = spellings.chars_S[place].long()
                if level:
                    keys += path_S[place - 1].long() * spellings.num_chars
                keys, which = torch.unique(keys, return_inverse=True)
                parents.append(keys.div(spellings.num_chars, rounding_mode="floor").int())
                chars.append(keys.remainder(spellings.num_chars).int())
                path_S[place] = (which + starts[-1]).int()
                starts.append(starts[-1] + len(keys))
            path_S[-1] = starts[-1]
            pad = torch.nn.functional.pad
            first_V, lengths_V = pad(first_V, (0, 1), value=len(path_S) - 1), pad(lengths_V, (0, 1))
            parents_N, chars_N = torch.cat(parents), torch.cat(chars)
            return cls(
                parents_N, chars_N, path_S, first_V.int(), lengths_V.int(), torch.tensor(starts)
            )

    def plan(self, ids_U: Tensor) -> Plan:
        """The part of the tree that the given tokens need: their nodes and all shorter prefixes of them.

        On a GPU it waits for the device twice, however long the tokens are.
        """
        device, N = ids_U.device, len(self.parents_N)
        ids_U = ids_U.clamp(max=len(self.lengths_V) - 1)
        first_U, lengths_U = self.first_V[ids_U].long(), self.lengths_V[ids_U].long()
        total = int(lengths_U.sum())
        shift_U = first_U - (lengths_U.cumsum(0) - lengths_U)
        place = torch.arange(total, device=device) + shift_U.repeat_interleave(
            lengths_U, output_size=total
        )
        needed_N = torch.zeros(N + 1, dtype=torch.bool, device=device)
        needed_N.index_fill_(0, self.path_S[place].long(), True)
        number_N = needed_N.cumsum(0)  # of a node in the plan, from 1 on
        starts_L = torch.nn.functional.pad(number_N, (1, 0))[self.starts_L]
        starts: list[int] = starts_L.tolist()
        kept_N = torch.nonzero_static(needed_N[:N], size=starts[-1]).squeeze(1)
        sizes = [last - first for first, last in itertools.pairwise(starts) if last > first]
        sizes += [0] * (2 - len(sizes))
        # a parent's number less the nodes before its length is its place; on the first level it is not used
        level_N = torch.bucketize(kept_N, self.starts_L, right=True) - 1
        before_N = starts_L[(level_N - 1).clamp(min=0)]
        last_S = torch.where(lengths_U > 0, first_U + lengths_U - 1, len(self.path_S) - 1)
        return Plan(
            sizes=sizes,
            parents_N=number_N[self.parents_N[kept_N]] - 1 - before_N,
            chars_N=self.chars_N[kept_N],
            last_U=torch.where(lengths_U > 0, number_N[self.path_S[last_S]], 0),
        )
