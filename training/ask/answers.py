"""The answers of one respondent, in memory or in a folder to which they are appended as they come.

The folder holds `evaluation.json`, which says who was asked what, and a file of lines for each exam in
`answers/`: {"number": 3, "given": " a e t"}. What is there is not asked again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from training.errors import BadInput, Damaged, Interrupted
from training.files import read_bytes, read_record, write_atomically, write_record
from training.interrupts import deferred, listening
from training.progress import Bars

from .eval_sets import Exam
from .models import Answer, Question, Respondent

RECORD = "evaluation.json"


class Answers:
    """What is known of each exam: {number of the item: its answer}; with a folder, also there."""

    def __init__(self, exams: Sequence[Exam], folder: Path | None = None) -> None:
        self.exams, self.folder = exams, folder
        self.found: dict[int, dict[int, Answer]] = {id(exam): {} for exam in exams}
        self.paths = {id(exam): self._path(place, exam) for place, exam in enumerate(exams)}
        if folder is not None:
            for exam in exams:
                self.found[id(exam)] = _read(self.paths[id(exam)], len(exam.items))

    def missing(self) -> list[Question]:
        every = (Question(exam, i) for exam in self.exams for i in range(len(exam.items)))
        return [
            question for question in every if question.number not in self.found[id(question.exam)]
        ]

    def add(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Keep them; on the disk before this returns."""
        lines: dict[int, list[str]] = {}
        for (exam, number), answer in zip(questions, answers, strict=True):
            self.found[id(exam)][number] = answer
            told = {
                "number": number,
                **{name: value for name, value in vars(answer).items() if value != ()},
            }
            lines.setdefault(id(exam), []).append(json.dumps(told) + "\n")
        if self.folder is not None:
            for exam_id, ours in lines.items():
                with self.paths[exam_id].open("a") as file:
                    file.write("".join(ours))
                    file.flush()
                    os.fsync(file.fileno())

    def of(self, exam: Exam) -> list[Answer]:
        """The answers to an exam, in the order of its items."""
        return [self.found[id(exam)][number] for number in range(len(exam.items))]

    def _path(self, place: int, exam: Exam) -> Path:
        name = re.sub(r"[^\w.-]+", "_", f"{place:03}-{exam.task.name}-{exam.split}")
        return (self.folder or Path()) / "answers" / f"{name}.jsonl"


def ask(respondent: Respondent, answers: Answers, size: int, bars: Bars) -> None:
    """Ask what is missing, `size` questions at a time.

    Raises Interrupted when someone asked to stop; what was answered is kept, if there is a folder.
    """
    questions = answers.missing()
    saved = answers.folder is not None
    with bars(respondent.name, len(questions)) as bar, listening() if saved else nullcontext():
        done = 0
        try:
            for batch in respondent.batches(questions, size):
                given = respondent.answer(batch)
                with deferred() if saved else nullcontext():
                    answers.add(batch, given)
                done += len(batch)
                bar.update(len(batch))
        except (KeyboardInterrupt, Interrupted):
            if not saved:
                raise
            total = sum(len(exam.items) for exam in answers.exams)
            raise Interrupted(
                f"{total - len(answers.missing())} of {total} questions to {respondent.name} are answered "
                "and kept."
            ) from None


def claim(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Say in a new folder who is asked what, or compare it with what an old one says.

    Raises BadInput for a folder that holds something else, and changes nothing.
    """
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        if not (folder / RECORD).is_file():
            raise BadInput(f"{folder} exists and is no evaluation's folder: choose another --out.")
        if not resume:
            raise BadInput(
                f"{folder} already holds an evaluation: go on with it or write its page again with --resume, "
                "or choose another --out."
            )
        check_same(folder, record)
        return
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    write_record(folder / RECORD, record)


def check_same(folder: Path, record: dict[str, Any], *, questions_alone: bool = False) -> None:
    """Raise BadInput where the evaluation in a folder asked others, or other questions."""
    held = read_record(folder / RECORD)
    if held["exams"] != record["exams"]:
        raise BadInput(
            f"the evaluation in {folder} asked other questions (suites {', '.join(held['suites'])}, "
            f"{held['questions']} each, SHA-256 {held['exams'][:12]}; here {', '.join(record['suites'])}, "
            f"{record['questions']} each, {record['exams'][:12]}): ask the same, or choose another folder."
        )
    if not questions_alone and held["identity"] != record["identity"]:
        parts = [
            key
            for key in record["identity"]
            if held["identity"].get(key) != record["identity"][key]
        ]
        raise BadInput(
            f"the evaluation in {folder} asked another model, {held['name']} (its {', '.join(parts)} differ):"
            " name that one, or choose another --out."
        )


def kept(folder: Path, exams: Sequence[Exam]) -> Answers:
    """The answers of a finished evaluation. Raises BadInput for one that is not."""
    answers = Answers(exams, folder)
    if missing := len(answers.missing()):
        raise BadInput(
            f"the evaluation in {folder} is not finished ({missing} answers are missing): go on with "
            "it (--resume) first."
        )
    return answers


def _read(path: Path, num_items: int) -> dict[int, Answer]:
    """The answers in a file; a last line that was cut short is taken away. Raises Damaged for others."""
    if not path.exists():
        return {}
    content = read_bytes(path).decode("utf-8", "replace")
    whole, _, rest = content.rpartition("\n")
    if rest:
        write_atomically(path, f"{whole}\n" if whole else "")
    found = {}
    for number, line in enumerate(whole.splitlines()):
        try:
            told = json.loads(line)
            place = told.pop("number")
            answer = Answer(
                told["given"], tuple(told.get("sums", ())), tuple(told.get("tokens", ()))
            )
            if not (0 <= place < num_items and isinstance(answer.given, str)):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(
                f"{path} is damaged in its line {number + 1}: delete it and go on with --resume, which asks "
                "its questions again."
            ) from None
        found[place] = answer
    return found
