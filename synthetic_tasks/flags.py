"""Flags of a command whose errors are one sentence, and its exit status.

parser = Parser("python -m synthetic_tasks", "The manual.")
exit_status(lambda: print(parser.parse_args(argv)))     # 2 after a wrong flag
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from .errors import TaskError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are `failure`; its help keeps the lines of the manual."""

    failure: type[ValueError] = TaskError

    def __init__(self, prog: str, manual: str | None = None, **more: Any) -> None:
        # no abbreviations: a flag that is added later would change what they mean
        super().__init__(
            prog, description=manual, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **more,
        )  # fmt: skip
        self.register("type", int, whole_number)
        self.register("type", Path, path_of)

    def error(self, message: str) -> NoReturn:
        """Raise `failure`; its message is one line, also if a value has several."""
        shown = " ".join(message.split())
        raise self.failure(f"{shown}. Run '{self.prog} --help' for the flags.")


def whole_number(text: str) -> int:
    """Convert the text of a flag: "12" -> 12. Raises ArgumentTypeError."""
    try:
        return int(text)
    except ValueError:  # also for more digits than Python converts
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None


def path_of(text: str) -> Path:
    """Convert the text of a flag to a path. Raises ArgumentTypeError for an empty one."""
    if not text.strip():  # Path("") would be the present folder
        raise argparse.ArgumentTypeError("an empty name is no file or folder")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} holds a null byte")
    return Path(text)


def exit_status(program: Callable[[], None]) -> int:
    """Run a program. Returns 0, or prints the error: 2 for a user's, 130 for Ctrl-C, 1 for a pipe."""
    try:
        program()
        sys.stdout.flush()  # here, so that a closed pipe is noticed
    except (TaskError, UnicodeEncodeError) as error:  # a terminal without Unicode
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of standard output has ended, as `| head` does
        with open(os.devnull, "w") as nowhere:
            # Python flushes standard output at exit, which would raise again.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = error.filename or "Standard output"
        print(f"{place} cannot be used ({error.strerror}). Name another one.", file=sys.stderr)
        return 2
    return 0
