"""Suites of evaluation sets by their names: "letters" and the benchmarks of the field.

    letters                 every word task on every split, for the model's own tokenizer
    letters=reverse+count   some of these tasks
    cute                    a benchmark's format with questions made offline from held-out words
    cute=FOLDER             the benchmark's own files
    cute=hf:NAME            the same through `datasets`
    cute=FOLDER:spell+orth  some of its tasks; so does cute:spell+orth
    cute-hub@olmes=FOLDER   another rule of scoring that is in use
    reasoning_gym           the published items of three tasks, from the package reasoning-gym
    reasoning_gym=fresh     items that no published result has; easy, all, like: see the docs

`synthetic_tasks.formats.FORMATS` lists the benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from synthetic_tasks import WORD_TASKS, WordSplits, build_task, distinct
from synthetic_tasks.errors import NoQuestion, TaskError
from synthetic_tasks.formats import FORMATS, BenchmarkTask, Tables, as_rows
from synthetic_tasks.formats.format import Generate
from synthetic_tasks.formats.spec import BenchmarkSpec, parse_spec, sample
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import EvaluatedModel
from training.errors import BadInput
from training.files import sha256
from training.models.hub import load_dataset

from . import LETTERS, QUESTIONS

ALL = "all"  # the split of a benchmark's items
# (model, questions per task and split or None, their seed) -> evaluation sets
Suite = Callable[[EvaluatedModel, int | None, int], list[EvalSet]]


def open_suites(specs: str) -> dict[str, Suite]:
    """Open the suites of a text such as "letters,cute=FOLDER"; its files are loaded now.

    Raises BadInput for an unknown name, and for files that are missing or not the benchmark's.
    """
    suites: dict[str, Suite] = {}
    for spec in filter(None, (part.strip() for part in specs.split(","))):
        name, equals, source = spec.partition("=")
        if equals and not source:
            raise BadInput(f"The suite {spec!r} has nothing after '='. Write {name} or {name}=...")
        suites[spec] = _letters(source) if name == LETTERS else _benchmark(parse_spec(spec))
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


def notes_of(eval_sets: Sequence[EvalSet]) -> list[str]:
    """Return the notes of the tasks, each once."""
    notes = (getattr(one.task, "note", "") for one in eval_sets)
    return list(dict.fromkeys(filter(None, notes)))


def _letters(names: str) -> Suite:
    tasks = tuple(dict.fromkeys(names.split("+"))) if names else WORD_TASKS
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


def _benchmark(spec: BenchmarkSpec) -> Suite:
    if spec.name == LETTERS:  # letters:reverse, letters@x
        wanted = "+".join(spec.tasks) or "reverse+count"
        raise BadInput(f"The tasks of {LETTERS} follow '=', as in {LETTERS}={wanted}.")
    if spec.name not in FORMATS:
        known = ", ".join((LETTERS, *FORMATS))
        raise BadInput(f"There is no suite {spec.name!r}. Choose from {known}.")
    form = FORMATS[spec.name]
    spec.check(form)
    generate = form.generate if not spec.source else None
    # Its items come with a package, unless the source is a path. A user's own format has no such
    # attribute.
    if (packaged := getattr(form, "packaged", None)) is not None:
        generate = packaged(spec.source, spec.tasks)
    elif generate is not None and spec.tasks:
        _check_tasks(spec, generate)

    def generated(model: EvaluatedModel, n: int | None, seed: int) -> list[EvalSet]:
        splits = model.material.words
        assert isinstance(splits, WordSplits)
        # Words that no training question contains, so that a run cannot know their answers.
        held_out = (*splits.unseen_words, *splits.unseen_tokens)
        assert generate is not None
        return _eval_sets(spec.choose(form, generate(held_out, n or QUESTIONS, seed)))

    source = spec.source
    if generate is not None:
        return generated
    from_hub = source.startswith("hf:")
    tables = _data_set(source.removeprefix("hf:")) if from_hub else form.load(Path(source))
    found = _eval_sets(spec.choose(form, form.read(tables)))
    return lambda model, n, seed: [
        replace(one, items=sample(one.items, n, one.task.name, "sample", seed)) for one in found
    ]


# Of several lengths, with repeated letters: every imitation can ask about them.
_SOME_WORDS = (
    *("tea", "bean", "plum", "onion", "apple", "banana", "cherry", "turnip", "coconut"),
    *("parsley", "asparagus", "blackberry", "strawberry", "cauliflower", "pomegranate"),
)


def _check_tasks(spec: BenchmarkSpec, generate: Generate) -> None:
    """Raise TaskError for an unknown task of an imitation, before a model is loaded."""
    try:
        tasks = generate(_SOME_WORDS, 1, 0)
    except TaskError:  # an own format that needs other words: its tasks are checked later
        return
    spec.choose(FORMATS[spec.name], tasks)


def _eval_sets(tasks: Sequence[BenchmarkTask]) -> list[EvalSet]:
    return [
        EvalSet(task, ALL, task.items, task.prompt_format, task.read, task.own_score)
        for task in tasks
    ]


def _data_set(name: str) -> Tables:
    """Return the rows of each split of a data set of the hub, as text."""
    if not name.strip():
        raise BadInput("There is no name after 'hf:'. Name a data set, as in 'cute=hf:NAME'.")
    return {split: as_rows(rows) for split, rows in load_dataset(name, "data set").items()}
