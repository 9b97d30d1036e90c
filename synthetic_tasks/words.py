"""Which words are asked about, and the four disjoint splits.

A split by word alone is not enough: a word that was never seen may be made of tokens that were seen a hundred
times. So some tokens are held out too, and every word that holds one of them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import combinations
from random import Random
from string import digits
from zlib import crc32

from .errors import TaskError

SPLITS = ("seen", "unseen_words", "unseen_tokens", "longer_words")
WORD_FORMS = ("lower", "mixed")
DIGITS = str.maketrans("aeio", "4310")  # that look like letters
ACCENTS = str.maketrans("aceinosuyz", "áçéîñöšùýž")


@dataclass(frozen=True)
class WordSplits:
    """Four disjoint lists of words, and the pieces (token texts) that occur in `unseen_tokens` alone.

    Raises TaskError for lists that share a word, but for one list under several names (see `one_list`).

    Attributes:
        seen: the training words.
        unseen_words: other words of the same lengths, made of pieces that training words may hold.
        unseen_tokens: words that hold at least one held-out piece.
        longer_words: words longer than any training word, without held-out pieces.
        held_out: the held-out pieces, as `pieces_of` gives them.
    """

    seen: tuple[str, ...]
    unseen_words: tuple[str, ...]
    unseen_tokens: tuple[str, ...]
    longer_words: tuple[str, ...]
    held_out: frozenset[bytes]

    def __post_init__(self) -> None:
        for one, other in combinations(SPLITS, 2):
            if self[one] != self[other] and (shared := set(self[one]).intersection(self[other])):
                raise TaskError(
                    f"the splits {one!r} and {other!r} share {len(shared)} words, such as {min(shared)!r}: "
                    "give each word to one of them."
                )

    def __getitem__(self, split: str) -> tuple[str, ...]:
        if split not in SPLITS:
            raise TaskError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
        words: tuple[str, ...] = getattr(self, split)
        return words


def one_list(words: Iterable[str]) -> WordSplits:
    """The same words under all four names: for asking a model that was not trained on any of them."""
    members = tuple(words)
    return WordSplits(members, members, members, members, frozenset())


def usable_words(
    words: Iterable[str], min_letters: int, max_letters: int, forms: str = "lower"
) -> list[str]:
    """The words of a list that can be asked about, each once, in the given order: `sort_words`, without what
    was left out."""
    return sort_words(words, min_letters, max_letters, forms)[0]


def sort_words(
    words: Iterable[str], min_letters: int, max_letters: int, forms: str = "lower"
) -> tuple[list[str], Counter[str]]:
    """The words that can be asked about, each once, and how many were left out for which reason.

    ["tea", "tea", "no way"], 3, 9 -> ["tea"], {"twice": 1, "with other characters": 1}

    Arguments:
        min_letters, max_letters: least and most characters of a word.
        forms: "lower" takes lower-case ASCII words. "mixed" also takes words with capitals, digits and
            accents, and puts the lower-case words of the list into such forms (see `in_some_form`). There a
            letter is a character after NFC: an accented one is one letter, and A is not a.

    Raises TaskError when no word is left, and for unknown forms.
    """
    if forms not in WORD_FORMS:
        raise TaskError(
            f"there are no word forms {forms!r}; choose one of {', '.join(WORD_FORMS)}."
        )
    usable: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    for given in words:
        word = given if given.isascii() else unicodedata.normalize("NFC", given)
        reason = why_left_out(word, min_letters, max_letters, forms)
        if forms == "mixed" and not reason:
            word = in_some_form(word)
        if reason := reason or ("twice" if word in usable else ""):
            left_out[reason] += 1
        else:
            usable[word] = None
    if not usable:
        kind = "lower-case ASCII words" if forms == "lower" else "words of letters and digits"
        raise TaskError(
            f"none of the {left_out.total()} words in the list is usable: they must be {kind} of "
            f"{min_letters} to {max_letters} letters, one per line ({told(left_out) or 'the list is empty'})."
        )
    return list(usable), left_out


def why_left_out(word: str, min_letters: int, max_letters: int, forms: str) -> str:
    """Why a word cannot be asked about, in words that go after a number; "" where it can."""
    if not word.strip():
        return "empty"
    if len(word) > max_letters:
        return f"longer than {max_letters} letters"
    if not (word.isascii() and word.isalpha() and word.islower()):
        kinds = {unicodedata.category(character) for character in word}
        if any(kind.startswith("C") for kind in kinds):
            return "with control characters"
        if any(kind.startswith("M") for kind in kinds):
            return "with combining marks"
        if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in word):
            return "from right to left"
        if any(unicodedata.category(c) not in ("Lu", "Ll") and c not in digits for c in word):
            return "with other characters"
        if word.isdecimal():
            return "without a letter"
        if forms == "lower":
            return "with capitals, digits or accents"
    return f"shorter than {min_letters} letters" if len(word) < min_letters else ""


def told(left_out: Counter[str]) -> str:
    """{"twice": 2, "empty": 1} -> "2 twice, 1 empty" """
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def in_some_form(word: str) -> str:
    """A lower-case ASCII word in one of five forms, decided by its text: as it is, Capitalised, UPPER, w1th
    some d1gits, wîth áccents. Others stay as they stand, and so does the number of letters."""
    if not (word.isascii() and word.islower() and word.isalpha()):
        return word
    forms = (word, word.capitalize(), word.upper(), word.translate(DIGITS), word.translate(ACCENTS))
    return forms[crc32(word.encode()) % len(forms)]


def num_letters(piece: bytes) -> int:
    """Whole characters of a token's text, without the space around it. b" caf\xc3\xa9" -> 4"""
    return len(piece.decode("utf-8", "ignore").strip())


