"""Ask a model the questions of some suites, score the answers, and compare two models."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from charembed import __version__
from training.ask import BATCH
from training.ask.answers import RECORD, Answers, ask, claim, open_finished
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import EvaluatedModel
from training.ask.scores import breakdown, constant_answer, eval_rows, parsed, rights
from training.differences import summarise
from training.errors import BadInput
from training.files import read_record, write_atomically, write_json
from training.intervals import Marks, Row
from training.progress import Bars, no_bars
from training.run.begun import start
from training.run.folder import locked
from training.run.machine import check_place

from . import MOST_QUESTIONS
from .load import FewShotPrompts, Model, model_of
from .page import Constants, write_page
from .suites import hash_of, notes_of, open_suites


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The questions to one model, its answers and its scores.

    Attributes:
        rows: of the model, then of the other model, then their differences; as in results.json.
        eval_sets: the questions, suite by suite.
        answers: the answers of the model; `other_answers` are those of the other model.
        other: the name of the other model; "" for none.
    """

    name: str
    about: str
    rows: list[Row]
    eval_sets: list[EvalSet]
    answers: Answers
    other: str = ""
    other_answers: Answers | None = None

    @property
    def constants(self) -> Constants:
        """The constant answer that reaches the majority baseline, by task and split."""
        return {(one.task.name, one.split): constant_answer(one) for one in self.eval_sets}

    @property
    def notes(self) -> list[str]:
        """Facts about the files of the benchmarks, each once: the hash of a word list."""
        return notes_of(self.eval_sets)

    def value(self, task: str, split: str = "all", metric: str = "exact_match") -> float:
        """Return one score: evaluation.value("reverse", "unseen_tokens") -> 0.88"""
        cells = {(row.arm, row.task, row.split, row.metric): row.value for row in self.rows}
        return cells[self.name, task, split, metric]


def evaluate(
    model: Model,
    suite: str = "letters",
    *,
    against: Model | None = None,
    questions: int | None = None,
    seed: int | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    name: str | None = None,
    batched: bool = False,
    batch_size: int = BATCH,
    prompts: FewShotPrompts | None = None,
    tokenizer: Any = None,
    bars: Bars = no_bars,
    command: str = "",
) -> Evaluation:
    """Ask a model the questions of some suites and score its answers.

    evaluate(lambda prompt: " 1", "letters=count", questions=50).value("count", "seen") -> 0.34

    Arguments:
        model: a run folder, the folder or hub name of a causal model of transformers, such a model
            itself, with or without characters, a function from a prompt to the text that follows
            it, or an EvaluatedModel (training/ask/evaluated_model.py).
        suite: such as "letters,cute=FOLDER"; see suites.py.
        against: a second model for the same questions, or the folder of its finished evaluation.
        questions: per task and split; by default 250, and all items of a benchmark's own files.
            A smaller number draws a sample of them by the seed.
        seed: of the questions; by default the seed of the run, else 0.
        out: folder for answers, rows and page; None keeps the answers in memory.
        resume: continue the evaluation in `out`.
        name: the name of a function or model in the rows.
        batched: a function takes a list of prompts and returns a list of texts.
        batch_size: questions answered together.
        prompts: word questions for models that were not trained here.
        tokenizer: a fast tokenizer of transformers. A model needs it; for a function it decides
            how the words are split.
        command: the line for a shell that makes the same, for the page.

    Raises BadInput before the first question if the model cannot answer one of them.
    """
    for flag, number, most in (
        ("questions", questions, MOST_QUESTIONS), ("batch_size", batch_size, None),
    ):  # fmt: skip
        if number is not None and (number < 1 or (most is not None and number > most)):
            allowed = "1 or more" if most is None else f"1 to {most}"
            raise BadInput(f"{flag} is {number}; it must be {allowed}.")
    # Both raise before the model is loaded, which takes longer.
    suites, folder = open_suites(suite), None if out is None else Path(out)
    if folder is not None:
        check_place("out", folder)
    one = model_of(model, name, batched, prompts, tokenizer)
    seed = one.seed if seed is None else seed
    eval_sets = [one_set for make in suites.values() for one_set in make(one, questions, seed)]
    # Rows and scores are found by task and split, so a pair may be there once only.
    cells = Counter((eval_set.task.name, eval_set.split) for eval_set in eval_sets)
    if twice := [task for (task, _), number in cells.items() if number > 1]:
        raise BadInput(f"{twice[0]} is in two of the suites. Name it once.")
    one.check(eval_sets)
    record = {
        "suites": list(suites),
        # As asked: files may hold fewer than wanted, and without a number all of them are asked.
        "questions": max(len(one_set.items) for one_set in eval_sets),
        "exams": hash_of(eval_sets),
    }
    if folder is not None:
        record["begun"] = [start(command)]
    other, second, others = None, "", None
    if isinstance(against, str | Path) and (Path(against) / RECORD).is_file():
        second, others = open_finished(Path(against), eval_sets, record)
    elif against is not None:
        other = model_of(against, None, batched, prompts, tokenizer)
        other.check(eval_sets)
        second = other.name
    with ExitStack() as locks:
        # Both folders are claimed before the first question, which may be hours before the last.
        answers = _open(one, eval_sets, record, folder, resume, locks)
        if other is not None:
            others = _open(other, eval_sets, record, folder and folder / "against", resume, locks)
        ask(one, answers, batch_size=batch_size, bars=bars)
        if other is not None and others is not None:
            ask(other, others, batch_size=batch_size, bars=bars)
    if second == one.name:  # a run against another run, both with an arm lstm
        second = f"{second} (the other)"
    rows = eval_rows(eval_sets, answers.by_set(), one.name, one.seed)
    rows += breakdown(eval_sets, answers.by_set(), one)
    if others is not None:
        rows += _paired(eval_sets, (one.name, answers), (second, others), one.seed)
    done = Evaluation(one.name, one.about, rows, eval_sets, answers, second, others)
    if folder is not None:
        _write(folder, done, one.counts.text if one.counts else "")
    return done


