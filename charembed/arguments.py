"""Checks of numbers that users pass: one sentence with the name, the value and the range."""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any

from .errors import AttachError, CharEmbedError

_LAST_SEED = 2**62  # torch takes 64 bits, and seeds of characters are seed + code point


def check_int(name: str, value: Any, least: int, error: type[CharEmbedError] = AttachError) -> None:
    """Raise an error if the value is no int of at least `least`."""
    if type(value) is not int or value < least:
        raise error(f"{name} is {value!r}; it must be an int of at least {least}.")


def check_seed(value: Any, error: type[CharEmbedError] = AttachError) -> None:
    """Raise an error if torch does not take this seed."""
    if type(value) is not int or abs(value) >= _LAST_SEED:
        raise error(f"seed is {value!r}; it must be an int between -2**62 and 2**62.")


def check_number(name: str, value: Any, example: object, *, zero: bool = True) -> None:
    """Raise AttachError if the value is no finite number of at least 0, or above 0 without `zero`.

    check_number("lr", "3e-4", 3e-4) -> AttachError: lr is '3e-4'; it must be ...
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if number and isinstance(value, int):  # math.isfinite raises an error for 10**400
        number = value <= sys.float_info.max
    elif number:
        number = math.isfinite(value)
    if not (number and (value >= 0 if zero else value > 0)):
        range_ = "a number of 0 or more" if zero else "a number above 0"
        raise AttachError(f"{name} is {value!r}; it must be {range_}, such as {example}.")
