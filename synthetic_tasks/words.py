"""Which words are asked about, and the four disjoint splits.

A split by word alone is not enough: a word that was never seen may be made of tokens that were seen a hundred
times. So some tokens are held out too, and every word that holds one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from random import Random

from .errors import TaskError

SPLITS = ("seen", "unseen_words", "unseen_tokens", "longer_words")


@dataclass(frozen=True)
class WordSplits:
    """Four disjoint lists of words, and the pieces (token texts) that occur in `unseen_tokens` alone.

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

    def __getitem__(self, split: str) -> tuple[str, ...]:
        if split not in SPLITS:
            raise TaskError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
        words: tuple[str, ...] = getattr(self, split)
        return words


def usable_words(words: Iterable[str], min_letters: int, max_letters: int) -> list[str]:
    """Lower-case ASCII words of the given lengths, each once, in the given order.

    Raises TaskError when none is left.
    """
    words = list(words)
    usable = [
        w
        for w in dict.fromkeys(words)
        if min_letters <= len(w) <= max_letters and w.isascii() and w.isalpha() and w.islower()
    ]
    if not usable:
        raise TaskError(
            f"none of the {len(words)} words in the list is usable: they must be lower-case ASCII words of "
            f"{min_letters} to {max_letters} letters, one per line."
        )
    return usable


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
        {piece for held in pieces.values() for piece in held if len(piece.strip()) > 1} - set(protected)
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
    return WordSplits(**{split: tuple(members) for split, members in splits.items()}, held_out=held_out)
