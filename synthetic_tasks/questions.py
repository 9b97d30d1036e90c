"""Draw questions: question i is a function of (seed, i) alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random

from . import count, index, reverse, swap
from .task import Question, Task

TASKS: dict[str, Task] = {module.TASK.name: module.TASK for module in (reverse, count, index, swap)}


def stream(*key: int | str) -> Random:
    """A private source of chance for one item: the same key gives the same numbers on every machine."""
    return Random(" ".join(map(str, key)))


class QuestionPool:
    """The words of one split, sorted by the kinds of question they can serve.

    QuestionPool(words, ["reverse", "count"]).draw(rng) -> Question("count", "banana", ("a",), "3")

    A kind is drawn first, then a word for it, so that each answer of count and index is about equally frequent.
    Raises ValueError for an unknown task, or when no word serves a task.
    """

    def __init__(self, words: Sequence[str], tasks: Sequence[str] = tuple(TASKS)) -> None:
        if unknown := [task for task in tasks if task not in TASKS]:
            raise ValueError(f"there is no task {unknown[0]!r}; choose from {', '.join(TASKS)}.")
        if not words or not tasks:
            raise ValueError(f"{len(words)} words and {len(tasks)} tasks make no question: pass at least one of each.")
        self.tasks = tuple(tasks)
        self._words: dict[str, list[tuple[int, Sequence[str]]]] = {}
        for task in self.tasks:
            by_kind: defaultdict[int, list[str]] = defaultdict(list)
            for word in words:
                for kind in TASKS[task].kinds(word):
                    by_kind[kind].append(word)
            self._words[task] = sorted(by_kind.items())

    def draw(self, rng: Random, task: str | None = None) -> Question:
        task = task or rng.choice(self.tasks)
        kind, words = rng.choice(self._words[task])
        return TASKS[task].ask(rng.choice(words), kind, rng)

    def distinct(self, task: str, n: int, *key: int | str) -> Iterator[Question]:
        """Up to n different questions of one task, fewer where the words give no more within 20 n draws."""
        asked: set[Question] = set()
        for i in range(20 * n):
            question = self.draw(stream(task, *key, i), task)
            if question not in asked:
                asked.add(question)
                yield question
            if len(asked) == n:
                return
