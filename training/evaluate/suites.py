"""Suites of evaluation sets by their names: "letters" and the benchmarks of the field.

    letters                 every word task on every split, for the model's own tokenizer
    letters=reverse+count   some of these tasks
    cute                    a benchmark's format with questions made offline from held-out words
    cute=FOLDER             the benchmark's own files
    cute=hf:NAME            the same through `datasets`
    cute=FOLDER:spell+orth  some of its tasks; so does cute:spell+orth
    cute-hub@olmes=FOLDER   another rule of scoring that is in use

`synthetic_tasks.formats.FORMATS` lists the benchmarks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from synthetic_tasks import WORD_TASKS, WordSplits, build_task, distinct, stream
from synthetic_tasks.errors import NoQuestion
from synthetic_tasks.formats import FORMATS, BenchmarkTask, Tables, as_rows
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import EvaluatedModel
from training.errors import BadInput
from training.files import sha256
from training.models.hub import load_dataset

LETTERS = "letters"
ALL = "all"  # the split of a benchmark's items
QUESTIONS = 250  # per task and split, if the user names no number
# (model, questions per task and split or None, their seed) -> evaluation sets
Suite = Callable[[EvaluatedModel, int | None, int], list[EvalSet]]
_TASKS = re.compile(r"[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*")


def open_suites(specs: str) -> dict[str, Suite]:
    """Open the suites of a text such as "letters,cute=FOLDER"; its files are loaded now.

    Raises BadInput for an unknown name, and for files that are missing or not the benchmark's.
    """
    suites: dict[str, Suite] = {}
    for spec in filter(None, (part.strip() for part in specs.split(","))):
        name, equals, source = spec.partition("=")
        if equals and not source:
            raise BadInput(f"The suite {spec!r} has nothing after '='. Write {name} or {name}=...")
        suites[spec] = _letters(source) if name == LETTERS else _benchmark(name, source)
    if not suites:
        raise BadInput(f"No suite is named. Choose from {', '.join((LETTERS, *FORMATS))}.")
    return suites


def hash_of(eval_sets: Sequence[EvalSet]) -> str:
    """Return the SHA-256 of all questions and their prompt formats."""
    content = [
        [one.task.name, one.split, one.prompt_format.as_dict(), [i._asdict() for i in one.items]]
        for one in eval_sets
    ]
    return sha256(json.dumps(content))  # in saved evaluations: the form may not change


def _letters(names: str) -> Suite:
    tasks = tuple(names.split("+")) if names else WORD_TASKS
    if unknown := [name for name in tasks if name not in WORD_TASKS]:
        known = ", ".join(WORD_TASKS)
        raise BadInput(f"There is no word task {unknown[0]!r}. Choose from {known}.")
    return lambda model, n, seed: [
        eval_set for name in tasks for eval_set in word_eval_sets(name, model, n or QUESTIONS, seed)
    ]


def word_eval_sets(name: str, model: EvaluatedModel, n: int, seed: int) -> list[EvalSet]:
    """Draw up to n questions of a word task on each of its splits.

    The same seed gives the questions that a run's own evaluation has. If the model wants shots,
    solved questions about training words precede each question. A split whose words the task
    cannot use is left out: `longer` needs words of two lengths.
    Raises NoQuestion if no split is left.
    """
    task = build_task(name, model.material)
    # "shots" and "exam" feed random streams: other keys would draw other questions.
    shots = distinct(task, task.splits[0].name, model.shots, "shots", seed) if model.shots else []
    solved, before = {item.key for item in shots}, "".join(item.text for item in shots)
    eval_sets, nothing = [], None
    for split in task.splits:
        try:
            # more than n, as some may be the solved questions themselves
            drawn = distinct(task, split.name, n + len(shots), "exam", split.name, seed)
        except NoQuestion as found:
            nothing = found
            continue
        items = [item for item in drawn if item.key not in solved][:n]
        items = [item._replace(prompt=before + item.prompt) for item in items]
        eval_sets.append(EvalSet(task, split.name, items))
    if nothing is not None and not eval_sets:
        raise nothing
    return eval_sets


def _benchmark(spec: str, source: str) -> Suite:
    """Open the suite of a benchmark: ("cute-hub@olmes", "FOLDER:spell+orth")."""
    spec, _, chosen = spec.partition(":")
    name, at, marking = spec.partition("@")
    if name not in FORMATS:
        raise BadInput(f"There is no suite {name!r}. Choose from {', '.join((LETTERS, *FORMATS))}.")
    form = FORMATS[name]
    markings = getattr(form, "markings", {})  # a format of a user's own may have none
    if at and marking not in markings:
        known = ", ".join(f"{name}@{each}" for each in markings) or f"{name} alone"
        raise BadInput(f"{name} has no scoring rule {marking!r}. Write {known}.")
    mark = markings.get(marking, lambda task: task)

    def wanted(tasks: Sequence[BenchmarkTask]) -> list[BenchmarkTask]:
        return [mark(task) for task in _named(name, tasks, chosen)]

    def generated(model: EvaluatedModel, n: int | None, seed: int) -> list[EvalSet]:
        splits = model.material.words
        assert isinstance(splits, WordSplits)
        # Words that no training question contains, so that a run cannot know their answers.
        held_out = (*splits.unseen_words, *splits.unseen_tokens)
        return _eval_sets(wanted(form.generate(held_out, n or QUESTIONS, seed)))

    if not source:
        return generated
    from_hub = source.startswith("hf:")
    place, colon, tasks = source.rpartition(":")
    if colon and place != "hf" and _TASKS.fullmatch(tasks) and not Path(source).exists():
        source, chosen = place, tasks
    tables = _data_set(source.removeprefix("hf:")) if from_hub else form.load(Path(source))
    found = _eval_sets(wanted(form.read(tables)))
    return lambda model, n, seed: [_sample(eval_set, n, seed) for eval_set in found]


def _named(name: str, tasks: Sequence[BenchmarkTask], chosen: str) -> Sequence[BenchmarkTask]:
    """Return the chosen tasks, such as "spell+orth"; all for "". Raises BadInput."""
    known = {task.name.partition("/")[2]: task for task in tasks}
    wanted = chosen.split("+") if chosen else []
    if missing := [each for each in wanted if each not in known]:
        raise BadInput(f"{name} has no task {missing[0]!r} here. Choose from {', '.join(known)}.")
    return [known[each] for each in dict.fromkeys(wanted)] or tasks


def _sample(eval_set: EvalSet, n: int | None, seed: int) -> EvalSet:
    """Draw n items of a benchmark's own, in their order; None or a larger n keeps all of them."""
    items = eval_set.items
    if n is None or n >= len(items):
        return eval_set
    # A larger n keeps the items of a smaller one.
    order = stream(eval_set.task.name, "sample", seed).sample(range(len(items)), len(items))
    return replace(eval_set, items=[items[number] for number in sorted(order[:n])])


def _eval_sets(tasks: Sequence[BenchmarkTask]) -> list[EvalSet]:
    return [EvalSet(task, ALL, task.items, task.prompt_format, task.read) for task in tasks]


def _data_set(name: str) -> Tables:
    """Return the rows of each split of a data set of the hub, as text."""
    if not name.strip():
        raise BadInput("There is no name after 'hf:'. Name a data set, as in 'cute=hf:NAME'.")
    return {split: as_rows(rows) for split, rows in load_dataset(name, "data set").items()}
