"""One protocol for the tokenizers of the laboratory, tiktoken's and transformers'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import tiktoken
from numpy.typing import NDArray

from charembed.tokenizers import token_bytes
from training.errors import BadInput
from training.files import sha256
from training.models.hub import read

Ids = NDArray[np.int32]
Pieces = Sequence[str | None]

_LINES = 2_000  # lines of a long text per call; more would need too much memory
_PIECE = 50_000  # characters of a long text per call, at least
# The pattern of GPT-4's tokenizer: a word includes the space before it; digits are in threes.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Places that SPLIT always splits at, whatever text comes before and after. No part of SPLIT matches
# a character that is no white space and then a space, or a line feed and then such a character.
_CUT = re.compile(r"(?<=\S)(?= )|(?<=\n)(?=\S)")


class Tokenizer(Protocol):
    """Converts text to token ids and back.

    Attributes:
        name: differs between tokenizers that give other ids; part of the names of cached files.
        spellings: the bytes of each id; None for ids without characters, such as special tokens.
        source: the tokenizer object that charembed reads spellings from.
        end: the id of the token that ends a document; None if the tokenizer has none.
    """

    name: str
    spellings: list[bytes | None]
    source: Any
    end: int | None

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

    def pieces(self, texts: Iterable[str]) -> Iterator[str]:
        """A long text, given in parts, cut so that its pieces give the same ids as the whole.

        encode("".join(texts)) == [id for piece in pieces(texts) for id in encode_pieces([piece])]
        """

    def encode_pieces(self, pieces: Pieces) -> Ids:
        """The ids of pieces of text, one after the other, as an array; None is the end token.

        Several threads may call it at once.
        """


class Tiktoken:
    """A tokenizer from a tiktoken.Encoding."""

    end: int | None = None  # a vocabulary that is trained here has no special tokens

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

    def pieces(self, texts: Iterable[str]) -> Iterator[str]:
        if self.source._pat_str != SPLIT:  # another pattern may have no place to cut at
            yield "".join(texts)
            return
        rest = ""
        for text in texts:
            # the end of `rest` is searched again, as a place to cut at has two sides
            rest, begin, search = rest + text, 0, max(_PIECE, len(rest) - 1)
            while found := _CUT.search(rest, search):
                yield rest[begin : found.start()]
                begin, search = found.start(), found.start() + _PIECE
            rest = rest[begin:]
        if rest:
            yield rest

    def encode_pieces(self, pieces: Pieces) -> Ids:
        ids = list[int]()
        for between, some in groupby(pieces, lambda piece: piece is None):
            if not between:
                # All pieces of a document in one call, as threads wait for Python's lock after each.
                # encode_to_numpy makes no list, and takes 1.6 times as long: it looks for special
                # tokens.
                ids += self.source.encode_ordinary("".join(filter(None, some)))
        return np.fromiter(ids, np.int32, len(ids))  # np.array takes longer


class HuggingFaceTokenizer:
    """A tokenizer from a fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.source = tokenizer
        # a hash of the whole tokenizer: a folder of the same name may get another one
        self.name = f"hf-{sha256(tokenizer.backend_tokenizer.to_str())[:16]}"
        self.spellings = token_bytes(tokenizer)
        self.end: int | None = tokenizer.eos_token_id

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
        # the Rust backend encodes the pieces of a batch in parallel
        ids: list[int] = self.encode_pieces(list(self.pieces([text]))).tolist()
        return ids

    def pieces(self, texts: Iterable[str]) -> Iterator[str]:
        lines, rest = list[str](), ""
        for text in texts:
            found = (rest + text).splitlines(keepends=True)
            # the last line may go on, and "\r" may be the first half of a line end
            rest = found.pop() if found else ""
            lines += found
            whole = len(lines) - len(lines) % _LINES
            yield from ("".join(lines[i : i + _LINES]) for i in range(0, whole, _LINES))
            del lines[:whole]
        if lines or rest:
            yield "".join([*lines, rest])

    def encode_pieces(self, pieces: Pieces) -> Ids:
        texts = [piece for piece in pieces if piece is not None]
        # without the offsets of the tokens, which nothing here reads
        encoded = self.source.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        found, end = iter(encoded), [] if self.end is None else [self.end]
        ids = list[int]()
        for piece in pieces:
            ids += end if piece is None else next(found).ids
        return np.fromiter(ids, np.int32, len(ids))

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
