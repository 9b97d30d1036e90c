"""Pairs for lexical decision, and the n-grams that they are matched by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import stream
from synthetic_tasks.errors import TaskError
from synthetic_tasks.lexical_decision import (
    LetterNGrams,
    Pair,
    make_pairs,
    token_log_probability,
)
from tests.messages import raises

SYLLABLES = ["ba", "ne", "ti", "lo", "ru", "ke", "si", "mo", "da", "gu"]
STRINGS = ["".join(each) for each in product(SYLLABLES, repeat=3)]
WORDS = stream("words of the test").sample(STRINGS, 400)
LETTERS = LetterNGrams(dict.fromkeys(WORDS, 1))
COUNTS = {piece.encode(): 50 + 10 * place for place, piece in enumerate(SYLLABLES)}
SET_ASIDE = stream("others of the test").sample(sorted({*STRINGS} - {*WORDS}), 100)


def pieces_of(word: str) -> list[bytes]:
    """Two letters a token; words that begin with "ba" have a longer first token."""
    cut = 4 if word.startswith("ba") else 2
    return [word[:cut].encode(), *(word[i : i + 2].encode() for i in range(cut, len(word), 2))]


def made(n: int, seed: int) -> list[Pair]:
    bands = {"often": WORDS[:200], "none": [], "rare": WORDS[200:]}
    return make_pairs(
        bands, n, seed=seed, letters=LETTERS, known=SET_ASIDE, pieces_of=pieces_of, counts=COUNTS,
        pool=3000,
    )  # fmt: skip


def right(pairs: list[Pair], log: Callable[[str], float]) -> float:
    logs = [(log(pair.word), log(pair.nonword)) for pair in pairs]
    return sum(word > other for word, other in logs) / len(logs)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_the_strings_of_a_pair_differ_in_nothing_but_being_a_word(n: int, seed: int) -> None:
    pairs = made(n, seed)
    assert len(pairs) == n
    sizes = Counter(pair.band for pair in pairs)
    assert set(sizes) == {"often", "rare"}
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for word, nonword, band in pairs:
        assert word in (WORDS[:200] if band == "often" else WORDS[200:])
        assert nonword not in {*WORDS, *SET_ASIDE}
        assert len(nonword) == len(word)
        assert len(pieces_of(nonword)) == len(pieces_of(word)) > 1
        assert abs(LETTERS.log_probability(word) - LETTERS.log_probability(nonword)) <= 0.5
        tokens = [token_log_probability(pieces_of(text), COUNTS) for text in (word, nonword)]
        assert abs(tokens[0] - tokens[1]) <= 0.5
    strings = [text for pair in pairs for text in pair[:2]]
    assert len(set(strings)) == len(strings)
    assert made(n, seed) == pairs


def test_neither_letters_nor_token_frequencies_tell_the_word() -> None:
    pairs = made(80, 0)

    def by_tokens(text: str) -> float:
        return token_log_probability(pieces_of(text), COUNTS)

    # equal log-probabilities are right for neither string
    assert right(pairs, LETTERS.log_probability) <= 0.5
    assert right(pairs, lambda text: -LETTERS.log_probability(text)) <= 0.5
    assert right(pairs, by_tokens) <= 0.5
    assert right(pairs, lambda text: -by_tokens(text)) <= 0.5


def test_another_seed_makes_other_pairs() -> None:
    assert made(20, 0) != made(20, 1)


def test_too_few_words_are_refused_with_their_band() -> None:
    with raises(TaskError, "often 500"):
        made(1000, 0)
    with raises(TaskError, "n 1 2"):
        made(1, 0)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_the_next_letter_sum_to_one(order: int) -> None:
    model = LetterNGrams({"tea": 3, "ten": 1, "net": 2}, order)
    alphabet = "abcdefghijklmnopqrstuvwxyz$"
    for before in ("", "t", "te", "xy"):
        context = ("^" * (order - 1) + before)[len(before) :][: order - 1]
        assert math.isclose(sum(model._share(context, letter) for letter in alphabet), 1)


def test_a_model_of_long_n_grams_knows_its_words() -> None:
    model = LetterNGrams({"tea": 1, "pot": 1}, 4)
    assert model.log_probability("tea") > model.log_probability("teb") + 1
    # two words with equal letters: a bigram model cannot tell the mixed one from them
    pairs = LetterNGrams({"abab": 1, "cbcb": 1}, 2)
    assert math.isclose(pairs.log_probability("abab"), pairs.log_probability("abcb"), rel_tol=0.2)


def test_drawn_strings_have_known_n_grams_alone() -> None:
    seen = {f"^^{word}$"[i : i + 3] for word in WORDS for i in range(len(word) + 1)}
    for number in range(200):
        text = LETTERS.draw(stream("drawn", number))
        whole = f"^^{text}$"
        assert {whole[i : i + 3] for i in range(len(text) + 1)} <= seen or len(text) == 30


def test_a_token_without_a_count_has_one() -> None:
    counts = {b"tea": 3, b"pot": 0}
    expected = math.log(4 / 5) + math.log(1 / 5)
    assert math.isclose(token_log_probability([b"tea", b"pot"], counts), expected)
