"""Ask a model the questions of some suites, mark what it says, and pair it with another model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from charembed import __version__
from training.ask.answers import RECORD, Answers, ask, check_same, claim, kept
from training.ask.eval_sets import Exam
from training.ask.models import BATCH, Respondent
from training.ask.scores import breakdown, exam_rows, is_right, said
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.files import read_record, write_atomically, write_json
from training.intervals import Marks, Row, summarise
from training.models.huggingface import HuggingFace
from training.progress import Bars, no_bars
from training.run.folder import locked

from .load import Manner, of_function, of_pretrained, open_model
from .page import write_page
from .suites import hash_of, open_suites

Model = str | Path | PreTrainedModel | Respondent | Callable[[Any], Any]
QUESTIONS = 250


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What one model was asked and said.

    Attributes:
        rows: of the model, then of the other one it is paired with, then their differences; as in
            results.json.
        exams: suite by suite, with the model's answers, and the other's.
        other: the name of the other model; "" for none.
    """

    name: str
    about: str
    rows: list[Row]
    exams: list[Exam]
    answers: Answers
    other: str = ""
    other_answers: Answers | None = None

    def value(self, task: str, split: str = "all", metric: str = "exact_match") -> float:
        """evaluation.value("reverse", "unseen_tokens") -> 0.88"""
        cell = (self.name, task, split, metric)
        return next(
            row.value for row in self.rows if (row.arm, row.task, row.split, row.metric) == cell
        )


def evaluate(
    model: Model,
    suite: str = "letters",
    *,
    against: Model | None = None,
    questions: int = QUESTIONS,
    seed: int | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    name: str | None = None,
    batched: bool = False,
    batch_size: int = BATCH,
    manner: Manner | None = None,
    tokenizer: Any = None,
    bars: Bars = no_bars,
) -> Evaluation:
    """Put the questions of some suites to a model and mark its answers.

    evaluate(lambda prompt: " 1", "letters=count", questions=50).value("count", "seen") -> 0.34

    Arguments:
        model: a run's folder, the folder or hub name of a causal model of transformers, such a model itself,
            with or without letters, a function from a prompt to the text that follows it, or a respondent
            (see respondents.py).
        suite: "letters,cute=FOLDER": see suites.py.
        against: a second model for the same questions, or the folder of its finished evaluation.
        questions: per task and split, of what is drawn; a benchmark's own files are asked whole.
        seed: of the questions; a run's own by default, as in its exam, and else 0.
        out: a folder to which answers are appended, and where rows and page are written; None for none.
        name: what rows call a function or a model that has none.
        batched: whether a function takes a list of prompts and returns a list.
        tokenizer: a fast tokenizer of transformers, which a model needs; with it, a function's words are
            split by its tokens.
        manner: how models are asked that were not trained here.

    Raises BadInput for what cannot be asked, before anything is.
    """
    for flag, number in (("questions", questions), ("batch_size", batch_size)):
        if number < 1:
            raise BadInput(f"{flag} is {number}; it must be 1 or more.")
    suites = open_suites(suite)
    one = respondent_of(model, name, batched, manner, tokenizer)
    exams = [
        exam
        for made in suites.values()
        for exam in made(one.reader, questions, one.seed if seed is None else seed)
    ]
    check_distinct(exams)
    one.check(exams)
    record = {"suites": list(suites), "questions": questions, "exams": hash_of(exams)}
    earlier, other = _other(against, batched, manner, tokenizer, record)
    if other is not None:
        other.check(exams)
    folder = None if out is None else Path(out)
    second, others = "", None
    with ExitStack() as held:
        if earlier is not None:
            second, others = str(read_record(earlier / RECORD)["name"]), kept(earlier, exams)
        answers = held.enter_context(opened(one, exams, record, folder, resume))
        if other is not None:
            place = folder and folder / "against"
            second, others = (
                other.name,
                held.enter_context(opened(other, exams, record, place, resume)),
            )
        ask(one, answers, batch_size, bars)
        if other is not None and others is not None:
            ask(other, others, batch_size, bars)
    if second == one.name:
        second = f"{second} (the other)"
    rows = [row for exam in exams for row in exam_rows(exam, answers.of(exam), one.name, one.seed)]
    rows += breakdown([(exam, answers.of(exam)) for exam in exams], one)
    if others is not None:
        rows += paired(exams, (one.name, answers), (second, others), one.seed)
    done = Evaluation(
        name=one.name,
        about=one.about,
        rows=rows,
        exams=exams,
        answers=answers,
        other=second,
        other_answers=others,
    )
    if folder is not None:
        write(folder, done, one)
    return done


