"""Checks of messages that leave the wording free: the class, the value seen and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def says(text: object, *parts: str) -> None:
    """Assert that every word of `parts` occurs in `text`: `says(error, "lr nan", "--jobs")`.

    A word is a value (a number, a name, a path) or the fix (a flag, a function). Case does not
    matter. "3" is found in "3 rows" and "(3)", not in "13 rows".
    """
    shown = str(text)
    for word in " ".join(parts).split():
        start = r"(?<!\w)" if word[0].isalnum() else ""
        end = r"(?!\w)" if word[-1].isalnum() else ""
        if not re.search(start + re.escape(word) + end, shown, re.IGNORECASE):
            raise AssertionError(f"{word!r} is not in {shown!r}")


@contextmanager
def raises(
    error: type[BaseException] | tuple[type[BaseException], ...], *parts: str
) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Like `pytest.raises`; the message must hold `parts`, as `says` reads them."""
    with pytest.raises(error) as raised:
        yield raised
    says(raised.value, *parts)


@contextmanager
def warns(warning: type[Warning], *parts: str) -> Iterator[None]:
    """Like `pytest.warns`; one warning must hold `parts`, as `says` reads them."""
    with pytest.warns(warning) as seen:
        yield
    problems = []
    for one in seen:
        try:
            says(one.message, *parts)
        except AssertionError as problem:
            problems.append(str(problem))
        else:
            return
    raise AssertionError("; ".join(problems))
