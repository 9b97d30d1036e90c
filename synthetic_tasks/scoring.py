"""Marking answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .errors import TaskError

END = "\n"  # closes every answer, so that a model can say that it is done


def read_answer(generated: str) -> str:
    """What a model answered: its text up to the end mark, without the space around it.

    " a e t\\nreverse" -> "a e t"
    """
    return generated.split(END, 1)[0].strip()


def is_right(generated: str, expected: str) -> bool:
    """Exact match of the whole answer."""
    return read_answer(generated) == expected.strip()


def majority_baseline(answers: Sequence[str]) -> float:
    """The share that one constant answer, the most frequent one, gets right. ["1", "1", "2"] -> 0.667"""
    if not answers:
        raise TaskError("there are no answers to score: ask at least one question.")
    return Counter(answers).most_common(1)[0][1] / len(answers)
