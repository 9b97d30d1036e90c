"""What the letters of each token are.

Axes: V vocabulary, S the characters of all tokens in a row, C characters per token (padded).

A token is a run of bytes. Its characters are the Unicode code points of those bytes; a byte that belongs to
no whole character (byte-level BPE cuts inside UTF-8) gets a symbol of its own. Special tokens have no
characters.
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

from .errors import SpellingError
from .tokenizers import remembered_bytes, token_bytes

# Python's "surrogateescape" writes the lone byte 0xNN as the code point 0xDCNN, which no valid text contains,
# so code points and lone bytes share one numbering. Only bytes from 0x80 up can be lone: the others are
# characters.
LONE_BYTES = tuple(range(0xDC80, 0xDD00))
TOKENS_AT_ONCE = 4_096  # while a table is built: bounds what is held beside it
UNITS = {"codepoint": ("utf-8", "surrogateescape"), "byte": ("latin-1", "strict")}


def characters(spelling: bytes, unit: str = "codepoint") -> str:
    """The characters of a token's bytes, as a string whose code points number them.

    b"h\\xc3\\xa9" -> "hé"; the cut b"h\\xc3" -> "h\\udcc3"; with unit="byte", one character a byte: "hÃ©".
    """
    return spelling.decode(*UNITS[unit])


@dataclass(frozen=True, eq=False)
class SpellingTable:
    """The characters of every token of a vocabulary, as indices into an alphabet.

    [b"the", b"he", None] -> alphabet "eht", chars_S [2, 1, 0, 1, 0], lengths_V [3, 2, 0]

    Attributes:
        alphabet: the code points, so that a character's index is its place here; ascending in a new table.
        chars_S: (S,) int32, the characters of all tokens one after another.
        lengths_V: (V,) int32, characters per token; 0 for special tokens.
        unit: "codepoint" or "byte".
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
        """Build from the bytes of each id in order; None for an id without letters (special or unused).

        Characters that are not in `alphabet` are put after it, so that indices into it stay what they were.

        Raises SpellingError for an empty vocabulary, an unknown unit, or when no token has a letter.
        """
        if unit not in UNITS:
            raise SpellingError(f"unit is {unit!r}; choose 'codepoint' or 'byte'.")
        if len(spellings) == 0:
            raise SpellingError("the vocabulary is empty: pass the bytes of at least one token.")
        lengths: list[int] = []
        codes, used = bytearray(), set[str]()
        for first in range(0, len(spellings), TOKENS_AT_ONCE):
            texts = [
                characters(spelling, unit) if spelling else ""
                for spelling in spellings[first : first + TOKENS_AT_ONCE]
            ]
            lengths += map(len, texts)
            used.update(*texts)
            codes += "".join(texts).encode("utf-32-le", "surrogatepass")
        if not codes:
            raise SpellingError(
                f"none of the {len(lengths)} tokens has a letter: pass their bytes, with None for special "
                "tokens only."
            )
        found = set(range(256)) if unit == "byte" else set(map(ord, used))
        if not found.isdisjoint(LONE_BYTES):
            found |= set(LONE_BYTES)
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
        """Build from a tiktoken.Encoding, a Hugging Face tokenizer, or a sequence of bytes (see
        `token_bytes`).

        `num_tokens` pads the table with letterless rows up to the size of an embedding that has more rows
        than the tokenizer has tokens. Raises SpellingError when the tokenizer has tokens with letters beyond
        them.
        """
        spellings = token_bytes(tokenizer)
        # Special tokens beyond the rows are left out: a tokenizer may have an image's, where the model reads
        # text alone.
        if num_tokens is not None and any(
            spelling is not None for spelling in spellings[num_tokens:]
        ):
            raise SpellingError(
                f"the tokenizer has {len(spellings)} tokens, but the embedding has {num_tokens} rows: pass "
                "the model's own tokenizer, or resize the embedding first."
            )
        missing = 0 if num_tokens is None else max(0, num_tokens - len(spellings))
        return cls.from_bytes([*spellings[:num_tokens], *[None] * missing], unit, alphabet)

    @property
    def num_tokens(self) -> int:
        return len(self.lengths_V)

    @property
    def num_chars(self) -> int:
        """Size of the alphabet."""
        return len(self.alphabet)

    @cached_property
    def starts_V(self) -> Tensor:
        """(V,) int64: where each token's characters begin in `chars_S`."""
        return self.lengths_V.long().cumsum(0) - self.lengths_V

    @property
    def chars_VC(self) -> Tensor:
        """(V, C) int32: a row per token, padded with 0; its first `lengths_V[id]` entries mean something."""
        chars_VC = self.chars_S.new_zeros(self.num_tokens, int(self.lengths_V.max()))
        return chars_VC.masked_scatter_(self._real_VC, self.chars_S)

    @property
    def _real_VC(self) -> Tensor:
        return torch.arange(int(self.lengths_V.max()), device="cpu") < self.lengths_V[:, None]

    @property
    def _codes_S(self) -> Tensor:
        return torch.tensor(self.alphabet, dtype=torch.int32, device="cpu")[self.chars_S.long()]

    def to_bytes(self) -> list[bytes | None]:
        """The bytes of each id, None for one without letters: what `from_bytes` makes this table of."""
        text = "".join(map(chr, self._codes_S.tolist()))
        ends = self.lengths_V.cumsum(0).tolist()
        return [
            text[a:b].encode(*UNITS[self.unit]) or None
            for a, b in zip([0, *ends], ends, strict=False)
        ]

    def over(self, alphabet: Sequence[int]) -> SpellingTable:
        """The same spellings in an alphabet that begins with the given one."""
        alphabet = (*alphabet, *sorted(set(self.alphabet).difference(alphabet)))
        return SpellingTable(alphabet, _indices(self._codes_S, alphabet), self.lengths_V, self.unit)

    def first(self, num_tokens: int) -> SpellingTable:
        """The spellings of the first tokens, in the same alphabet."""
        lengths_V = self.lengths_V[:num_tokens]
        return SpellingTable(
            self.alphabet, self.chars_S[: int(lengths_V.sum())], lengths_V, self.unit
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the spellings: equal ones, equal letters of equal ids, in any alphabet."""
        digest = hashlib.sha256(self.unit.encode())
        digest.update(self.lengths_V.numpy().tobytes())
        digest.update(self._codes_S.numpy().tobytes())
        return digest.hexdigest()

    def spell(self, token_id: int) -> list[str]:
        """The characters of one token, for people: [" ", "h", "é"]; a lone byte as "<0xC3>".

        Raises SpellingError for an id outside the table.
        """
        if not 0 <= token_id < self.num_tokens:
            raise SpellingError(
                f"token id {token_id} is outside the spelling table of {self.num_tokens} tokens (0 to "
                f"{self.num_tokens - 1})."
            )
        start = int(self.starts_V[token_id])
        symbols = [
            self.alphabet[index]
            for index in self.chars_S[start : start + int(self.lengths_V[token_id])].tolist()
        ]
        return [readable(symbol, self.unit) for symbol in symbols]

    def shuffled(self, generator: torch.Generator) -> SpellingTable:
        """The same spellings given to the wrong tokens: the control that has the letters' form but not their
        meaning.

        Tokens without letters keep none, so that special tokens stay special.
        """
        order_V = torch.arange(self.num_tokens)
        spelled = self.lengths_V.nonzero().squeeze(1)
        order_V[spelled] = spelled[torch.randperm(len(spelled), generator=generator)]
        return SpellingTable(
            self.alphabet,
            self.chars_VC[order_V][self._real_VC[order_V]],
            self.lengths_V[order_V],
            self.unit,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SpellingTable:
        return self  # never written to, so the copies of a model can share it


def _indices(codes_S: Tensor, alphabet: Sequence[int]) -> Tensor:
    """Where each code point stands in the alphabet."""
    ascending_A, index_A = torch.tensor(alphabet, dtype=torch.int32, device="cpu").sort()
    return index_A.int()[torch.searchsorted(ascending_A, codes_S, out_int32=True)]


def readable(symbol: int, unit: str = "codepoint") -> str:
    """104 -> "h"; a byte as "<0xC3>"."""
    if unit == "byte":
        return f"<0x{symbol:02X}>"
    return f"<0x{symbol - 0xDC00:02X}>" if symbol in LONE_BYTES else chr(symbol)


def spell(tokenizer: Any, token_id: int) -> list[str]:
    """The characters that charembed sees in one token of a tokenizer.

    spell(gpt2, 9891) -> [" ", "c", "h", "e", "e", "s", "e"]; a byte of a cut character as "<0xF0>"; [] for a
    special token.

    Raises SpellingError for an id outside the vocabulary.
    """
    spellings = remembered_bytes(tokenizer)
    try:
        token_id = operator.index(token_id)
    except TypeError:  # None, which a tokenizer answers for an unknown piece, or the piece itself
        raise SpellingError(
            f"token id {token_id!r} is no whole number: pass one of the tokenizer's {len(spellings)} ids."
        ) from None
    if not 0 <= token_id < len(spellings):
        raise SpellingError(
            f"token id {token_id} is outside the tokenizer's {len(spellings)} tokens (0 to "
            f"{len(spellings) - 1})."
        )
    return [readable(ord(character)) for character in characters(spellings[token_id] or b"")]
