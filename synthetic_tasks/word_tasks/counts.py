"""Tasks about how often letters occur in a word: count, distinct, contains."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

from synthetic_tasks.words import ACCENTS

from .letters import numbered, running_count, spaced
from .recipe import Recipe

_LARGEST_COUNT = 4  # the last stratum holds all larger counts: few words have them
# Letters that only words of mixed forms have.
_MIXED_LETTERS = ascii_uppercase + digits + "".join(map(chr, ACCENTS.values()))


def _draw_most_frequent(
    word: str, stratum: int, rng: Random, words: Sequence[str]
) -> tuple[str, ...]:
    # The stratum, the largest count of the word, is the answer; ties are drawn.
    counts = Counter(word)
    most = max(counts.values())
    return (rng.choice([letter for letter, count in counts.items() if count == most]),)


def _without_repeats(word: str) -> str:
    return "".join(dict.fromkeys(word))


def _presence_strata(word: str) -> list[int]:
    """List 2c for each missing letter with code point c, and 2c + 1 for each letter of the word.

    A stratum thus fixes the letter and the answer. With `paired`, a letter that all words of a
    split contain, or none, is not drawn: the letter alone says nothing about the answer.
    """
    plain = word.isascii() and word.islower() and word.isalpha()
    alphabet = ascii_lowercase if plain else ascii_lowercase + _MIXED_LETTERS
    missing = set(alphabet).difference(word)
    present = dict.fromkeys(word)
    return [2 * ord(letter) for letter in missing] + [2 * ord(letter) + 1 for letter in present]


def _up_to_letter(word: str, letter: str) -> str:
    # "no" is certain only after the last letter.
    return word[: word.index(letter) + 1] if letter in word else word


# a, banana -> 3
COUNT = Recipe(
    name="count",
    arguments=("letter",),
    draw=_draw_most_frequent,
    solve=lambda word, letter: str(word.count(letter)),
    strata=lambda word: (min(max(Counter(word).values()), _LARGEST_COUNT),),
    scratchpad=lambda word, letter: spaced(word),
    numbered_scratchpad=lambda word, letter: running_count(word, lambda other: other == letter),
)
# banana -> 3
DISTINCT = Recipe(
    name="distinct",
    solve=lambda word: str(len(set(word))),
    strata=lambda word: (len(set(word)),),  # the answer
    scratchpad=lambda word: spaced(_without_repeats(word)),
    # From 1, so that the last number is the answer.
    numbered_scratchpad=lambda word: numbered(_without_repeats(word), 1),
)
# n, banana -> yes
CONTAINS = Recipe(
    name="contains",
    arguments=("any letter",),
    draw=lambda word, stratum, rng, words: (chr(stratum // 2),),
    solve=lambda word, letter: "yes" if letter in word else "no",
    strata=_presence_strata,
    paired=True,
    fixed_answers=("yes", "no"),
    scratchpad=lambda word, letter: spaced(_up_to_letter(word, letter)),
)
