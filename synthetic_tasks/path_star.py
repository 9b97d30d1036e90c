"""Path-star graphs (arXiv 2403.06963): several arms begin in one node; which of them leads to the goal?

path a B, f c, B d, a f; a d: a B d
"""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

from .draws import is_held_out
from .names import NAMES, bad_sizes, read_sizes
from .task import Item, Material, Split, Task

POOL = 50  # names to draw nodes from, as in the paper; more where a graph needs more
FEWEST_GRAPHS = 1000  # so that both training and the split "fresh" have some
FORMS = ("DxL", "DxLxN")
RULE = (
    f"D arms (2 or more) of L nodes each (2 or more), such as path_star:2x5, with names from a pool "
    f"of N ({POOL} unless said, at most {len(NAMES)}); N names are enough for a graph with an arm more, or "
    f"a node more an arm, and make {FEWEST_GRAPHS} graphs or more"
)


class PathStar(Task):
    """G(d, l): d arms of l nodes, the start that they share included. Given are the edges in random order,
    the start and the end of one arm; asked is the way from start to goal, both included.

    PathStar(2, 3, 50).draw("seen", rng) -> Item("path a B, f c, B d, a f; a d:", " a B d", ...)

    Every step but the first follows from an edge. The first needs the whole arm, read backwards from the
    goal: who guesses it and then follows the edges is right in 1 of d. That is the chance level of this task;
    `baseline`, the best constant answer, gets about nothing.

    An eighth of all graphs is kept out of training and makes up the split "fresh": the two share no graph,
    not even by chance. The items of "seen" are drawn as training draws them; whether training met one of them
    is a matter of chance. With n nodes of N names there are N! / (N - n)! / (d - 1)! questions: for G(2, 5)
    9 x 10^14 of 50 names and 3 x 10^8 of 13, so a run hardly ever meets the same one twice; 117,600 for
    G(2, 2).

    Fewer names make a smaller problem of the same kind: an edge is followed by finding the same name again.
    """

    def __init__(self, num_arms: int, arm_length: int, num_names: int) -> None:
        d, length = num_arms, arm_length
        pool = "" if num_names == usual_names(d, length) else f"x{num_names}"
        self.name = f"path_star:{d}x{length}{pool}"
        self.nodes = NAMES[:num_names]
        self._draws: dict[str, tuple[int, int, bool | None]] = {
            "seen": (d, length, False),
            "fresh": (d, length, True),
            "longer_arms": (d, length + 1, None),
            "more_arms": (d + 1, length, None),
        }
        trained = f"after training on {d} arms of {length}"
        chance = f"guessing the arm and following it gets {1 / d:.2f}"
        self.splits = (
            Split("seen", "training graphs", "On graphs that training drew from"),
            Split(
                "fresh",
                "new graphs",
                "On graphs kept out of training",
                f"{d} arms of {length} nodes, as in training; {chance}",
            ),
            Split(
                "longer_arms",
                "longer arms",
                "On graphs with longer arms than any trained on",
                f"{d} arms of {length + 1} nodes, {trained}",
            ),
            Split(
                "more_arms",
                "more arms",
                "On graphs with more arms than any trained on",
                f"{d + 1} arms of {length} nodes, {trained}",
            ),
        )
        self.telling, self.deed = "fresh", "finds the path through"
        self.about = f"the way from the middle of a star of {d} arms to the end of one of them, {length} nodes"
        self.axes = "the number of arms; their length; how many names the nodes are drawn from"

    def draw(self, split: str, rng: Random) -> Item:
        num_arms, arm_length, held_out = self._draws[split]
        while True:
            start, *others = rng.sample(self.nodes, num_nodes(num_arms, arm_length))
            step = arm_length - 1
            arms = [[start, *others[i : i + step]] for i in range(0, len(others), step)]
            graph = "; ".join(sorted(" ".join(arm) for arm in arms))
            if held_out in (None, is_held_out(graph)):
                break
        edges = [f"{tail} {head}" for arm in arms for tail, head in pairwise(arm)]
        rng.shuffle(edges)
        path = arms[0]
        return Item(
            f"path {', '.join(edges)}; {start} {path[-1]}:",
            f" {' '.join(path)}",
            f"path {graph}: {path[-1]}",
        )

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """`first_step`: whether the node after the start is right, which is the only one to be planned."""
        return {"first_step": given.split()[1:2] == item.answer.split()[1:2]}

    def fixed_texts(self) -> list[str]:
        names = " ".join(self.nodes)
        return [f"path {names}, {names}; {names}:"]


def num_nodes(num_arms: int, arm_length: int) -> int:
    return num_arms * (arm_length - 1) + 1


def largest(num_arms: int, arm_length: int) -> int:
    """Nodes in the largest graph of any split."""
    return max(num_nodes(num_arms, arm_length + 1), num_nodes(num_arms + 1, arm_length))


def usual_names(num_arms: int, arm_length: int) -> int:
    return max(POOL, largest(num_arms, arm_length))


def num_graphs(num_arms: int, arm_length: int, num_names: int) -> int:
    return math.perm(num_names, num_nodes(num_arms, arm_length)) // math.factorial(num_arms)


def build(name: str, sizes: str, material: Material) -> PathStar:
    """ "path_star", "path_star:2x5" and "path_star:2x5x50" are the same task."""
    d, length, *rest = read_sizes(name, sizes or "2x5", FORMS, RULE)
    if d < 2 or length < 2:
        raise bad_sizes(name, sizes, FORMS, RULE)
    num_names = rest[0] if rest else usual_names(d, length)
    if (
        not largest(d, length) <= num_names <= len(NAMES)
        or num_graphs(d, length, num_names) < FEWEST_GRAPHS
    ):
        raise bad_sizes(name, sizes, FORMS, RULE)
    return PathStar(d, length, num_names)
