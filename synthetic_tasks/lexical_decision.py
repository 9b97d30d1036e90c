"""Pairs for lexical decision: a word and a nonword that letter trigrams do not tell apart.

In lexical decision (Bunzeck & Zarrieß, ACL 2025, arXiv 2502.12835) a model gives a word and a
nonword a probability each, and is right if the word's is larger. A nonword that is shorter, has
fewer tokens, likelier letters or more frequent tokens than its word could be told from it without
any knowledge of words. So a pair is equal, or nearly equal, in all four.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple

from .draws import stream
from .errors import TaskError

_START, _END = "^", "$"  # the boundaries of a word; words have letters alone
_SYMBOLS = 27  # the letters of the alphabet and the end of the word
# The largest distances of a word and its nonword, in nats of the whole string.
_NEAR = 0.5
_LONGEST = 30  # letters of a drawn string, at most
PiecesOf = Callable[[str], Sequence[bytes]]


class Pair(NamedTuple):
    """A word and its nonword: Pair("harvest", "harmest", "rare").

    `band` is how often the training text has the word.
    """

    word: str
    nonword: str
    band: str


class LetterNGrams:
    """The probability of a string of lower-case letters under an n-gram model with word boundaries.

    LetterNGrams({"tea": 1, "ten": 1}).log_probability("tea") -> -1.0 (nats)

    Probabilities of all orders are interpolated (Witten & Bell 1991), so that every string has one.

    Arguments:
        weights: the number of occurrences of each word, 1 or more.
        order: letters of an n-gram, 1 or more.
    """

    def __init__(self, weights: Mapping[str, int], order: int = 3) -> None:
        self.order = order
        after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for word, weight in weights.items():
            text = self._bounded(word)
            for place in range(order - 1, len(text)):
                for length in range(order):
                    after[text[place - length : place]][text[place]] += weight
        self._after = dict(after)
        self._totals = {before: counts.total() for before, counts in after.items()}
        self._shares: dict[tuple[str, str], float] = {}
        self._drawn = {
            before: (list(counts), list(accumulate(counts.values())))
            for before, counts in after.items()
            if len(before) == order - 1
        }

    def _bounded(self, word: str) -> str:
        return _START * (self.order - 1) + word + _END

    def log_probability(self, word: str) -> float:
        """The natural logarithm of the probability of a word with its end."""
        text, length = self._bounded(word), self.order - 1
        places = range(length, len(text))
        return sum(math.log(self._share(text[i - length : i], text[i])) for i in places)

    def _share(self, before: str, letter: str) -> float:
        key = before, letter
        if key not in self._shares:
            share = self._share(before[1:], letter) if before else 1 / _SYMBOLS
            if counts := self._after.get(before):
                kinds, total = len(counts), self._totals[before]
                share = (counts[letter] + kinds * share) / (total + kinds)
            self._shares[key] = share
        return self._shares[key]

    def draw(self, rng: Random) -> str:
        """Draw a string from the n-grams that occur, of any length up to 30 letters.

        A longer one is cut there, so it may end in the middle of a word.
        """
        text = _START * (self.order - 1)
        for _ in range(_LONGEST):
            letters, weights = self._drawn[text[len(text) - self.order + 1 :]]
            letter = rng.choices(letters, cum_weights=weights)[0]
            if letter == _END:
                break
            text += letter
        return text[self.order - 1 :]


class _Candidate(NamedTuple):
    """A nonword with its log-probabilities: of its letters, and of its tokens as single ones."""

    letters: float
    tokens: float
    text: str


def token_log_probability(pieces: Sequence[bytes], counts: Mapping[bytes, int]) -> float:
    """The log-probability of tokens drawn one by one with their frequencies in a text.

    token_log_probability([b" tea", b"pot"], {b" tea": 3, b"pot": 0}) -> log(4 / 5) + log(1 / 5)

    One is added to each count: a token may occur in no text.
    """
    total = math.log(sum(counts.values()) + len(counts))
    return sum(math.log(counts.get(piece, 0) + 1) - total for piece in pieces)


def make_pairs(
    bands: Mapping[str, Sequence[str]],
    n: int,
    *,
    seed: int,
    letters: LetterNGrams,
    known: Collection[str],
    pieces_of: PiecesOf,
    counts: Mapping[bytes, int],
    pool: int = 300_000,
) -> list[Pair]:
    """Give words nonwords of the same letters and tokens in number and in probability.

    {"often": ["harvest", ...]}, 700 -> [Pair("harvest", "harmest", "often"), ...]

    Nonwords are drawn from `letters`. The log-probabilities of a pair differ by at most half a nat
    under it, and by as much under the frequencies of their tokens. The nonword's is the larger one
    in every second pair, for letters and tokens in all four combinations in turn: a model of these
    n-grams or of token frequencies alone is right in half of the pairs. A word without such a
    nonword is left out, and so is a word of one token: no nonword is a token, but by accident.

    Arguments:
        bands: words by band, of lower-case ASCII letters.
        n: pairs, 1 or more, divided evenly among the bands that have words.
        letters: the n-grams of a word list; of order 3 in the laboratory.
        seed: of the choice of words and nonwords; the result is a function of it and the other
            arguments.
        known: strings that are no nonwords: all words of a dictionary and of the training text.
        pieces_of: returns the tokens of a word as bytes, as they are within a text.
        counts: of each token in the training text.
        pool: strings that are drawn.

    Raises TaskError if a band has too few words with a nonword.
    """
    filled = {band: words for band, words in bands.items() if words}
    if not filled or n < len(filled):
        raise TaskError(
            f"n is {n} and {len(filled)} bands have words: ask for a pair of each band at least."
        )
    finder = _Finder(letters, pieces_of, counts)
    words = {word for band in filled.values() for word in band}
    finder.fill(words | set(known), stream("nonwords", seed), pool)
    pairs = list[Pair]()
    for number, (band, members) in enumerate(filled.items()):
        wanted = n // len(filled) + (number < n % len(filled))
        order = sorted(members)
        stream("words", seed, band).shuffle(order)
        found = list[Pair]()
        for word in order:
            if nonword := finder.find(word, len(found)):
                found.append(Pair(word, nonword, band))
            if len(found) == wanted:
                break
        else:
            raise TaskError(
                f"the band {band!r} gives {len(found)} pairs, and {wanted} are wanted: {len(order)} "
                f"words are too few, or no nonword has as many tokens. Ask for fewer pairs, or pass "
                "more words."
            )
        pairs += found
    return pairs


class _Finder:
    """Nonwords by number of letters and tokens, sorted by the probability of their letters."""

    def __init__(
        self, letters: LetterNGrams, pieces_of: PiecesOf, counts: Mapping[bytes, int]
    ) -> None:
        self.letters, self.pieces_of = letters, pieces_of
        total = math.log(sum(counts.values()) + len(counts))
        self.logs = {piece: math.log(count + 1) - total for piece, count in counts.items()}
        self.unseen = -total  # of a token without a count
        self.groups: dict[tuple[int, int], list[_Candidate]] = {}

    def _measured(self, text: str) -> tuple[tuple[int, int], _Candidate]:
        pieces = self.pieces_of(text)
        tokens = sum(self.logs.get(piece, self.unseen) for piece in pieces)
        letters = self.letters.log_probability(text)
        return (len(text), len(pieces)), _Candidate(letters, tokens, text)

    def fill(self, known: Collection[str], rng: Random, pool: int) -> None:
        # a dict as an ordered set: each string once
        drawn = dict.fromkeys(self.letters.draw(rng) for _ in range(pool))
        groups: defaultdict[tuple[int, int], list[_Candidate]] = defaultdict(list)
        for text in drawn:
            if text not in known and text:
                group, candidate = self._measured(text)
                groups[group].append(candidate)
        # a nonword that is one token is the beginning of words
        several = {group: each for group, each in groups.items() if group[1] > 1}
        self.groups = {group: sorted(each) for group, each in several.items()}

    def find(self, word: str, number: int) -> str:
        """The nearest unused nonword for pair `number` of a band; "" if none is near enough."""
        group, (letters, tokens, _) = self._measured(word)
        candidates = self.groups.get(group, [])
        # likelier letters in every second pair, likelier tokens in two of four
        above, more = number % 2 == 0, number % 4 < 2
        ends = (letters, letters + _NEAR) if above else (letters - _NEAR, letters)
        first = bisect_left(candidates, ends[0], key=lambda one: one.letters)
        last = bisect_right(candidates, ends[1], key=lambda one: one.letters)
        best, where = math.inf, -1
        for place in range(first, last):
            one = candidates[place]
            gain = one.tokens - tokens if more else tokens - one.tokens
            if 0 <= gain <= _NEAR and (distance := gain + abs(one.letters - letters)) < best:
                best, where = distance, place
        return candidates.pop(where).text if where >= 0 else ""
