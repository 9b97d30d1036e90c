"""Objects by name: a compiled operator takes tensors and strings only, so it finds what it works for here."""

from __future__ import annotations

import itertools
from typing import Any
from weakref import WeakValueDictionary

from .errors import CharEmbedError

_OBJECTS: WeakValueDictionary[str, Any] = WeakValueDictionary()
_NUMBERS = itertools.count()


def register(thing: Any) -> str:
    """A name for `thing`, good as long as something else holds it."""
    key = f"{type(thing).__name__} {next(_NUMBERS)}"
    _OBJECTS[key] = thing
    return key


def find(key: str) -> Any:
    """What was registered under this name. Raises CharEmbedError when it is gone, or never was in this process."""
    try:
        return _OBJECTS[key]
    except KeyError:
        raise CharEmbedError(
            f"a compiled or exported graph looks for {key!r}, which is not in this process: fold the model before it is exported or freed."
        ) from None
