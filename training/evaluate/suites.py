"""What a model is asked: suites of exams by their names, "letters" and the benchmarks of the field.

    letters                 every word task on every split, words split for the model's own tokenizer
    letters=reverse+count   some of them
    cute                    a benchmark in its own form, made offline of held-out words
    cute=FOLDER             the benchmark's own files
    cute=hf:NAME            the same through `datasets`

The benchmarks stand in `synthetic_tasks.formats.FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from synthetic_tasks import WORD_TASKS, Item, Material, build_task, distinct
from synthetic_tasks.errors import NoQuestion
from synthetic_tasks.formats import FORMATS, BenchmarkTask, Tables, as_rows
from training.ask.eval_sets import Exam
from training.ask.models import Reader
from training.errors import BadInput
from training.files import sha256
from training.models.hub import load_dataset

LETTERS = "letters"
ALL = "all"  # the split of a benchmark's items
# (how the model reads words, items of a task and split, seed of the items) -> exams
Suite = Callable[[Reader, int, int], list[Exam]]


def open_suites(specs: str) -> dict[str, Suite]:
    """The suites that a text names, "letters,cute=FOLDER", with what is read from files already read.

    Raises BadInput for a name that is none, and for files that are missing or not the benchmark's.
    """
    suites: dict[str, Suite] = {}
    for spec in filter(None, (part.strip() for part in specs.split(","))):
        name, equals, source = spec.partition("=")
        if equals and not source:
            raise BadInput(
                f"the suite {spec!r} names nothing behind '=': write {name}, or name it."
            )
        suites[spec] = _letters(source) if name == LETTERS else _benchmark(name, source)
    if not suites:
        raise BadInput(f"no suite is named: choose from {', '.join((LETTERS, *FORMATS))}.")
    return suites


def hash_of(exams: Sequence[Exam]) -> str:
    """SHA-256 of all that is asked and how: two evaluations with the same one asked the same."""
    told = [
        [exam.task.name, exam.split, exam.asking.as_dict(), [item._asdict() for item in exam.items]]
        for exam in exams
    ]
    return sha256(json.dumps(told))


def _letters(names: str) -> Suite:
    tasks = tuple(names.split("+")) if names else WORD_TASKS
    if unknown := [name for name in tasks if name not in WORD_TASKS]:
        raise BadInput(
            f"there is no task {unknown[0]!r} about words; choose from {', '.join(WORD_TASKS)}."
        )
    return lambda reader, n, seed: [
        exam for name in tasks for exam in word_exams(name, reader, n, seed)
    ]


def word_exams(name: str, reader: Reader, n: int, seed: int) -> list[Exam]:
    """Up to n questions of a word task on each of its splits, the same for the same seed as in a run's exam.

    Where the reader wants shots, so many solved questions of training words stand before each one. A split of
    whose words the task can ask nothing is left out: `longer`, where all have one length. Raises NoQuestion
    where that is every split.
    """
    task = build_task(name, Material(reader.splits, reader.wording, reader.form))
    shots = distinct(task, task.splits[0].name, reader.shots, "shots", seed) if reader.shots else []
    taken, before = {item.key for item in shots}, "".join(item.text for item in shots)
    exams, nothing = [], None
    for split in task.splits:
        try:
            drawn = distinct(task, split.name, n + len(shots), "exam", split.name, seed)
        except NoQuestion as found:
            nothing = found
            continue
        asked = [item for item in drawn if item.key not in taken][:n]
        exams.append(Exam(task, split.name, [_after(before, item) for item in asked]))
    if nothing is not None and not exams:
        raise nothing
    return exams


def _after(before: str, item: Item) -> Item:
    return item._replace(prompt=before + item.prompt)


def _benchmark(name: str, source: str) -> Suite:
    if name not in FORMATS:
        raise BadInput(f"there is no suite {name!r}; choose from {', '.join((LETTERS, *FORMATS))}.")
    form = FORMATS[name]
    if not source:
        return lambda reader, n, seed: _exams(form.generate(held_out(reader), n, seed))
    data_set = source.startswith("hf:")
    found = _exams(
        form.read(_data_set(source.removeprefix("hf:")) if data_set else form.load(Path(source)))
    )
    return lambda reader, n, seed: found


def _exams(tasks: Sequence[BenchmarkTask]) -> list[Exam]:
    return [Exam(task, ALL, task.items, task.prompt_format, task.read) for task in tasks]


def held_out(reader: Reader) -> tuple[str, ...]:
    """Words that no training question had."""
    return (*reader.splits.unseen_words, *reader.splits.unseen_tokens)


def _data_set(name: str) -> Tables:
    """The rows of each split, as text."""
    if not name.strip():
        raise BadInput("there is no name after 'hf:': name a data set, as in 'cute=hf:NAME'.")
    found = load_dataset(name, "data set")
    return {split: as_rows(rows) for split, rows in found.items()}
