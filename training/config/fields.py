"""The fields of a config: beside each, what it is for and which values it may have; one check reads that.

`value(400, "pretraining steps", low=0)` makes a field; `check(section)` raises BadInput for the first value
out of bounds; `allowed(item)` says the bounds in words, for --help and for messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, field, fields
from typing import Any

from training.errors import BadInput

LARGEST = 2**63 - 1  # whole number that a tensor can hold; fields of whole numbers go no further


def value(default: Any, help: str, **facts: Any) -> Any:
    """A field with its help and its bounds. Facts that are known:

    low: the smallest value; high, beside it: the largest one.
    above: a value that it must exceed; below: a value that it must stay under.
    choices: the values there are; some_of: the values that a tuple may hold, each once.
    kinds: the kinds of phase that use it; bare: the phase whose flag has no prefix, or "every".
    only: the model that it is about.
    """
    return field(default=default, metadata={"help": help, **facts})


def described(section: Any) -> list[Field[Any]]:
    """The fields that `value` made, in order: those a user may set."""
    return [item for item in fields(section) if "help" in item.metadata]


def check(section: Any) -> None:
    """Raise BadInput for the first field whose value is out of bounds."""
    for item in described(section):
        check_field(item, getattr(section, item.name), item.name)


def check_field(item: Field[Any], given: Any, name: str) -> None:
    if isinstance(given, tuple):
        check_names(name, given, item.metadata.get("some_of"))
    elif isinstance(given, str) and not given.strip():
        raise BadInput(f"{name} is empty: give it a value, or leave it out for {item.default!r}.")
    elif not is_allowed(item, given):
        raise BadInput(f"{name} is {given!r}; it must be {allowed(item)}.")
    elif isinstance(given, int) and given > item.metadata.get("high", LARGEST):
        raise BadInput(f"{name} is {given}; it must be at most {LARGEST}.")


def is_allowed(item: Field[Any], given: Any) -> bool:
    """Is this value one of the choices, or a number within the bounds? NaN and infinity are within none."""
    facts = item.metadata
    if "choices" in facts:
        return given in facts["choices"]
    if isinstance(given, str | bool):
        return True
    return (
        (isinstance(given, int) or math.isfinite(given))
        and facts.get("low", -math.inf) <= given <= facts.get("high", math.inf)
        and facts.get("above", -math.inf) < given < facts.get("below", math.inf)
    )


def allowed(item: Field[Any]) -> str:
    """The values that a field may have, in words; nothing where any text will do.

    "one of muon, adamw"; "1 or more"; "above 0 and below 1"
    """
    facts = item.metadata
    if "choices" in facts:
        return f"one of {', '.join(facts['choices'])}"
    if "some_of" in facts:
        return f"some of {', '.join(facts['some_of'])}"
    if "high" in facts:
        return f"{facts['low']} to {facts['high']}"
    bounds = [f"above {facts['above']}"] if "above" in facts else []
    bounds += [f"{facts['low']} or more"] if "low" in facts else []
    bounds += [f"below {facts['below']}"] if "below" in facts else []
    return " and ".join(bounds)


def check_names(name: str, given: Sequence[str], known: Sequence[str] | None) -> None:
    if (
        not given
        or len(set(given)) != len(given)
        or (known is not None and not set(given) <= set(known))
    ):
        some = f"some of {', '.join(known)}" if known is not None else "at least one"
        raise BadInput(
            f"{name} is {','.join(given)!r}; name {some}, each once, with commas between."
        )
