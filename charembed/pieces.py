"""How a vocabulary writes its pieces: "Ġthe", "▁the", "the</w>", "th@@", "##e", "<0xC3>".

A piece is read by the rules of the tokenizer's own parts, its decoder first: the decoder defines the
text of each piece. If a tokenizer has no parts (a slow one), the kind is inferred from the pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")  # a byte in SentencePiece's byte fallback
_SIGN = "▁"  # SentencePiece's sign of a space
# A mark belongs to the vocabulary's kind if this share of the pieces has it: in a vocabulary of
# the kind many pieces do, in others it is rare text.
_SHARE = 0.02
_SAMPLE = 4_096  # pieces that the shares are measured on
# Steps of a decoder that change no letter inside a text, or that are read elsewhere.
_NO_LETTERS = {"Fuse", "Strip", "ByteFallback", "ByteLevel", "WordPiece"}

_SPACES = ({"String": " "}, {"Regex": " "})  # patterns of a normalizer that replaces the space

Parts = Mapping[str, Any]


class Reader(NamedTuple):
    """Functions that return the bytes of a written piece.

    Attributes:
        piece: for a piece of the model's own vocabulary.
        added: for an added token that is no such piece.
    """

    piece: Callable[[str], bytes]
    added: Callable[[str], bytes]


def reader_of(pieces: Iterable[str], backend: Any) -> Reader:
    """Return the reader of a vocabulary.

    reader_of(["Ġthe"], gpt2.backend_tokenizer).piece("Ġthe") -> b" the"

    Examples: "Ġthe" (byte-level), "▁the" (SentencePiece) and "the" (WordPiece) -> b" the";
    "the</w>" and "the" (beside "th@@") -> b"the ".

    Arguments:
        pieces: the pieces of the model, without the added tokens. They are not used if there is a
            backend.
        backend: a tokenizers.Tokenizer, or None.
    """
    if backend is None:
        return _inferred(list(pieces))
    model = backend.model
    steps = list(_flat(backend.decoder))
    before = [*_flat(backend.normalizer), *_flat(backend.pre_tokenizer)]
    kinds = {step["type"] for step in (*steps, *before)}
    prefix = getattr(model, "continuing_subword_prefix", None) or ""
    sample = _sample(backend)
    end = getattr(model, "end_of_word_suffix", None) or next(
        (step["suffix"] for step in steps if step["type"] == "BPEDecoder"), ""
    )
    if not end and _share(sample, "</w>") > _SHARE:
        end = "</w>"
    if "ByteLevel" in kinds:
        return _byte_level(end, prefix)
    prefix = prefix or next((step["prefix"] for step in steps if step["type"] == "WordPiece"), "")
    if (
        prefix
        and not end
        and "Metaspace" not in kinds
        and ("WordPiece" in (*kinds, type(model).__name__) or any(map(_drops_spaces, before)))
    ):
        return _word_pieces(prefix)
    if not end and _share(sample, "@@") > _SHARE:
        return _subword_nmt()
    has_bytes = (
        not steps
        or "ByteFallback" in kinds
        or bool(getattr(model, "byte_fallback", False))
        or model.token_to_id("<0x00>") is not None
    )
    to_text = _to_text(backend, steps, before)
    if not end and not prefix:  # the usual case, without the steps that it does not need

        def plain(written: str) -> bytes:
            if written[:3] == "<0x" and has_bytes and _BYTE_PIECE.fullmatch(written):
                return bytes([int(written[3:5], 16)])
            return to_text(written).encode("utf-8", "surrogatepass")

        return Reader(plain, plain)

    def piece(written: str) -> bytes:
        if has_bytes and _BYTE_PIECE.fullmatch(written):
            return bytes([int(written[3:5], 16)])
        stem = written.removesuffix(end)
        space = " " if end and stem != written else ""
        if prefix and stem != prefix:
            stem = stem.removeprefix(prefix)
        return utf8(to_text(stem) + space)

    return Reader(piece, piece)


def _inferred(pieces: list[str]) -> Reader:
    """Return the reader of a vocabulary whose kind only its pieces show."""
    letters = byte_level_alphabet().values()
    end = "</w>" if _share(pieces, "</w>") > _SHARE else ""
    if _are_bytes(pieces):  # ByT5, Perceiver: one piece per byte, written as a Latin-1 character
        return Reader(lambda piece: piece.encode("latin-1"), utf8)
    in_alphabet = sum(not set(piece).difference(letters) for piece in pieces)
    if in_alphabet > 0.99 * len(pieces) and any("Ġ" in piece for piece in pieces):
        return _byte_level(end)
    if sum(piece.startswith("##") for piece in pieces) > _SHARE * len(pieces):
        return _word_pieces("##")
    if end:
        return Reader(
            lambda piece: utf8(piece.removesuffix(end) + " " if piece.endswith(end) else piece),
            utf8,
        )
    if _share(pieces, "@@") > _SHARE:
        return _subword_nmt()
    return Reader(
        lambda piece: (
            bytes([int(piece[3:5], 16)])
            if _BYTE_PIECE.fullmatch(piece)
            else utf8(piece.replace(_SIGN, " "))
        ),
        utf8,
    )


def _are_bytes(pieces: Sequence[str]) -> bool:
    """True if the pieces are the characters 0 to 255, one for each byte.

    No vocabulary of characters has all of the control characters 0x80 to 0x9F.
    """
    found = set(pieces)
    return max(found, default="") <= "\xff" and found >= set(map(chr, range(0x80, 0x100)))


def _byte_level(end: str = "", prefix: str = "") -> Reader:
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}

    def piece(written: str) -> bytes:
        stem = written.removesuffix(end)  # CLIP's pieces are byte-level and mark the end of a word
        space = b" " if end and stem != written else b""
        if prefix and stem != prefix:
            stem = stem.removeprefix(prefix)
        try:
            return bytes(map(byte_of.__getitem__, stem)) + space
        except KeyError:  # a piece that was added by hand is written as text
            return utf8(written)

    return Reader(piece, utf8)


def _word_pieces(prefix: str) -> Reader:
    # A piece without the prefix begins a word, so its bytes begin with a space.
    def piece(written: str) -> bytes:
        inside = written.startswith(prefix) and written != prefix
        return utf8(written.removeprefix(prefix) if inside else " " + written)

    # An added token may be written with the space (as by `charembed.add_tokens`).
    return Reader(piece, lambda text: utf8(text) if text[:1].isspace() else piece(text))


def _subword_nmt() -> Reader:
    # Sennrich et al. 2016: "@@" marks a piece that does not end its word, so all others do.
    return Reader(
        lambda piece: utf8(
            piece.removesuffix("@@") if piece.endswith("@@") and piece != "@@" else piece + " "
        ),
        utf8,
    )


def _to_text(backend: Any, steps: Sequence[Parts], before: Sequence[Parts]) -> Callable[[str], str]:
    """Return the function that maps a piece to text as the decoder does inside a text."""
    changes: list[tuple[str, str]] = []
    for step in steps:
        if step["type"] == "Metaspace":
            changes.append((step["replacement"], " "))
        elif step["type"] == "Replace" and "String" in step["pattern"]:
            changes.append((step["pattern"]["String"], step["content"]))
        elif step["type"] == "CTC":
            changes += [(step["pad_token"], ""), (step["word_delimiter_token"], " ")]
        elif step["type"] not in {*_NO_LETTERS, "BPEDecoder"}:
            return lambda piece: _inside(backend.decoder, piece)
    signs = list(dict.fromkeys(_signs(before)))
    if not steps and not signs:
        signs = [_SIGN]
    # a decoder may leave the sign that the other parts put in the place of a space
    changes += [(sign, " ") for sign in signs if all(sign != old for old, _ in changes)]

    if len(changes) == 1:  # "▁" alone, the usual case
        ((sign, text),) = changes
        return lambda piece: piece.replace(sign, text)

    def to_text(piece: str) -> str:
        for old, new in changes:
            piece = piece.replace(old, new)
        return piece

    return to_text


def _inside(decoder: Any, piece: str) -> str:
    """Decode a piece between two others, where the decoder strips nothing."""
    text: str = decoder.decode(["x", piece, "x"])
    return text.removeprefix("x").removesuffix("x")


def _signs(before: Sequence[Parts]) -> Iterator[str]:
    """Yield what normalizer and pre-tokenizer write in the place of a space."""
    for part in before:
        if part["type"] == "Metaspace":
            yield part["replacement"]
        elif part["type"] == "Replace" and part["pattern"] in _SPACES and part["content"].strip():
            yield part["content"]


def _drops_spaces(part: Parts) -> bool:
    """True for a pre-tokenizer that removes the spaces between words."""
    return part["type"] in {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"} or (
        part["type"] == "Split" and part["behavior"] == "Removed" and not part["invert"]
    )


def _flat(part: Any) -> Iterator[Parts]:
    """Yield the settings of a part of a tokenizers.Tokenizer, of a sequence those of its members."""
    if part is None:
        return
    try:
        stack = [json.loads(part.__getstate__())]
    except Exception:  # the library's plain Exception: a part written in Python has no settings
        stack = [{"type": "Custom"}]
    while stack:
        found = stack.pop(0)
        if found["type"] == "Sequence":
            stack[:0] = next(value for value in found.values() if isinstance(value, list))
        else:
            yield found


def _sample(backend: Any) -> list[str]:
    """Return pieces of the model, evenly over the ids."""
    size = backend.get_vocab_size(with_added_tokens=False)
    model = backend.model
    ids = range(0, size, size // _SAMPLE + 1)
    return [piece for token_id in ids if (piece := model.id_to_token(token_id)) is not None]


def _share(pieces: Sequence[str], ending: str) -> float:
    """Return the share of pieces with an ending."""
    return sum(piece.endswith(ending) for piece in pieces) / max(len(pieces), 1)


def utf8(text: str) -> bytes:
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