def respondent_of(
    model: Model, name: str | None, batched: bool, manner: Manner | None, tokenizer: Any
) -> Respondent:
    if isinstance(model, str | Path):
        return open_model(str(model), manner=manner)
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise BadInput(
                f"a {type(model).__name__} was given without its tokenizer: pass tokenizer=..."
            )
        return of_pretrained(
            HuggingFace(model), read_by(tokenizer), name or type(model).__name__, manner
        )
    if callable(model):
        reads = None if tokenizer is None else read_by(tokenizer)
        return of_function(model, name=name, batched=batched, manner=manner, tokenizer=reads)
    return model


def read_by(tokenizer: Any) -> HuggingFaceTokenizer:
    """Raises BadInput for anything but a fast tokenizer of transformers."""
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput(
            f"the tokenizer is a {type(tokenizer).__name__}: pass a fast tokenizer of transformers, which "
            "tells where in a text each token stands."
        )
    return HuggingFaceTokenizer(tokenizer)


def _other(
    against: Model | None,
    batched: bool,
    manner: Manner | None,
    tokenizer: Any,
    record: dict[str, Any],
) -> tuple[Path | None, Respondent | None]:
    """The folder of a finished evaluation, or a model that is still to be asked, or neither."""
    if against is None:
        return None, None
    if isinstance(against, str | Path) and (Path(against) / RECORD).is_file():
        check_same(Path(against), record, questions_alone=True)
        return Path(against), None
    return None, respondent_of(against, None, batched, manner, tokenizer)


def check_distinct(exams: Sequence[Exam]) -> None:
    """Raise BadInput where two suites hold the same task and split."""
    seen: set[tuple[str, str]] = set()
    for exam in exams:
        if (cell := (exam.task.name, exam.split)) in seen:
            raise BadInput(f"{exam.task.name} stands in two of the suites: name it once.")
        seen.add(cell)


@contextmanager
def opened(
    respondent: Respondent,
    exams: Sequence[Exam],
    record: dict[str, Any],
    folder: Path | None,
    resume: bool,
) -> Iterator[Answers]:
    """What a respondent has answered already, in memory or in a folder that nobody else writes into."""
    if folder is None:
        yield Answers(exams)
        return
    whole = {
        "name": respondent.name,
        "seed": respondent.seed,
        "about": respondent.about,
        "identity": json.loads(json.dumps(respondent.identity)),
        **record,
    }
    versions = {name: version(name) for name in ("torch", "transformers")}
    with locked(folder):
        claim(folder, {**whole, "versions": {"charembed": __version__, **versions}}, resume)
        yield Answers(exams, folder)


def paired(
    exams: Sequence[Exam], ours: tuple[str, Answers], theirs: tuple[str, Answers], seed: int
) -> list[Row]:
    """The other model's rows, and the differences: exact McNemar, Holm's correction over all exams."""
    marks: Marks = {}
    rows: list[Row] = []
    for name, answers in (theirs, ours):
        for exam in exams:
            given = answers.of(exam)
            right = [
                is_right(exam, item, answer) for item, answer in zip(exam.items, given, strict=True)
            ]
            marks[name, seed, exam.task.name, exam.split] = right
            rows += exam_rows(exam, given, name, seed)
    summary = summarise(rows, theirs[0], [theirs[0], ours[0]], marks)
    return [row for row in rows if row.arm == theirs[0]] + [
        row for row in summary if row.p is not None
    ]


def marks_of(exams: Sequence[Exam], answers: Answers) -> list[dict[str, Any]]:
    """Every question with its answer and its mark."""
    lines = []
    for exam in exams:
        given = answers.of(exam)
        for item, answer, text in zip(exam.items, given, said(exam, given), strict=True):
            lines.append(
                {
                    "task": exam.task.name,
                    "split": exam.split,
                    "key": item.key,
                    "prompt": item.prompt,
                    "expected": item.answer.strip(),
                    "given": answer.given,
                    "read": text,
                    "right": is_right(exam, item, answer),
                }
            )
    return lines


def write(folder: Path, done: Evaluation, respondent: Respondent) -> None:
    """marks.jsonl, results.json, report.html."""
    lines = marks_of(done.exams, done.answers)
    write_atomically(folder / "marks.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "results.json", [vars(row) for row in done.rows])
    others = None if done.other_answers is None else marks_of(done.exams, done.other_answers)
    record = read_record(folder / RECORD)
    write_page(
        folder / "report.html",
        done.name,
        done.about,
        done.other,
        done.rows,
        done.exams,
        lines,
        others,
        counted=respondent.reader.counted,
        facts=record,
    )
