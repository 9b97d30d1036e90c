"""Ask a model: freely generated answers, marked, and the loss on held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from synthetic_tasks import END, Item, distinct, read_answer
from synthetic_tasks.formats import PromptFormat
from training.config.config import CompareConfig
from training.data.batches import text_batches
from training.data.prepare import Data
from training.data.questions import encode_item
from training.data.tokenizers import Tokenizer
from training.errors import BadInput
from training.interrupts import listening
from training.intervals import Row, wilson
from training.models.generate import evaluating
from training.models.language_model import LanguageModel
from training.models.objectives import OBJECTIVES, Asked
from training.progress import Bars, no_bars
from training.train.loss import summed_loss

PLAIN = PromptFormat()


class Marking(Protocol):
    """What an exam asks of its task: a word task, and any other."""

    @property
    def name(self) -> str: ...
    def is_right(self, given: str, item: Item) -> bool: ...
    def baseline(self, items: Sequence[Item]) -> float: ...
    def parts(self, given: str, item: Item) -> dict[str, bool]: ...


@dataclass(frozen=True, eq=False)
class Exam:
    """The items of one task on one split, the same for every arm.

    Attributes:
        asking: how the items are put to a model that no laboratory has trained.
        read: what of a generated text is the answer; None or "" where there is none.
    """

    task: Marking
    split: str
    items: Sequence[Item]
    asking: PromptFormat = PLAIN
    read: Callable[[str], str | None] = read_answer

    @property
    def majority(self) -> float:
        """What the best constant answer gets."""
        return self.task.baseline(self.items)


def set_exams(config: CompareConfig, data: Data, seed: int) -> list[Exam]:
    """Items for every task and each of its splits, as a function of the config and the seed."""
    names = dict.fromkeys(split.name for task in data.tasks for split in task.splits)
    return [
        Exam(task, name, distinct(task, name, config.exam.questions, "exam", name, seed))
        for name in names
        for task in data.tasks
        if name in {split.name for split in task.splits}
    ]


def check_lengths(config: CompareConfig, data: Data) -> None:
    """Raise BadInput when a question and its answer do not fit the context, or cannot be told apart."""
    phases = [phase for phase in config.phases if phase.kind == "question"]
    for seed in config.seed_range:
        for phase in phases:
            questions = data.questions(config, phase.context)
            for i in range(500):
                item, prompt, answer = questions.item(phase.name, seed, i)
                check_cut(data.tokenizer, item, prompt)
                questions.arrange(item, prompt, answer)
        exams = set_exams(config, data, seed)
        room = answer_room(data.tokenizer, exams)
        for exam in exams:
            for item in exam.items:
                length = len(data.tokenizer.encode(item.prompt)) + room
                if length > config.context:
                    raise BadInput(
                        f"a question of the split {exam.split} and its answer may take {length} tokens, but "
                        "finetune_context is "
                        f"{config.context}: choose a larger one, shorter words (longest_letters), or the "
                        "compact wording. "
                        f"The question: {item.prompt!r}"
                    )


def check_cut(tokenizer: Tokenizer, item: Item, prompt: list[int]) -> None:
    """Training reads prompt and answer in one piece, the exam the prompt alone: the tokens must agree."""
    if tokenizer.encode(item.prompt) != prompt:
        raise BadInput(
            f"the tokenizer cuts {item.prompt!r} in another way when its answer follows: this laboratory "
            "needs one that opens "
            f"a token with the space before a word."
        )
    if (
        written := tokenizer.decode(encode_item(tokenizer, item)[1])
    ).strip() != item.written.strip():
        raise BadInput(
            f"the tokenizer cannot write {item.written!r}, it gives {written!r}: choose another answer_form, "
            "or words (word_forms) of characters that it has."
        )


def answer_room(tokenizer: Tokenizer, exams: list[Exam]) -> int:
    """Tokens a model may write: the longest right answer and its end mark."""
    return max(len(encode_item(tokenizer, item)[1]) for exam in exams for item in exam.items)


def stop_ids(tokenizer: Tokenizer, stop: str = END) -> frozenset[int]:
    """The tokens that end an answer: those that hold a newline, or another text that stops it."""
    end = stop.encode()
    return frozenset(
        i for i, spelling in enumerate(tokenizer.spellings) if end and end in (spelling or b"")
    )


def answer_all(
    model: LanguageModel, config: CompareConfig, data: Data, exams: list[Exam], bars: Bars = no_bars
) -> list[list[str]]:
    """The model's own words for every question, batched over all exams."""
    prompts = [data.tokenizer.encode(item.prompt) for exam in exams for item in exam.items]
    asked = Asked(
        room=answer_room(data.tokenizer, exams),
        stop=stop_ids(data.tokenizer),
        dummy=data.dummy,
        context=config.context,
    )
    with bars("answers", len(prompts)) as bar, listening() as stop:

        def answered(number: int) -> None:
            bar.update(number)
            stop.check("Training is finished and saved; the questions come when it goes on.")

        generated = iter(OBJECTIVES[config.objective].answers(model, prompts, asked, answered))
    return [[data.tokenizer.decode(next(generated)) for _ in exam.items] for exam in exams]


def mark(
    exams: list[Exam], answers: list[list[str]], arm: str, seed: int
) -> tuple[list[Row], list[dict[str, Any]]]:
    """One long row per task, split and metric, and every single answer with its mark.

    Metrics are `exact_match` and what else the task says of an answer (`Task.parts`), such as `first_step`.
    """
    rows, marked = [], []
    for exam, given in zip(exams, answers, strict=True):
        task = exam.task
        asked = list(zip(given, exam.items, strict=True))
        right = [task.is_right(text, item) for text, item in asked]
        rows.append(_share(exam, arm, seed, "exact_match", right, exam.majority))
        parts = [task.parts(read_answer(text), item) for text, item in asked]
        rows += [
            _share(exam, arm, seed, name, [part[name] for part in parts], None) for name in parts[0]
        ]
        marked += [
            {
                "task": task.name,
                "split": exam.split,
                "prompt": item.prompt,
                "expected": item.written.strip(),
                "given": read_answer(text),
                "right": is_right,
            }
            for item, text, is_right in zip(exam.items, given, right, strict=True)
        ]
    return rows, marked


def _share(
    exam: Exam, arm: str, seed: int, metric: str, marks: list[bool], majority: float | None
) -> Row:
    share, interval = sum(marks) / len(marks), wilson(sum(marks), len(marks))
    return Row(
        arm, seed, exam.task.name, exam.split, metric, share, *interval, len(marks), majority
    )


@torch.no_grad()
def text_loss(model: nn.Module, ids: Tensor, rows: int, context: int) -> tuple[float, int]:
    """Mean loss on fixed windows of held-out text in nats per token, and the number of these tokens."""
    device = next(model.parameters()).device
    per_batch = min(rows, 32)
    batch_at = text_batches(ids, per_batch, context, "validation")
    total, count = 0.0, 0
    with evaluating(model):
        for k in range(math.ceil(rows / per_batch)):
            batch = batch_at(k)
            total += float(
                summed_loss(model, batch.ids_BT.to(device), batch.targets_BT.to(device), None)
            )
            count += batch.num_targets
    return total / count, count
