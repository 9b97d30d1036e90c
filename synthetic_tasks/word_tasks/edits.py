"""Tasks that change a word: swap, substitute, insert, delete, exchange."""

from collections.abc import Sequence
from random import Random
from string import ascii_lowercase

from .letters import numbered, spaced
from .recipe import Recipe


def _draw_swap(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # A word of one repeated letter has no other: the swap then changes nothing.
    letters = sorted(set(word))
    return tuple(rng.sample(letters, 2) if len(letters) > 1 else letters * 2)


def _draw_substitute(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # Unlike in swap, the new letter need not occur in the word.
    old = rng.choice(sorted(set(word)))
    return old, rng.choice([letter for letter in ascii_lowercase if letter != old])


def _draw_exchange(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # Sorted, so that a pair of places has one key.
    return tuple(map(str, sorted(rng.sample(range(len(word)), 2))))


def _insert(word: str, letter: str, place: str) -> str:
    return word[: int(place)] + letter + word[int(place) :]


def _exchange(word: str, one: str, other: str) -> str:
    letters = list(word)
    letters[int(one)], letters[int(other)] = letters[int(other)], letters[int(one)]
    return "".join(letters)


def _refuse_exchange(word: str, one: str, other: str) -> str:
    equal = word[int(one)] == word[int(other)]
    return f"the letters at {one} and {other} are both {word[int(one)]}" if equal else ""


def _if_letters_differ(word: str) -> tuple[int, ...]:
    """Leave out words of one repeated letter: delete and exchange have no question about them."""
    return (0,) if len(set(word)) > 1 else ()


# All scratchpads spell the word first: this separates reading the letters from changing them.
# n, b, banana -> babana
SWAP = Recipe(
    name="swap",
    arguments=("letter", "letter"),
    draw=_draw_swap,
    solve=lambda word, old, new: word.replace(old, new, 1),
    spaced_answer=True,
    scratchpad=lambda word, old, new: spaced(word),
)
# a, o, banana -> bonono
SUBSTITUTE = Recipe(
    name="substitute",
    arguments=("letter", "any letter"),
    draw=_draw_substitute,
    solve=lambda word, old, new: word.replace(old, new),
    spaced_answer=True,
    scratchpad=lambda word, old, new: spaced(word),
)
# x, 3, banana -> banxana
INSERT = Recipe(
    name="insert",
    arguments=("any letter", "gap"),
    draw=lambda word, stratum, rng, words: (
        rng.choice(ascii_lowercase),
        str(rng.randint(0, len(word))),  # len(word): after the last letter
    ),
    solve=_insert,
    spaced_answer=True,
    scratchpad=lambda word, letter, place: spaced(word),
    numbered_scratchpad=lambda word, letter, place: numbered(word),
)
# a, banana -> bnn
DELETE = Recipe(
    name="delete",
    arguments=("letter",),
    draw=lambda word, stratum, rng, words: (rng.choice(sorted(set(word))),),
    solve=lambda word, letter: word.replace(letter, ""),
    # An empty answer would be right for a model that writes nothing.
    refuse=lambda word, letter: "" if set(word) != {letter} else "nothing would be left",
    strata=_if_letters_differ,
    spaced_answer=True,
    scratchpad=lambda word, letter: spaced(word),
)
# 0, 3, banana -> aanbna
EXCHANGE = Recipe(
    name="exchange",
    arguments=("place", "place"),
    draw=_draw_exchange,
    solve=_exchange,
    refuse=_refuse_exchange,
    strata=_if_letters_differ,
    spaced_answer=True,
    scratchpad=lambda word, one, other: spaced(word),
    numbered_scratchpad=lambda word, one, other: numbered(word),
)
