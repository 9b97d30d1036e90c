"""Scores of all arms of a run on words that became single tokens after training.

    python -m benchmarks.added_tokens RUN --words 200

RUN is a finished run of the decoder (preset quick). 200 of its unseen words, each of several
familiar tokens, become one token each: no training data can have contained it. The ways to fill the
row of a new token:

- `in pieces`: the word keeps its tokens, a reference.
- `mean of pieces`: the mean of the rows of its former tokens.
- `from spelling`: the row that a ridge regression predicts from the spelling, as
  `charembed.add_tokens` does.

An arm with a character encoder adds the character vector of the new token to the row. Nothing is
trained. The scores are exact match on all tasks of the run, in mean over its seeds.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import charembed
from benchmarks.measure import machine
from charembed.new_tokens import predicted_rows
from synthetic_tasks import build_task, distinct, one_list, stream
from training.ask.eval_sets import EvalSet
from training.ask.run_evaluation import evaluate_arm
from training.data.prepare import Data
from training.data.tokenizers import Tokenizer
from training.errors import BadInput, exit_status
from training.models.language_model import LanguageModel
from training.run.run import ArmRun, Run

WAYS = ("in pieces", "mean of pieces", "from spelling")


class WithWords:
    """A tokenizer in which some words, after a space, are one token each."""

    def __init__(self, tokenizer: Tokenizer, words: Sequence[str]) -> None:
        self.tokenizer, self.source = tokenizer, tokenizer.source
        self.spellings = [*tokenizer.spellings, *(f" {word}".encode() for word in words)]
        self.name = f"{tokenizer.name}+{len(words)}"
        self._ids = {word: len(tokenizer.spellings) + i for i, word in enumerate(words)}
        one_of = "|".join(sorted(words, key=len, reverse=True))
        self._words = re.compile(rf" ({one_of})(?![a-z])")

    def encode(self, text: str) -> list[int]:
        # a new token begins with a space, where the tokenizer splits too
        parts = self._words.split(text)
        ids = []
        for number, part in enumerate(parts):
            ids += [self._ids[part]] if number % 2 else self.tokenizer.encode(part)
        return ids

    def encode_cut(self, text: str, place: int) -> tuple[list[int], int]:
        ids, reached = self.encode(text), 0
        for number, token in enumerate(ids):
            reached += len(self.spellings[token] or b"")
            if reached > place:
                return ids, number
        raise AssertionError(f"no token of {text!r} ends after {place} characters")

    def encode_word(self, word: str) -> list[int]:
        return self.encode(" " + word)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.spellings[token] or b"" for token in ids).decode(errors="replace")


def new_words(data: Data, number: int) -> list[str]:
    """Unseen words of several tokens, the same ones for every arm and seed."""
    assert data.splits is not None
    several = [w for w in data.splits["unseen_words"] if len(data.tokenizer.encode_word(w)) > 1]
    if len(several) < number:
        raise BadInput(
            f"--words is {number}, and the run has {len(several)} such words: use fewer."
        )
    return stream("added tokens").sample(several, number)


@torch.no_grad()
def grow(model: LanguageModel, data: Data, words: Sequence[str], way: str) -> None:
    """Add a row for each word to the input embedding, in place. The output layer stays."""
    embedding: Any = model.get_submodule(model.embedding)
    table, first = embedding.weight.data, len(embedding.weight)
    spellings = [*data.tokenizer.spellings, *(f" {word}".encode() for word in words)]
    assert first == len(data.tokenizer.spellings)
    pieces = {first + i: data.tokenizer.encode_word(word) for i, word in enumerate(words)}
    if way == "mean of pieces":
        rows = torch.stack([table[ids].mean(0) for ids in pieces.values()])
    else:
        (rows,) = predicted_rows([table], spellings, first, pieces)
    grown: Tensor = torch.cat([table, rows.to(table)])
    embedding.weight = torch.nn.Parameter(grown, requires_grad=embedding.weight.requires_grad)
    embedding.num_embeddings = len(grown)
    if isinstance(embedding, charembed.CharEmbedding):
        charembed.update_spellings(model, spellings)


def scores(arm: ArmRun, words: Sequence[str], way: str, questions: int) -> dict[str, float]:
    """Exact match by task on questions about these words."""
    data, model = arm.data, arm.model()
    if way != "in pieces":
        grow(model, data, words, way)
        data = replace(data, tokenizer=WithWords(data.tokenizer, words))
    material = replace(data.material, words=one_list(list(words)))
    tasks = [build_task(spec, material) for spec in data.config.data.tasks]
    sets = [EvalSet(task, "seen", distinct(task, "seen", questions, "added")) for task in tasks]
    rows, _ = evaluate_arm(model, data, sets, arm.name, arm.seed)
    return {row.task: row.value for row in rows if row.metric == "exact_match"}


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--questions", type=int, default=250, help="per task")
    parser.add_argument("--arms", help="some arms of the run, with commas between [all]")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    run = Run.open(options.run, options.cache)
    if run.config.model.pretrained:
        raise BadInput(f"{options.run} is a run of a pretrained model: use benchmarks.new_tokens.")
    if run.data.splits is None:
        raise BadInput(f"{options.run} has no task about words: name another run.")
    words = new_words(run.data, options.words)
    print(machine())
    print(f"{len(words)} new tokens: {', '.join(words[:6])}, ...")
    tasks = [task.name for task in run.data.tasks]
    table = Table("arm", "row of a new token", *tasks)
    for name in options.arms.split(",") if options.arms else run.config.arms:
        for way in WAYS:
            found = [
                scores(run.arm(name, seed), words, way, options.questions)
                for seed in run.config.seed_range
            ]
            means = [f"{np.mean([one[task] for one in found]):.2f}" for task in tasks]
            table.add_row(name, way, *means)
            print(name, way, *means, flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
