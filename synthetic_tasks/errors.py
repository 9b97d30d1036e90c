"""Errors that a user can cause, and the reader of text files that raises them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

# Byte order marks and their encodings. UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SAVE = "Save it as UTF-8 again."


class TaskError(ValueError):
    """Words, sizes, files or splits that give no questions; the message says what to change."""


class NoQuestion(TaskError):
    """A split has words, but the task has no question about any of them."""


def byte_order_mark(content: bytes) -> tuple[bytes, str]:
    """Return the byte order mark at the start of a file, and the encoding of the rest.

    b"\\xff\\xfea\\0" -> (b"\\xff\\xfe", "utf-16-le"); b"abc" -> (b"", "utf-8")
    """
    mark = next((one for one in _MARKS if content.startswith(one)), b"")
    return mark, _MARKS.get(mark, "utf-8")


def decode_text(content: bytes) -> str:
    """Decode a file: UTF-8, or UTF-16 or UTF-32 if it begins with their byte order mark.

    b"\\xff\\xfea\\0" -> "a"

    The mark is dropped, and line ends are unchanged. Raises ValueError whose message follows the
    name of the file: "is not UTF-8: ...".
    """
    mark, encoding = byte_order_mark(content)
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if not mark:
            raise ValueError(
                f"is not UTF-8: byte {error.start} is {content[error.start]:#x}. Convert it: "
                "iconv -f latin1 -t utf-8 FILE > NEW"
            ) from None
        place = len(mark) + error.start
        raise ValueError(
            f"begins with the mark of {encoding.upper()}, but its bytes from {place} on are not. "
            f"{_SAVE}"
        ) from None
    # Windows writes UTF-16, in which every second byte of English text is 0; so does no text.
    if text.count("\0") > len(text) // 4:
        raise ValueError(f"holds {text.count(chr(0))} null characters, as UTF-16 does. {_SAVE}")
    return text


def read_text(path: Path) -> str:
    """Return a file's text, line ends unchanged. Raises TaskError if it is missing or not UTF-8."""
    try:
        if path.is_char_device() and str(path) != os.devnull:  # /dev/zero has no end
            raise ValueError("it is a device")
        # Bytes, not text mode, which would change line ends.
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise TaskError(f"{path} cannot be read ({reason}). Name a text file.") from None
    try:
        return decode_text(content)
    except ValueError as error:
        raise TaskError(f"{path} {error}") from None
