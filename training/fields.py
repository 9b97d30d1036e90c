"""The fields of a config: beside each, what it is for and which values it may have; one check reads that.

`value(400, "pretraining steps", low=0)` makes a field; `check(section)` raises BadInput for the first value
out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, field, fields
from typing import Any

from .errors import BadInput


def value(default: Any, help: str, **facts: Any) -> Any:
    """A field with its help and its bounds. Facts that are known:

    low: the smallest value; above: a value that it must exceed; below: a value that it must stay under.
    choices: the values there are; some_of: the values that a tuple may hold, each once.
    distinct: a tuple that holds something, and each thing once.
    kinds: the kinds of phase that use it; bare: the phase whose flag has no prefix, or "every".
    only: the model that it is about.
    """
    return field(default=default, metadata={"help": help, **facts})


def described(section: Any) -> list[Field[Any]]:
    """The fields that `value` made, in order: those a user may set."""
    return [item for item in fields(section) if "help" in item.metadata]


def check(section: Any, prefix: str = "") -> None:
    """Raise BadInput for the first field whose value is out of bounds; `prefix` goes before its name."""
    for item in described(section):
        check_field(item, getattr(section, item.name), prefix + item.name)


def check_field(item: Field[Any], given: Any, name: str) -> None:
    facts = item.metadata
    if (choices := facts.get("choices")) and given not in choices:
        raise BadInput(f"{name} is {given!r}; choose one of {', '.join(choices)}.")
    if "some_of" in facts or "distinct" in facts:
        check_names(name, given, facts.get("some_of"))
    if facts.get("low") == 0 and "below" in facts:
        if not 0 <= given < facts["below"]:
            raise BadInput(
                f"{name} is {given}; it must lie in 0 to {facts['below']}, without {facts['below']}."
            )
    elif facts.get("low") == 0 and not given >= 0:
        raise BadInput(f"{name} is {given}; it cannot be negative.")
    elif "low" in facts and not given >= facts["low"]:
        raise BadInput(f"{name} is {given}; it must be at least {facts['low']}.")
    elif "above" in facts and not given > facts["above"]:
        raise BadInput(
            f"{name} is {given}; it must be above {'zero' if facts['above'] == 0 else facts['above']}."
        )


def check_names(name: str, given: Sequence[str], known: Sequence[str] | None) -> None:
    if not given or len(set(given)) != len(given) or (known is not None and not set(given) <= set(known)):
        some = f"some of {', '.join(known)}" if known is not None else "at least one"
        raise BadInput(f"{name} is {','.join(given)!r}; name {some}, each once, with commas between.")
