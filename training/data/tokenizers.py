"""One protocol for the tokenizers of the laboratory, tiktoken's and transformers'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tiktoken

from charembed.tokenizers import token_bytes
from training.errors import BadInput
from training.files import sha256
from training.models.hub import read

_LINES = 2_000  # lines of a long text per call; more would need too much memory


class Tokenizer(Protocol):
    """Converts text to token ids and back.

    Attributes:
        name: differs between tokenizers that give other ids; part of the names of cached files.
        spellings: the bytes of each id; None for ids without characters, such as special tokens.
        source: the tokenizer object that charembed reads spellings from.
    """

    name: str
    spellings: list[bytes | None]
    source: Any

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        """The ids of a text, and the index of the first one that ends after `place` characters.

        "reverse tea: a e t", 12 -> the ids of "reverse", " tea", ":", " a", " e", " t", and 3

        Raises BadInput if there is none, because the tokenizer drops the rest of the text.
        """

    def encode_word(self, word: str) -> list[int]:
        """The ids of a word after a space, as inside a sentence.

        Raises BadInput if the tokenizer drops the whole word.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids."""


class Tiktoken:
    """A tokenizer from a tiktoken.Encoding."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.source, self.name = encoding, encoding.name
        self.spellings = token_bytes(encoding)
        self._lengths = [len(spelling or b"") for spelling in self.spellings]

    def encode(self, text: str) -> list[int]:
        return list(self.source.encode_ordinary(text))

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        ids, reached = self.encode(text), 0
        if not text.isascii():  # tokens of tiktoken are bytes, so the offset must be in bytes too
            place = len(text[:place].encode())
        for number, token in enumerate(ids):
            reached += self._lengths[token]
            if reached > place:
                return ids, number
        raise _dropped(text, place if text.isascii() else len(text.encode()[:place].decode()))

    def encode_word(self, word: str) -> list[int]:
        return self.encode(" " + word)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.source.decode(ids))


class HuggingFaceTokenizer:
    """A tokenizer from a fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.source = tokenizer
        # a hash of the whole tokenizer: a folder of the same name may get another one
        self.name = f"hf-{sha256(tokenizer.backend_tokenizer.to_str())[:16]}"
        self.spellings = token_bytes(tokenizer)

    @classmethod
    def load(cls, name: str) -> HuggingFaceTokenizer:
        """Load a tokenizer. Raises BadInput if there is no fast one under this name."""
        tokenizer = read("AutoTokenizer", name, "tokenizer")
        if not getattr(tokenizer, "is_fast", False) or len(tokenizer) == 0:
            raise BadInput(
                f"{name!r} has no fast tokenizer (tokenizer.json), which is needed for the offsets "
                "of tokens in a text: name another model."
            )
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        lines = text.splitlines(keepends=True)
        pieces = ["".join(lines[first : first + _LINES]) for first in range(0, len(lines), _LINES)]
        # the Rust backend encodes the pieces of a batch in parallel
        encoded = self.source.backend_tokenizer.encode_batch(pieces, add_special_tokens=False)
        return [token for piece in encoded for token in piece.ids]

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        encoded = self.source.backend_tokenizer.encode(text, add_special_tokens=False)
        for number, (_, end) in enumerate(encoded.offsets):
            if end > place:
                return encoded.ids, number
        raise _dropped(text, place)

    def encode_word(self, word: str) -> list[int]:
        # after a letter: at the start of a text some tokenizers treat the space differently
        ids, start = self.encode_cut("x " + word, 1)
        return ids[start:]

    def decode(self, ids: Sequence[int]) -> str:
        # the exact text: answers are scored letter by letter
        exact = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.source.decode(list(ids), **exact))


def _dropped(text: str, place: int) -> BadInput:
    """Return the error for a text without a token after `place` characters.

    BERT's normalizer, for one, drops control characters, and its pre-tokenizer drops spaces.
    """
    return BadInput(
        f"The tokenizer gives {text!r} no token after its first {place} characters. Use other words, "
        "or a tokenizer that keeps these characters."
    )
