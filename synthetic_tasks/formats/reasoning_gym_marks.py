"""reasoning-gym's own scores of an answer, from 0 to 1, which often give part of a point.

Each function takes the parsed answer, None if there is none, and the right answer. They follow the
package's `score_answer` to the last bit, odd cases included: "17" gets half a point if 1 is right,
and a reversal with letters behind it gets up to 1.0. Use exact match to compare models.
"""

from __future__ import annotations

import ast
import re


def contained(found: str | None, answer: str) -> float:
    """Score by the share of the text that is the answer: ("17", "1") -> 0.5, ("3", "1") -> 0.0."""
    if not found or answer not in found:
        return 0.0
    return 1.0 if found == answer else len(answer) / len(found)


def by_place(found: str | None, answer: str) -> float:
    """Score by the share of the letters at their places, ignoring case: ("nut", "nus") -> 0.667.

    Letters behind the answer cost 0.2, or almost nothing: ("nusx", "nus") -> 1.0 - 0.2.
    """
    if found is None:
        return 0.0
    found, answer = found.lower(), answer.lower()
    if found == answer:
        return 1.0
    # Subtle: a sum of fractions, as in the package. Of seven letters it is 0.9999999999999998 and
    # not 1.0, so that nothing is subtracted.
    score = 0.0
    for a, b in zip(found, answer, strict=False):
        score += 1 / len(answer) if a == b else 0.0
    return score - 0.2 if score == 1.0 else score


def whole_or_list(found: str | None, answer: str) -> float:
    """Score the whole answer; a Python list of its letters gets 0.1."""
    if found is None:
        return 0.0
    if found == answer:
        return 1.0
    # The package evaluates the text as Python. Here it may only be a literal: nothing runs.
    try:
        joined = "".join(ast.literal_eval(found))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return 0.0
    return 0.1 if joined == answer else 0.0


def by_word(found: str | None, answer: str) -> float:
    """Score by the share of the words at their places, ignoring case."""
    if found is None:
        return 0.0
    found, answer = found.strip().lower(), answer.strip().lower()
    if found == answer:
        return 1.0
    words = answer.split()
    right = [a == b for a, b in zip(found.split(), words, strict=False)]
    # Summed and not counted, as in the package: the last digit may differ.
    return min(1.0, sum(1.0 / len(words) for hit in right if hit))


def is_palindrome_of(found: str, answer: str) -> bool:
    """Return whether a text is a palindrome of the answer's letters: there are many such."""
    found = found.strip().lower()
    return found == found[::-1] and sorted(found) == sorted(answer)


def palindrome(found: str | None, answer: str) -> float:
    """Score a palindrome of the right letters by 1, of others by 0.05, any other text by 0.02."""
    if not found:
        return 0.0
    if is_palindrome_of(found, answer):
        return 1.0
    text = found.strip().lower()
    return 0.05 if text == text[::-1] else 0.02


def _as_list(text: str) -> list[str]:
    return [word.strip() for word in re.split(r",\s*", text)]


def same_list(found: str, answer: str) -> bool:
    """Compare two lists with commas, whatever the spaces between the words."""
    return _as_list(found) == _as_list(answer)


def sorting(found: str | None, answer: str) -> float:
    """Score by the share of the words at their places; all words in a wrong order get 0.2."""
    if not found:
        return 0.0
    ours, theirs = _as_list(found), _as_list(answer)
    if ours == theirs:
        return 1.0
    score = sum(a == b for a, b in zip(ours, theirs, strict=False)) / len(theirs)
    return max(score, 0.2) if sorted(ours) == sorted(theirs) else score
