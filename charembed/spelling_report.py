"""Compare the letters of every token id with the tokenizer's own decode."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .progress import Advance
from .spelling import characters, readable
from .tokenizers import core_of, token_bytes

_AT_ONCE = 8_192  # ids per call of decode
_SHOWN = 10  # ids that are printed of each list
_SECONDS = 60.0  # limit of the search for texts, for tokenizers written in Python
_CANDIDATES = 64  # ids that are tried as neighbours
# A fragment of a character becomes whole between these bytes. The first are lead bytes for one, two
# and three bytes that follow; the second complete any lead byte.
_BEFORE = (b"", b"\xc3", b"\xe1", b"\xf1")
_AFTER = tuple(first + b"\x80" * more for first in (b"\x80", b"\xa0", b"\x90") for more in range(3))


class Difference(NamedTuple):
    """An id whose letters differ from the text that decode gives it."""

    token_id: int
    letters: str
    decoded: str


@dataclass(frozen=True, kw_only=True)
class SpellingReport:
    """The result of `check_spellings`. `str(report)` is the text that the command prints.

    Attributes:
        kind: class of the tokenizer.
        num_ids: number of ids.
        without_letters: ids without letters: special tokens, and numbers that have no token.
        compared: number of ids that were compared with decode.
        differences: ids that disagree, with both readings.
        unproduced: ids that none of the tried texts produces.
        untried: number of ids for which no text was tried: because of the limit of time, or all ids
            with letters if texts were not searched (`texts=False`, no encode).
        note: a sentence if decode shows no letters, otherwise "".
    """

    kind: str
    num_ids: int
    without_letters: tuple[int, ...]
    compared: int
    differences: tuple[Difference, ...]
    unproduced: tuple[int, ...]
    untried: int
    note: str
    spellings: tuple[bytes | None, ...]

    @property
    def agrees(self) -> bool:
        """True if no id disagrees, also if none was compared."""
        return not self.differences

    def __str__(self) -> str:
        lines = [
            f"{self.kind}: {self.num_ids} ids, {self.compared} compared with decode",
            f"without letters (special tokens, gaps): {len(self.without_letters)}"
            + _in_a_row(self.without_letters),
            f"letters and decode disagree: {len(self.differences)}"
            + _first(
                f"{one.token_id} letters {one.letters!r}, decode {one.decoded!r}"
                for one in self.differences
            ),
        ]
        searched = self.untried < self.num_ids - len(self.without_letters)
        if searched:
            lines.append(
                f"no text produces: {len(self.unproduced)}"
                + _first(f"{i} {_shown(self.spellings[i] or b'')!r}" for i in self.unproduced)
            )
        else:
            lines.append("no text produces: not searched")
        if self.untried and searched:
            lines.append(f"not tried, because of the limit of time: {self.untried}")
        return "\n".join([*lines, self.note] if self.note else lines)


class _Codec(NamedTuple):
    """The decode and encode of a tokenizer, for several texts at once."""

    decode: Callable[[list[list[int]]], list[str | bytes]]
    encode: Callable[[list[str]], list[list[int]]] | None
    many: bool  # fast enough for all ids


def check_spellings(
    tokenizer: Any, *, texts: bool = True, progress: Advance | None = None
) -> SpellingReport:
    """Compare the letters of every id with the tokenizer's own decode.

    report = charembed.check_spellings(tokenizer)
    assert report.agrees, report

    An id is decoded between two ordinary tokens, where decoders strip no space. A fragment of a
    character (byte-level BPE) is completed by single bytes of the vocabulary. A decoder of the
    library tokenizers that also removes spaces before punctuation (BERT's clean-up) is used
    without the clean-up.

    Arguments:
        tokenizer: as in `attach`. A list of bytes has no decode, so nothing is compared.
        texts: if True (the default), also search for ids that no text produces. An id counts as
            produced if it occurs in the encoding of its own letters, alone or beside other tokens.
        progress: function of the number of finished and of all ids. Default: None.

    Raises SpellingError if the tokenizer is of no known kind.
    """
    spellings = token_bytes(tokenizer)
    codec, note = _codec(tokenizer)
    spelled = [i for i, spelling in enumerate(spellings) if spelling]
    differences, compared = list[Difference](), 0
    neighbours = _neighbours(codec, spellings, spelled) if codec else []
    if codec and not neighbours and not note:
        note = "No two tokens decode to their joined letters, so nothing was compared."
    elif codec and not note:
        compared = len(spelled)
        differences = _differences(codec, spellings, spelled, neighbours, progress)
    unproduced, untried = list[int](), len(spelled)
    if texts and codec and codec.encode:
        around = _text(spellings[neighbours[0][0]] or b"") if neighbours else "a"
        unproduced, untried = _unproduced(codec, spellings, spelled, around.strip(), progress)
    return SpellingReport(
        kind=type(tokenizer).__name__,
        num_ids=len(spellings),
        without_letters=tuple(i for i, spelling in enumerate(spellings) if not spelling),
        compared=compared,
        differences=tuple(differences),
        unproduced=tuple(unproduced),
        untried=untried,
        note=note,
        spellings=tuple(spellings),
    )


def _codec(tokenizer: Any) -> tuple[_Codec | None, str]:
    """Return decode and encode, and a note if decode shows no letters."""
    core = core_of(tokenizer)
    backend = getattr(core, "backend_tokenizer", core)
    if hasattr(backend, "get_added_tokens_decoder"):
        codec, note = _backend_codec(backend)
        if backend is not core and not _decode_alike(core, backend):
            codec = codec._replace(decode=_in_python(core))
        return codec, note
    if hasattr(core, "decode_tokens_bytes"):  # tiktoken
        return _Codec(
            lambda batch: [core.decode_bytes(ids) for ids in batch],
            core.encode_ordinary_batch,
            True,
        ), ""
    if hasattr(core, "id_to_byte_piece"):  # mistral-common
        policy = getattr(core, "_special_token_policy", 0)
        return _Codec(
            lambda batch: [core.decode(ids, policy) for ids in batch],
            lambda texts: [core.encode(text, False, False) for text in texts],
            True,
        ), ""
    if hasattr(core, "id_to_piece"):  # sentencepiece: takes lists
        return _Codec(core.decode, core.encode, True), ""
    if hasattr(core, "convert_ids_to_tokens"):  # a slow tokenizer of transformers
        return _Codec(
            _in_python(core),
            lambda texts: [core.encode(text, add_special_tokens=False) for text in texts],
            False,
        ), ""
    # RWKV's decode gives one sign for a text with a fragment; its decodeBytes gives the bytes
    decode = getattr(core, "decodeBytes", None) or getattr(core, "decode", None)
    if decode is None:
        return None, "It has no decode, so nothing was compared."
    return _Codec(lambda batch: list(map(decode, batch)), _plain_encode(core), False), ""


def _in_python(tokenizer: Any) -> Callable[[list[list[int]]], list[str | bytes]]:
    """Return the decode of a tokenizer of transformers, without clean-up."""
    exact = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return lambda batch: [tokenizer.decode(ids, **exact) for ids in batch]


def _decode_alike(tokenizer: Any, backend: Any) -> bool:
    """True if decode of a fast tokenizer is its backend's. CLIP's replaces "</w>" in Python."""
    size = len(tokenizer)
    batch = [[i] for i in range(0, size, size // 1_000 + 1)]
    theirs: list[str] = backend.decode_batch(batch, skip_special_tokens=False)
    return _in_python(tokenizer)(batch) == list(theirs)


def _backend_codec(backend: Any) -> tuple[_Codec, str]:
    """Return the codec of a tokenizers.Tokenizer, with a decoder that cleans nothing up."""
    note = ""
    if backend.decoder is None:
        note = "It has no decoder and joins pieces with spaces, so nothing was compared."

    def encode(texts: list[str]) -> list[list[int]]:
        encoded = backend.encode_batch(texts, add_special_tokens=False)
        return [one.ids for one in encoded]

    def decode(batch: list[list[int]]) -> list[str | bytes]:
        found: list[str | bytes] = backend.decode_batch(batch, skip_special_tokens=False)
        return found

    exact = _without_clean_up(backend.decoder)
    if exact is None:
        return _Codec(decode, encode, True), note
    piece = backend.id_to_token
    return _Codec(
        lambda batch: [exact.decode([piece(i) for i in ids]) for ids in batch], encode, True
    ), note


def _without_clean_up(decoder: Any) -> Any:
    """Return a copy of a decoder without clean-up of spaces, None if it has no clean-up."""
    try:
        settings = json.loads(decoder.__getstate__())
    except Exception:  # no decoder, or one written in Python
        return None
    parts = [settings, *settings.get("decoders", [])]
    parts = [part for part in parts if part["type"] == "WordPiece" and part["cleanup"]]
    if not parts:
        return None
    for part in parts:
        part["cleanup"] = False
    made = importlib.import_module("tokenizers.decoders").Fuse()
    sequence = importlib.import_module("tokenizers.decoders").Sequence([made])
    exact = type(decoder)() if settings["type"] != "Sequence" else sequence
    exact.__setstate__(json.dumps(settings).encode())
    return exact


def _plain_encode(core: Any) -> Callable[[list[str]], list[list[int]]] | None:
    """Return encode of a class of its own, by the signature that it takes."""
    for arguments in ({}, {"bos": False, "eos": False}):
        try:
            if all(type(i) is int for i in core.encode("a", **arguments)):
                return lambda texts: [list(core.encode(text, **arguments)) for text in texts]
        except Exception:  # another signature
            continue
    return None


def _neighbours(
    codec: _Codec, spellings: Sequence[bytes | None], spelled: Sequence[int]
) -> list[tuple[int, int]]:
    """Return two pairs of ids of plain letters that decode to their letters, one after another.

    The first pair is used for all ids, the second for the ids of the first.
    """

    def of_letters(pattern: bytes) -> list[int]:
        return [i for i in spelled if re.fullmatch(pattern, spellings[i] or b"")]

    # A single letter may be a byte, which joins the bytes beside it.
    plain = of_letters(rb" ?[a-z]{2,} ?")
    if len(plain) < 4:  # two pairs
        plain += of_letters(rb" ?[a-z] ?")
    plain = plain[:: len(plain) // _CANDIDATES + 1]
    found = list[tuple[int, int]]()
    for one, other in itertools.permutations(plain, 2):
        # disjoint, so that a neighbour is never beside itself
        if not {one, other}.isdisjoint(itertools.chain(*found)):
            continue
        joined = (spellings[one] or b"") + (spellings[other] or b"")
        if _same(codec.decode([[one, other]])[0], joined):
            found.append((one, other))
        if len(found) == 2:
            break
    return found


def _same(decoded: str | bytes, expected: bytes) -> bool:
    """Compare apart from the spaces at both ends, which many decoders strip."""
    if isinstance(decoded, bytes):
        return decoded.strip(b" ") == expected.strip(b" ")
    # A library writes one sign or several for bytes that are no character, or leaves them out.
    found = decoded.strip(" ").replace("\ufffd", "")
    return found == expected.decode(errors="ignore").strip(" ").replace("\ufffd", "")


def _differences(
    codec: _Codec,
    spellings: Sequence[bytes | None],
    spelled: Sequence[int],
    neighbours: Sequence[tuple[int, int]],
    progress: Advance | None,
) -> list[Difference]:
    """Return the ids whose letters are not those that decode gives."""
    id_of = {spelling: i for i in spelled if len(spelling := spellings[i] or b"") == 1}
    found = list[Difference]()
    for first in range(0, len(spelled), _AT_ONCE):
        part = spelled[first : first + _AT_ONCE]
        batch = [_beside(i, spellings, neighbours, id_of) for i in part]
        for token_id, ids, decoded in zip(part, batch, codec.decode(batch), strict=True):
            expected = b"".join(spellings[i] or b"" for i in ids)
            if not _same(decoded, expected):
                found.append(_difference(token_id, ids, decoded, spellings))
        if progress:
            progress(first + len(part), len(spelled))
    return found


def _difference(
    token_id: int, ids: Sequence[int], decoded: str | bytes, spellings: Sequence[bytes | None]
) -> Difference:
    """Return both readings, without the neighbours."""
    text = decoded if isinstance(decoded, str) else decoded.decode(errors="replace")
    before, after = (_text(spellings[i] or b"") for i in (ids[0], ids[-1]))
    # decoders strip the spaces at the ends of the text
    text = text.removeprefix(before if text.startswith(before) else before.strip())
    text = text.removesuffix(after if text.endswith(after) else after.strip())
    return Difference(token_id, _shown(spellings[token_id] or b""), text)


def _beside(
    token_id: int,
    spellings: Sequence[bytes | None],
    neighbours: Sequence[tuple[int, int]],
    id_of: dict[bytes, int],
) -> list[int]:
    """Return an id between two others, and between bytes that make its characters whole."""
    one, other = neighbours[-1] if token_id in neighbours[0] else neighbours[0]
    whole = _completed(spellings[token_id] or b"")
    before, after = whole or (b"", b"")
    bytes_around = [[id_of.get(bytes([byte]), -1) for byte in part] for part in (before, after)]
    if any(-1 in part for part in bytes_around):  # not a vocabulary of single bytes
        bytes_around = [[], []]
    return [one, *bytes_around[0], token_id, *bytes_around[1], other]


def _completed(spelling: bytes) -> tuple[bytes, bytes] | None:
    """Return the bytes before and after that make whole characters, None if there are none."""
    for after in (b"", *_AFTER):
        for before in _BEFORE:
            try:
                (before + spelling + after).decode()
            except UnicodeDecodeError:
                continue
            return before, after
    return None


def _unproduced(
    codec: _Codec,
    spellings: Sequence[bytes | None],
    spelled: Sequence[int],
    around: str,
    progress: Advance | None,
) -> tuple[list[int], int]:
    """Return the ids that no tried text produces, and the number of ids that were not tried."""
    encode, start = codec.encode, time.monotonic()
    assert encode is not None
    left, untried = set(spelled), 0
    # alone, inside a word, at its start, at its end, after a space, a bracket, a line, a sign
    for before, after in (
        ("", ""),
        (around, ""),
        ("", around),
        (around, around),
        (f"{around} ", ""),
        ("(", ")"),
        ("\n", ""),
        (f"{around}_", ""),
    ):
        tried = sorted(left)
        for first in range(0, len(tried), _AT_ONCE):
            if not codec.many and time.monotonic() - start > _SECONDS:
                untried = len(tried) - first if not before + after else untried
                return sorted(left.difference(tried[first:] if untried else ())), untried
            part = [i for i in tried[first : first + _AT_ONCE] if i in left]
            texts = [before + _whole(spellings[i] or b"") + after for i in part]
            for ids in encode(texts):
                left.difference_update(ids)
            if progress:
                progress(len(spelled) - len(left), len(spelled))
    return sorted(left), untried


def _whole(spelling: bytes) -> str:
    before, after = _completed(spelling) or (b"", b"")
    return (before + spelling + after).decode(errors="replace")


def _text(spelling: bytes) -> str:
    return spelling.decode(errors="replace")


def _shown(spelling: bytes) -> str:
    """Return letters for display; a byte of no character as <0xC3>."""
    return "".join(readable(ord(character)) for character in characters(spelling))


def _in_a_row(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN]))
    return f" ({shown}{', ...' if len(ids) > _SHOWN else ''})" if ids else ""


def _first(items: Iterable[str]) -> str:
    """Return the first items, one a line."""
    shown = [f"\n  {item}" for _, item in zip(range(_SHOWN + 1), items, strict=False)]
    return "".join([*shown[:_SHOWN], "\n  ..."] if len(shown) > _SHOWN else shown)
