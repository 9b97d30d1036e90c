"""Encode pieces of text in a process of its own: python -m training.data.encode

`crew.py` starts it. Standard input: a line of JSON that describes the tokenizer, then batches, each
a line of JSON: a list of pieces of text, and null for the end of a document. Standard output: for
each batch the number of its ids in 8 bytes, and the ids, int32. At the end of standard input the
process ends, so it never outlives its parent.

This module must not import torch or numpy, which take seconds and memory in each process.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any

Pieces = Sequence[str | None]
Encode = Callable[[Pieces], "array[int]"]  # ids of 32 bits
_AHEAD = 2  # batches that are read while one is encoded


def encode_tiktoken(encoding: Any, pieces: Pieces) -> array[int]:
    """The ids of pieces of text under a tiktoken.Encoding, which has no end token."""
    ids = array("i")
    for piece in filter(None, pieces):
        # encode_to_numpy makes no list, and takes 1.6 times as long: it looks for special tokens
        ids.extend(encoding.encode_ordinary(piece))
    return ids


def encode_fast(tokenizer: Any, end: int | None, pieces: Pieces) -> array[int]:
    """The ids of pieces of text under a tokenizers.Tokenizer, with `end` for each None."""
    texts = [piece for piece in pieces if piece is not None]
    # without the offsets of the tokens, which nothing here reads
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    ids = array("i")
    for piece in pieces:
        if piece is not None:
            ids.extend(next(encoded).ids)
        elif end is not None:
            ids.append(end)
    return ids


def encoder(recipe: dict[str, Any]) -> Encode:
    """Make the function of a tokenizer from its description: see `Tokenizer.recipe`."""
    if recipe["kind"] == "tiktoken":
        import tiktoken

        ranks = {bytes.fromhex(each): rank for rank, each in enumerate(recipe["spellings"])}
        encoding = tiktoken.Encoding(
            recipe["name"], pat_str=recipe["pattern"], mergeable_ranks=ranks, special_tokens={}
        )
        return lambda pieces: encode_tiktoken(encoding, pieces)
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(recipe["tokenizer"])
    return lambda pieces: encode_fast(tokenizer, recipe["end"], pieces)


def main() -> int:
    """Encode the batches of standard input until it ends."""
    lines: queue.Queue[bytes] = queue.Queue(_AHEAD)

    def read() -> None:
        while line := sys.stdin.buffer.readline():
            lines.put(line)
        lines.put(b"")

    encode = encoder(json.loads(sys.stdin.buffer.readline()))
    # a thread reads ahead: the parent never waits for this process to take a batch
    threading.Thread(target=read, daemon=True).start()
    while line := lines.get():
        ids = encode(json.loads(line))
        sys.stdout.buffer.write(len(ids).to_bytes(8, "little") + ids.tobytes())
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
