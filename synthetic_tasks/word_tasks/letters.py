"""Write the letters of a word as answers and scratchpads do; measure the distance of two words."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache


def spaced(word: str) -> str:
    """Put a space between the letters: "tea" -> "t e a"."""
    return " ".join(word)


def place_of_letter(word: str, *arguments: str) -> int | None:
    """Return the first place of the only letter of the word among the arguments; None if several.

    place_of_letter("banana", "n") -> 2; place_of_letter("banana", "n", "b") -> None
    """
    letters = [letter for letter in arguments if len(letter) == 1 and letter in word]
    return word.index(letters[0]) if len(letters) == 1 else None


def numbered(word: str, first: int = 0) -> str:
    """Number the letters from `first` on: "tea" -> "t0 e1 a2"."""
    return " ".join(f"{letter}{number}" for number, letter in enumerate(word, first))


def running_count(word: str, counts: Callable[[str], bool]) -> str:
    """Write a running count after each letter that counts: "banana", is a -> "b a1 n a2 n a3"."""
    number, written = 0, []
    for letter in word:
        number += (counting := counts(letter))
        written.append(f"{letter}{number}" if counting else letter)
    return " ".join(written)


@lru_cache(maxsize=1024)  # one item of nearer asks for the same distance several times
def edit_distance(one: str, other: str) -> int:
    """Return Levenshtein's distance: the fewest letters to insert, delete or change. tea, heap -> 2

    Bit-parallel: Myers 1999 in the form of Hyyrö 2003 ("A bit-vector algorithm for computing
    Levenshtein and Damerau edit distances"). The table of distances is processed column by column.
    Bit i of `up` (`down`) is set if the table rises (falls) by one from row i to row i + 1.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for i, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << i
    # `full` cuts off the bits above the last row: Python's integers have no fixed width.
    full, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = full, 0, len(one)
    for letter in other:
        equal = places.get(letter, 0)
        # Bits of the rows in which the table does not rise along the diagonal.
        diagonal = (((equal & up) + up) ^ up) | equal | down
        right_up, right_down = down | ~(diagonal | up) & full, up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = right_up << 1 | 1  # the 1: row 0 of the table rises by one with every column
        right_down <<= 1
        up = (right_down | ~(diagonal | right_up)) & full
        down = right_up & diagonal & full
    return distance
