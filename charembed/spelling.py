"""What the letters of each token are.

Axes: V vocabulary, C characters per token (padded).

A token is a run of bytes. Its characters are the Unicode code points of those bytes; a byte that belongs to no whole
character (byte-level BPE cuts inside UTF-8) gets a symbol of its own. Special tokens have no characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# Python's "surrogateescape" writes the lone byte 0xNN as the code point 0xDCNN, which no valid text contains, so code
# points and lone bytes share one numbering. Only bytes from 0x80 up can be lone: the others are characters.
LONE_BYTES = tuple(range(0xDC80, 0xDD00))


def characters(spelling: bytes, unit: str = "codepoint") -> list[int]:
    """The characters of a token's bytes, as numbers.

    b"h\\xc3\\xa9" -> [104, 233]; the cut b"h\\xc3" -> [104, 0xDCC3]; with unit="byte": [104, 195].
    """
    if unit == "byte":
        return list(spelling)
    return [ord(character) for character in spelling.decode("utf-8", errors="surrogateescape")]


@dataclass(frozen=True, eq=False)
class SpellingTable:
    """The characters of every token of a vocabulary, as indices into an alphabet.

    [b"the", b"he", None] -> alphabet "eht", chars_VC [[2, 1, 0], [1, 0, 0], [0, 0, 0]], lengths_V [3, 2, 0]

    Attributes:
        alphabet: the code points that occur, ascending, so that a character's index is its place here.
        chars_VC: (V, C) int32, padded with 0; only the first `lengths_V[id]` entries of a row mean anything.
        lengths_V: (V,) int32, characters per token; 0 for special tokens.
        unit: "codepoint" or "byte".
    """

    alphabet: tuple[int, ...]
    chars_VC: Tensor
    lengths_V: Tensor
    unit: str = "codepoint"

    @classmethod
    def from_bytes(cls, spellings: Sequence[bytes | None], unit: str = "codepoint") -> SpellingTable:
        """Build from the bytes of each id in order; None for an id without letters (special or unused).

        Raises ValueError for an empty vocabulary, an unknown unit, or when no token has a letter.
        """
        if unit not in ("codepoint", "byte"):
            raise ValueError(f"unit is {unit!r}; choose 'codepoint' or 'byte'.")
        if len(spellings) == 0:
            raise ValueError("the vocabulary is empty: pass the bytes of at least one token.")
        rows = [characters(spelling, unit) if spelling else [] for spelling in spellings]
        found = {symbol for row in rows for symbol in row}
        if not found:
            raise ValueError(f"none of the {len(rows)} tokens has a letter: pass their bytes, with None for special tokens only.")
        if unit == "byte":
            found = set(range(256))
        elif not found.isdisjoint(LONE_BYTES):
            found |= set(LONE_BYTES)
        alphabet = tuple(sorted(found))
        index_of = {symbol: index for index, symbol in enumerate(alphabet)}
        lengths_V = torch.tensor([len(row) for row in rows], dtype=torch.int32)
        chars_VC = torch.zeros(len(rows), int(lengths_V.max()), dtype=torch.int32)
        chars_VC[torch.arange(chars_VC.shape[1]) < lengths_V[:, None]] = torch.tensor([index_of[symbol] for row in rows for symbol in row], dtype=torch.int32)
        return cls(alphabet, chars_VC, lengths_V, unit)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, num_tokens: int | None = None, unit: str = "codepoint") -> SpellingTable:
        """Build from a tiktoken.Encoding, a Hugging Face tokenizer, or a sequence of bytes (see `token_bytes`).

        `num_tokens` pads the table with letterless rows up to the size of an embedding that has more rows than the
        tokenizer has tokens. Raises ValueError when the tokenizer has more tokens than that.
        """
        spellings = token_bytes(tokenizer)
        if num_tokens is not None and len(spellings) > num_tokens:
            raise ValueError(
                f"the tokenizer has {len(spellings)} tokens, but the embedding has {num_tokens} rows: pass the model's own "
                f"tokenizer, or resize the embedding first."
            )
        missing = 0 if num_tokens is None else num_tokens - len(spellings)
        return cls.from_bytes([*spellings, *[None] * missing], unit)

    @property
    def num_tokens(self) -> int:
        return len(self.lengths_V)

    @property
    def num_chars(self) -> int:
        """Size of the alphabet."""
        return len(self.alphabet)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything that defines the table: equal fingerprints, equal spellings."""
        digest = hashlib.sha256(f"{self.unit} {self.alphabet} {tuple(self.chars_VC.shape)}".encode())
        digest.update(self.chars_VC.numpy().tobytes())
        digest.update(self.lengths_V.numpy().tobytes())
        return digest.hexdigest()

    def spell(self, token_id: int) -> list[str]:
        """The characters of one token, for people: [" ", "h", "é"]; a lone byte as "<0xC3>".

        Raises ValueError for an id outside the table.
        """
        if not 0 <= token_id < self.num_tokens:
            raise ValueError(f"token id {token_id} is outside the spelling table of {self.num_tokens} tokens (0 to {self.num_tokens - 1}).")
        symbols = [self.alphabet[index] for index in self.chars_VC[token_id, : self.lengths_V[token_id]].tolist()]
        if self.unit == "byte":
            return [f"<0x{symbol:02X}>" for symbol in symbols]
        return [f"<0x{symbol - 0xDC00:02X}>" if symbol in LONE_BYTES else chr(symbol) for symbol in symbols]

    def shuffled(self, generator: torch.Generator) -> SpellingTable:
        """The same spellings given to the wrong tokens: the control that has the letters' form but not their meaning.

        Tokens without letters keep none, so that special tokens stay special.
        """
        order_V = torch.arange(self.num_tokens)
        spelled = self.lengths_V.nonzero().squeeze(1)
        order_V[spelled] = spelled[torch.randperm(len(spelled), generator=generator)]
        return SpellingTable(self.alphabet, self.chars_VC[order_V], self.lengths_V[order_V], self.unit)


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """The bytes of every id of a tokenizer, None for ids without letters (special tokens, gaps in the numbering).

    tiktoken.Encoding, Hugging Face tokenizer (byte-level, SentencePiece-style or WordPiece pieces), or a plain sequence
    of bytes and None. Raises ValueError for anything else.
    """
    if hasattr(tokenizer, "decode_single_token_bytes"):
        return _tiktoken_bytes(tokenizer)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return _hugging_face_bytes(tokenizer)
    if isinstance(tokenizer, Sequence) and all(spelling is None or isinstance(spelling, bytes) for spelling in tokenizer):
        return list(tokenizer)
    raise ValueError(
        f"cannot read spellings from {type(tokenizer).__name__}: pass a tiktoken.Encoding, a Hugging Face tokenizer, or a list "
        f"with the bytes of each id (None for special tokens)."
    )


