"""Tasks that compare words: longer, nearer."""

from collections.abc import Sequence
from random import Random

from .letters import edit_distance, numbered, spaced
from .recipe import Recipe

_MAX_DRAWS = 50  # draws of a second word of the same length


def _refuse_longer(word: str, other: str) -> str:
    return f"{other!r} has {len(word)} letters too" if len(word) == len(other) else ""


def _nearer(word: str, one: str, other: str) -> str:
    return one if edit_distance(word, one) < edit_distance(word, other) else other


def _refuse_nearer(word: str, one: str, other: str) -> str:
    # An equal word would be found by comparing tokens, without any spelling.
    if word in (one, other):
        return "it is one of the two words to choose from"
    distance = edit_distance(word, one)
    if distance == edit_distance(word, other):
        return f"{one!r} and {other!r} are both {distance} changes away"
    return ""


def _draw_nearer(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    """Draw two words alike, so that either is the nearer one equally often.

    They have the same length if the list has two such words: the length then says nothing.
    """
    one = other = rng.choice(words)
    for _ in range(_MAX_DRAWS):
        other = rng.choice(words)
        if len(one) == len(other) and one != other:
            break
    return one, other


def _spaced_with_distance(word: str, *others: str) -> str:
    return ", ".join(f"{spaced(other)} {edit_distance(word, other)}" for other in others)


# tea, banana -> banana
LONGER = Recipe(
    name="longer",
    arguments=("word",),
    # Both words are drawn alike, so either is the longer one equally often.
    draw=lambda word, stratum, rng, words: (rng.choice(words),),
    solve=lambda word, other: max(other, word, key=len),
    refuse=_refuse_longer,
    options=lambda word, other: (other, word),
    scratchpad=lambda word, other: f"{spaced(other)}, {spaced(word)}",
    # From 1, so that the last number is the length.
    numbered_scratchpad=lambda word, other: f"{numbered(other, 1)}, {numbered(word, 1)}",
)
# bandana, tea; banana -> bandana
NEARER = Recipe(
    name="nearer",
    arguments=("word", "word"),
    draw=_draw_nearer,
    solve=_nearer,
    refuse=_refuse_nearer,
    options=lambda word, one, other: (one, other),
    scratchpad=lambda word, one, other: f"{spaced(one)}, {spaced(other)}, {spaced(word)}",
    numbered_scratchpad=lambda word, one, other: (
        f"{_spaced_with_distance(word, one, other)}, {spaced(word)}"
    ),
)
