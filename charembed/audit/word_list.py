"""Read a file of words, one a line, with the number of occurrences after a tab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from charembed.errors import SpellingError

_COUNT = re.compile("[0-9]{1,15}")
_ENDS_IN_NUMBER = re.compile(r".*\S[ ,;][0-9]+")


class WordList(NamedTuple):
    """The words of a file.

    Attributes:
        counts: occurrences of each word, in the order of the file. Without counts in the file, the
            number of lines that hold the word.
        notes: sentences about the lines that were skipped or merged.
    """

    counts: dict[str, int]
    notes: list[str]


def read_words(path: Path) -> WordList:
    """Read words: "ibuprofen\\t12\\naspirin\\t7\\n" -> {"ibuprofen": 12, "aspirin": 7}

    Empty lines are skipped. The counts of a word that occurs on several lines are added.

    Raises SpellingError if there is no such file, if it holds no word or no UTF-8, and if a count
    is no whole number.
    """
    counts = dict[str, int]()
    empty = repeated = like_counts = 0
    counted = None  # whether the first word has a count
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            empty += 1
            continue
        word, *columns = (column.strip() for column in line.split("\t"))
        where = f"Line {number} of {str(path)!r}"
        if counted is None:
            counted = bool(columns)
        _check_columns(word, columns, counted, where)
        like_counts += _ENDS_IN_NUMBER.fullmatch(line) is not None
        repeated += word in counts
        counts[word] = counts.get(word, 0) + (int(columns[0]) if columns else 1)
    if not counts:
        raise SpellingError(f"The file {str(path)!r} holds no word. Write one word a line.")
    notes = []
    if empty:
        notes.append(f"{empty} empty lines of {str(path)!r} were skipped.")
    if repeated:
        notes.append(f"{repeated} lines repeat a word; their counts were added.")
    if not counted and like_counts == len(counts) + repeated:
        notes.append(
            "Every line ends in a number, which was read as a part of the word. If the numbers are "
            "counts, put a tab before them."
        )
    return WordList(counts, notes)


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpellingError(f"There is no file {str(path)!r}. Check the path.") from None
    except OSError as error:
        raise SpellingError(
            f"{str(path)!r} cannot be read ({error.strerror}). Name a text file with one word a line."
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpellingError(
            f"Line {line} of {str(path)!r} is no UTF-8 (byte {content[error.start]:#04x}). Save the "
            "words as UTF-8 text."
        ) from None
    # not splitlines, which also splits at characters that a word may hold, such as U+2028
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _check_columns(word: str, columns: list[str], counted: bool, where: str) -> None:
    if len(columns) > 1:
        raise SpellingError(
            f"{where} has {len(columns) + 1} columns. Write a word, or a word, a tab and its count."
        )
    if not word:
        raise SpellingError(f"{where} has the count {columns[0]!r}, but no word. Remove the line.")
    if bool(columns) != counted:
        raise SpellingError(
            f"{where} has {'a' if columns else 'no'} count ({word!r}), unlike the lines before it. "
            "Give all words a count, or none."
        )
    if columns and not _COUNT.fullmatch(columns[0]):
        raise SpellingError(
            f"{where} has the count {columns[0]!r}; it must be a whole number of 0 or more, such as "
            "12. Correct it, or remove the line if it is a heading."
        )
