"""Path-star graphs (arXiv 2403.06963): several arms begin in one node; which one leads to the goal?

path a B, f c, B d, a f; a d: a B d
"""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

from synthetic_tasks.draws import is_held_out
from synthetic_tasks.task import Item, Material, Split, Task

from .names import NAMES, bad_sizes, read_sizes

_POOL = 50  # names to draw nodes from, as in the paper; larger graphs use more
_MIN_GRAPHS = 1000  # enough graphs for both training and the split "fresh"
_FORMS = ("DxL", "DxLxN")
_RULE = (
    "D arms (2 or more) of L nodes each (2 or more), such as path_star:2x5, with names from a pool "
    f"of N (default {_POOL}, at most {len(NAMES)}); N names must be enough for a graph with an arm "
    f"more, or a node more an arm, and make {_MIN_GRAPHS} graphs or more"
)


class PathStar(Task):
    """Find the path in G(d, l): d arms of l nodes, the shared start included.

    PathStar(2, 3, 50).draw("seen", rng) -> Item("path a B, f c, B d, a f; a d:", " a B d", ...)

    The prompt lists the edges in random order, then the start and the goal, the end of one arm. The
    answer is the path from start to goal. All steps but the first follow from an edge. The first
    step needs the whole arm, read backwards from the goal. A model that guesses it and then follows
    edges is right in 1 of d: that is chance level, while the majority baseline is about 0.

    An eighth of all graphs is held out of training and forms the split "fresh". Items of "seen" are
    drawn as in training; training may or may not contain a given one. With n nodes out of N names
    there are N! / (N - n)! / (d - 1)! questions: for G(2, 5) 9 x 10^14 with 50 names and 3 x 10^8
    with 13; 117,600 for G(2, 2) with 50. So a run hardly ever repeats a question of a larger graph.

    Fewer names make the same problem smaller: following an edge means finding an equal name.
    """

    def __init__(self, num_arms: int, arm_length: int, num_names: int) -> None:
        d, length = num_arms, arm_length
        # The default pool has no size in the name, so equal tasks have equal names.
        pool = "" if num_names == _default_names(d, length) else f"x{num_names}"
        self.name = f"path_star:{d}x{length}{pool}"
        self.nodes = NAMES[:num_names]
        # Split -> arms, nodes an arm, whether graphs are held out (None: all graphs).
        self._draws: dict[str, tuple[int, int, bool | None]] = {
            "seen": (d, length, False),
            "fresh": (d, length, True),
            "longer_arms": (d, length + 1, None),
            "more_arms": (d + 1, length, None),
        }
        trained = f"after training on {d} arms of {length}"
        chance = f"guessing the arm and following it gets {1 / d:.2f}"
        same = f"{d} arms of {length} nodes, as in training; {chance}"
        place = "On graphs with longer arms than any trained on"
        longer = f"{d} arms of {length + 1} nodes, {trained}"
        more = f"{d + 1} arms of {length} nodes, {trained}"
        self.splits = (
            Split("seen", "training graphs", "On graphs that training drew from"),
            Split("fresh", "new graphs", "On graphs kept out of training", same),
            Split("longer_arms", "longer arms", place, longer),
            Split("more_arms", "more arms", "On graphs with more arms than any trained on", more),
        )
        self.main_split, self.verb_phrase = "fresh", "finds the path through"
        way = f"the way from the middle of a star of {d} arms to the end of one of them"
        self.description = f"{way}, {length} nodes"
        self.difficulty = (
            "the number of arms; their length; how many names the nodes are drawn from"
        )

    def draw(self, split: str, rng: Random) -> Item:
        num_arms, arm_length, held_out = self._draws[split]
        while True:
            start, *others = rng.sample(self.nodes, _num_nodes(num_arms, arm_length))
            step = arm_length - 1
            arms = [[start, *others[i : i + step]] for i in range(0, len(others), step)]
            # Sorted: the same graph has one text, whatever the order of its arms.
            graph = "; ".join(sorted(" ".join(arm) for arm in arms))
            if held_out in (None, is_held_out(graph)):
                break
        edges = [f"{tail} {head}" for arm in arms for tail, head in pairwise(arm)]
        rng.shuffle(edges)
        path = arms[0]  # any arm will do: its names are random
        prompt = f"path {', '.join(edges)}; {start} {path[-1]}:"
        return Item(prompt, f" {' '.join(path)}", f"path {graph}: {path[-1]}")

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Score `first_step`: the node after the start, the only step that needs planning."""
        # Slices: the answer may have fewer than two nodes.
        return {"first_step": given.split()[1:2] == item.answer.split()[1:2]}

    def fixed_texts(self) -> list[str]:
        names = " ".join(self.nodes)
        return [f"path {names}, {names}; {names}:"]


def _num_nodes(num_arms: int, arm_length: int) -> int:
    return num_arms * (arm_length - 1) + 1


def _max_nodes(num_arms: int, arm_length: int) -> int:
    """Return the number of nodes in the largest graph of any split."""
    return max(_num_nodes(num_arms, arm_length + 1), _num_nodes(num_arms + 1, arm_length))


def _default_names(num_arms: int, arm_length: int) -> int:
    return max(_POOL, _max_nodes(num_arms, arm_length))


def build(name: str, sizes: str, material: Material) -> PathStar:
    """Build the task; "path_star", "path_star:2x5" and "path_star:2x5x50" are the same."""
    d, length, *rest = read_sizes(name, sizes or "2x5", _FORMS, _RULE)
    if d < 2 or length < 2:
        raise bad_sizes(name, sizes, _FORMS, _RULE)
    num_names = rest[0] if rest else _default_names(d, length)
    fits = _max_nodes(d, length) <= num_names <= len(NAMES)
    # Graphs with equal arms in another order are the same.
    if not fits or math.perm(num_names, _num_nodes(d, length)) // math.factorial(d) < _MIN_GRAPHS:
        raise bad_sizes(name, sizes, _FORMS, _RULE)
    return PathStar(d, length, num_names)
