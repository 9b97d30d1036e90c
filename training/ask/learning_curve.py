"""Held-out loss and exact match of an arm during its training, on small fixed sets.

The sets are the same for all arms and seeds of a run. Their random streams have a key of their own,
so they are not the questions and the windows of text of the final evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from synthetic_tasks import distinct
from training.config.phase import Phase
from training.data.prepare import Data
from training.models.generate import evaluating
from training.models.language_model import LanguageModel

from .answers import Answers, ask
from .eval_sets import EvalSet, max_answer_tokens
from .evaluated_model import EvaluatedLanguageModel
from .run_evaluation import text_loss
from .scores import rights

_KEY = "learning curve"  # feeds the random streams of the windows and of the questions
_WINDOWS, _QUESTIONS = 32, 12  # of text; of each task and split: at most, each time
# Rows that are measured in a phase, all times together, as a share of the rows that it trains on.
# A measured row costs about half of a trained one, so the time is about half of this share.
_SHARE = 0.04
_STEPS_BETWEEN = 5  # between two measurements, at least


def measured_steps(steps: int, times: int) -> list[int]:
    """Return the steps of a phase after which it is measured: evenly spread, with the last one.

    measured_steps(400, 12) -> [33, 67, 100, ..., 367, 400]; measured_steps(10, 12) -> [5, 10]

    Arguments:
        steps: of the phase, 0 or more.
        times: the wanted number of measurements; a phase of a few steps gets fewer.
    """
    number = min(times, -(-steps // _STEPS_BETWEEN))
    return [round(place * steps / number) for place in range(1, number + 1)]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The measurements of one arm in one phase: `curve(step)` after each step returns their rows.

    LearningCurve.of(model, data, phase, "lstm", seed=0, times=12)(400) -> [
        {"phase": "pretrain", "step": 400, "task": "text", "split": "all",
         "metric": "loss_nats", "value": 5.31, "n": 2048}]

    It draws no number from a global random generator, and leaves the model in its mode.

    Attributes:
        steps: those that are measured; others return no row.
        windows: windows of held-out text.
        eval_sets: the questions; none in a phase of text.
        autocast: the arithmetic of the training step.
    """

    evaluated: EvaluatedLanguageModel
    data: Data
    phase: Phase
    steps: frozenset[int]
    windows: int
    eval_sets: list[EvalSet]
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        data: Data,
        phase: Phase,
        arm: str,
        seed: int,
        times: int,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> LearningCurve:
        """Draw the sets of a phase. A phase of the spelling alone is never measured."""
        steps = measured_steps(phase.steps, times if phase.reads_rows else 0)
        cells = [(task, split.name) for task in data.tasks for split in task.splits]
        windows, questions = _sizes(phase, len(steps), len(cells), data)
        evaluated = EvaluatedLanguageModel.of_arm(model, data, arm, seed, as_in_run=True)
        evaluated.context = phase.context
        eval_sets = [
            EvalSet(task, split, distinct(task, split, questions, _KEY, split))
            for task, split in (cells if questions else ())
        ]
        eval_sets = list(_fitting(evaluated, eval_sets))
        if eval_sets:
            evaluated.check(eval_sets)
        return cls(evaluated, data, phase, frozenset(steps), windows, eval_sets, autocast)

    def __call__(self, step: int) -> list[dict[str, Any]]:
        """Measure the model if this step is one of `steps`. Return one row for each set."""
        if step not in self.steps:
            return []
        # one change of mode for all sets: at each change the character vectors are compared
        with self.autocast(), evaluating(self.evaluated.model):
            rows = [*self._text(), *self._answers()]
        return [{"phase": self.phase.name, "step": step, **row} for row in rows]

    def _text(self) -> Iterator[dict[str, Any]]:
        ids, text = self.data.held_out_texts["text"].ids, self.data.config.text
        # the optimizer's state is in memory too, so no batch is larger than one of the training
        nats, n = text_loss(
            self.evaluated.model, ids, self.windows, text.context, _KEY, min(32, text.batch_size)
        )
        yield {"task": "text", "split": "all", "metric": "loss_nats", "value": nats, "n": n}

    def _answers(self) -> Iterator[dict[str, Any]]:
        answers = Answers(self.eval_sets)
        if self.eval_sets:  # no stop in between: a step and its measurement are one
            ask(self.evaluated, answers)
        for one, given in zip(self.eval_sets, answers.by_set(), strict=True):
            right = rights(one, given)
            cell = {"task": one.task.name, "split": one.split, "metric": "exact_match"}
            yield {**cell, "value": sum(right) / len(right), "n": len(right)}


def _sizes(phase: Phase, times: int, cells: int, data: Data) -> tuple[int, int]:
    """Return the windows of text, and the questions of each task and split, of one measurement."""
    if not times:
        return 0, 0
    # never more than the final evaluation has
    largest = data.config.evaluation
    rows = int(_SHARE * phase.steps * phase.batch_size / times)
    windows = min(_WINDOWS, largest.validation_rows)
    if phase.kind != "question" or not cells:
        return max(1, min(windows, rows)), 0
    windows = max(1, min(windows, rows // 4))
    return windows, max(1, min(_QUESTIONS, largest.questions, (rows - windows) // cells))


def _fitting(model: EvaluatedLanguageModel, eval_sets: list[EvalSet]) -> Iterator[EvalSet]:
    """Yield the sets without the questions that are too long for the rows of the phase."""
    # the final evaluation refuses such a question, but a curve must not refuse a run
    sets = [one for one in eval_sets if one.items]
    longest = max_answer_tokens(model.tokenizer, sets) if sets else 0
    for one in sets:
        items = [i for i in one.items if len(model.encode(one, i)) + longest <= model.context]
        if items:
            yield replace(one, items=items)
