"""Random draws: an item is a function of its key alone."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from zlib import crc32

from .task import Item, Task

_HELD_OUT = 8  # one sequence or graph of this many is held out of training


def stream(*key: int | str) -> Random:
    """Return a generator seeded by a key: equal keys give equal numbers on every machine."""
    # Random hashes a string with SHA-512; hash() would differ between processes.
    return Random(" ".join(map(str, key)))


def distinct(task: Task, split: str, n: int, *key: int | str) -> list[Item]:
    """Draw up to n items with different keys; fewer if 20 n draws do not give n.

    Draw i uses stream(task.name, *key, i). Put the split into the key, or two splits share them.
    """
    return distinct_draws(lambda rng: task.draw(split, rng), n, task.name, *key)


def distinct_draws(draw: Callable[[Random], Item], n: int, *key: int | str) -> list[Item]:
    """Draw up to n items with different keys in at most 20 n draws; draw i uses stream(*key, i)."""
    found: dict[str, Item] = {}
    for i in range(20 * n):  # a bound, because a split may have fewer than n questions
        item = draw(stream(*key, i))
        found.setdefault(item.key, item)  # the first wording of a question stays
        if len(found) == n:
            break
    return list(found.values())


def is_held_out(text: str) -> bool:
    """Return whether training never sees this sequence or graph: one in eight, by its checksum.

    The split of held-out sequences is thus disjoint from training, and no list has to be kept.
    """
    # crc32 is the same in every process and version; hash() of a text is not.
    return crc32(text.encode()) % _HELD_OUT == 0
