"""The evaluation of an arm in its run: answers to questions, and loss on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthetic_tasks import read_answer
from training.data.batches import text_batches
from training.data.prepare import Data
from training.intervals import Row
from training.models.generate import evaluating
from training.models.language_model import LanguageModel
from training.progress import Bars, no_bars

from .answers import Answers, ask
from .eval_sets import EvalSet
from .evaluated_model import AnswersBySet, EvaluatedLanguageModel
from .scores import eval_rows, rights

_ROWS = 32  # windows of text in one batch, at most: memory for logits, B x T x V floats
_COUNTS = (0, 10, 100, 1000)  # least counts in the training text, of the bins of a token's count


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


class TextLosses(NamedTuple):
    """The loss of a model on windows of held-out text.

    TextLosses([321.5, 298.7], 64, [(0, 9, 31.2, 4), (10, 99, 118.0, 21), ...])

    Attributes:
        window_nats: of each window, summed over its tokens; in the order of the windows, which is
            the same for all arms and seeds.
        tokens_per_window: predicted tokens.
        bins: (least count, largest count or None, nats, tokens) of the predicted tokens, by their
            count in the training text; nats are summed over the tokens of all windows.
    """

    window_nats: list[float]
    tokens_per_window: int
    bins: list[tuple[int, int | None, float, int]]


def text_loss(
    model: nn.Module,
    ids: Tensor,
    rows: int,
    context: int,
    key: str = "validation",
    at_once: int = _ROWS,
) -> tuple[float, int]:
    """Return the mean loss (nats per token) on `rows` windows of a text, and the tokens counted.

    The windows are fixed: every arm and every call with the same `key` and `at_once`, the number of
    windows in a batch, reads the same ones.
    """
    mean, losses = text_losses(model, ids, rows, context, key=key, at_once=at_once)
    return mean, len(losses.window_nats) * losses.tokens_per_window


@torch.no_grad()
def text_losses(
    model: nn.Module,
    ids: Tensor,
    rows: int,
    context: int,
    counts_V: Tensor | None = None,
    key: str = "validation",
    at_once: int = _ROWS,
) -> tuple[float, TextLosses]:
    """Return the mean loss (nats per token) on `rows` windows of a text, and its parts.

    text_losses(model, ids, 128, 64, counts_V) -> 4.78, TextLosses(...)

    Arguments:
        ids: of the text (L,).
        context: tokens of each window.
        counts_V: count of each token in the training text (V,); without it there are no bins.
        key: of the random stream that draws the windows.
        at_once: windows in one batch, at most.
    """
    device, per_batch = next(model.parameters()).device, min(rows, at_once)
    batch_at = text_batches(ids, per_batch, context, key)
    total, parts, targets = 0.0, list[Tensor](), list[Tensor]()
    with evaluating(model):
        for k in range(math.ceil(rows / per_batch)):
            batch = batch_at(k)
            targets_N = batch.targets_BT.to(device).flatten()
            logits_NV = model(batch.ids_BT.to(device)).float().flatten(0, 1)
            # subtle: the mean is a sum by batches, whose digits differ from a sum of the parts
            total += float(F.cross_entropy(logits_NV, targets_N, reduction="sum"))
            parts.append(F.cross_entropy(logits_NV, targets_N, reduction="none").double().cpu())
            targets.append(batch.targets_BT.flatten())
    nats_N = torch.cat(parts)
    windows = nats_N.view(-1, context).sum(1).tolist()
    bins = [] if counts_V is None else _by_count(nats_N, counts_V[torch.cat(targets)])
    return total / len(nats_N), TextLosses(windows, context, bins)


def _by_count(nats_N: Tensor, counts_N: Tensor) -> list[tuple[int, int | None, float, int]]:
    """Sum losses by the counts of their tokens."""
    found: list[tuple[int, int | None, float, int]] = []
    for low, end in zip(_COUNTS, [*_COUNTS[1:], None], strict=True):
        inside_N = (counts_N >= low) & (counts_N < (math.inf if end is None else end))
        nats = float(nats_N[inside_N].sum())
        found.append((low, None if end is None else end - 1, nats, int(inside_N.sum())))
    return found
