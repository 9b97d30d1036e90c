"""The words that tasks ask about: which are usable, the four splits, and splits as a file.

A split by word is not enough: an unseen word may consist of tokens that training showed often. So
some tokens are held out too, together with every word that contains one.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from pathlib import Path
from random import Random
from string import digits
from zlib import crc32

from .errors import TaskError, read_text

SPLITS = ("seen", "unseen_words", "unseen_tokens", "longer_words")
WORD_FORMS = ("lower", "mixed")
_DIGITS = str.maketrans("aeio", "4310")  # digits that look like the letters
# Each is one character after NFC, so a word keeps its length.
ACCENTS = str.maketrans("aceinosuyz", "áçéîñöšùýž")


@dataclass(frozen=True)
class WordSplits:
    """Four disjoint lists of words, and the pieces (token texts) held out of three of them.

    Raises TaskError if two lists share a word; two equal lists are allowed (see `one_list`).

    Attributes:
        seen: the training words.
        unseen_words: other words of the same lengths, of pieces that training words may contain.
        unseen_tokens: words with at least one held-out piece.
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
                    f"the splits {one!r} and {other!r} share {len(shared)} words, such as "
                    f"{min(shared)!r}. Put each word into one split."
                )

    def __getitem__(self, split: str) -> tuple[str, ...]:
        if split not in SPLITS:
            raise TaskError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
        words: tuple[str, ...] = getattr(self, split)
        return words


def one_list(words: Iterable[str]) -> WordSplits:
    """Put the same words into all four splits, for models that were not trained on any of them."""
    members = tuple(words)
    return WordSplits(members, members, members, members, frozenset())


def read_words(path: Path) -> list[str]:
    """Read one word a line. Raises TaskError if the file is missing or not UTF-8."""
    # Not splitlines(): it also breaks at characters that the check of words reports.
    return [line.removesuffix("\n") for line in StringIO(read_text(path), newline=None)]


def usable_words(
    words: Iterable[str], min_letters: int, max_letters: int, forms: str = "lower"
) -> list[str]:
    """Return the usable words of a list, each once, in order: `sort_words` without the reasons."""
    return sort_words(words, min_letters, max_letters, forms)[0]


def sort_words(
    words: Iterable[str], min_letters: int, max_letters: int, forms: str = "lower"
) -> tuple[list[str], Counter[str]]:
    """Return the usable words, each once, and the number of words left out for each reason.

    ["tea", "tea", "no way"], 3, 9 -> ["tea"], {"twice": 1, "with other characters": 1}

    Arguments:
        min_letters, max_letters: bounds of a word's number of characters.
        forms: "lower" takes lower-case ASCII words. "mixed" also takes words with capitals, digits
            and accents, and changes the lower-case words by `vary_form`. A letter is a character
            after NFC: an accented letter is one letter, and A is not a.

    Raises TaskError if no word is usable, or for unknown forms.
    """
    if forms not in WORD_FORMS:
        raise TaskError(f"there are no word forms {forms!r}; choose {' or '.join(WORD_FORMS)}.")
    usable: dict[str, None] = {}  # a dict as an ordered set: splits depend on the order
    left_out: Counter[str] = Counter()
    for given in words:
        # ASCII text is NFC already.
        word = given if given.isascii() else unicodedata.normalize("NFC", given)
        reason = _why_left_out(word, min_letters, max_letters, forms)
        if forms == "mixed" and not reason:
            word = vary_form(word)
        if reason := reason or ("twice" if word in usable else ""):
            left_out[reason] += 1
        else:
            usable[word] = None
    if not usable:
        kind = "lower-case ASCII words" if forms == "lower" else "words of letters and digits"
        raise TaskError(
            f"none of the {left_out.total()} words in the list is usable "
            f"({describe_left_out(left_out) or 'the list is empty'}). Pass {kind} of "
            f"{min_letters} to {max_letters} letters, one per line."
        )
    return list(usable), left_out


def _why_left_out(word: str, min_letters: int, max_letters: int, forms: str) -> str:
    """Return the reason in words that follow a number, "12 empty"; "" if the word is usable."""
    if not word.strip():
        return "empty"
    # Before the checks that read each character: a line of a file may be very long.
    if len(word) > max_letters:
        return f"longer than {max_letters} letters"
    if not (word.isascii() and word.isalpha() and word.islower()):
        categories = {unicodedata.category(character) for character in word}
        # C: control characters, surrogates, and format characters such as a zero-width joiner.
        if any(category.startswith("C") for category in categories):
            return "with control characters"
        # After NFC a mark is left only if no single character has it.
        if any(category.startswith("M") for category in categories):
            return "with combining marks"
        # The first letter in the text is the last one on the screen: "first" would be ambiguous.
        if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in word):
            return "from right to left"
        # Punctuation, emoji, and letters without case, such as Chinese characters.
        if any(unicodedata.category(c) not in ("Lu", "Ll") and c not in digits for c in word):
            return "with other characters"
        if word.isdecimal():
            return "without a letter"
        if forms == "lower":
            return "with capitals, digits or accents"
    return f"shorter than {min_letters} letters" if len(word) < min_letters else ""


