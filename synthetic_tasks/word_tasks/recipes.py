"""All word tasks: spelling, counts, places, edits of a word, comparisons of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

from synthetic_tasks.words import ACCENTS

from .letters import edit_distance, numbered, running_count, spaced
from .recipe import Recipe

_LARGEST_COUNT = 4  # the last stratum holds all larger counts: few words have them
# Largest place that is a stratum of its own; few words have letters further on.
_LARGEST_INDEX, _LARGEST_LAST_INDEX = 7, 9
# Letters that only words of mixed forms have.
_MIXED_LETTERS = ascii_uppercase + digits + "".join(map(chr, ACCENTS.values()))
_MAX_DRAWS = 50  # draws of a second word of the same length


def _spell_word(word: str, *arguments: str) -> str:
    return spaced(word)


def _number_word(word: str, *arguments: str) -> str:
    return numbered(word)


def _without_repeats(word: str) -> str:
    return "".join(dict.fromkeys(word))


def _up_to_letter(word: str, letter: str) -> str:
    # All of the word if the letter is missing: "no" is certain only after the last letter.
    return word[: word.index(letter) + 1] if letter in word else word


def _up_to_place(word: str, place: str) -> str:
    return word[: int(place) + 1]


def _first_places(word: str) -> list[int]:
    """List the places at which a letter occurs for the first time: banana -> 0, 1, 2."""
    return [i for i, letter in enumerate(word[: _LARGEST_INDEX + 1]) if word.index(letter) == i]


def _last_places(word: str) -> list[int]:
    """List the places at which a letter occurs for the last time: banana -> 0, 4, 5."""
    letters = word[: _LARGEST_LAST_INDEX + 1]
    return [i for i, letter in enumerate(letters) if word.rindex(letter) == i]


def _draw_most_frequent(
    word: str, stratum: int, rng: Random, words: Sequence[str]
) -> tuple[str, ...]:
    # The stratum, the largest count of the word, is the answer; ties are drawn.
    counts = Counter(word)
    most = max(counts.values())
    return (rng.choice([letter for letter, count in counts.items() if count == most]),)


def _presence_strata(word: str) -> list[int]:
    """List 2c for each missing letter with code point c, and 2c + 1 for each letter of the word."""
    # A stratum thus fixes the letter and the answer. With `paired`, a letter that all words of a
    # split contain, or none, is not drawn: the letter alone says nothing about the answer.
    plain = word.isascii() and word.islower() and word.isalpha()
    alphabet = ascii_lowercase if plain else ascii_lowercase + _MIXED_LETTERS
    missing, present = set(alphabet).difference(word), dict.fromkeys(word)
    return [2 * ord(letter) for letter in missing] + [2 * ord(letter) + 1 for letter in present]


def _draw_swap(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # A word of one repeated letter has no other: the swap then changes nothing.
    letters = sorted(set(word))
    return tuple(rng.sample(letters, 2) if len(letters) > 1 else letters * 2)


def _draw_substitute(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # Unlike in swap, the new letter need not occur in the word.
    old = rng.choice(sorted(set(word)))
    return old, rng.choice([letter for letter in ascii_lowercase if letter != old])


def _draw_insert(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # Up to len(word): after the last letter.
    return rng.choice(ascii_lowercase), str(rng.randint(0, len(word)))


def _draw_exchange(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    # Sorted, so that a pair of places has one key.
    return tuple(map(str, sorted(rng.sample(range(len(word)), 2))))


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


def _refuse_longer(word: str, other: str) -> str:
    return f"{other!r} has {len(word)} letters too" if len(word) == len(other) else ""


def _nearer(word: str, one: str, other: str) -> str:
    return one if edit_distance(word, one) < edit_distance(word, other) else other


def _refuse_nearer(word: str, one: str, other: str) -> str:
    # An equal word would be found by comparing tokens, without any spelling.
    if word in (one, other):
        return "it is one of the two words to choose from"
    distance = edit_distance(word, one)
    equal = distance == edit_distance(word, other)
    return f"{one!r} and {other!r} are both {distance} changes away" if equal else ""


def _draw_nearer(word: str, stratum: int, rng: Random, words: Sequence[str]) -> tuple[str, ...]:
    """Draw two words alike, so that either is the nearer one equally often."""
    # Of the same length if the list has two such words: the length then says nothing.
    one = other = rng.choice(words)
    for _ in range(_MAX_DRAWS):
        other = rng.choice(words)
        if len(one) == len(other) and one != other:
            break
    return one, other


def _spaced_with_distance(word: str, one: str, other: str) -> str:
    pairs = [f"{spaced(choice)} {edit_distance(word, choice)}" for choice in (one, other)]
    return ", ".join([*pairs, spaced(word)])


# The scratchpad of a task that changes the word spells the word first: this separates reading the
# letters from changing them.
_edit = partial(Recipe, spaced_answer=True, scratchpad=_spell_word)

# Subtle: pools and suites of all tasks follow this order, and so do their draws. Append only.
_ALL = (
    # tea -> aet
    Recipe(
        "reverse",
        solve=lambda word: word[::-1],
        spaced_answer=True,
        # The spelling comes first, so that a wrong letter can be told from a wrong order.
        scratchpad=spaced,
    ),
    # a, banana -> 3
    Recipe(
        "count",
        arguments=("letter",),
        draw=_draw_most_frequent,
        solve=lambda word, letter: str(word.count(letter)),
        strata=lambda word: (min(max(Counter(word).values()), _LARGEST_COUNT),),
        scratchpad=_spell_word,
        numbered_scratchpad=lambda word, letter: running_count(word, lambda other: other == letter),
    ),
    # n, banana -> 2
    Recipe(
        "index",
        arguments=("letter",),
        # The stratum is the answer: the letter at a place where it occurs first.
        draw=lambda word, place, rng, words: (word[place],),
        solve=lambda word, letter: str(word.index(letter)),
        strata=_first_places,
        scratchpad=lambda word, letter: spaced(_up_to_letter(word, letter)),
        # From 0, so that the last number is the answer.
        numbered_scratchpad=lambda word, letter: numbered(_up_to_letter(word, letter)),
    ),
    # n, b, banana -> babana
    _edit(
        "swap",
        arguments=("letter", "letter"),
        draw=_draw_swap,
        solve=lambda word, old, new: word.replace(old, new, 1),
    ),
    # tea -> t e a. In the form "plain" the answer is the word itself: copying is always right.
    Recipe("spell", solve=lambda word: word, spaced_answer=True),
    # t e a -> tea
    Recipe("unspell", solve=lambda word: word, spaced_word=True),
    # n, banana -> yes
    Recipe(
        "contains",
        arguments=("any letter",),
        draw=lambda word, stratum, rng, words: (chr(stratum // 2),),
        solve=lambda word, letter: "yes" if letter in word else "no",
        strata=_presence_strata,
        paired=True,
        fixed_answers=("yes", "no"),
        scratchpad=lambda word, letter: spaced(_up_to_letter(word, letter)),
    ),
    # banana -> b. No scratchpad: it would be the answer itself.
    Recipe(
        "first_letter",
        solve=lambda word: word[0],
        strata=lambda word: (ord(word[0]),),
        place=lambda word: 0,
    ),
    # banana -> a
    Recipe(
        "last_letter",
        solve=lambda word: word[-1],
        strata=lambda word: (ord(word[-1]),),
        place=lambda word: len(word) - 1,
        scratchpad=spaced,
    ),
    # 2, banana -> n
    Recipe(
        "nth_letter",
        arguments=("place",),
        draw=lambda word, code, rng, words: (
            str(rng.choice([i for i, letter in enumerate(word) if ord(letter) == code])),
        ),
        solve=lambda word, place: word[int(place)],
        # By letter, then by place: otherwise frequent letters would be the answer more often.
        strata=lambda word: [ord(letter) for letter in dict.fromkeys(word)],
        place=lambda word, place: int(place),
        scratchpad=lambda word, place: spaced(_up_to_place(word, place)),
        numbered_scratchpad=lambda word, place: numbered(_up_to_place(word, place)),
    ),
    # n, banana -> 4
    Recipe(
        "last_index",
        arguments=("letter",),
        draw=lambda word, place, rng, words: (word[place],),
        solve=lambda word, letter: str(word.rindex(letter)),
        strata=_last_places,
        place=lambda word, letter: word.rindex(letter),
        # The whole word: the letter may occur again up to the end.
        scratchpad=_spell_word,
        numbered_scratchpad=_number_word,
    ),
    # banana -> 3
    Recipe(
        "distinct",
        solve=lambda word: str(len(set(word))),
        strata=lambda word: (len(set(word)),),  # the answer
        scratchpad=lambda word: spaced(_without_repeats(word)),
        # From 1, so that the last number is the answer.
        numbered_scratchpad=lambda word: numbered(_without_repeats(word), 1),
    ),
    # x, 3, banana -> banxana
    _edit(
        "insert",
        arguments=("any letter", "gap"),
        draw=_draw_insert,
        solve=lambda word, letter, place: word[: int(place)] + letter + word[int(place) :],
        place=lambda word, letter, place: None,  # the gap is between two letters
        numbered_scratchpad=_number_word,
    ),
    # a, banana -> bnn
    _edit(
        "delete",
        arguments=("letter",),
        draw=lambda word, stratum, rng, words: (rng.choice(sorted(set(word))),),
        solve=lambda word, letter: word.replace(letter, ""),
        # An empty answer would be right for a model that writes nothing.
        refuse=lambda word, letter: "" if set(word) != {letter} else "nothing would be left",
        strata=_if_letters_differ,
    ),
    # a, o, banana -> bonono
    _edit(
        "substitute",
        arguments=("letter", "any letter"),
        draw=_draw_substitute,
        solve=lambda word, old, new: word.replace(old, new),
    ),
    # 0, 3, banana -> aanbna
    _edit(
        "exchange",
        arguments=("place", "place"),
        draw=_draw_exchange,
        solve=_exchange,
        place=lambda word, one, other: None,
        refuse=_refuse_exchange,
        strata=_if_letters_differ,
        numbered_scratchpad=_number_word,
    ),
    # tea, banana -> banana
    Recipe(
        "longer",
        arguments=("word",),
        # Both words are drawn alike, so either is the longer one equally often.
        draw=lambda word, stratum, rng, words: (rng.choice(words),),
        solve=lambda word, other: max(other, word, key=len),
        refuse=_refuse_longer,
        options=lambda word, other: (other, word),
        scratchpad=lambda word, other: f"{spaced(other)}, {spaced(word)}",
        # From 1, so that the last number is the length.
        numbered_scratchpad=lambda word, other: f"{numbered(other, 1)}, {numbered(word, 1)}",
    ),
    # bandana, tea; banana -> bandana
    Recipe(
        "nearer",
        arguments=("word", "word"),
        draw=_draw_nearer,
        solve=_nearer,
        refuse=_refuse_nearer,
        options=lambda word, one, other: (one, other),
        scratchpad=lambda word, one, other: f"{spaced(one)}, {spaced(other)}, {spaced(word)}",
        numbered_scratchpad=_spaced_with_distance,
    ),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