def _open(
    model: EvaluatedModel, eval_sets: Sequence[EvalSet], record: dict[str, Any],
    folder: Path | None, resume: bool, locks: ExitStack,
) -> Answers:  # fmt: skip
    """Open the earlier answers of a model; its folder is locked until `locks` are closed."""
    if folder is None:
        return Answers(eval_sets)
    versions = {name: version(name) for name in ("torch", "transformers")}
    identity = json.loads(json.dumps(model.identity))  # tuples become lists, as in the file
    whole = {
        "name": model.name, "seed": model.seed, "about": model.about, "identity": identity,
        **record, "versions": {"charembed": __version__, **versions},
    }  # fmt: skip
    locks.enter_context(locked(folder))
    claim(folder, whole, resume)
    return Answers(eval_sets, folder)


def _paired(
    eval_sets: Sequence[EvalSet], ours: tuple[str, Answers], theirs: tuple[str, Answers], seed: int
) -> list[Row]:
    """Return the other model's rows and the differences: McNemar's exact test, Holm's correction."""
    marks: Marks = {}
    rows: list[Row] = []
    for name, answers in (theirs, ours):
        for eval_set in eval_sets:
            cell = (name, seed, eval_set.task.name, eval_set.split)
            marks[cell] = rights(eval_set, answers.of(eval_set))
        rows += eval_rows(eval_sets, answers.by_set(), name, seed)
    # The other model takes the place of the control.
    summary = summarise(rows, theirs[0], [theirs[0], ours[0]], marks)
    # Rows with a p-value are differences; one seed has no means that differ from its values.
    differences = [row for row in summary if row.p is not None]
    return [row for row in rows if row.arm == theirs[0]] + differences


def _scored_answers(eval_sets: Sequence[EvalSet], answers: Answers) -> list[dict[str, Any]]:
    """Return every question with its answer and score, as in marks.jsonl."""
    lines = []
    for eval_set in eval_sets:
        task, split, given = eval_set.task.name, eval_set.split, answers.of(eval_set)
        texts, marks = parsed(eval_set, given), rights(eval_set, given)
        for item, answer, text, right in zip(eval_set.items, given, texts, marks, strict=True):
            line: dict[str, Any] = {"task": task, "split": split, "key": item.key}
            line |= {"prompt": item.prompt, "expected": item.answer.strip()}
            lines.append(line | {"given": answer.given, "read": text, "right": right})
    return lines


def _write(folder: Path, done: Evaluation, counted: str) -> None:
    """Write marks.jsonl, results.json and report.html."""
    lines = _scored_answers(done.eval_sets, done.answers)
    write_atomically(folder / "marks.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "results.json", [row.saved for row in done.rows])
    others = done.other_answers
    other_lines = None if others is None else _scored_answers(done.eval_sets, others)
    write_page(
        folder / "report.html", done.name, done.about, done.other, done.rows, lines, other_lines,
        counted=counted, notes=done.notes, facts=read_record(folder / RECORD),
        constants=done.constants,
    )  # fmt: skip
