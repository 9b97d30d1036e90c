"""What can go wrong in the laboratory, and the one place that turns it into a sentence and an exit status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from charembed.errors import CharEmbedError
from synthetic_tasks.errors import TaskError

BROKE, BAD_INPUT, STOPPED = 1, 2, 130


class BadInput(ValueError):
    """What a user can get wrong; the message says what was seen and the way out."""


class Damaged(BadInput):
    """A saved file that is missing, cut short or changed; the message names it and the way out."""


class Broke(Exception):
    """A run that cannot go on; what was saved is kept, and the message says how to go on from there."""


class Interrupted(Exception):
    """Someone asked the run to stop; its state was saved first."""


USER_ERRORS = (BadInput, TaskError, CharEmbedError)


def exit_status(program: Callable[[], int]) -> int:
    """What a program returns; for what it raises, a sentence on standard error and the status that fits.

    2 for bad input, 1 for what broke, 130 for what was stopped. Anything else is a defect of charembed: its
    traceback is printed, and the status is 1.
    """
    try:
        return program()
    except USER_ERRORS as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Broke as error:
        print(error, file=sys.stderr)
        return BROKE
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"Stopped. {error} The same command with --resume goes on from there.", file=sys.stderr)
        return STOPPED
    except Exception:
        traceback.print_exc()
        print(
            "This is a defect of charembed, not of your input: please report the lines above.",
            file=sys.stderr,
        )
        return BROKE
