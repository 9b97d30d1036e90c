"""reasoning-gym's tasks about letters: their settings, and how an item is drawn.

The draws and their order are the package's; another order gives other items.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from . import reasoning_gym_marks as marks

Setting = Mapping[str, float]
_Drawn = tuple[tuple[str, ...], str]  # the arguments of the question, and the answer


class Texts(NamedTuple):
    book: str
    words: Sequence[str]


@dataclass(frozen=True)
class LetterTask:
    """One task: settings, pool(texts, setting), draw(pool, setting, rng) and score of an answer."""

    hard: Setting
    easy: Setting
    pool: Callable[[Texts, Setting], Sequence[str]]
    draw: Callable[[Sequence[str], Setting, Random], _Drawn]
    own_score: Callable[[str | None, str], float] = marks.contained
    equal: Callable[[str, str], bool] = str.__eq__


def _span(rng: Random, setting: Setting, name: str) -> int:
    return rng.randint(int(setting[f"min_{name}"]), int(setting[f"max_{name}"]))


def _fits(length: int, setting: Setting, name: str) -> bool:
    return setting[f"min_{name}"] <= length <= setting[f"max_{name}"]


def _book_words(texts: Texts, setting: Setting) -> list[str]:
    return [word for word in re.findall(r"\b\w+\b", texts.book) if word.isalnum()]


def _count(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    length = min(_span(rng, setting, "words"), len(pool))
    start = rng.randint(0, len(pool) - length)
    text = " ".join(pool[start : start + length])
    letter = rng.choice(sorted(set(text.lower().replace(" ", ""))))
    return (letter, text), str(text.lower().count(letter))


def _listed_words(texts: Texts, setting: Setting) -> list[str]:
    stripped = (word.strip() for word in texts.words)
    return [word for word in stripped if word.isalnum() and _fits(len(word), setting, "word_len")]


def _backward(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    word = rng.choice(pool)
    return (word,), word[::-1]


# Four letters in a row, A after E, are followed by the first of them.
_INSERTED = {row: row[0] for row in ("ABCD", "BCDE", "CDEA", "DEAB", "EABC")}


def _insertion(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    text = "".join(rng.choice(pool) for _ in range(_span(rng, setting, "string_length")))
    written, i = "", 0
    while i < len(text):
        row = text[i : i + 4] if text[i : i + 4] in _INSERTED else text[i]
        written += row + _INSERTED.get(row, "")
        i += len(row)
    return (text,), written


def _letter_words(texts: Texts, setting: Setting) -> list[str]:
    found = re.findall(r"\b\w+\b", texts.book)
    return [word for word in found if word.isalpha() and _fits(len(word), setting, "word_len")]


def _jumble(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    count = _span(rng, setting, "words")
    level = rng.uniform(setting["min_corruption_level"], setting["max_corruption_level"])
    start = rng.randint(0, len(pool) - count)
    words = pool[start : start + count]
    return (" ".join(_swapped(word, level, rng) for word in words),), " ".join(words)


def _swapped(word: str, level: float, rng: Random) -> str:
    letters = list(word)
    # Two swaps can undo each other, and equal letters can change places: one word in 25 stays.
    for _ in range(max(1, int(len(word) * level)) if len(word) > 1 else 0):
        a, b = rng.sample(range(len(letters)), 2)
        letters[a], letters[b] = letters[b], letters[a]
    return "".join(letters)


def _sentences(texts: Texts, setting: Setting) -> list[str]:
    sentences = [
        [word.upper() for word in sentence.split() if word.isalpha()]
        for sentence in texts.book.split(".")
        if sentence.strip()
    ]
    return [" ".join(words) for words in sentences if _fits(len(words), setting, "words")]


def _caesar(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    sentence = rng.choice(pool)
    by = _span(rng, setting, "rotation")
    # By code point, as the package does; its book has no other letters.
    moved = [chr((ord(c) - 65 + by) % 26 + 65) if c.isalpha() else c for c in sentence]
    return ("".join(moved),), sentence


def _palindrome(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    length = _span(rng, setting, "length")
    half = rng.choices(pool, k=length // 2)
    middle = [rng.choice(pool)] if length % 2 else []
    letters = half + middle + half[::-1]
    return (", ".join(rng.sample(letters, length)),), "".join(letters)


def _sorted_words(texts: Texts, setting: Setting) -> list[str]:
    found = set(re.findall(r"\b\w+\b", texts.book))
    return sorted(word for word in found if _fits(len(word), setting, "word_length"))


def _sort(pool: Sequence[str], setting: Setting, rng: Random) -> _Drawn:
    words = rng.sample(pool, _span(rng, setting, "words"))
    ascending = rng.choice((True, False))
    direction = "ascending" if ascending else "descending"
    answer = ", ".join(sorted(words, reverse=not ascending))
    return (direction, ", ".join(words)), answer


def between(**bounds: tuple[float, float]) -> Setting:
    """Return a setting: words=(25, 50) -> {"min_words": 25, "max_words": 50}."""
    ends = [("min", 0), ("max", 1)]
    return {f"{end}_{name}": pair[i] for name, pair in bounds.items() for end, i in ends}


def _alphabet(letters: str) -> Callable[[Texts, Setting], Sequence[str]]:
    return lambda texts, setting: letters


# The settings of the published hard items (eval/yaml/hard) and the package's defaults.
TASKS: dict[str, LetterTask] = {
    "spell_backward": LetterTask(
        between(word_len=(5, 20)), between(word_len=(3, 10)),
        _listed_words, _backward, marks.by_place,
    ),
    "letter_counting": LetterTask(
        between(words=(25, 50)), between(words=(5, 15)), _book_words, _count
    ),
    "string_insertion": LetterTask(
        between(string_length=(50, 100)), between(string_length=(5, 20)),
        _alphabet("ABCDE"), _insertion, marks.whole_or_list,
    ),
    "letter_jumble": LetterTask(
        between(word_len=(5, 30), words=(25, 50), corruption_level=(0.3, 0.6)),
        between(word_len=(1, 64), words=(3, 20), corruption_level=(0.1, 0.9)),
        _letter_words, _jumble, marks.by_word,
    ),
    "caesar_cipher": LetterTask(
        between(words=(15, 25), rotation=(15, 25)), between(words=(3, 20), rotation=(1, 25)),
        _sentences, _caesar,
    ),
    "palindrome_generation": LetterTask(
        between(length=(50, 100)), between(length=(3, 10)),
        _alphabet("abcdefghijklmnopqrstuvwxyz"), _palindrome,
        marks.palindrome, marks.is_palindrome_of,
    ),
    "word_sorting": LetterTask(
        between(words=(25, 50), word_length=(5, 10)),
        between(words=(3, 10), word_length=(3, 12)),
        _sorted_words, _sort, marks.sorting, marks.same_list,
    ),
}  # fmt: skip