def _tiktoken_bytes(encoding: Any) -> list[bytes | None]:
    special = set(encoding._special_tokens.values())
    spellings: list[bytes | None] = [None] * encoding.n_vocab
    for spelling in encoding.token_byte_values():
        token_id = encoding.encode_single_token(spelling)
        if token_id not in special:
            spellings[token_id] = spelling
    return spellings


def _hugging_face_bytes(tokenizer: Any) -> list[bytes | None]:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    added = {int(token_id): str(token) for token_id, token in tokenizer.added_tokens_decoder.items()}
    special = set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}
    # A byte-level vocabulary is written in its 256 stand-in characters only; one that uses "▁" or "<0xE6>" is not.
    ordinary = {piece: token_id for piece, token_id in vocabulary.items() if token_id not in added}
    byte_level = all(character in byte_of for piece in ordinary for character in piece) and any("Ġ" in piece for piece in ordinary)
    word_piece = any(piece.startswith("##") for piece in ordinary) and not any("▁" in piece for piece in ordinary)
    spellings: list[bytes | None] = [None] * (max(vocabulary.values()) + 1)
    for piece, token_id in vocabulary.items():
        if token_id in special:
            continue
        if token_id in added:
            spellings[token_id] = piece.encode()
        elif byte_level:
            spellings[token_id] = bytes(byte_of[character] for character in piece)
        elif word_piece:
            spellings[token_id] = (piece[2:] if piece.startswith("##") else " " + piece).encode()
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            spellings[token_id] = bytes([int(piece[3:5], 16)])
        else:
            spellings[token_id] = piece.replace("▁", " ").encode()
    return spellings


def byte_level_alphabet() -> dict[int, str]:
    """The printable stand-in that byte-level BPE (Radford et al. 2019) writes for each byte: 32 -> "Ġ", 97 -> "a"."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
