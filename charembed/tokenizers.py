"""The bytes of every token id, for the tokenizers of different libraries.

No library is imported here: a tokenizer is recognised by its methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from .errors import SpellingError
from .pieces import Reader, reader_of
from .pieces import byte_level_alphabet as byte_level_alphabet

Spellings = list[bytes | None]

_SPECIAL = re.compile(r"<\|.*\|>|<\w+>")  # special tokens of a vocabulary that does not name them
_DEPTH = 3  # wrappers around a tokenizer: a pipeline, its tokenizer, the tokenizer's model
_PROBES = 32  # ids on which a wrapper's decode is compared
# results of `remembered_bytes`; weak keys, so no tokenizer is kept alive
_READ: WeakKeyDictionary[Any, tuple[Any, Spellings]] = WeakKeyDictionary()


def token_bytes(tokenizer: Any) -> Spellings:
    """Return the bytes of every id, None for ids without characters (special tokens, gaps).

    A tokenizer with the tokens "the" and "<|endoftext|>" -> [b"the", None]

    Arguments:
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a tokenizers.Tokenizer, a
            sentencepiece.SentencePieceProcessor, a tokenizer of mistral-common, RWKV or open_clip,
            an object that holds one of these, or a sequence of bytes and None. docs/tokenizers.md
            lists the kinds.

    Raises SpellingError if it is none of these.
    """
    found = _read(tokenizer)
    if found is None:
        raise SpellingError(
            f"The tokenizer is a {type(tokenizer).__name__}. Pass a tiktoken.Encoding, a Hugging "
            "Face tokenizer, or a list with the bytes of each id (None for special tokens)."
        )
    return found


def remembered_bytes(tokenizer: Any) -> Spellings:
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


def bytes_of(tokenizer: Any, token_id: int) -> bytes | None:
    """Return the bytes of one id, without reading the whole vocabulary if that can be avoided.

    bytes_of(gpt2, 9891) -> b" cheese"

    Raises SpellingError as `token_bytes` does, and IndexError if the id is outside the vocabulary.
    """
    if not 0 <= token_id < 2**31:  # the Rust libraries take 32 bits
        raise IndexError(token_id)
    if _is_list(tokenizer):
        one: bytes | None = tokenizer[token_id]
        return one if one is None or isinstance(one, bytes) else token_bytes(tokenizer)[token_id]
    if _is_backend(tokenizer) and tokenizer.id_to_token(token_id) is not None:
        return bytes_of_ids(tokenizer, [token_id])[0]
    return remembered_bytes(tokenizer)[token_id]


def bytes_of_ids(tokenizer: Any, ids: Sequence[int]) -> Spellings:
    """Return the bytes of some ids of a tokenizers.Tokenizer or of a tokenizer of transformers.

    bytes_of_ids(gpt2, [9891, 50256]) -> [b" cheese", None]
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not _is_backend(backend):  # a slow tokenizer
        spellings = token_bytes(tokenizer)
        return [spellings[token_id] for token_id in ids]
    added, reader = backend.get_added_tokens_decoder(), reader_of((), backend)
    special = {token_id for token_id in ids if token_id in added and added[token_id].special}
    special.update(getattr(tokenizer, "all_special_ids", ()))
    return [
        None
        if token_id in special
        else _written(backend.id_to_token(token_id), token_id, reader, added, backend)
        for token_id in ids
    ]


def _read(tokenizer: Any, depth: int = 0) -> Spellings | None:
    """Return the bytes of each id, or None if the kind of the tokenizer is unknown."""
    if _is_list(tokenizer):
        known = all(spelling is None or isinstance(spelling, bytes) for spelling in tokenizer)
        return list(tokenizer) if known else None
    if _is_backend(tokenizer):
        return _piece_bytes(
            tokenizer.get_vocab(), tokenizer.get_added_tokens_decoder(), set(), tokenizer
        )
    if hasattr(tokenizer, "token_byte_values") and hasattr(tokenizer, "encode_single_token"):
        return _tiktoken_bytes(tokenizer)
    if hasattr(tokenizer, "id_to_byte_piece") and hasattr(tokenizer, "is_special"):
        return _tekken_bytes(tokenizer)
    if hasattr(tokenizer, "id_to_piece") and hasattr(tokenizer, "is_byte"):
        return _sentencepiece_bytes(tokenizer)
    if (core := core_of(tokenizer)) is not tokenizer:
        return _read(core, depth + 1)
    if hasattr(tokenizer, "convert_ids_to_tokens") and hasattr(tokenizer, "get_vocab"):
        added = getattr(tokenizer, "added_tokens_decoder", {})
        backend = getattr(tokenizer, "backend_tokenizer", None)
        return _piece_bytes(
            tokenizer.get_vocab(),
            added,
            set(tokenizer.all_special_ids),
            backend if _is_backend(backend) else None,
            getattr(tokenizer, "sp_model", None),
        )
    return _mapped_bytes(tokenizer) or _wrapped_bytes(tokenizer, depth)