def describe_left_out(left_out: Counter[str]) -> str:
    """Write the counts as text: {"twice": 2, "empty": 1} -> "2 twice, 1 empty"."""
    # Subtle: a run's config.json holds this text, and the run's identity hashes it.
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def vary_form(word: str) -> str:
    """Write a lower-case ASCII word in one of five forms of equal length, chosen by its checksum.

    The forms: unchanged, Capitalised, UPPER, w1th d1g1ts, wîth áççéñtš. Other words stay unchanged.
    """
    if not (word.isascii() and word.islower() and word.isalpha()):
        return word
    translated = [word.translate(changes) for changes in (_DIGITS, ACCENTS)]
    forms = (word, word.capitalize(), word.upper(), *translated)
    # By checksum, so that a word has the same form in every run and every list.
    return forms[crc32(word.encode()) % len(forms)]


def num_letters(piece: bytes) -> int:
    """Count the whole characters of a token without surrounding space: " café".encode() -> 4."""
    # "ignore" drops the parts of a character that the token shares with its neighbours.
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
        pieces_of: returns the tokens of a word as bytes, as they are within a question:
            "strawberry" -> [b" straw", b"berry"].
        max_letters: length of the longest training word; longer words go to `longer_words`.
        word_share: share of the words without held-out pieces to hold out (0 to 1).
        token_share: share of the pieces of two or more letters to hold out (0 to 1).
        protected: pieces that are never held out, because the wordings need them.

    Raises TaskError if a split would be empty.
    """
    pieces = {word: frozenset(pieces_of(word)) for word in words}
    # Single letters are never held out: spelled answers need all of them.
    candidates = {piece for found in pieces.values() for piece in found if num_letters(piece) > 1}
    rng = Random(seed)
    # Sorted: the order of a set differs between processes, and the sample would too.
    drawable = sorted(candidates - set(protected))
    held_out = frozenset(rng.sample(drawable, round(token_share * len(drawable))))
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    ordinary: list[str] = []
    for word in words:
        if held_out.isdisjoint(pieces[word]):
            (ordinary if len(word) <= max_letters else lists["longer_words"]).append(word)
        elif len(word) <= max_letters:
            lists["unseen_tokens"].append(word)
        # A longer word with a held-out piece is left out: its score would mix both effects.
    held_words = set(rng.sample(ordinary, round(word_share * len(ordinary))))
    lists["seen"] = [word for word in ordinary if word not in held_words]
    lists["unseen_words"] = [word for word in ordinary if word in held_words]
    if empty := [split for split in SPLITS if not lists[split]]:
        raise TaskError(
            f"the split {empty[0]!r} is empty: {len(words)} words are too few for "
            f"word_share={word_share}, token_share={token_share} and max_letters={max_letters}. "
            "Pass more words or other shares."
        )
    parts = {split: tuple(members) for split, members in lists.items()}
    splits = WordSplits(**parts, held_out=held_out)
    for split in SPLITS:  # the property that all results on unseen tokens rely on
        contains = [not held_out.isdisjoint(pieces[word]) for word in splits[split]]
        assert all(contains) if split == "unseen_tokens" else not any(contains), split
    return splits


def fingerprint(splits: WordSplits) -> str:
    """Return the SHA-256 of the four lists, `splits_sha256` in a run's config.json."""
    # Subtle: the identity of a run contains this hash, so the JSON text must not change.
    return hashlib.sha256(json.dumps([splits[name] for name in SPLITS]).encode()).hexdigest()


def save_splits(path: Path, splits: WordSplits) -> None:
    """Write splits as JSON."""
    record: dict[str, object] = {"sha256": fingerprint(splits)}
    record |= {name: splits[name] for name in SPLITS}
    # Latin-1 maps each byte to one character: a piece may end within a UTF-8 character.
    record["held_out"] = sorted(piece.decode("latin-1") for piece in splits.held_out)
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def load_splits(path: Path) -> WordSplits:
    """Read a file of `save_splits`. Raises TaskError if it is missing, damaged or edited."""
    text = read_text(path)
    try:
        record = json.loads(text)
        lists = {name: tuple(map(str, record[name])) for name in SPLITS}
        held_out = frozenset(piece.encode("latin-1") for piece in record["held_out"])
        splits, expected = WordSplits(**lists, held_out=held_out), record["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TaskError(f"{path} is not a file of splits by words.save_splits.") from None
    if fingerprint(splits) != expected:
        raise TaskError(f"{path} has lists that do not match its hash. Write the file again.")
    return splits
