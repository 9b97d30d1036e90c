"""Ask a model: freely generated answers, marked, and the loss on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tiktoken
import torch
from torch import Tensor, nn

from synthetic_tasks import Item, Task, distinct, read_answer

from .batches import text_batches
from .config import CompareConfig
from .data import Data
from .generate import generate
from .loop import Bar, progress_bar, summed_loss
from .statistics import Row, wilson


@dataclass(frozen=True)
class Exam:
    """The questions of one task on one split, the same for every arm."""

    task: Task
    split: str
    items: list[Item]

    @property
    def prompts(self) -> list[str]:
        return [item.prompt for item in self.items]


def set_exams(config: CompareConfig, tasks: Sequence[Task], seed: int) -> list[Exam]:
    """Questions for every task and split, as a function of the config and the seed."""
    return [
        Exam(task, split.name, distinct(task, split.name, config.questions, "exam", split.name, seed))
        for task in tasks
        for split in task.splits
    ]


def prompt_ids(encoding: tiktoken.Encoding, prompt: str) -> list[int]:
    """The tokens of a prompt. Every answer begins with a space that opens a token of its own, so the cut is clean."""
    ids: list[int] = encoding.encode_ordinary(prompt)
    return ids


def check_lengths(config: CompareConfig, data: Data, seeds: Sequence[int]) -> None:
    """Raise ValueError, before any training, when a question and its answer do not fit the context."""
    questions = data.questions(config)
    for seed in seeds:
        for i in range(500):
            questions.example("finetune", seed, i)
        exams = set_exams(config, data.tasks(config), seed)
        room = answer_room(data.encoding, exams)
        for exam in exams:
            for prompt in exam.prompts:
                length = len(prompt_ids(data.encoding, prompt)) + room
                if length > config.finetune_context:
                    raise ValueError(
                        f"a question of the split {exam.split} and its answer may take {length} tokens, but finetune_context is "
                        f"{config.finetune_context}: choose a larger one, shorter words (longest_letters), or the compact wording. "
                        f"The question: {prompt!r}"
                    )


def answer_room(encoding: tiktoken.Encoding, exams: list[Exam]) -> int:
    """Tokens a model may write: the longest right answer and its end mark."""
    return max(len(encoding.encode_ordinary(item.answer)) for exam in exams for item in exam.items) + 1


def stop_ids(encoding: tiktoken.Encoding) -> list[int]:
    """The tokens that end an answer: those that hold a newline."""
    return [i for i in range(encoding.n_vocab) if b"\n" in encoding.decode_single_token_bytes(i)]


def answer_all(model: nn.Module, encoding: tiktoken.Encoding, exams: list[Exam], context: int, bar: Bar | None = None) -> list[list[str]]:
    """The model's own words for every question, batched over all exams."""
    prompts = [prompt_ids(encoding, prompt) for exam in exams for prompt in exam.prompts]
    room = answer_room(encoding, exams)
    with progress_bar(bar, "answers", len(prompts)) as progress:
        generated = iter(generate(model, prompts, max_new_tokens=room, stop=stop_ids(encoding), context=context, progress=progress.update))
    return [[encoding.decode(next(generated)) for _ in exam.prompts] for exam in exams]


def mark(exams: list[Exam], answers: list[list[str]], arm: str, seed: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """One long row per task and split, and every single answer with its mark."""
    rows, marked = [], []
    for exam, given in zip(exams, answers, strict=True):
        right = [exam.task.is_right(text, item) for text, item in zip(given, exam.items, strict=True)]
        low, high = wilson(sum(right), len(right))
        rows.append(Row(arm, seed, exam.task.name, exam.split, "exact_match", sum(right) / len(right), low, high, len(right), exam.task.baseline(exam.items)))
        marked += [
            {"task": exam.task.name, "split": exam.split, "prompt": item.prompt, "expected": item.answer.strip(), "given": read_answer(text), "right": mark}
            for item, text, mark in zip(exam.items, given, right, strict=True)
        ]
    return rows, marked


@torch.no_grad()
def text_loss(model: nn.Module, ids: Tensor, rows: int, context: int) -> tuple[float, int]:
    """Mean loss on fixed windows of held-out text, in nats per token, and the number of tokens it is the mean of."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    per_batch = min(rows, 32)
    batch_at = text_batches(ids, per_batch, context, "validation")
    total, count = 0.0, 0
    for k in range(math.ceil(rows / per_batch)):
        batch = batch_at(k)
        total += float(summed_loss(model, batch.ids_BT.to(device), batch.targets_BT.to(device), None))
        count += batch.num_targets
    model.train(was_training)
    return total / count, count
