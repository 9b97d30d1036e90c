"""What the laboratory asks of a tokenizer, and the answers of tiktoken's and of Hugging Face's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import tiktoken

from charembed.tokenizers import token_bytes
from training.errors import BadInput
from training.models.huggingface import read

LINES = 2_000  # of a long text, encoded together


class Tokenizer(Protocol):
    """Text to ids and back.

    Attributes:
        name: tells tokenizers apart that give other ids; it goes into the names of cached files.
        spellings: the bytes of each id, None for ids without letters.
        source: what charembed reads the letters from.
    """

    name: str
    spellings: list[bytes | None]
    source: Any

    def encode(self, text: str) -> list[int]:
        """The ids of a text, and nothing added to it."""

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        """The ids of a text, and the number of the first one that reaches past a place in it, a character.

        "reverse tea: a e t", 12 -> the ids of "reverse", " tea", ":", " a", " e", " t", and 3
        """

    def encode_word(self, word: str) -> list[int]:
        """The ids of a word as it stands in a sentence, after a space."""

    def encode_long(self, text: str) -> list[int]:
        """The ids of megabytes of text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids."""


class Tiktoken:
    """A tiktoken.Encoding."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.source, self.name = encoding, encoding.name
        self.spellings = token_bytes(encoding)
        self._lengths = [len(spelling or b"") for spelling in self.spellings]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.source.encode_ordinary(text)
        return ids

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        ids, reached = self.encode(text), 0
        if not text.isascii():
            place = len(text[:place].encode())
        for number, token in enumerate(ids):
            reached += self._lengths[token]  # bytes
            if reached > place:
                return ids, number
        raise AssertionError(f"no token of {text!r} reaches past character {place}")

    def encode_word(self, word: str) -> list[int]:
        return self.encode(" " + word)

    def encode_long(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.source.decode(ids)
        return text


class HuggingFaceTokenizer:
    """A fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.source = tokenizer
        self.name = (
            "hf-" + hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:16]
        )
        self.spellings = token_bytes(tokenizer)

    @classmethod
    def load(cls, name: str) -> HuggingFaceTokenizer:
        """Raises BadInput when there is no fast tokenizer under this name."""
        tokenizer = read("AutoTokenizer", name, "tokenizer")
        if not getattr(tokenizer, "is_fast", False) or len(tokenizer) == 0:
            raise BadInput(
                f"{name!r} has no fast tokenizer (tokenizer.json), which tells where in a text each token "
                "stands: name another model."
            )
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.source.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        encoded = self.source.backend_tokenizer.encode(text, add_special_tokens=False)
        return encoded.ids, next(
            number for number, (_, end) in enumerate(encoded.offsets) if end > place
        )

    def encode_word(self, word: str) -> list[int]:
        ids, start = self.encode_cut("x " + word, 1)
        return ids[start:]

    def encode_long(self, text: str) -> list[int]:
        lines = text.splitlines(keepends=True)
        pieces = ["".join(lines[first : first + LINES]) for first in range(0, len(lines), LINES)]
        encoded = self.source.backend_tokenizer.encode_batch(pieces, add_special_tokens=False)
        return [token for piece in encoded for token in piece.ids]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.source.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text
