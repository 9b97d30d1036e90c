"""A vocabulary's spellings as a tree of prefixes, so that equal prefixes are computed once.

Axes: V vocabulary, U distinct tokens, N nodes (distinct prefixes), S the characters of all tokens,
L lengths, K distinct characters, E tokens without characters.

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
        used_K: (K,) the distinct characters of the nodes, ascending.
        which_N: (N,) index in `used_K` of each node's character.
        without_E: (E,) indices of the tokens without characters.
    """

    sizes: list[int]
    parents_N: Tensor
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
        tokens. Its cost depends on the tokens alone, not on the sizes of vocabulary and alphabet.
        """
        device = ids_U.device
        ids_U = ids_U.clamp(max=len(self.lengths_V) - 1)
        first_U, lengths_U = self.first_V[ids_U].long(), self.lengths_V[ids_U].long()
        # subtle: this and `tolist` below are the two waits; sizes given to repeat_interleave and
        # nonzero_static avoid more of them
        total = int(lengths_U.sum())
        shift_U = first_U - (lengths_U.cumsum(0) - lengths_U)
        place_S = torch.arange(total, device=device) + shift_U.repeat_interleave(
            lengths_U, output_size=total
        )
        nodes_S, new_S = _sorted(self.path_S[place_S])
        number_S = torch.nn.functional.pad(new_S.cumsum(0), (1, 0))  # nodes before each place
        starts_L = number_S[torch.searchsorted(nodes_S, self.starts_L.int())]
        chars_S, other_S = _sorted(self.chars_N[nodes_S].long())
        without_U = lengths_U == 0
        counts = torch.stack([other_S.sum(), without_U.sum()])
        *starts, kinds, empty = torch.cat([starts_L, counts]).tolist()
        kept_N = nodes_S[torch.nonzero_static(new_S, size=starts[-1]).squeeze(1)]
        sizes = [last - first for first, last in itertools.pairwise(starts) if last > first]
        # at least two levels, see Plan.sizes
        sizes += [0] * (2 - len(sizes))
        # A parent's index within its level is its number minus the nodes of shorter lengths. On the
        # first level the value is not used.
        level_N = torch.bucketize(kept_N, self.starts_L, right=True) - 1
        before_N = starts_L[(level_N - 1).clamp(min=0)]
        last_S = torch.where(lengths_U > 0, first_U + lengths_U - 1, len(self.path_S) - 1)
        chars_N = self.chars_N[kept_N].long()
        used_K = chars_S[torch.nonzero_static(other_S, size=kinds).squeeze(1)]
        return Plan(
            sizes=sizes,
            parents_N=torch.searchsorted(kept_N, self.parents_N[kept_N]) - before_N,
            chars_N=chars_N,
            last_U=torch.where(
                lengths_U > 0, torch.searchsorted(kept_N, self.path_S[last_S]) + 1, 0
            ),
            used_K=used_K,
            which_N=torch.searchsorted(used_K, chars_N),
            without_E=torch.nonzero_static(without_U, size=empty).squeeze(1),
        )


def _sorted(values_S: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values in ascending order, and True for the first of each.

    torch.unique would wait for the device, because the size of its result is data-dependent.
    """
    values_S = values_S.sort().values
    new_S = torch.ones_like(values_S, dtype=torch.bool)
    torch.ne(values_S[1:], values_S[:-1], out=new_S[1:])
    return values_S, new_S
