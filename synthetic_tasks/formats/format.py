"""The interface of a benchmark format: load its files, read its tasks, or imitate them offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from random import Random

from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item

from .benchmark import BenchmarkTask, PromptFormat
from .tables import Rows

# Rows by the name of their file or of their split: "data/spell.tsv", "spell".
Tables = Mapping[str, Rows]


@dataclass(frozen=True)
class File:
    """Files that a format reads: File("*.tsv", table).

    Attributes:
        pattern: shell pattern of the file name, without folders.
        parse: (name, text) -> rows. Raises TaskError, with the name, if the text has none.
    """

    pattern: str
    parse: Callable[[str, str], Rows]


@dataclass(frozen=True)
class Format:
    """The format of a benchmark.

    FORMATS["cute"].read(FORMATS["cute"].load(Path("CUTE")))[0].name -> "cute/spell"

    Attributes:
        source: paper and repository.
        files: the files that `load` looks for.
        read: turns the benchmark's rows into tasks with the authors' prompts and scoring. Raises
            TaskError, with the name of the file, if the rows do not belong to the benchmark.
        generate: (words, n, seed) -> an imitation: the same tasks with n items each, about these
            words and in this project's wording; their names begin with "<format>-like/". Item i
            depends on the words, the seed and i alone. Raises TaskError if the words give fewer
            items.
    """

    name: str
    source: str
    files: tuple[File, ...]
    read: Callable[[Tables], list[BenchmarkTask]]
    generate: Callable[[Sequence[str], int, int], list[BenchmarkTask]]

    def load(self, path: Path) -> dict[str, Rows]:
        """Read the format's files from a folder and its subfolders, or from one file.

        Raises TaskError if the path does not exist or has no such file, if two files have the same
        name, or if a file is damaged.
        """
        if not path.exists():
            raise TaskError(f"{path} does not exist. Name a folder with the files of {self.name}.")
        found: dict[str, Rows] = {}
        paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in paths:
            # The first pattern that fits; fnmatchcase ignores the system's rules for case.
            parse = next((f.parse for f in self.files if fnmatchcase(file.name, f.pattern)), None)
            if parse is not None:
                # Tables are found by name, so a second one would replace the first.
                if file.name in found:
                    raise TaskError(
                        f"{path} has more than one {file.name}. Name the folder of one of them."
                    )
                found[file.name] = parse(str(file), _read_text(file))
        if not found:
            wanted = ", ".join(file.pattern for file in self.files)
            raise TaskError(
                f"{path} has no file of {self.name}. "
                f"Name a folder with {wanted}, from {self.source}."
            )
        return found


def _read_text(path: Path) -> str:
    try:
        # Bytes, not text mode, which would change line ends; "sig" drops a byte order mark.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}). Name another file.") from None


def by_stem(tables: Tables) -> dict[str, tuple[str, Rows]]:
    """Index tables by stem: {"data/spell.tsv": rows} -> {"spell": ("data/spell.tsv", rows)}.

    Raises TaskError if two names have the same stem.
    """
    found: dict[str, tuple[str, Rows]] = {}
    for name, rows in tables.items():
        stem = PurePosixPath(name).stem
        if stem in found:
            raise TaskError(f"{found[stem][0]} and {name} are the same task. Keep one of them.")
        found[stem] = (name, rows)
    return found


def key_of(task: str, *arguments: str) -> str:
    """Join an item's key: the task and the arguments of the question in their order."""
    return "\t".join((task, *arguments))


def tasks_of(
    items: Mapping[str, Sequence[Item]],
    prompt_format: PromptFormat,
    read: Callable[[str], str | None] = read_answer,
    equal: Callable[[str, str], bool] = str.__eq__,
) -> list[BenchmarkTask]:
    """Build a task for each name with at least one item."""
    return [
        BenchmarkTask(name, tuple(members), prompt_format, read, equal)
        for name, members in items.items()
        if members
    ]


def draw_items(name: str, n: int, seed: int, draw: Callable[[Random], Item]) -> list[Item]:
    """Draw n different items. Raises TaskError if there are fewer."""
    items = distinct_draws(draw, n, name, seed)
    if len(items) < n or not n:  # a task without items could not be scored
        raise TaskError(
            f"{name} finds {len(items)} different questions in these words, and needs {n}. "
            "Pass more words, or draw fewer questions (at least one)."
        )
    return items


def lower_case_words(
    format_name: str, words: Sequence[str], least: int, most: int | None = None
) -> list[str]:
    """Return the lower-case ASCII words of `least` to `most` letters, each once.

    Raises TaskError if fewer than five are left.
    """
    usable = [
        word
        for word in dict.fromkeys(words)
        if least <= len(word) <= (most or len(word))
        and word.isascii()
        and word.isalpha()
        and word.islower()
    ]
    if len(usable) < 5:
        lengths = f"{least} to {most}" if most else f"at least {least}"
        raise TaskError(
            f"{format_name} finds {len(usable)} usable words among {len(words)}. "
            f"Pass five or more lower-case ASCII words of {lengths} letters."
        )
    return usable
