"""Word splits as a file: the four lists, the held-out pieces, and the hash that results name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .errors import TaskError
from .words import SPLITS, WordSplits


def fingerprint(splits: WordSplits) -> str:
    """SHA-256 of the four lists, as a run's config.json names it: splits_sha256."""
    return hashlib.sha256(json.dumps([splits[name] for name in SPLITS]).encode()).hexdigest()


def save_splits(path: Path, splits: WordSplits) -> None:
    """Write splits as JSON; a held-out piece of a token is written byte by byte as Latin-1."""
    record: dict[str, object] = {name: splits[name] for name in SPLITS}
    held_out = sorted(piece.decode("latin-1") for piece in splits.held_out)
    record = {"sha256": fingerprint(splits), **record, "held_out": held_out}
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def load_splits(path: Path) -> WordSplits:
    """What `save_splits` wrote. Raises TaskError for a file that is missing, damaged, or changed by hand."""
    try:
        record = json.loads(path.read_text("utf-8"))
        lists = {name: tuple(map(str, record[name])) for name in SPLITS}
        held_out = frozenset(piece.encode("latin-1") for piece in record["held_out"])
        splits, said = WordSplits(**lists, held_out=held_out), record["sha256"]
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror}): name a file of splits."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TaskError(
            f"{path} is no file of splits: write one with saved_splits.save_splits."
        ) from None
    if fingerprint(splits) != said:
        raise TaskError(f"{path} does not hold the lists that its hash names: write it anew.")
    return splits
