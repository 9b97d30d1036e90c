"""The fields of a config: help, bounds, and names in saved files, beside each field.

`value(400, "pretraining steps", low=0)` makes a field. `check(section)` raises BadInput for the
first value out of bounds, and `allowed(item)` writes the bounds out, for --help and for messages.

`to_saved` and `from_saved` convert a section to plain JSON values and back. A field or a value may
have another name in saved files than in Python.
"""

from __future__ import annotations

import math
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, TypeVar

from training.errors import BadInput

T = TypeVar("T")
_LARGEST = 2**63 - 1  # torch stores whole numbers in 64 bits; larger ones would fail much later

# Fields of earlier versions, each with the only value that it ever had in a published result. The
# code behind them is gone, so a config that holds another value cannot be run again.
RETIRED: dict[str, Any] = {
    "word_share": 0.2, "token_share": 0.1, "token_count": 50, "tie": False, "token_dropout": 0.0,
}  # fmt: skip


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
        in all phases; a phase's name: a flag for this phase alone; None: only --set.
    saved: the field's name in saved files, if it is another; saved_values: {value: saved value}.
    """
    # metadata travels with the field, so that help, bounds and flags need no second table
    return field(default=default, metadata={"help": help, **facts})


def described(section: Any) -> list[Field[Any]]:
    """The fields made by `value`, in order: those that a user may set."""
    return [item for item in fields(section) if "help" in item.metadata]


def applies(item: Field[Any], model: str) -> bool:
    """Whether a field applies to a config with this `model`."""
    return bool(item.metadata.get("only", model) == model)


def to_saved(section: Any, model: str, defaults: bool = True) -> dict[str, Any]:
    """The fields of a section that apply to the model, as JSON values under their saved names.

    to_saved(DataConfig(tasks=("reverse",)), "decoder") -> {..., "tasks": ["reverse"], ...}

    `defaults`: include the fields that have their default value.
    """

    def plain(item: Field[Any], given: Any) -> Any:
        if is_dataclass(given):
            return to_saved(given, model, defaults)
        if isinstance(given, tuple):
            return [plain(item, each) for each in given]
        return item.metadata.get("saved_values", {}).get(given, given)

    return {
        _saved_name(item): plain(item, given)
        for item in fields(section)
        # a field that does not apply would be a number without a meaning in the hash of the run
        if applies(item, model)
        for given in [getattr(section, item.name)]
        # a field without help, such as a phase's name, tells which section it is: always written
        if defaults or "help" not in item.metadata or given != item.default
    }


def from_saved(kind: type[T], plain: dict[str, Any]) -> T:
    """Make a section from what `to_saved` wrote.

    Raises BadInput for a retired field with a value other than its default, and KeyError or
    TypeError for a field that is unknown, or missing and always written.
    """
    known = {_saved_name(item): item for item in fields(kind)}  # type: ignore[arg-type]
    found = {
        item.name: _from_plain(item, plain[name])
        for name, item in known.items()
        if name in plain or "help" not in item.metadata
    }
    for name in (name for name in plain if name not in known):
        if name not in RETIRED:
            # as a dataclass raises for an unknown argument; the caller handles both alike
            raise TypeError(f"it has the field {name}")
        if plain[name] != RETIRED[name]:
            raise BadInput(
                f"the saved config has {name} {plain[name]!r}, which this version does not "
                f"support; it can only read {RETIRED[name]!r}. Use the version of charembed that "
                "wrote it."
            )
    return kind(**found)


def _saved_name(item: Field[Any]) -> str:
    name: str = item.metadata.get("saved", item.name)
    return name


def _from_plain(item: Field[Any], saved: Any) -> Any:
    default: Any = item.default
    if isinstance(saved, dict):
        return from_saved(type(default), saved)
    if isinstance(saved, list) and is_dataclass(default[0]):
        return tuple(from_saved(type(default[0]), each) for each in saved)
    if isinstance(saved, list):
        return tuple(saved)  # JSON has no tuples
    own = {written: value for value, written in item.metadata.get("saved_values", {}).items()}
    return own.get(saved, saved)


def check(section: Any) -> None:
    """Raise BadInput for the first field whose value is out of bounds."""
    for item in described(section):
        check_field(item, getattr(section, item.name), item.name)


def check_field(item: Field[Any], given: Any, name: str) -> None:
    """Raise BadInput if the value is out of bounds; the message calls the field `name`."""
    if isinstance(given, tuple):
        known = set(item.metadata.get("some_of", lambda: given)())
        # a name twice would train the same arm twice into one folder
        if not given or len(set(given)) != len(given) or not set(given) <= known:
            raise BadInput(
                f"{name} is {','.join(given)!r}; name {allowed(item) or 'at least one'}, each "
                "once, with commas between."
            )
    elif isinstance(given, str) and not given.strip():
        raise BadInput(f"{name} is empty: give it a value, or leave it out for {item.default!r}.")
    elif not _is_allowed(item, given):
        former = {old: new for new, old in item.metadata.get("saved_values", {}).items()}
        now = f" ({given} is now {former[given]})" if given in former else ""
        finite = ", and finite" if isinstance(given, float) and not math.isfinite(given) else ""
        raise BadInput(f"{name} is {given!r}; it must be {allowed(item)}{finite}{now}.")
    elif isinstance(given, int) and given > _LARGEST:
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
    bounds = {"above": "above {}", "low": "{} or more", "below": "below {}"}
    return " and ".join(text.format(facts[key]) for key, text in bounds.items() if key in facts)