def core_of(tokenizer: Any) -> Any:
    """Return the tokenizer inside one of mistral-common, any other object as it is.

    mistral-common keeps it two steps inside. A backend of transformers wraps it again, with a
    get_vocab that loses the tokens that are no UTF-8.
    """
    if hasattr(inner := getattr(tokenizer, "tokenizer", None), "instruct_tokenizer"):
        tokenizer = inner
    if (inner := getattr(tokenizer, "instruct_tokenizer", None)) is not None:
        tokenizer = getattr(inner, "tokenizer", None)
    inner = getattr(tokenizer, "_model", None)  # a SentencePieceTokenizer decodes by a policy
    return inner if hasattr(inner, "is_byte") and hasattr(inner, "id_to_piece") else tokenizer


def _is_list(tokenizer: Any) -> bool:
    return isinstance(tokenizer, Sequence) and not isinstance(tokenizer, str | bytes)


def _is_backend(tokenizer: Any) -> bool:
    """True for a tokenizers.Tokenizer."""
    return hasattr(tokenizer, "get_added_tokens_decoder") and hasattr(tokenizer, "pre_tokenizer")


def _tiktoken_bytes(encoding: Any) -> Spellings:
    """Return the bytes of a tiktoken encoding; ids without a token are None."""
    special = set(encoding._special_tokens.values())
    spellings: Spellings = [None] * encoding.n_vocab
    # ids without bytes (gaps) are not among the values, so their None stays
    for spelling in encoding.token_byte_values():
        token_id = encoding.encode_single_token(spelling)
        if token_id not in special:
            spellings[token_id] = spelling
    return spellings


def _tekken_bytes(tokenizer: Any) -> Spellings:
    """Return the bytes of a Tekkenizer of mistral-common.

    Its strings have one text for all tokens that are no UTF-8, so they are not used.
    """
    ignored = getattr(tokenizer, "_special_token_policy", 0)  # no special id is passed
    return [
        None if tokenizer.is_special(i) else tokenizer.id_to_byte_piece(i, ignored)
        for i in range(tokenizer.n_words)
    ]


def _sentencepiece_bytes(processor: Any) -> Spellings:
    """Return the bytes of a sentencepiece.SentencePieceProcessor."""
    ids = list(range(processor.get_piece_size()))
    reader = reader_of((), None)  # "▁the", "<0xC3>"
    kinds = zip(processor.is_control(ids), processor.is_unknown(ids), strict=True)
    return [
        None if control or unknown else reader.piece(piece)
        for piece, (control, unknown) in zip(processor.id_to_piece(ids), kinds, strict=True)
    ]


def _mapped_bytes(tokenizer: Any) -> Spellings | None:
    """Return the bytes of a tokenizer that holds a mapping from ids to its tokens.

    RWKV's and minbpe's hold bytes; CLIP's and GPT-2's first ones hold byte-level pieces.
    """
    letters = getattr(tokenizer, "byte_decoder", None)
    for name in ("idx2token", "decoder", "vocab"):
        found = getattr(tokenizer, name, None)
        if not (isinstance(found, Mapping) and all(type(key) is int for key in found) and found):
            continue
        values = list(found.values())
        if isinstance(letters, Mapping) and all(isinstance(value, str) for value in values):
            special = set(getattr(tokenizer, "all_special_ids", ()))
            special |= {i for i, piece in found.items() if _SPECIAL.fullmatch(piece) and i >= 256}
            return _piece_bytes({piece: i for i, piece in found.items()}, {}, special, None)
        # dashscope's special tokens are str beside bytes
        if all(isinstance(value, bytes | str) for value in values) and any(
            isinstance(value, bytes) for value in values
        ):
            special = _special_ids(tokenizer)
            spellings: Spellings = [None] * (max(found) + 1)
            for token_id, value in found.items():
                if isinstance(value, bytes) and token_id not in special:
                    spellings[token_id] = value
            return spellings
    return None


