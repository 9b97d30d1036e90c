"""The result of an audit: a row for each word, a table for the terminal, and JSON."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from charembed.arguments import check_int
from charembed.errors import SpellingError

from .asking import Answer

_WIDEST = {"word": 32, "pieces": 72}  # columns of a terminal
_NUMBERS = {"count", "tokens", "saved", "letters", "parameters"}


@dataclass(frozen=True, kw_only=True)
class AuditedWord:
    """A word and its tokens.

    Attributes:
        word: the word as it is written.
        count: its occurrences.
        pieces: the texts of its tokens.
        is_token: True if it is one token already.
        row_parameters: parameters of one row in each table.
        letters: the letters that were read from the rows of its tokens, with | between tokens; None
            if the vocabulary is too small for a fit.
        letters_right: share of the word's letters that were read rightly.
        answer: the first line of the model's answer, None if it was not asked.
        spelled: True if the answer spells the word, None if the model was not asked.
    """

    word: str
    count: int
    pieces: tuple[str, ...]
    is_token: bool
    row_parameters: int
    letters: str | None
    letters_right: float | None
    answer: str | None = None
    spelled: bool | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.pieces)

    @property
    def saved(self) -> int:
        """Tokens that one token for the word saves in all its occurrences."""
        return max(len(self.pieces) - 1, 0) * self.count

    @property
    def parameters(self) -> int:
        """Parameters of the word as one token: its rows; 0 if it is one already."""
        return 0 if self.is_token else self.row_parameters

    def answered(self, answer: Answer | None) -> AuditedWord:
        if answer is None:
            return self
        return dataclasses.replace(self, answer=answer.text, spelled=answer.right)

    def to_dict(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "count": self.count,
            "pieces": list(self.pieces),
            "num_tokens": self.num_tokens,
            "is_token": self.is_token,
            "saved": self.saved,
            "parameters": self.parameters,
            "letters": self.letters,
            "letters_right": self.letters_right,
            "answer": self.answer,
            "spelled": self.spelled,
        }


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of `charembed.audit`. `str(report)` is a table of all words.

    Attributes:
        words: the words, the one that saves most tokens first.
        row_parameters: parameters of one token: its row of the embedding, of a separate head, and
            of the head's bias.
        spare_rows: rows of the embedding without a token. `add_tokens` uses them first.
        vocabulary_letters: share of right letters that is read from the rows of the vocabulary.
        baseline_letters: the same, if the most frequent letter of each place is the answer.
        prompt: the prompt if the model was asked, otherwise None.
    """

    words: tuple[AuditedWord, ...]
    row_parameters: int
    spare_rows: int
    vocabulary_letters: float | None
    baseline_letters: float | None
    prompt: str | None

    def best(self, number: int) -> list[str]:
        """Return the words that save most tokens, for `add_tokens`.

        Raises SpellingError if fewer words save any.
        """
        check_int("number", number, 0, SpellingError)
        useful = [one.word for one in self.words if one.saved]
        if number > len(useful):
            raise SpellingError(
                f"number is {number}, but only {len(useful)} of the {len(self.words)} words would "
                f"save tokens. Use at most {len(useful)}."
            )
        return useful[:number]

    def new_parameters(self, number: int) -> int:
        """Return the parameters by which the model grows with so many new tokens."""
        return max(number - self.spare_rows, 0) * self.row_parameters

    def to_dict(self) -> dict[str, Any]:
        """Return everything as objects of JSON."""
        others = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "words"
        }
        return others | {"words": [one.to_dict() for one in self.words]}

    def table(self, rows: int | None = None) -> str:
        """Return the first rows as an aligned table, all by default, with the sums below."""
        shown = self.words[:rows]
        lines = [_cells(one) for one in shown]
        columns = [name for name in lines[0] if any(line[name] for line in lines)] if lines else []
        cells = [columns, *([line[name] for name in columns] for line in lines)]
        text = "\n".join(_aligned(cells, [name in _NUMBERS for name in columns]))
        return "\n".join(filter(None, [text, *self._sums(len(shown))]))

    def __str__(self) -> str:
        return self.table()

    def _sums(self, shown: int) -> Iterable[str]:
        if left := len(self.words) - shown:
            yield f"... {left:,} more words"
        several = [one for one in self.words if one.saved]
        tokens = sum(one.is_token for one in self.words)
        yield (
            f"{len(self.words):,} words, {tokens:,} of them one token already. {len(several):,} as "
            f"tokens would save {sum(one.saved for one in several):,} tokens and cost "
            f"{self.new_parameters(len(several)):,} parameters"
            + (f" ({self.spare_rows:,} rows are spare)." if self.spare_rows > 0 else ".")
        )
        if self.vocabulary_letters is not None and self.baseline_letters is not None:
            yield (
                "letters: share read from the rows of the tokens by a linear map that was fitted to "
                f"other tokens; in the vocabulary {self.vocabulary_letters:.2f}, by the most "
                f"frequent letters {self.baseline_letters:.2f}."
            )
        else:
            yield "letters: not read, because the vocabulary has fewer than 100 different texts."
        asked = [one for one in self.words if one.spelled is not None]
        if self.prompt is not None:
            yield f"spelled: {sum(map(_spelled, asked)):,} of {len(asked):,} asked, by greedy answers."


def _spelled(one: AuditedWord) -> bool:
    return bool(one.spelled)


def _cells(one: AuditedWord) -> dict[str, str]:
    """Return the cells of a row; a column that is empty in all rows is left out."""
    return {
        "word": _cut(_visible(one.word), _WIDEST["word"]),
        "count": f"{one.count:,}",
        "tokens": f"{one.num_tokens}",
        "saved": f"{one.saved:,}",
        "letters": "" if one.letters_right is None else f"{one.letters_right:.2f}",
        "spelled": "" if one.spelled is None else ("yes" if one.spelled else "no"),
        "parameters": f"{one.parameters:,}",
        "pieces": _cut(
            " ".join(_visible(piece).replace(" ", "·") for piece in one.pieces), _WIDEST["pieces"]
        ),
    }


def _aligned(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool]) -> list[str]:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = []
        for cell, width, right in zip(row, widths, to_the_right, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if right else cell + space)
        lines.append("  ".join(padded).rstrip())
    return lines


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return text + "…"


def _visible(text: str) -> str:
    """Return a text whose control characters are escapes, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