def split_words(
    words: Collection[str],
    pieces_of: Callable[[str], list[bytes]],
    *,
    seed: int,
    max_letters: int,
    word_share: float = 0.2,
    token_share: float = 0.1,
    protected: Collection[bytes] = (),
) -> WordSplits:
    """Split words by word and by token.

    Arguments:
        pieces_of: a word's tokens, as bytes, in the place where it stands in a question:
            "strawberry" -> [b" straw", b"berry"].
        max_letters: longest training word; longer ones make up `longer_words`.
        word_share: of the words that hold no held-out piece, the share that is held out (0 to 1).
        token_share: share of the pieces of two or more letters that is held out (0 to 1).
        protected: pieces that are never held out, because the wordings themselves need them.

    Raises TaskError when a split comes out empty.
    """
    pieces = {word: frozenset(pieces_of(word)) for word in words}
    candidates = sorted(
        {piece for held in pieces.values() for piece in held if num_letters(piece) > 1}
        - set(protected)
    )
    rng = Random(seed)
    held_out = frozenset(rng.sample(candidates, round(token_share * len(candidates))))
    ordinary, splits = [], {split: [] for split in SPLITS}  # type: tuple[list[str], dict[str, list[str]]]
    for word in words:
        if held_out.isdisjoint(pieces[word]):
            (ordinary if len(word) <= max_letters else splits["longer_words"]).append(word)
        elif len(word) <= max_letters:
            splits["unseen_tokens"].append(word)
    held_words = set(rng.sample(ordinary, round(word_share * len(ordinary))))
    splits["seen"] = [word for word in ordinary if word not in held_words]
    splits["unseen_words"] = [word for word in ordinary if word in held_words]
    for split, members in splits.items():
        if not members:
            raise TaskError(
                f"the split {split!r} is empty: {len(words)} words are too few for word_share={word_share}, "
                f"token_share={token_share} and max_letters={max_letters}; pass more words or other shares."
            )
    found = WordSplits(
        **{split: tuple(members) for split, members in splits.items()}, held_out=held_out
    )
    for split in SPLITS:  # what the splits are for, so looked at once more
        holds = [not held_out.isdisjoint(pieces[word]) for word in found[split]]
        assert all(holds) if split == "unseen_tokens" else not any(holds), split
    return found
