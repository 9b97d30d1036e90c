"""What can go wrong in the laboratory, and the one place that turns it into a sentence and an exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

BROKE, BAD_INPUT, STOPPED = 1, 2, 130  # exit statuses


class BadInput(ValueError):
    """What a user can get wrong; the message says what was seen and the way out."""


class Damaged(BadInput):
    """A saved file that is missing, cut short or changed; the message names it and the way out."""


class Broke(Exception):
    """A run that cannot go on; what was saved is kept, and the message says how to go on from there."""


class Interrupted(Exception):
    """The user asked the run to stop. Its state was saved first."""


def user_errors() -> tuple[type[Exception], ...]:
    """Return the classes of the errors that a user can correct."""
    # Imported here: charembed imports torch, and this module is imported before anything slow.
    from charembed.errors import CharEmbedError
    from synthetic_tasks.errors import TaskError

    return BadInput, TaskError, CharEmbedError


# What a machine may lack or forbid at any time; no other error of the operating system is expected.
MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.EFBIG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip


def sentence(error: Exception) -> str | None:
    """What to tell the user about an error; None for a defect of charembed."""
    if isinstance(error, (Broke, *user_errors())):
        return str(error)
    if isinstance(error, OSError) and error.errno in MACHINE:
        return (
            f"{error.filename or 'A file'} could not be written or read ({error.strerror}); nothing that was "
            "saved is lost: mend that, and start again (training.compare goes on with --resume)."
        )
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return (
            f"There was not enough memory ({(str(error) or 'none left').splitlines()[0]}); nothing that was "
            "saved is lost: take --jobs 1, smaller batches or a smaller model."
        )
    return None


def tell(text: str) -> None:
    """Write to standard error, if it is still there: the terminal may have been closed."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def exit_status(program: Callable[[], int]) -> int:
    """What a program returns; for what it raises, a sentence on standard error and the status that fits.

    2 for bad input, 1 for what broke or was no longer read, 130 for what was stopped. Anything else is a
    defect of charembed: its traceback is printed, and the status is 1.
    """
    try:
        return program()
    except (Interrupted, KeyboardInterrupt) as error:
        goes_on = "The same command with --resume goes on from there."
        words = ["Stopped.", str(error), goes_on if isinstance(error, Interrupted) else ""]
        tell(" ".join(filter(None, words)))
        return STOPPED
    except BrokenPipeError:  # who read standard output has gone, as `| head` goes
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # for what is still to be flushed
        return BROKE
    except Exception as error:
        if (told := sentence(error)) is None:
            tell(traceback.format_exc().rstrip())
            told = (
                "This is a defect of charembed, not of your input: please report the lines above."
            )
        tell(told)
        return BAD_INPUT if isinstance(error, user_errors()) else BROKE
