"""The letters of words as answers and their work write them, and how far two words are from each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache


def apart(word: str) -> str:
    """ "tea" -> "t e a" """
    return " ".join(word)


def numbered(word: str, first: int = 0) -> str:
    """ "tea" -> "t0 e1 a2" """
    return " ".join(f"{letter}{number}" for number, letter in enumerate(word, first))


def counted(word: str, counts: Callable[[str], bool]) -> str:
    """A running count beside the letters that count. "banana", those that are a -> "b a1 n a2 n a3" """
    number, written = 0, []
    for letter in word:
        number += (counting := counts(letter))
        written.append(f"{letter}{number}" if counting else letter)
    return " ".join(written)


@lru_cache(maxsize=1024)
def distance(one: str, other: str) -> int:
    """Levenshtein's distance: the fewest letters to insert, delete or change. tea, heap -> 2

    All rows of the table at once, as bits of whole numbers: Myers 1999 in the form of Hyyrö 2003 ("A
    bit-vector algorithm for computing Levenshtein and Damerau edit distances"), column by column. Bit i of
    `up` (`down`) says that the table rises (falls) by one from row i to row i + 1.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for i, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << i
    full, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, found = full, 0, len(one)
    for letter in other:
        equal = places.get(letter, 0)
        diagonal = (
            (((equal & up) + up) ^ up) | equal | down
        )  # where the table does not rise diagonally
        right_up, right_down = down | ~(diagonal | up) & full, up & diagonal
        found += bool(right_up & last) - bool(right_down & last)
        right_up = right_up << 1 | 1
        right_down <<= 1
        up = (right_down | ~(diagonal | right_up)) & full
        down = right_up & diagonal & full
    return found
