"""The bytes of every token id, for the tokenizers of different libraries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from .errors import SpellingError

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")  # a byte in SentencePiece's byte fallback
# results of `remembered_bytes`; weak keys, so no tokenizer is kept alive
_READ: WeakKeyDictionary[Any, tuple[Any, list[bytes | None]]] = WeakKeyDictionary()


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Return the bytes of every id, None for ids without characters (special tokens, gaps).

    A tokenizer with the tokens "the" and "<|endoftext|>" -> [b"the", None]

    Arguments:
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a tokenizers.Tokenizer
            (byte-level, SentencePiece-style or WordPiece pieces), or a sequence of bytes and None.

    Raises SpellingError if it is none of these.
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
        f"The tokenizer is a {type(tokenizer).__name__}. Pass a tiktoken.Encoding, a Hugging Face "
        "tokenizer, or a list with the bytes of each id (None for special tokens)."
    )


def remembered_bytes(tokenizer: Any) -> list[bytes | None]:
    """Return `token_bytes`, computed once per tokenizer.

    It is computed again if the number of tokens or the set of special tokens has changed.
    """
    size = len(tokenizer) if hasattr(tokenizer, "__len__") else getattr(tokenizer, "n_vocab", None)
    state = size, *getattr(tokenizer, "all_special_ids", ())
    try:
        found = _READ.get(tokenizer)
    except TypeError:  # a list cannot be a key, and its bytes need no computation
        return token_bytes(tokenizer)
    if size is None or found is None or found[0] != state:
        _READ[tokenizer] = found = state, token_bytes(tokenizer)
    return found[1]


def _tiktoken_bytes(encoding: Any) -> list[bytes | None]:
    """Return the bytes of a tiktoken encoding; ids without a token are None."""
    special = set(encoding._special_tokens.values())
    spellings: list[bytes | None] = [None] * encoding.n_vocab
    # ids without bytes (gaps) are not among the values, so their None stays
    for spelling in encoding.token_byte_values():
        token_id = encoding.encode_single_token(spelling)
        if token_id not in special:
            spellings[token_id] = spelling
    return spellings


def _piece_bytes(
    vocabulary: Mapping[str, int], added: Mapping[int, Any], special: set[int], backend: Any
) -> list[bytes | None]:
    """Return the bytes of each id, given a vocabulary of written pieces.

    `added` maps ids to added tokens, which are written as plain text.
    """
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
    """Return the function that maps a written piece to bytes.

    Examples: "Ġthe" (byte-level), "▁the" (SentencePiece) and "the" (WordPiece) -> b" the";
    "the</w>" -> b"the ".

    The parts of a tokenizers.Tokenizer (`backend`) tell the kind. Without a backend it is inferred
    from the pieces.
    """
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}
    parts = " ".join(repr(getattr(backend, part, "")) for part in ("pre_tokenizer", "decoder"))
    model = getattr(backend, "model", None)
    end = getattr(model, "end_of_word_suffix", None) or ""
    # 2 %: in a vocabulary of this kind many pieces have the mark, in others it is rare text
    if not end and _share(pieces, lambda piece: piece.endswith("</w>")) > 0.02:
        end = "</w>"

    def byte_level(piece: str) -> bytes:
        stem = piece.removesuffix(end)  # CLIP's pieces are byte-level and mark the end of a word
        if not byte_of.keys() >= set(stem):
            return _utf8(piece)
        return bytes(map(byte_of.__getitem__, stem)) + (
            b" " if end and piece.endswith(end) else b""
        )

    # A piece without the prefix "##" begins a word, so its bytes begin with a space.
    def word_piece(piece: str) -> bytes:
        return _utf8(
            piece[len(prefix) :] if piece.startswith(prefix) and piece != prefix else " " + piece
        )

    byte_level_pieces = _share(pieces, lambda piece: byte_of.keys() >= set(piece)) > 0.99
    if "ByteLevel" in parts or (
        backend is None and byte_level_pieces and any("Ġ" in piece for piece in pieces)
    ):
        return byte_level
    prefix = getattr(model, "continuing_subword_prefix", None) or "##"
    has_prefixes = backend is None and _share(pieces, lambda piece: piece.startswith("##")) > 0.02
    if "WordPiece" in parts or type(model).__name__ == "WordPiece" or has_prefixes:
        return word_piece
    if end:
        return lambda piece: _utf8(piece.removesuffix(end) + " " if piece.endswith(end) else piece)
    return lambda piece: (
        bytes([int(piece[3:5], 16)])
        if _BYTE_PIECE.fullmatch(piece)
        else _utf8(piece.replace("▁", " "))
    )


def _share(pieces: Sequence[str], holds: Callable[[str], bool]) -> float:
    """Return the share of pieces for which `holds` is true."""
    return sum(map(holds, pieces)) / max(len(pieces), 1)


def _utf8(text: str) -> bytes:
    """Encode a text that may contain lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def byte_level_alphabet() -> dict[int, str]:
    """Return the character that byte-level BPE writes for each byte: 32 -> "Ġ", 97 -> "a".

    Radford et al. 2019 (GPT-2).
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    # bytes without a printable character get the code points from 256 on, in order
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }
