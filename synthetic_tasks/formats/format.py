"""What a format of the field is: which files of a benchmark it wants, how they become tasks, and how the same
format is made offline from words of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item

from .tables import Rows

Tables = Mapping[
    str, Rows
]  # rows by the name of their file, or of their split: "data/spell.tsv", "spell"


@dataclass(frozen=True)
class File:
    """Files that a format reads. File("*.tsv", table)

    Attributes:
        pattern: a shell pattern for the file's name, without its folders.
        parse: (name, text) -> rows. Raises TaskError, with the name, for a text that holds none.
    """

    pattern: str
    parse: Callable[[str, str], Rows]


@dataclass(frozen=True)
class Format:
    """A benchmark's format.

    FORMATS["cute"].read(FORMATS["cute"].load(Path("CUTE")))[0].name -> "cute/spell"

    Attributes:
        source: paper and repository.
        files: what `load` looks for.
        read: the benchmark's own rows -> its tasks, prompt for prompt and mark for mark. Raises TaskError,
            with the file's name, for rows that are no such benchmark.
        generate: (words, n, seed) -> the same tasks with n items each, about these words, in this project's
            own wording; their names begin with "<format>-like/". Item i is a function of words, seed and i.
            Raises TaskError for words that do not give so many items.
    """

    name: str
    source: str
    files: tuple[File, ...]
    read: Callable[[Tables], list[BenchmarkTask]]
    generate: Callable[[Sequence[str], int, int], list[BenchmarkTask]]

    def load(self, path: Path) -> dict[str, Rows]:
        """The rows of each file that the format wants, in a folder and the folders in it, or in one file.

        Raises TaskError for a path that is none, for a folder without such files, with two of one name, and
        for a file that is not UTF-8 or not what it should be.
        """
        if not path.exists():
            raise TaskError(f"{path} does not exist: name a folder with the files of {self.name}.")
        found: dict[str, Rows] = {}
        paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in paths:
            parse = next((f.parse for f in self.files if fnmatchcase(file.name, f.pattern)), None)
            if parse is not None:
                if file.name in found:
                    raise TaskError(
                        f"{path} holds more than one {file.name}: name the folder of one of them."
                    )
                found[file.name] = parse(str(file), read_text(file))
        if not found:
            wanted = ", ".join(file.pattern for file in self.files)
            raise TaskError(
                f"{path} holds no file of {self.name}: it needs {wanted}. They are in {self.source}."
            )
        return found


def read_text(path: Path) -> str:
    """A file's text, its line ends as they are. Raises TaskError where it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): name another file.") from None


def by_stem(tables: Tables) -> dict[str, tuple[str, Rows]]:
    """{"data/spell.tsv": rows} -> {"spell": ("data/spell.tsv", rows)}.

    Raises TaskError for two of one stem.
    """
    found: dict[str, tuple[str, Rows]] = {}
    for name, rows in tables.items():
        stem = PurePosixPath(name).stem
        if stem in found:
            raise TaskError(
                f"{found[stem][0]} and {name} would be the same task: keep one of them."
            )
        found[stem] = (name, rows)
    return found


def key_of(task: str, *named: str) -> str:
    """An item's key: the task, and what its question names, in the order in which it names it."""
    return "\t".join((task, *named))


def draw_task(
    name: str,
    n: int,
    seed: int,
    draw: Callable[[Random], Item],
    asking: Asking,
    read: Callable[[str], str | None] = read_answer,
    equal: Callable[[str, str], bool] = str.__eq__,
) -> BenchmarkTask:
    """A task of n different drawn items. Raises TaskError where there are fewer."""
    items = distinct_draws(draw, n, name, seed)
    if len(items) < n or not n:
        raise TaskError(
            f"{name} finds {len(items)} different questions in these words, not {n}: pass more words, or ask "
            "for fewer questions (one at least)."
        )
    return BenchmarkTask(name, tuple(items), asking, read, equal)


def lower_case_words(
    format_name: str, words: Sequence[str], least: int, most: int | None = None
) -> list[str]:
    """The words that any of these formats can ask about, each once: `least` letters or more, `most` at most,
    all of them lower-case ASCII. Raises TaskError where fewer than five are left.
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
        raise TaskError(
            f"{format_name} finds {len(usable)} usable words among {len(words)}: pass five or more "
            f"lower-case ASCII words of {f'{least} to {most}' if most else f'at least {least}'} letters."
        )
    return usable
