"""The characters of each token of a vocabulary.

Axes: V vocabulary, S the characters of all tokens in a row, C characters per token (padded).

A token is a sequence of bytes. Its characters are the Unicode code points of these bytes. A byte
that belongs to no complete character (byte-level BPE splits inside UTF-8 sequences) is one symbol.
Special tokens have no characters.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .arguments import check_int
from .errors import SpellingError
from .tokenizers import bytes_of, remembered_bytes, token_bytes

# Python's "surrogateescape" decodes a lone byte 0xNN to the code point 0xDCNN, which valid text
# does not contain. So code points and lone bytes share one numbering. Bytes below 0x80 are
# characters and never lone.
_LONE_BYTES = tuple(range(0xDC80, 0xDD00))
_TOKENS_AT_ONCE = 4_096  # bounds the memory of the strings while a table is built
# encoding and error handler of each unit; Latin-1 maps each byte to the code point of its value
_UNITS = {"codepoint": ("utf-8", "surrogateescape"), "byte": ("latin-1", "strict")}


def characters(spelling: bytes, unit: str = "codepoint") -> str:
    r"""Return the characters of a token's bytes as a string; its code points are the symbols.

    b"h\xc3\xa9" -> "hé". The incomplete b"h\xc3" -> "h\udcc3". With unit="byte" each byte is one
    character: "hÃ©".
    """
    return spelling.decode(*_UNITS[unit])


@dataclass(frozen=True, eq=False)
class SpellingTable:
    """The characters of every token of a vocabulary, as indices into an alphabet.

    SpellingTable.from_bytes([b"the", b"he", None])
    -> alphabet "eht" (as code points), chars_S [2, 1, 0, 1, 0], lengths_V [3, 2, 0]

    Attributes:
        alphabet: code points; the index of a character is its position here. Ascending in a new
            table.
        chars_S: (S,) int32, the characters of all tokens, one token after another.
        lengths_V: (V,) int32, number of characters of each token; 0 for special tokens.
        unit: "codepoint" (default) or "byte".
    """

    alphabet: tuple[int, ...]
    chars_S: Tensor
    lengths_V: Tensor
    unit: str = "codepoint"

    @classmethod
    def from_bytes(
        cls,
        spellings: Sequence[bytes | None],
        unit: str = "codepoint",
        alphabet: Sequence[int] = (),
    ) -> SpellingTable:
        """Build a table from the bytes of each id, in order.

        Arguments:
            spellings: bytes of each id; None for an id without characters (special or unused).
            unit: "codepoint" (default) or "byte".
            alphabet: code points that come first, so their indices do not change. New characters
                follow in ascending order. Default: none.

        Raises SpellingError if the vocabulary is empty, if an item is neither bytes nor None, if the
        unit is unknown, or if no token has characters.
        """
        if unit not in _UNITS:
            raise SpellingError(f"unit is {unit!r}; it must be 'codepoint' or 'byte'.")
        if not isinstance(spellings, Sequence):
            raise SpellingError(
                f"spellings is a {type(spellings).__name__}; it must be a list with the bytes of "
                "each id (None for special tokens)."
            )
        for token_id, spelling in enumerate(spellings):
            if spelling is not None and not isinstance(spelling, bytes):
                raise SpellingError(
                    f"The spelling of id {token_id} is {spelling!r}; each item of the list must be "
                    "bytes (None for special tokens)."
                )
        if len(spellings) == 0:
            raise SpellingError("The vocabulary is empty. Pass the bytes of at least one token.")
        lengths: list[int] = []
        codes, used = bytearray(), set[str]()
        encoding, errors = _UNITS[unit]
        for first in range(0, len(spellings), _TOKENS_AT_ONCE):
            texts = [
                # as `characters`, without a call per token
                spelling.decode(encoding, errors) if spelling else ""
                for spelling in spellings[first : first + _TOKENS_AT_ONCE]
            ]
            lengths += map(len, texts)
            used.update(*texts)
            # "surrogatepass" keeps the code points of lone bytes; 4 bytes each, read as int32 below
            codes += "".join(texts).encode("utf-32-le", "surrogatepass")
        if not codes:
            raise SpellingError(
                f"None of the {len(lengths)} tokens has characters. Pass the bytes of each token, "
                "and None for special tokens only."
            )
        # "byte" has a fixed alphabet: all bytes, whether or not the vocabulary has them
        found = set(range(256)) if unit == "byte" else set(map(ord, used))
        # One lone byte means byte-level BPE: then tokens added later may have any of them.
        if not found.isdisjoint(_LONE_BYTES):
            found |= set(_LONE_BYTES)
        alphabet = (*alphabet, *sorted(found.difference(alphabet)))
        chars_S = _indices(torch.frombuffer(codes, dtype=torch.int32), alphabet)
        return cls(alphabet, chars_S, torch.tensor(lengths, dtype=torch.int32, device="cpu"), unit)

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Any,
        num_tokens: int | None = None,
        unit: str = "codepoint",
        alphabet: Sequence[int] = (),
    ) -> SpellingTable:
        """Build a table from a tokenizer.

        SpellingTable.from_tokenizer(tiktoken.get_encoding("gpt2")).num_tokens -> 50257

        Arguments:
            tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer or a sequence of bytes (see
                `token_bytes`).
            num_tokens: number of rows of the embedding. If the tokenizer has fewer tokens, the
                table gets rows without characters. Default: the number of tokens.
            unit, alphabet: as in `from_bytes`.

        Raises SpellingError if the tokenizer has tokens with characters beyond num_tokens, or if
        num_tokens is no int of at least 1.
        """
        if num_tokens is not None:
            check_int("num_tokens", num_tokens, 1, SpellingError)
        spellings = token_bytes(tokenizer)
        # Special tokens beyond the rows are dropped: a multimodal tokenizer may have tokens for
        # images that a text model has no rows for.
        if num_tokens is not None and any(
            spelling is not None for spelling in spellings[num_tokens:]
        ):
            raise SpellingError(
                f"The tokenizer has {len(spellings)} tokens, but the embedding has {num_tokens} "
                "rows. Pass the tokenizer of the model, or resize the embedding first."
            )
        missing = 0 if num_tokens is None else max(0, num_tokens - len(spellings))
        return cls.from_bytes([*spellings[:num_tokens], *[None] * missing], unit, alphabet)

    @property
    def num_tokens(self) -> int:
        """V, the number of tokens."""
        return len(self.lengths_V)

    @property
    def num_chars(self) -> int:
        """A, the size of the alphabet."""
        return len(self.alphabet)

    @cached_property
    def starts_V(self) -> Tensor:
        """(V,) int64: offset of each token's first character in `chars_S`."""
        return self.lengths_V.long().cumsum(0) - self.lengths_V

    @property
    def chars_VC(self) -> Tensor:
        """(V, C) int32: one row per token; entries from `lengths_V[id]` on are padding (0)."""
        chars_VC = self.chars_S.new_zeros(self.num_tokens, int(self.lengths_V.max()))
        return chars_VC.masked_scatter_(self._real_VC, self.chars_S)

    @property
    def _real_VC(self) -> Tensor:
        """(V, C) bool: True for characters, False for padding."""
        return torch.arange(int(self.lengths_V.max()), device="cpu") < self.lengths_V[:, None]

    @property
    def _codes_S(self) -> Tensor:
        """(S,) int32: the code points of the characters."""
        return torch.tensor(self.alphabet, dtype=torch.int32, device="cpu")[self.chars_S.long()]

    def to_bytes(self) -> list[bytes | None]:
        """Return the bytes of each id, None without characters: the inverse of `from_bytes`."""
        text = "".join(map(chr, self._codes_S.tolist()))
        ends = self.lengths_V.cumsum(0).tolist()
        return [
            text[a:b].encode(*_UNITS[self.unit]) or None
            for a, b in zip([0, *ends], ends, strict=False)
        ]

    def over(self, alphabet: Sequence[int]) -> SpellingTable:
        """Return the same spellings with an alphabet that begins with the given one."""
        alphabet = (*alphabet, *sorted(set(self.alphabet).difference(alphabet)))
        return SpellingTable(alphabet, _indices(self._codes_S, alphabet), self.lengths_V, self.unit)

    def first(self, num_tokens: int) -> SpellingTable:
        """Return the spellings of the first tokens, with the same alphabet."""
        lengths_V = self.lengths_V[:num_tokens]
        return SpellingTable(
            self.alphabet, self.chars_S[: int(lengths_V.sum())], lengths_V, self.unit
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the spellings, equal for equal spellings with different alphabets."""
        digest = hashlib.sha256(self.unit.encode())
        digest.update(self.lengths_V.numpy().tobytes())
        digest.update(self._codes_S.numpy().tobytes())
        return digest.hexdigest()

    def spell(self, token_id: int) -> list[str]:
        """Return the characters of one token for display.

        table.spell(5) -> [" ", "h", "é"]; a lone byte is "<0xC3>"

        Raises SpellingError if the id is outside the table.
        """
        try:
            inside = 0 <= operator.index(token_id) < self.num_tokens
        except TypeError:
            inside = False
        if not inside:
            raise SpellingError(
                f"token_id is {token_id!r}; it must be 0 to {self.num_tokens - 1}, because the table "
                f"has {self.num_tokens} tokens."
            )
        start = int(self.starts_V[token_id])
        symbols = [
            self.alphabet[index]
            for index in self.chars_S[start : start + int(self.lengths_V[token_id])].tolist()
        ]
        return [readable(symbol, self.unit) for symbol in symbols]

    def shuffled(self, generator: torch.Generator) -> SpellingTable:
        """Return a table in which the spellings are randomly permuted over the tokens.

        It is a control: the vectors have the same form, but the spellings are wrong. Tokens without
        characters keep none, so special tokens stay special.
        """
        order_V = torch.arange(self.num_tokens)
        ids_L = self.lengths_V.nonzero().squeeze(1)
        order_V[ids_L] = ids_L[torch.randperm(len(ids_L), generator=generator)]
        return SpellingTable(
            self.alphabet,
            self.chars_VC[order_V][self._real_VC[order_V]],
            self.lengths_V[order_V],
            self.unit,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SpellingTable:
        return self  # never changed, so copies of a model can share it


def _indices(codes_S: Tensor, alphabet: Sequence[int]) -> Tensor:
    """Return the position of each code point in the alphabet."""
    ascending_A, index_A = torch.tensor(alphabet, dtype=torch.int32, device="cpu").sort()
    return index_A.int()[torch.searchsorted(ascending_A, codes_S, out_int32=True)]


def readable(symbol: int, unit: str = "codepoint") -> str:
    """Return a symbol for display: 104 -> "h"; a byte as "<0xC3>"."""
    if unit == "byte":
        return f"<0x{symbol:02X}>"
    return f"<0x{symbol - 0xDC00:02X}>" if symbol in _LONE_BYTES else chr(symbol)


def _int(token_id: Any) -> int:
    """Return an int, or an int in a tensor, as an int. Raises IndexError for anything else."""
    try:
        return operator.index(token_id)
    except TypeError:  # convert_tokens_to_ids returns None for an unknown piece
        raise IndexError(token_id) from None


def spell(tokenizer: Any, token_id: int) -> list[str]:
    """Return the characters of one token of a tokenizer, as charembed's encoders use them.

    spell(gpt2, 9891) -> [" ", "c", "h", "e", "e", "s", "e"]

    A byte of an incomplete character is written as "<0xF0>"; a special token gives [].

    Arguments:
        tokenizer: as in `attach`.
        token_id: an int, or a tensor with one int.

    Raises SpellingError if the id is no int or is outside the vocabulary.
    """
    try:
        spelling = bytes_of(tokenizer, _int(token_id))
    except IndexError:
        size = len(remembered_bytes(tokenizer))
        raise SpellingError(
            f"token_id is {token_id!r}; it must be an int from 0 to {size - 1}, because the "
            f"tokenizer has {size} tokens."
        ) from None
    return [readable(ord(character)) for character in characters(spelling or b"")]
