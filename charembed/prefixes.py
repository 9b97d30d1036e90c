"""A vocabulary's spellings as a tree of prefixes, so that equal prefixes are computed once.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes), P nodes that have children,
S the characters of all tokens, L lengths, K distinct characters, E tokens without characters.

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
from torch.nn.functional import pad

from .device_tensors import DeviceTensors
from .spelling import SpellingTable


class Plan(NamedTuple):
    """The nodes that a batch of tokens needs, shortest prefixes first, numbered from 0.

    Attributes:
        sizes: number of nodes of each length, from length 1 on. At least two entries, so the
            recurrent weights always take part in the computation and get a gradient.
        inner_sizes: number of nodes of each length that have children.
        parents_N: (N,) for each node, the index of its parent among the nodes one character
            shorter.
        siblings_N: (N,) the same among those of them that have children.
        inner_P: (P,) for each node with children, its index among the nodes of its length.
        first_P: (P,) its first child.
        chars_N: (N,) last character of each node.
        last_U: (U,) node of each token, counted from 1; 0 for a token without characters.
        used_K: (K,) the distinct characters of the nodes, ascending.
        which_N: (N,) index in `used_K` of each node's character.
        without_E: (E,) indices of the tokens without characters.
    """

    sizes: list[int]
    inner_sizes: list[int]
    parents_N: Tensor
    siblings_N: Tensor
    inner_P: Tensor
    first_P: Tensor
    chars_N: Tensor
    last_U: Tensor
    used_K: Tensor
    which_N: Tensor
    without_E: Tensor


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
            first_V, lengths_V = pad(first_V, (0, 1), value=len(path_S) - 1), pad(lengths_V, (0, 1))
            parents_N, chars_N = torch.cat(parents), torch.cat(chars)
            return cls(
                parents_N, chars_N, path_S, first_V.int(), lengths_V.int(), torch.tensor(starts)
            )

    def plan(self, ids_U: Tensor) -> Plan:
        """Return the part of the tree that the given tokens need: their nodes and all shorter
        prefixes.

        ids_U is (U,). On a GPU it waits for the device twice, regardless of the lengths of the
        tokens. Its cost depends on the tokens alone, not on the sizes of vocabulary and alphabet.
        """
        device = ids_U.device
        ids_U = ids_U.clamp(max=len(self.lengths_V) - 1)
        first_U, lengths_U = self.first_V[ids_U].long(), self.lengths_V[ids_U].long()
        # subtle: this and `tolist` below are the two waits; sizes given to repeat_interleave and
        # nonzero_static avoid more of them
        total = int(lengths_U.sum())
        ends_U = lengths_U.cumsum(0)
        place_S = torch.arange(total, device=device) + (
            first_U - (ends_U - lengths_U)
        ).repeat_interleave(lengths_U, output_size=total)
        nodes_S, from_S = self.path_S[place_S].sort()
        # the first level has no parents, and none of its nodes is a sibling of a longer prefix
        above_S = self.parents_N[nodes_S].masked_fill(nodes_S < self.starts_L[1:2], -1)
        new_S, eldest_S = _changes(nodes_S), _changes(above_S)
        number_S, family_S = new_S.cumsum(0), eldest_S.cumsum(0)
        chars_S = self.chars_N[nodes_S].sort().values
        other_S, without_U = _changes(chars_S), lengths_U == 0
        at_L = torch.searchsorted(nodes_S, self.starts_L.int())
        # numbers of nodes and of families before each level
        starts_L, families_L = (pad(each, (1, 0))[at_L] for each in (number_S, family_S))
        counts = torch.stack([other_S.sum(), without_U.sum()])
        found = torch.cat([starts_L, families_L, counts]).tolist()
        *starts, kinds, empty = found[: len(at_L)] + found[-2:]
        families = found[len(at_L) : -2]
        kept_N = torch.nonzero_static(new_S, size=starts[-1]).squeeze(1)
        level_N = torch.bucketize(nodes_S[kept_N], self.starts_L, right=True) - 1
        # the number of each place of each token; the place before is that of the parent
        number_at_S = number_S.new_zeros(total + 1).index_copy_(0, from_S, number_S)
        parents_N = number_at_S[from_S[kept_N] - 1] - 1 - starts_L[(level_N - 1).clamp(min=0)]
        parents_N = torch.where(level_N > 0, parents_N, 0)
        # the first family is the first level
        first_P = number_S[torch.nonzero_static(eldest_S, size=families[-1]).squeeze(1)[1:]] - 1
        chars_N = self.chars_N[nodes_S[kept_N]]
        used_K = chars_S[torch.nonzero_static(other_S, size=kinds).squeeze(1)]
        sizes = _sizes(starts)
        return Plan(
            sizes=sizes,
            inner_sizes=[*_sizes(families)[1 : len(sizes)], 0],
            parents_N=parents_N,
            siblings_N=family_S[kept_N] - 1 - families_L[level_N],
            inner_P=parents_N[first_P],
            first_P=first_P,
            chars_N=chars_N.long(),
            last_U=number_at_S[torch.where(without_U, total, ends_U - 1)],
            used_K=used_K.long(),
            which_N=torch.searchsorted(used_K, chars_N),
            without_E=torch.nonzero_static(without_U, size=empty).squeeze(1),
        )


def _changes(values_S: Tensor) -> Tensor:
    """Return True for each value that differs from the one before it, and for the first.

    torch.unique would wait for the device, because the size of its result is data-dependent.
    """
    new_S = torch.ones_like(values_S, dtype=torch.bool)
    torch.ne(values_S[1:], values_S[:-1], out=new_S[1:])
    return new_S


def _sizes(starts: list[int]) -> list[int]:
    """Return the differences up to the first that is zero: [0, 2, 5, 5] -> [2, 3].

    At least two; see `Plan.sizes`.
    """
    sizes = [last - first for first, last in itertools.pairwise(starts) if last > first]
    return sizes + [0] * (2 - len(sizes))
