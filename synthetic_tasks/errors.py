"""Errors that a user can cause, and the reader of text files that raises them."""

from __future__ import annotations

from pathlib import Path


class TaskError(ValueError):
    """Words, sizes, files or splits that give no questions; the message says what to change."""


class NoQuestion(TaskError):
    """A split has words, but the task has no question about any of them."""


def read_text(path: Path) -> str:
    """Return a file's text, line ends unchanged. Raises TaskError if it is missing or not UTF-8."""
    try:
        # Bytes, not text mode, which would change line ends; "sig" drops a byte order mark.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#x}. "
            "Convert it: iconv -f latin1 -t utf-8 FILE > NEW"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise TaskError(f"{path} cannot be read ({reason}). Name a text file.") from None