def _special_ids(tokenizer: Any) -> set[int]:
    """Return the ids in the attributes that name special tokens."""
    named = (getattr(tokenizer, name, None) for name in ("special_tokens", "_special_tokens"))
    return {
        value
        for mapping in named
        if isinstance(mapping, Mapping)
        for value in mapping.values()
        if isinstance(value, int)
    }


def _wrapped_bytes(tokenizer: Any, depth: int) -> Spellings | None:
    """Return the bytes of the tokenizer that an object holds in one of its attributes.

    None if there is none or several, or if the object decodes its ids differently.
    """
    if depth >= _DEPTH:
        return None
    inside = list(_attributes(tokenizer))
    found = [spellings for one in inside if (spellings := _read(one, depth + 1)) is not None]
    if len(found) == 1 and _decodes_alike(tokenizer, found[0]):
        return found[0]
    return None


def _attributes(tokenizer: Any) -> Iterator[Any]:
    """Yield the distinct attributes that may be tokenizers: objects that encode or decode."""
    seen = set[int]()
    for value in list(getattr(tokenizer, "__dict__", {}).values()):
        if id(value) not in seen and not isinstance(value, type):
            seen.add(id(value))
            if any(callable(getattr(value, name, None)) for name in ("encode", "decode")):
                yield value


def _decodes_alike(tokenizer: Any, spellings: Spellings) -> bool:
    """True unless decode shows other texts: a wrapper may number the ids differently."""
    plain = [i for i, one in enumerate(spellings) if one and one.strip().isalnum()]
    for token_id in plain[:: len(plain) // _PROBES + 1]:
        try:
            text = tokenizer.decode([token_id])
        except Exception:  # another signature, or none: nothing can be compared
            return True
        spelling = spellings[token_id] or b""
        if isinstance(text, str) and text.strip() != spelling.decode().strip():
            return False
    return True


def _piece_bytes(
    vocabulary: Mapping[str, int],
    added: Mapping[int, Any],
    special: set[int],
    backend: Any,
    sp_model: Any = None,
) -> Spellings:
    """Return the bytes of each id, given a vocabulary of written pieces.

    Arguments:
        added: added tokens, by id.
        special: ids of special tokens, beside those that `added` marks.
        backend: the tokenizers.Tokenizer, or None.
        sp_model: the SentencePieceProcessor of a slow tokenizer, or None.
    """
    special = special | {token_id for token_id, token in added.items() if token.special}
    spellings: Spellings = [None] * (max(vocabulary.values(), default=-1) + 1)
    reader = reader_of(
        (
            piece
            for piece, token_id in vocabulary.items()
            # a byte of ByT5 stays one if the user adds its character as a token
            if token_id not in added or (len(piece) == 1 and piece <= "\xff")
        ),
        backend,
    )
    read = reader.piece
    for piece, token_id in vocabulary.items():
        if token_id in special:
            continue
        if token_id in added:
            spellings[token_id] = _written(piece, token_id, reader, added, backend or sp_model)
        else:
            spellings[token_id] = read(piece)
    return spellings


def _written(
    piece: str, token_id: int, reader: Reader, added: Mapping[int, Any], owner: Any
) -> bytes:
    """Return the bytes of a piece or of an added token.

    Gemma's runs of spaces ("▁▁") are added tokens and pieces of the model too. The decoder reads
    them as pieces. `owner` is the tokenizers.Tokenizer or the SentencePieceProcessor.
    """
    if token_id not in added:
        return reader.piece(piece)
    content = str(added[token_id])
    model = getattr(owner, "model", owner)
    find = getattr(model, "token_to_id", None) or getattr(model, "piece_to_id", None)
    if find is not None and find(content) == token_id:
        return reader.piece(content)
    # A token that is searched in the normalized text has the letters of its normalized form ("zoo"
    # for "Zoo" in a lower-case vocabulary). Since version 0.23 the library decodes it so, too.
    normalizer = getattr(owner, "normalizer", None)
    if normalizer is not None and added[token_id].normalized:
        content = normalizer.normalize_str(content)
    return reader.added(content)
