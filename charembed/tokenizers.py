"""The bytes of every id of a tokenizer, whatever wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import SpellingError

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")  # how SentencePiece's byte fallback writes a byte


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """The bytes of every id of a tokenizer, None for ids without letters (special tokens, gaps in the numbering).

    A tokenizer with the tokens "the" and "<|endoftext|>" -> [b"the", None]

    Takes a tiktoken.Encoding, a Hugging Face tokenizer or a tokenizers.Tokenizer (byte-level, SentencePiece-style or
    WordPiece pieces), or a plain sequence of bytes and None. Raises SpellingError for anything else.
    """
    if hasattr(tokenizer, "decode_single_token_bytes"):
        return _tiktoken_bytes(tokenizer)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return _piece_bytes(tokenizer.get_vocab(), tokenizer.added_tokens_decoder, set(tokenizer.all_special_ids))
    if hasattr(tokenizer, "get_added_tokens_decoder"):
        return _piece_bytes(tokenizer.get_vocab(), tokenizer.get_added_tokens_decoder(), set())
    if isinstance(tokenizer, Sequence) and not isinstance(tokenizer, str) and all(spelling is None or isinstance(spelling, bytes) for spelling in tokenizer):
        return list(tokenizer)
    raise SpellingError(
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


def _piece_bytes(vocabulary: Mapping[str, int], added: Mapping[int, Any], special: set[int]) -> list[bytes | None]:
    """From the written pieces of a vocabulary; `added` maps ids to added tokens, which are written as they are."""
    special = special | {token_id for token_id, token in added.items() if token.special}
    spellings: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    read = _piece_reader([piece for piece, token_id in vocabulary.items() if token_id not in added])
    for piece, token_id in vocabulary.items():
        if token_id not in special:
            spellings[token_id] = piece.encode() if token_id in added else read(piece)
    return spellings


def _piece_reader(pieces: Sequence[str]) -> Callable[[str], bytes]:
    """How this vocabulary writes bytes, told from all of its pieces: "Ġthe", "▁the" and WordPiece's "the" are b" the"."""
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}
    used = set().union(*pieces)
    # A byte-level vocabulary is written in its 256 stand-in characters only; one that uses "▁" is not.
    if "Ġ" in used and used <= byte_of.keys():
        return lambda piece: bytes(byte_of[character] for character in piece)
    if "▁" not in used and any(piece.startswith("##") for piece in pieces):
        return lambda piece: (piece[2:] if piece.startswith("##") else " " + piece).encode()
    return lambda piece: bytes([int(piece[3:5], 16)]) if BYTE_PIECE.fullmatch(piece) else piece.replace("▁", " ").encode()


def byte_level_alphabet() -> dict[int, str]:
    """The printable stand-in that byte-level BPE (Radford et al. 2019) writes for each byte: 32 -> "Ġ", 97 -> "a"."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
