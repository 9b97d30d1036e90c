"""The errors of the laboratory, and a function that turns any error into a message and a status.

Standard library only at import: this module is imported before torch, which takes seconds.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BROKE, BAD_INPUT, STOPPED = 1, 2, 130  # exit statuses; 130 is the shell's for Ctrl-C


class BadInput(ValueError):
    """An error that a user can correct. The message holds the value and the way out."""


class Damaged(BadInput):
    """A saved file that is missing, cut short or changed. The message names it and the way out."""


class Broke(Exception):
    """A run that cannot go on. Saved files are kept; the message says how to go on from them."""


class Interrupted(Exception):
    """The user stopped the run. Its state was saved first.

    Attributes:
        others_tell: all processes of the run stop together, and another one prints the sentence.
    """

    def __init__(self, *words: str, others_tell: bool = False) -> None:
        super().__init__(*words)
        self.others_tell = others_tell


def stopped(record: Path | None) -> Interrupted | KeyboardInterrupt:
    """Return the error for a Ctrl-C: Interrupted if `record`, which --resume needs, is written."""
    there = record is not None and record.is_file()
    return Interrupted() if there else KeyboardInterrupt("Nothing had begun.")


def user_errors() -> tuple[type[Exception], ...]:
    """Return the classes of the errors that a user can correct."""
    # Not imported: charembed imports torch, which takes seconds. The module of an error that was
    # raised is loaded.
    others = ("synthetic_tasks.errors", "TaskError"), ("charembed.errors", "CharEmbedError")
    loaded = [getattr(sys.modules[name], kind) for name, kind in others if name in sys.modules]
    return BadInput, *loaded


# A machine may lack or forbid these at any time. Every other OSError is a defect of the program.
_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.EFBIG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip


def sentence(error: Exception) -> str | None:
    """Return the message to show for an error; None if the error is a defect of charembed."""
    if isinstance(error, (Broke, *user_errors())):
        return str(error)
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return (
            f"{error.filename or 'A file'} could not be written or read ({error.strerror}); "
            "nothing that was saved is lost. Correct this and start again (training.compare with "
            "--resume)."
        )
    if lost := lost_process(error):
        return (
            f"Another process of this run has ended or cannot be reached ({lost}), so this one ends "
            "too; nothing that was saved is lost. Correct the cause, which that process may have "
            "printed, and start again (training.compare with --resume)."
        )
    torch = sys.modules.get("torch")  # not loaded: the error is none of torch's
    if isinstance(error, (MemoryError, *([torch.OutOfMemoryError] if torch else []))):
        seen = (str(error) or "none left").splitlines()[0]
        return (
            f"There was not enough memory ({seen}); nothing that was saved is lost. Use --jobs 1, "
            "smaller batches or a smaller model."
        )
    return None


def lost_process(error: Exception) -> str:
    """Return the reason why processes cannot exchange tensors; "" if this is another error."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return ""
    # NCCL's errors have a class of their own, gloo's only have its name in their text
    if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
        return ""
    # "[.../pair.cc:553] Connection closed by peer [127.0.0.1]:63152. This is ..."
    known = re.search(r"[Cc]onnection \w+( \w+)*|[Tt]im(ed out|eout)( \w+)*", str(error))
    return known[0] if known else type(error).__name__


def tell(text: str) -> None:
    """Print to standard error. Do nothing if it is closed, as after the terminal has gone."""
    with suppress(OSError, ValueError):  # ValueError: the file object is closed
        print(text, file=sys.stderr, flush=True)


def exit_status(program: Callable[[], int]) -> int:
    """Run a program. Return its status, or print its error and return the status of that.

    2 for bad input, 1 for a run that broke or a closed pipe, 130 for a stopped run. Any other error
    is a defect of charembed: print its traceback and return 1.
    """
    try:
        return program()
    except (Interrupted, KeyboardInterrupt) as error:
        goes_on = "The same command with --resume goes on from there."
        words = ["Stopped.", str(error), goes_on if isinstance(error, Interrupted) else ""]
        tell(" ".join(filter(None, words)))
        return STOPPED
    except BrokenPipeError:  # the reader of standard output has ended, as `| head` does
        with open(os.devnull, "w") as nowhere:
            # Python flushes standard output at exit, which would raise again.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return BROKE
    except Exception as error:
        if (message := sentence(error)) is None:
            # The traceback first, so that the last line is the one to read.
            tell(traceback.format_exc().rstrip())
            message = (
                "This is a defect of charembed, not of your input. Please report the lines above."
            )
        tell(message)
        return BAD_INPUT if isinstance(error, user_errors()) else BROKE
