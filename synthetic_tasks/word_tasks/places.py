"""Tasks about the place of a letter: index, last_index, nth_letter, first_letter, last_letter."""

from .letters import numbered, spaced
from .recipe import Recipe

# Largest place that is a stratum of its own; few words have letters further on.
_LARGEST_INDEX, _LARGEST_LAST_INDEX = 7, 9


def _first_places(word: str) -> list[int]:
    """List the places at which a letter occurs for the first time: banana -> 0, 1, 2."""
    return [i for i, letter in enumerate(word[: _LARGEST_INDEX + 1]) if word.index(letter) == i]


def _last_places(word: str) -> list[int]:
    """List the places at which a letter occurs for the last time: banana -> 0, 4, 5."""
    return [
        i for i, letter in enumerate(word[: _LARGEST_LAST_INDEX + 1]) if word.rindex(letter) == i
    ]


def _up_to_letter(word: str, letter: str) -> str:
    return word[: word.index(letter) + 1]


def _up_to_place(word: str, place: str) -> str:
    return word[: int(place) + 1]


# n, banana -> 2
INDEX = Recipe(
    name="index",
    arguments=("letter",),
    # The stratum is the answer: the letter at a place where it occurs first.
    draw=lambda word, place, rng, words: (word[place],),
    solve=lambda word, letter: str(word.index(letter)),
    strata=_first_places,
    scratchpad=lambda word, letter: spaced(_up_to_letter(word, letter)),
    # From 0, so that the last number is the answer.
    numbered_scratchpad=lambda word, letter: numbered(_up_to_letter(word, letter)),
)
# n, banana -> 4
LAST_INDEX = Recipe(
    name="last_index",
    arguments=("letter",),
    draw=lambda word, place, rng, words: (word[place],),
    solve=lambda word, letter: str(word.rindex(letter)),
    strata=_last_places,
    # The whole word: the letter may occur again up to the end.
    scratchpad=lambda word, letter: spaced(word),
    numbered_scratchpad=lambda word, letter: numbered(word),
)
# 2, banana -> n
NTH_LETTER = Recipe(
    name="nth_letter",
    arguments=("place",),
    draw=lambda word, code, rng, words: (
        str(rng.choice([i for i, letter in enumerate(word) if ord(letter) == code])),
    ),
    solve=lambda word, place: word[int(place)],
    # By letter, then by place: otherwise frequent letters would be the answer more often.
    strata=lambda word: [ord(letter) for letter in dict.fromkeys(word)],
    scratchpad=lambda word, place: spaced(_up_to_place(word, place)),
    numbered_scratchpad=lambda word, place: numbered(_up_to_place(word, place)),
)
# banana -> b
FIRST_LETTER = Recipe(
    name="first_letter",
    solve=lambda word: word[0],
    strata=lambda word: (ord(word[0]),),
    # No scratchpad: it would be the answer itself.
)
# banana -> a
LAST_LETTER = Recipe(
    name="last_letter",
    solve=lambda word: word[-1],
    strata=lambda word: (ord(word[-1]),),
    scratchpad=spaced,
)
