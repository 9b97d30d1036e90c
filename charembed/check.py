"""Check the letters of a tokenizer: `python -m charembed.check TOKENIZER`.

python -m charembed.check google/gemma-3-270m      # a folder or hub name, read by AutoTokenizer
python -m charembed.check tokenizer.json           # also tekken.json
python -m charembed.check tokenizer.model          # SentencePiece; also a .tiktoken file
python -m charembed.check cl100k_base              # an encoding of tiktoken

For each id, its letters are compared with the tokenizer's own decode of the id between two other
tokens. It prints the number of ids, the ids without letters, the ids that disagree (with both
readings), and the ids that no text produces. 262,144 ids take about 20 seconds.

Exit status: 0 if no id disagrees (also if nothing could be compared, which is printed), 1 if some
disagree, 2 if the tokenizer cannot be loaded, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import SpellingError
from .progress import bar
from .spelling_report import check_spellings

_SUFFIXES = {".json", ".model", ".tiktoken"}  # a name with one of them is a file


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer by the name of a file, a folder, an encoding or a repository.

    load_tokenizer("tokenizer.json")

    Raises SpellingError if there is none, or if the package that reads it is not installed.
    """
    path = Path(name)
    try:
        if path.is_dir():
            return _from_folder(path)
        if path.is_file():
            return _from_file(path)
        if path.suffix in _SUFFIXES:
            raise SpellingError(f"There is no file {name!r}. Check the path.")
        if name in _encodings():
            return _package("tiktoken").get_encoding(name)
        return _package("transformers").AutoTokenizer.from_pretrained(name)
    except SpellingError:
        raise
    except Exception as error:  # any of the libraries'
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpellingError(
            f"{name!r} is no tokenizer that can be loaded ({reason}). Name a folder, a "
            "tokenizer.json, tekken.json, .model or .tiktoken file, an encoding of tiktoken, or a "
            "repository of the hub."
        ) from error


def _from_folder(path: Path) -> Any:
    """Load a folder with transformers, or with the library of the file that it holds."""
    if (path / "tekken.json").exists() and not (path / "tokenizer.json").exists():
        return _from_file(path / "tekken.json")
    if (path / "tokenizer_config.json").exists() or (path / "config.json").exists():
        return _package("transformers").AutoTokenizer.from_pretrained(path)
    for name in ("tokenizer.json", "tokenizer.model"):
        if (path / name).exists():
            return _from_file(path / name)
    raise SpellingError(
        f"The folder {str(path)!r} holds no tokenizer_config.json, tokenizer.json, "
        "tokenizer.model or tekken.json. Name the folder or the file of a tokenizer."
    )


def _from_file(path: Path) -> Any:
    if path.suffix == ".json":
        if {"vocab", "config"} <= json.loads(path.read_text(encoding="utf-8")).keys():
            module = _package("mistral_common.tokens.tokenizers.tekken", "mistral-common")
            return module.Tekkenizer.from_file(path)
        return _package("tokenizers").Tokenizer.from_file(str(path))
    ranks = _ranks(path.read_bytes())
    if ranks is None:
        return _package("sentencepiece").SentencePieceProcessor(model_file=str(path))
    # The file has no pattern. Without one, each text is a single word.
    return _package("tiktoken").Encoding(
        path.name, pat_str=r"(?s:.+)", mergeable_ranks=ranks, special_tokens={}
    )


def _ranks(content: bytes) -> dict[bytes, int] | None:
    """Return the ranks in a file of tiktoken, None if it is another file.

    b"IQ== 0\\nIg== 1\\n" -> {b"!": 0, b'"': 1}
    """
    try:
        pairs = [line.split() for line in content.splitlines() if line]
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except (ValueError, binascii.Error):
        return None


def _encodings() -> list[str]:
    """Return the names of tiktoken's encodings, none without the package."""
    try:
        names: list[str] = importlib.import_module("tiktoken").list_encoding_names()
    except ImportError:
        return []
    return names


def _package(module: str, package: str | None = None) -> Any:
    """Import a library that charembed does not need otherwise."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = package or module
        raise SpellingError(
            f"This tokenizer needs the package {package}. Run pip install {package}."
        ) from None


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are a SpellingError of one line."""

    def error(self, message: str) -> NoReturn:
        shown = " ".join(message.split())
        raise SpellingError(f"{shown}. Run '{self.prog} --help' for the flags.")


def main(argv: Sequence[str] | None = None) -> int:
    """Check the tokenizer that the command line names. Return the exit status."""
    parser = _Parser(
        prog="python -m charembed.check",
        description="Compare the letters of every token id with the tokenizer's own decode.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "tokenizer",
        help="a folder or hub name, a tokenizer.json, tekken.json, .model or .tiktoken file, or "
        "the name of a tiktoken encoding",
    )
    parser.add_argument(
        "--no-texts", action="store_true", help="do not search for ids that no text produces"
    )
    try:
        arguments = parser.parse_args(argv)
        tokenizer = load_tokenizer(arguments.tokenizer)
        with bar("Checking the letters") as advance:
            report = check_spellings(tokenizer, texts=not arguments.no_texts, progress=advance)
    except SpellingError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped before the end of the check.", file=sys.stderr)
        return 130
    print(report)
    return 0 if report.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
