"""Exact match by the word of a question: its letters, its tokens, its rarest token in the text.

The questions are those about new words: training words are left out, because a model can have
learnt their answers. All other splits of a task are taken together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from synthetic_tasks import Item, Task
from training.ask.eval_sets import make_eval_sets
from training.data.prepare import Data
from training.errors import BadInput
from training.intervals import Row, share_over_runs

LEAST = 10  # questions of a bin; fewer have intervals of half the scale
LETTERS, TOKENS, RAREST = "word letters", "word tokens", "rarest token"
LONGEST = "longest token"  # not on the page of a run
AXES = {
    LETTERS: "Letters of the word",
    TOKENS: "Tokens of the word",
    RAREST: "Occurrences of the word's rarest token in the training text",
}
_Place = tuple[Any, str, str, str]  # seed, task, split, prompt


class Bin(NamedTuple):
    """The words of one bin: Bin(1, "1 to 2", "1+"); `low` is the smallest value, for the order."""

    low: int
    name: str
    short: str


class BinRow(NamedTuple):
    """The share of right answers of one arm in one bin, with its interval; `row.n` questions."""

    axis: str
    bin: Bin
    row: Row


def breakdown(
    answers: Sequence[Mapping[str, Any]], data: Data, *, longest: bool = False
) -> list[BinRow]:
    """Return exact match by axis, task, bin and arm, over seeds, in this order.

    A task that is not about words has no rows. Nor has one whose questions cannot be found again:
    runs of older versions have no keys of their questions, and a later version can draw other ones.

    Arguments:
        answers: the lines of answers.jsonl with arm and seed.
        longest: also by the letters of the word's longest token.
    """
    tasks = {task.name: task for task in data.tasks}
    items = _items(answers, data)
    bins_of = _binner(data)
    trained = frozenset(data.splits.seen if data.splits else ())
    cells: defaultdict[tuple[str, str, Bin], list[tuple[Mapping[str, Any], Item]]]
    cells = defaultdict(list)
    unknown = set()
    for one in answers:
        task = tasks[one["task"]]
        if one["split"] == task.splits[0].name:
            continue
        if (item := items(one)) is None:
            unknown.add(task.name)
            continue
        # The wording "varied" has another split about training words.
        if (subject := task.subject(item)) is not None and subject.word not in trained:
            for axis, of_word in bins_of(subject.word, item.prompt):
                if axis == LONGEST and not longest:
                    continue
                cells[axis, task.name, of_word].append((one, item))
    order = list(tasks)
    axes = [*AXES, LONGEST]
    places = sorted(cells, key=lambda cell: (axes.index(cell[0]), order.index(cell[1]), cell[2]))
    return [
        BinRow(axis, of_word, row)
        for axis, name, of_word in places
        if name not in unknown
        for row in _rows(axis, tasks[name], of_word, cells[axis, name, of_word])
    ]


def _rows(
    axis: str, task: Task, of_word: Bin, found: Sequence[tuple[Mapping[str, Any], Item]]
) -> Iterator[Row]:
    """A row for each arm of a cell, if it has enough questions."""
    by_arm: dict[str, dict[Any, list[bool]]] = {}
    for one, _ in found:
        by_arm.setdefault(one["arm"], {}).setdefault(one["seed"], []).append(one["right"])
    first = next(iter(by_arm))
    # arms have the same questions, so those of one arm make the baseline
    baseline = task.baseline([item for one, item in found if one["arm"] == first])
    for arm, by_seed in by_arm.items():
        hits, ns = [sum(of) for of in by_seed.values()], [len(of) for of in by_seed.values()]
        if (n := sum(ns)) >= LEAST:
            low, high = share_over_runs(hits, ns)
            metric = f"exact_match[{axis}={of_word.name}]"
            # all questions weigh alike: seeds have different numbers of words in a bin
            yield Row(arm, "mean", task.name, "new", metric, sum(hits) / n, low, high, n, baseline)


def _items(asked: Iterable[Mapping[str, Any]], data: Data) -> Any:
    """Return a function from an answer to its item, None if it cannot be found."""

    @cache  # drawn only for runs of versions that wrote no keys
    def drawn() -> dict[_Place, Item]:
        seeds = dict.fromkeys(one["seed"] for one in asked)
        return {
            (seed, one.task.name, one.split, item.prompt): item
            for seed in seeds
            for one in make_eval_sets(data, seed)
            for item in one.items
        }

    def item_of(one: Mapping[str, Any]) -> Item | None:
        if "key" in one:
            # a scratchpad is part of "expected", but of no answer that a baseline can give
            answer = " " + one["expected"].rpartition("= ")[2]
            return Item(one["prompt"], answer, one["key"])
        return drawn().get((one["seed"], one["task"], one["split"], one["prompt"]))

    return item_of


def _binner(data: Data) -> Any:
    """Return a function from a word and its prompt to (axis, bin) of each axis."""
    counts_V = data.counts_V

    @cache
    def token_bins(word: str) -> tuple[tuple[str, Bin], ...]:
        try:
            ids = data.tokenizer.encode_word(word)  # after a space, as in a prompt
        except BadInput:  # a word without tokens of its own
            return ()
        rarest = min(int(counts_V[i]) for i in ids)
        spellings = (data.tokenizer.spellings[i] or b"" for i in ids)
        most = max(len(spelling.decode(errors="replace").strip()) for spelling in spellings)
        return (
            (TOKENS, Bin(len(ids), str(len(ids)), str(len(ids)))),
            (RAREST, count_bin(rarest)),
            (LONGEST, Bin(most, str(most), str(most))),
        )

    def bins_of(word: str, prompt: str) -> Iterator[tuple[str, Bin]]:
        yield LETTERS, Bin(len(word), str(len(word)), str(len(word)))
        # a word that is written letter by letter is read in other tokens
        if word in prompt:
            yield from token_bins(word)

    return bins_of


def count_bin(count: int) -> Bin:
    """Return the bin of a count; there are two in each power of ten.

    0 -> "0"; 7 -> "3 to 9", 12 -> "10 to 29", 1234 -> "1,000 to 2,999"; short "3+", "10+", "1k+"
    """
    if not count:
        return Bin(0, "0", "0")
    power = 10 ** (len(str(count)) - 1)
    low, high = (power, 3 * power) if count < 3 * power else (3 * power, 10 * power)
    short = f"{low // 1000}k+" if low >= 1000 else f"{low}+"
    return Bin(low, f"{low:,} to {high - 1:,}", short)
