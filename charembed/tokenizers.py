"""The bytes of every id of a tokenizer, whatever wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from .errors import SpellingError

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")  # how SentencePiece's byte fallback writes a byte


_READ: WeakKeyDictionary[Any, tuple[Any, list[bytes | None]]] = WeakKeyDictionary()


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """The bytes of every id of a tokenizer, None for ids without letters (special tokens, gaps).

    A tokenizer with the tokens "the" and "<|endoftext|>" -> [b"the", None]

    Takes a tiktoken.Encoding, a Hugging Face tokenizer or a tokenizers.Tokenizer (byte-level,
    SentencePiece-style or WordPiece pieces), or a plain sequence of bytes and None. Raises SpellingError for
    anything else.
    """
    if isinstance(tokenizer, Sequence) and not isinstance(tokenizer, str):
        if all(spelling is None or isinstance(spelling, bytes) for spelling in tokenizer):
            return list(tokenizer)
    elif hasattr(tokenizer, "decode_single_token_bytes"):
        return _tiktoken_bytes(tokenizer)
    elif hasattr(tokenizer, "convert_ids_to_tokens"):
        added = getattr(tokenizer, "added_tokens_decoder", {})
        backend = getattr(tokenizer, "backend_tokenizer", None)
        return _piece_bytes(tokenizer.get_vocab(), added, set(tokenizer.all_special_ids), backend)
    elif hasattr(tokenizer, "get_added_tokens_decoder"):
        return _piece_bytes(
            tokenizer.get_vocab(), tokenizer.get_added_tokens_decoder(), set(), tokenizer
        )
    raise SpellingError(
        f"cannot read spellings from {type(tokenizer).__name__}: pass a tiktoken.Encoding, a Hugging Face "
        "tokenizer, or a list with the bytes of each id (None for special tokens)."
    )


def remembered_bytes(tokenizer: Any) -> list[bytes | None]:
    """`token_bytes`, read once for each tokenizer, number of tokens and set of special ones."""
    size = len(tokenizer) if hasattr(tokenizer, "__len__") else getattr(tokenizer, "n_vocab", None)
    state = size, *getattr(tokenizer, "all_special_ids", ())
    try:
        found = _READ.get(tokenizer)
    except TypeError:  # a list, which has nothing to read
        return token_bytes(tokenizer)
    if size is None or found is None or found[0] != state:
        _READ[tokenizer] = found = state, token_bytes(tokenizer)
    return found[1]


def _tiktoken_bytes(encoding: Any) -> list[bytes | None]:
    special = set(encoding._special_tokens.values())
    spellings: list[bytes | None] = [None] * encoding.n_vocab
    for spelling in encoding.token_byte_values():
        token_id = encoding.encode_single_token(spelling)
        if token_id not in special:
            spellings[token_id] = spelling
    return spellings


def _piece_bytes(
    vocabulary: Mapping[str, int], added: Mapping[int, Any], special: set[int], backend: Any
) -> list[bytes | None]:
    """From the written pieces of a vocabulary; `added` maps ids to added tokens, written as they are."""
    special = special | {token_id for token_id, token in added.items() if token.special}
    spellings: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    read = _piece_reader(
        [piece for piece, token_id in vocabulary.items() if token_id not in added], backend
    )
    for piece, token_id in vocabulary.items():
        if token_id not in special:
            spellings[token_id] = _utf8(piece) if token_id in added else read(piece)
    return spellings


def _piece_reader(pieces: Sequence[str], backend: Any) -> Callable[[str], bytes]:
    """How a vocabulary writes bytes: "Ġthe", "▁the" and WordPiece's "the" are b" the", "the</w>" b"the ".

    A tokenizers.Tokenizer says it by its parts (`backend`); without one it is told from the pieces.
    """
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}
    parts = " ".join(repr(getattr(backend, part, "")) for part in ("pre_tokenizer", "decoder"))
    model = getattr(backend, "model", None)
    end = getattr(model, "end_of_word_suffix", None) or ""
    if not end and _share(pieces, lambda piece: piece.endswith("</w>")) > 0.02:
        end = "</w>"

    def byte_level(piece: str) -> bytes:
        stem = piece.removesuffix(end)  # CLIP writes bytes and the end of a word
        if not byte_of.keys() >= set(stem):
            return _utf8(piece)
        return bytes(map(byte_of.__getitem__, stem)) + (
            b" " if end and piece.endswith(end) else b""
        )

    def word_piece(piece: str) -> bytes:
        return _utf8(
            piece[len(prefix) :] if piece.startswith(prefix) and piece != prefix else " " + piece
        )

    all_stand_for_bytes = _share(pieces, lambda piece: byte_of.keys() >= set(piece)) > 0.99
    if "ByteLevel" in parts or (
        backend is None and all_stand_for_bytes and any("Ġ" in piece for piece in pieces)
    ):
        return byte_level
    prefix = getattr(model, "continuing_subword_prefix", None) or "##"
    told = backend is None and _share(pieces, lambda piece: piece.startswith("##")) > 0.02
    if "WordPiece" in parts or type(model).__name__ == "WordPiece" or told:
        return word_piece
    if end:
        return lambda piece: _utf8(piece.removesuffix(end) + " " if piece.endswith(end) else piece)
    return lambda piece: (
        bytes([int(piece[3:5], 16)])
        if BYTE_PIECE.fullmatch(piece)
        else _utf8(piece.replace("▁", " "))
    )


def _share(pieces: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, pieces)) / max(len(pieces), 1)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def byte_level_alphabet() -> dict[int, str]:
    """What byte-level BPE (Radford et al. 2019) writes for each byte: 32 -> "Ġ", 97 -> "a"."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }
