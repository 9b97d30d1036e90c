"""The fields of a config: help, bounds, and names in saved files, beside each field.

`value(400, "pretraining steps", low=0)` makes a field. `check(section)` raises BadInput for the
first value out of bounds, and `allowed(item)` writes the bounds out, for --help and for messages.

`to_saved(section)` and `from_saved(kind, plain)` convert a section to plain JSON values and back. A
field or a value may have another name in saved files than in Python. Nothing outside this file
knows the saved names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any

from training.errors import BadInput

_LARGEST = 2**63 - 1  # torch stores whole numbers in 64 bits; larger ones would fail much later

# Fields of earlier versions, each with the only value that it ever had in a published result. The
# code behind them is gone, so a config that holds another value cannot be run again.
RETIRED: dict[str, Any] = {
    "first_seed": 0,
    "word_share": 0.2,
    "token_share": 0.1,
    "token_count": 50,
    "tie": False,
    "token_dropout": 0.0,
}


def value(default: Any, help: str, **facts: Any) -> Any:
    """Make a field of a config with its help text and its bounds. The facts:

    low, high: the smallest and the largest value.
    above, below: the value must be larger, or smaller, than this one.
    choices: the possible values.
    some_of: a function that returns the values that a tuple may hold, each once.
    kinds: the kinds of phase that use the field.
    only: the value of `model` that the field applies to.
    group: the field's group in --help, if it is not its section's.
    flag: of fields of a phase. "each": one flag for each phase; "all": one flag that sets the field
        in all phases; a phase's name: a flag for this phase alone; None: no flag, but settable with
        --set.
    saved: the field's name in saved files, if it is another; saved_values: {value: saved value}.
    """
    # metadata travels with the field, so that help, bounds and flags need no second table
    return field(default=default, metadata={"help": help, **facts})


def described(section: Any) -> list[Field[Any]]:
    """The fields made by `value`, in order: those that a user may set."""
    return [item for item in fields(section) if "help" in item.metadata]


def saved_name(item: Field[Any]) -> str:
    """The key of a field in saved files."""
    name: str = item.metadata.get("saved", item.name)
    return name


def to_saved(section: Any, defaults: bool = True) -> dict[str, Any]:
    """A section as plain JSON values, under the names of saved files.

    to_saved(DataConfig(tasks=("reverse",))) -> {..., "tasks": ["reverse"], ...}

    `defaults`: include the fields that have their default value.
    """
    return {
        saved_name(item): _plain(item, given, defaults)
        for item in fields(section)
        for given in [getattr(section, item.name)]
        # a field without help, such as a phase's name, tells which section it is: always written
        if defaults or "help" not in item.metadata or given != item.default
    }


def _plain(item: Field[Any], given: Any, defaults: bool) -> Any:
    if is_dataclass(given) and not isinstance(given, type):
        return to_saved(given, defaults)
    if isinstance(given, tuple):
        return [_plain(item, each, defaults) for each in given]
    return item.metadata.get("saved_values", {}).get(given, given)


def from_saved(kind: type[Any], plain: dict[str, Any], **given: Any) -> Any:
    """Make a section from what `to_saved` wrote; `given` are fields that the caller has read
    already.

    Raises BadInput for a retired field with a value other than its default, and TypeError for a
    field that is unknown, or missing and without a default.
    """
    known, found = {saved_name(item): item for item in fields(kind)}, dict(given)
    for name, saved in plain.items():
        if name in known:
            found.setdefault(known[name].name, _from_plain(known[name], saved))
        # TypeError, as a dataclass raises for an unknown argument; the caller handles both alike
        elif name not in RETIRED:
            raise TypeError(f"it has the field {name}")
        elif saved != RETIRED[name]:
            raise BadInput(
                f"the saved config has {name} {saved!r}, which this version does not support; it "
                f"can only read {RETIRED[name]!r}. Use the version of charembed that wrote it."
            )
    return kind(**found)


def _from_plain(item: Field[Any], saved: Any) -> Any:
    # JSON has no tuples
    if isinstance(saved, list):
        return tuple(saved)
    for own, written in item.metadata.get("saved_values", {}).items():
        if saved == written:
            return own
    return saved


def check(section: Any) -> None:
    """Raise BadInput for the first field whose value is out of bounds."""
    for item in described(section):
        check_field(item, getattr(section, item.name), item.name)


def check_field(item: Field[Any], given: Any, name: str) -> None:
    """Raise BadInput if the value is out of bounds; the message calls the field `name`."""
    if isinstance(given, tuple):
        known = item.metadata["some_of"]() if "some_of" in item.metadata else None
        _check_names(name, given, known)
    elif isinstance(given, str) and not given.strip():
        raise BadInput(f"{name} is empty: give it a value, or leave it out for {item.default!r}.")
    elif not _is_allowed(item, given):
        raise BadInput(f"{name} is {given!r}; it must be {allowed(item)}.")
    elif isinstance(given, int) and given > item.metadata.get("high", _LARGEST):
        raise BadInput(f"{name} is {given}; it must be at most {_LARGEST}.")


def _is_allowed(item: Field[Any], given: Any) -> bool:
    """Whether a value is one of the choices, or a number within the bounds (never NaN)."""
    facts = item.metadata
    if "choices" in facts:
        return given in facts["choices"]
    # text without choices is checked when it is used, as a file or a name
    if isinstance(given, str | bool):
        return True
    return (
        (isinstance(given, int) or math.isfinite(given))
        and facts.get("low", -math.inf) <= given <= facts.get("high", math.inf)
        and facts.get("above", -math.inf) < given < facts.get("below", math.inf)
    )


def allowed(item: Field[Any]) -> str:
    """The values that a field may have, in words; empty if any text is allowed.

    "one of muon, adamw"; "1 or more"; "above 0 and below 1"
    """
    facts = item.metadata
    if "choices" in facts:
        return f"one of {', '.join(facts['choices'])}"
    if "some_of" in facts:
        return f"some of {', '.join(facts['some_of']())}"
    if "high" in facts:
        return f"{facts['low']} to {facts['high']}"
    bounds = [f"above {facts['above']}"] if "above" in facts else []
    bounds += [f"{facts['low']} or more"] if "low" in facts else []
    bounds += [f"below {facts['below']}"] if "below" in facts else []
    return " and ".join(bounds)


def _check_names(name: str, given: Sequence[str], known: Sequence[str] | None) -> None:
    # a name twice would train the same arm twice into one folder
    unknown = known is not None and not set(given) <= set(known)
    if not given or len(set(given)) != len(given) or unknown:
        some = f"some of {', '.join(known)}" if known is not None else "at least one"
        raise BadInput(
            f"{name} is {','.join(given)!r}; name {some}, each once, with commas between."
        )
