"""The answers of one model, in memory or appended to a folder as they come.

The folder holds `evaluation.json`, which records the model and the questions, and in `answers/` one
file of lines for each evaluation set: {"number": 3, "given": " a e t"}. A resumed evaluation asks
for the missing answers alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from training.errors import BadInput, Damaged, Interrupted
from training.files import read_bytes, read_record, write_atomically, write_record
from training.interrupts import Stop, deferred, listening
from training.progress import Bars, no_bars

from . import BATCH
from .eval_sets import EvalSet
from .evaluated_model import Answer, EvalQuestion, EvaluatedModel

RECORD = "evaluation.json"


class Answers:
    """The known answers of each evaluation set, also saved if there is a folder.

    `repairs`: cut off the half of a line that a killed process left. Another process may still be
    writing into a folder that is only read.
    """

    def __init__(
        self, eval_sets: Sequence[EvalSet], folder: Path | None = None, repairs: bool = True
    ) -> None:
        self.eval_sets, self.folder = eval_sets, folder
        self._found: dict[EvalSet, dict[int, Answer]] = {one: {} for one in eval_sets}
        self._paths: dict[EvalSet, Path] = {}
        if folder is None:
            return
        for place, one in enumerate(eval_sets):
            # The number tells apart names that are equal without special characters.
            name = re.sub(r"[^\w.-]+", "_", f"{place:03}-{one.task.name}-{one.split}")
            self._paths[one] = folder / "answers" / f"{name}.jsonl"
            self._found[one] = _read(self._paths[one], len(one.items), repairs)

    def missing(self) -> list[EvalQuestion]:
        """Return the questions without an answer, in the order of the sets and their items."""
        return [
            EvalQuestion(one, number)
            for one in self.eval_sets
            for number in range(len(one.items))
            if number not in self._found[one]
        ]

    def add(self, questions: Sequence[EvalQuestion], answers: Sequence[Answer]) -> None:
        """Keep answers. If there is a folder, they are on the disk when this returns."""
        lines: dict[EvalSet, list[str]] = {}
        for (eval_set, number), answer in zip(questions, answers, strict=True):
            self._found[eval_set][number] = answer
            line: dict[str, Any] = {"number": number, "given": answer.given}
            if answer.sums:
                line |= {"sums": answer.sums, "tokens": answer.tokens}
            lines.setdefault(eval_set, []).append(json.dumps(line) + "\n")
        for eval_set, own in lines.items() if self.folder else ():
            self._paths[eval_set].parent.mkdir(exist_ok=True)
            with self._paths[eval_set].open("a") as file:
                file.write("".join(own))
                file.flush()
                os.fsync(file.fileno())  # a power failure after this loses no counted answer

    def of(self, eval_set: EvalSet) -> list[Answer]:
        """Return the answers to a set, in the order of its items."""
        return [self._found[eval_set][number] for number in range(len(eval_set.items))]

    def by_set(self) -> list[list[Answer]]:
        """Return the answers to every set; see `of`."""
        return [self.of(eval_set) for eval_set in self.eval_sets]


def ask(
    model: EvaluatedModel,
    answers: Answers,
    *,
    batch_size: int = BATCH,
    bars: Bars = no_bars,
    title: str = "",
    if_stopped: str = "",
) -> None:
    """Ask a model for the missing answers, `batch_size` questions at a time.

    Arguments:
        title: label of the progress bar; by default the name of the model.
        if_stopped: message of the Interrupted that a stop signal raises between two batches, for
            a caller that has saved its own state. Without it, answers in memory are lost.

    Raises Interrupted if the user asked to stop and the answers are kept in a folder.
    """
    questions, saved = answers.missing(), answers.folder is not None
    with ExitStack() as contexts:
        bar = contexts.enter_context(bars(title or model.name, len(questions)))
        # A caller that keeps nothing has its own handlers of signals, and they stay as they are.
        stop = contexts.enter_context(listening()) if saved or if_stopped else Stop()

        def progress(number: int) -> None:
            bar.update(number)
            if if_stopped:
                stop.check(if_stopped)

        try:
            for batch, given in model.answer(questions, batch_size, progress):
                # A stop signal waits until the batch is on the disk.
                with deferred() if saved else nullcontext():
                    answers.add(batch, given)
        except (KeyboardInterrupt, Interrupted):
            if not saved:
                raise
            total = sum(len(eval_set.items) for eval_set in answers.eval_sets)
            kept = total - len(answers.missing())
            raise Interrupted(
                f"{kept} of {total} questions to {model.name} are answered and kept."
            ) from None


def claim(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Write the record of an evaluation into a new folder, or compare it with the record there.

    Raises BadInput for a folder that holds something else, and changes nothing.
    """
    # Not hidden files: the lock of this process is one.
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        # Before any other file: a folder without it would be refused after a SIGKILL.
        write_record(folder / RECORD, record)
        return
    if not (folder / RECORD).is_file():
        raise BadInput(
            f"{folder} exists and is not the folder of an evaluation. Use another --out."
        )
    if not resume:
        raise BadInput(
            f"{folder} already holds an evaluation. Continue it or write its page again with "
            "--resume, or use another --out."
        )
    held, new = _same_questions(folder, record), record["identity"]
    if held["identity"] != new:
        parts = ", ".join(key for key in new if held["identity"].get(key) != new[key])
        raise BadInput(
            f"The evaluation in {folder} has another model, {held['name']} ({parts} differ). "
            "Name that model, or use another --out."
        )


def _same_questions(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a folder. Raises BadInput if its evaluation has other questions."""
    held = read_record(folder / RECORD)
    if held["exams"] != record["exams"]:  # the hash of all questions, under its first name
        here, there = (
            f"suites {', '.join(one['suites'])}, at most {one['questions']} each, "
            f"SHA-256 {one['exams'][:12]}"
            for one in (record, held)
        )
        raise BadInput(
            f"The evaluation in {folder} has other questions ({there}; here {here}). "
            "Use the same flags, or another folder."
        )
    return held


def open_finished(
    folder: Path, eval_sets: Sequence[EvalSet], record: dict[str, Any]
) -> tuple[str, Answers]:
    """Return the model's name and the answers of a finished evaluation of the same questions.

    Raises BadInput if it is unfinished or has other questions.
    """
    name = str(_same_questions(folder, record)["name"])
    answers = Answers(eval_sets, folder, repairs=False)
    if missing := len(answers.missing()):
        raise BadInput(
            f"The evaluation in {folder} is not finished ({missing} answers are missing). "
            "Continue it with --resume first."
        )
    return name, answers


def _read(path: Path, num_items: int, repairs: bool) -> dict[int, Answer]:
    """Read a file of answers. Raises Damaged for a line that is not an answer."""
    if not path.exists():
        return {}
    whole, _, rest = read_bytes(path).decode("utf-8", "replace").rpartition("\n")
    if rest and repairs:  # the process died while it wrote the last line: drop that line
        write_atomically(path, f"{whole}\n" if whole else "")
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            saved = json.loads(line)
            place, given = saved["number"], saved["given"]
            answer = Answer(given, tuple(saved.get("sums", ())), tuple(saved.get("tokens", ())))
            if not (0 <= place < num_items and isinstance(given, str)):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(
                f"{path} is damaged in line {number}. Delete it and run again with --resume, "
                "which asks its questions again."
            ) from None
        found[place] = answer
    return found
