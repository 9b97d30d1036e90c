"""Audit your own words: `python -m charembed.audit MODEL words.txt`.

python -m charembed.audit base words.txt                      # a folder or hub name of a model
python -m charembed.audit base words.txt --json audit.json    # all words, with more columns
python -m charembed.audit base words.txt --spell              # also ask the model to spell them
python -m charembed.audit base words.txt --apply 100 --out base-with-words

The file holds one word a line, and its number of occurrences after a tab if you have it. The table
shows for each word its tokens, the tokens saved if it became one token (times its count), the share
of its letters that can be read from the rows of its tokens, and the parameters of a new token. The
word that saves most is the first. 100,000 words take about half a minute of a core.

--apply N adds the best N words with charembed.add_tokens and saves model and tokenizer in a new
folder; the rows of the new tokens are predicted, not trained.

Exit status: 0, 2 if the words or the model cannot be used, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from charembed.attach import detach
from charembed.checkpoint import load, save
from charembed.errors import CharEmbedError, SpellingError
from charembed.files import is_left_over, temporary_name, write_atomically
from charembed.new_tokens import add_tokens
from charembed.progress import terminal

from .asking import FEW_SHOT, check_prompt
from .report import Audit
from .word_list import read_words
from .words import audit

_ROWS = 40  # rows that are printed
_ENCODER = "characters"  # folder of the character encoder inside a saved model's


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are a SpellingError of one line."""

    def error(self, message: str) -> NoReturn:
        shown = " ".join(message.split())
        raise SpellingError(f"{shown}. Run '{self.prog} --help' for the flags.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m charembed.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="folder or hub name of a causal model of transformers")
    parser.add_argument("words", type=Path, help="text file: a word a line, its count after a tab")
    parser.add_argument(
        "--encoder", metavar="FOLDER", help="a saved character encoder, attached to the model first"
    )
    parser.add_argument(
        "--no-space",
        action="store_true",
        help="read the words without a space before them; by default as within a sentence",
    )
    parser.add_argument(
        "--spell",
        nargs="?",
        const=FEW_SHOT,
        default=False,
        metavar="PROMPT",
        help="ask the model to spell the words of the table. Without PROMPT, after four examples; "
        "PROMPT has {word} in the place of the word. Default: it is not asked",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=_ROWS,
        metavar="N",
        help=f"rows of the table; default {_ROWS}. The JSON file has all words",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows to a JSON file")
    parser.add_argument(
        "--apply", type=int, metavar="N", help="add the first N words as tokens, and save to --out"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder for --apply")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Raise SpellingError for flags that do not fit, before anything is loaded."""
    check_prompt(arguments.spell)
    if arguments.rows < 1:
        raise SpellingError(f"--rows is {arguments.rows}; it must be 1 or more.")
    if arguments.json is not None and arguments.json.is_dir():
        raise SpellingError(f"--json {str(arguments.json)!r} is a folder. Name a file.")
    if (arguments.apply is None) != (arguments.out is None):
        given, missing = ("--out", "--apply N") if arguments.apply is None else ("--apply", "--out")
        raise SpellingError(f"{given} needs {missing} as well. Give both, or none.")
    if arguments.out is None:
        return
    if arguments.apply < 1:
        raise SpellingError(f"--apply is {arguments.apply}; it must be 1 or more.")
    if os.path.lexists(arguments.out):
        raise SpellingError(f"--out {str(arguments.out)!r} exists. Name a folder that does not.")
    parent = arguments.out.absolute().parent
    if not parent.is_dir():
        raise SpellingError(f"--out needs the folder {str(parent)!r}. Create it first.")


def _load(name: str, encoder: str | None) -> tuple[Any, Any]:
    """Load a causal model of transformers and its tokenizer.

    Raises CharEmbedError if there is none, or if the package is missing.
    """
    # Imported here: it takes seconds, and charembed needs it nowhere else.
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise CharEmbedError(
            "The command needs the package transformers. Run pip install transformers."
        ) from None
    if not terminal():
        transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        # its own dtype, so that --apply saves the weights as they were
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype="auto", output_loading_info=True
        )
    except Exception as error:  # any of the library's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CharEmbedError(
            f"{name!r} is no causal model with a tokenizer that transformers can load ({reason}). "
            "Name a folder that save_pretrained wrote, or a repository of the hub."
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise CharEmbedError(
            f"{name!r} has no weights for {missing[0]!r} ({len(missing)} are missing), so they are "
            "random. Name a complete causal model."
        )
    if encoder is not None:
        load(model, tokenizer, encoder)
    return model.eval(), tokenizer


def _save(model: Any, tokenizer: Any, folder: Path, *, encoder: bool) -> None:
    """Save model and tokenizer in a new folder, which is complete or absent."""
    for name in folder.absolute().parent.glob(f".{folder.name}.*.part"):
        if is_left_over(name):
            shutil.rmtree(name, ignore_errors=True)
    unfinished = temporary_name(folder.absolute())
    unfinished.mkdir()
    try:
        if encoder:
            save(model, unfinished / _ENCODER)
            detach(model)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        mode = (unfinished / "config.json").stat().st_mode
        for path in unfinished.rglob("*"):
            if path.is_file():
                path.chmod(mode)  # safetensors 0.8 makes files that only their owner can read
            _sync(path)
        unfinished.rename(folder)
        _sync(folder.absolute().parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def _run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    words = read_words(arguments.words)
    for note in words.notes:
        print(note, file=sys.stderr)
    model, tokenizer = _load(arguments.model, arguments.encoder)
    report = audit(
        model,
        tokenizer,
        words.counts,
        space=not arguments.no_space,
        spell=arguments.spell,
        spell_at_most=arguments.rows,
    )
    new = list[str]()
    if arguments.apply is not None:
        _check_number(report, arguments.apply)
        new = report.best(arguments.apply)
        # before anything is written, because it may refuse a word
        add_tokens(model, tokenizer, new, space=not arguments.no_space)
    print(report.table(arguments.rows))
    if arguments.json is not None:
        found = {"model": arguments.model, "space": not arguments.no_space} | report.to_dict()
        content = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        with _written("--json", arguments.json):
            write_atomically(arguments.json, content)
    if new:
        with _written("--out", arguments.out):
            _save(model, tokenizer, arguments.out, encoder=arguments.encoder is not None)
        print(
            f"Saved {str(arguments.out)!r} with {len(new):,} new tokens: the model grew by "
            f"{report.new_parameters(len(new)):,} parameters."
        )


def _check_number(report: Audit, number: int) -> None:
    useful = sum(one.saved > 0 for one in report.words)
    if number > useful:
        raise SpellingError(
            f"--apply is {number}, but only {useful} of the {len(report.words)} words would save "
            f"tokens. Use at most {useful}."
        )


@contextmanager
def _written(flag: str, path: Path) -> Iterator[None]:
    """Raise CharEmbedError for an error of the file system."""
    try:
        yield
    except OSError as error:
        raise CharEmbedError(
            f"{flag} {str(path)!r} cannot be written ({error.strerror or error}). Name another place."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Audit the words of a file. Return the exit status."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal without UTF-8 shows escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(_parser().parse_args(argv))
        sys.stdout.flush()
    except CharEmbedError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of standard output has ended, as `| head` does
        # Python flushes the stream once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("Stopped; no model was saved.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
