"""Questions about words that became single tokens after training, to a trained model.

No training data can have contained such a token, and nothing is trained on it. The same questions
are asked in three ways (WAYS): the words in their former tokens, as a reference; and as one new
token each, whose row of the embedding is the mean of the former tokens' rows, or the row that a
ridge regression predicts from the spelling, as `charembed.add_tokens` fills it. An arm with a
character encoder adds the character vector of the new token to the row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import charembed
from charembed.new_tokens import predicted_rows
from synthetic_tasks import build_task, distinct, one_list, stream
from training.data.prepare import Data
from training.data.tokenizers import Tokenizer
from training.errors import BadInput
from training.intervals import Row
from training.models.arms import TableEncoder
from training.models.language_model import LanguageModel

from .eval_sets import EvalSet
from .run_evaluation import evaluate_arm

IN_PIECES, MEAN, SPELLED = "in_pieces", "added_tokens_mean", "added_tokens"
# The ways, which are also names of splits.
WAYS = {
    IN_PIECES: "the words in their former tokens",
    MEAN: "one new token each, the mean of the former tokens' rows",
    SPELLED: "one new token each, with the row that its spelling predicts",
}


class Added(NamedTuple):
    """The scores of a way: a row for each task and metric, and by task the score of each question."""

    rows: list[Row]
    right: dict[str, list[bool]]


class WithWords:
    """A tokenizer in which some words, after a space, are one token each."""

    def __init__(self, tokenizer: Tokenizer, words: Sequence[str]) -> None:
        self.tokenizer, self.source, self.end = tokenizer, tokenizer.source, tokenizer.end
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


def words_in_pieces(data: Data) -> list[str]:
    """The unseen words of several tokens; [] if no task of the run is about words."""
    unseen = [] if data.splits is None else data.splits["unseen_words"]
    return [word for word in unseen if len(data.tokenizer.encode_word(word)) > 1]


def new_words(data: Data, number: int) -> list[str]:
    """Draw unseen words of several tokens, the same ones for every arm and seed.

    new_words(data, 200) -> ["fathom", ...]. Raises BadInput if there are fewer.
    """
    several = words_in_pieces(data)
    if len(several) < number:
        raise BadInput(
            f"--words is {number}, and the run has {len(several)} such words: use fewer."
        )
    return stream("added tokens").sample(several, number)


@torch.no_grad()
def grow(model: LanguageModel, data: Data, words: Sequence[str], way: str, arm: str = "") -> None:
    """Add a row for each word to the input embedding, in place. The output layer stays.

    A character encoder reads the word; in the arm `shuffled`, another one of the words. A second
    table, as in `matched`, gets the mean of the rows of the former tokens.
    """
    embedding: Any = model.get_submodule(model.embedding)
    table, first = embedding.weight.data, len(embedding.weight)
    spellings = [*data.tokenizer.spellings, *(f" {word}".encode() for word in words)]
    assert first == len(data.tokenizer.spellings)
    pieces = {first + i: data.tokenizer.encode_word(word) for i, word in enumerate(words)}
    if way == MEAN:
        rows = torch.stack([table[ids].mean(0) for ids in pieces.values()])
    else:
        (rows,) = predicted_rows([table], spellings, first, pieces)
    grown: Tensor = torch.cat([table, rows.to(table)])
    embedding.weight = torch.nn.Parameter(grown, requires_grad=embedding.weight.requires_grad)
    embedding.num_embeddings = len(grown)
    if not isinstance(embedding, charembed.CharEmbedding):
        return
    encoder = embedding.encoder
    if isinstance(encoder, TableEncoder):
        encoder.add_means(list(pieces.values()))
        return
    added = spellings[first:]
    if arm == "shuffled":
        stream("added tokens", arm).shuffle(added)
    # not those of the tokenizer: the arm `shuffled` has other ones
    charembed.update_spellings(model, [*embedding.spellings.to_bytes(), *added])


def ask_about_words(
    model: LanguageModel,
    data: Data,
    arm: str,
    seed: int,
    words: Sequence[str],
    way: str,
    questions: int,
) -> Added:
    """Ask a trained decoder about some words, in one of WAYS.

    ask_about_words(model, data, "lstm", 0, words, "added_tokens", 250).rows[0].split
    -> "added_tokens"

    Arguments:
        model: gets rows for the words, except for "in_pieces": give a model of its own to each
            call.
        data: of the arm; its tokenizer does not have the words as tokens.
        questions: of each task, 1 or more.
    """
    if way != IN_PIECES:
        grow(model, data, words, way, arm)
        # Any: it encodes questions alone, no corpus, and so lacks the methods for one
        tokenizer: Any = WithWords(data.tokenizer, words)
        data = replace(data, tokenizer=tokenizer)
    material = replace(data.material, words=one_list(list(words)))
    tasks = [build_task(spec, material) for spec in data.config.data.tasks]
    sets = [EvalSet(task, way, distinct(task, "seen", questions, "added")) for task in tasks]
    rows, answers = evaluate_arm(model, data, sets, arm, seed)
    right: dict[str, list[bool]] = {}
    for one in answers:
        right.setdefault(one["task"], []).append(one["right"])
    return Added(rows, right)
