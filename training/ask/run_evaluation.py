"""The evaluation of an arm in its run: answers to questions, and loss on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synthetic_tasks import read_answer
from training.data.batches import text_batches
from training.data.prepare import Data
from training.intervals import Row
from training.models.generate import evaluating
from training.models.language_model import LanguageModel
from training.progress import Bars, no_bars
from training.train.loss import summed_loss

from .answers import Answers, ask
from .eval_sets import EvalSet
from .evaluated_model import AnswersBySet, EvaluatedLanguageModel
from .scores import eval_rows, rights

_ROWS = 32  # windows of text in one batch, at most: memory for logits, B x T x V floats


def evaluate_arm(
    model: LanguageModel,
    data: Data,
    eval_sets: Sequence[EvalSet],
    arm: str,
    seed: int,
    bars: Bars = no_bars,
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Ask a trained arm every question of some sets.

    Returns rows, one for each set and metric, and the lines of answers.jsonl.
    Raises Interrupted between two batches if the user asked to stop.
    """
    evaluated = EvaluatedLanguageModel.of_arm(model, data, arm, seed, as_in_run=True)
    evaluated.check(eval_sets)
    answers = Answers(eval_sets)  # in memory: after a stop, a run asks all its questions again
    stopped = "Training is finished and saved; the questions come when it goes on."
    ask(evaluated, answers, bars=bars, title="answers", if_stopped=stopped)
    given = answers.by_set()
    return eval_rows(eval_sets, given, arm, seed, details=False), answer_lines(eval_sets, given)


def answer_lines(eval_sets: Sequence[EvalSet], answers: AnswersBySet) -> list[dict[str, Any]]:
    """Return every question with its answer and score, as in answers.jsonl of an arm."""
    return [
        {
            "task": eval_set.task.name,
            "split": eval_set.split,
            "key": item.key,
            "prompt": item.prompt,
            "expected": item.written.strip(),  # with its scratchpad
            "given": read_answer(answer.given),
            "right": right,
        }
        for eval_set, given in zip(eval_sets, answers, strict=True)
        for item, answer, right in zip(eval_set.items, given, rights(eval_set, given), strict=True)
    ]


@torch.no_grad()
def text_loss(model: nn.Module, ids: Tensor, rows: int, context: int) -> tuple[float, int]:
    """Return the mean loss (nats per token) on `rows` windows of a text, and the tokens counted.

    The windows are fixed: every arm and every call reads the same ones.
    """
    device, per_batch = next(model.parameters()).device, min(rows, _ROWS)
    batch_at = text_batches(ids, per_batch, context, "validation")  # the key feeds their stream
    total, count = 0.0, 0
    with evaluating(model):
        for k in range(math.ceil(rows / per_batch)):
            batch = batch_at(k)
            ids_BT, targets_BT = batch.ids_BT.to(device), batch.targets_BT.to(device)
            total += float(summed_loss(model, ids_BT, targets_BT, None))
            count += batch.num_targets
    return total / count, count
