"""Every task by its name, and how a spec such as "path_star:2x5" becomes one. A new task is a line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from . import (
    contains,
    count,
    counting,
    delete,
    different,
    exchange,
    first_letter,
    functions,
    index,
    insert,
    last_index,
    last_letter,
    longer,
    nearer,
    nth_letter,
    path_star,
    reverse,
    spell,
    substitute,
    swap,
    unspell,
)
from .errors import TaskError
from .task import Material, Task
from .word_task import Recipe, WordTask

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        reverse,
        count,
        index,
        swap,
        spell,
        unspell,
        contains,
        first_letter,
        last_letter,
        nth_letter,
        last_index,
        different,
        insert,
        delete,
        substitute,
        exchange,
        longer,
        nearer,
    )
}
WORD_TASKS = tuple(RECIPES)


def build_word_task(name: str, sizes: str, material: Material) -> WordTask:
    if sizes:
        raise TaskError(
            f"the task {f'{name}:{sizes}'!r} has sizes, but {name} takes none: write {name}."
        )
    return WordTask(RECIPES[name], material)


# (name, sizes, material) -> Task; a spec without sizes has the sizes ""
TASKS: dict[str, Callable[[str, str, Material], Task]] = {
    **dict.fromkeys(RECIPES, build_word_task),
    "counting": counting.build,
    "counting_mfc": counting.build,
    "path_star": path_star.build,
    "functions": functions.build,
}


def build_task(spec: str, material: Material) -> Task:
    """The task that a spec names: "reverse", or with sizes "path_star:2x5", "counting:10x100". A weight,
    "reverse*3", is read and left out: it says how often a pool draws the task, not what it is.

    Raises TaskError for a name that is none, for sizes that cannot be, and for a weight that is none. Words
    are needed for drawing alone.
    """
    spec, _ = split_weight(spec)
    name, colon, sizes = spec.partition(":")
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}; choose from {', '.join(TASKS)}.")
    if colon and not sizes:
        raise TaskError(
            f"the task {spec!r} ends in a colon without sizes: write {name}, or the sizes behind the colon."
        )
    return TASKS[name](name, sizes, material)


def split_weight(spec: str) -> tuple[str, float]:
    """A spec and its weight in a pool: "reverse*3" -> ("reverse", 3.0), "count" -> ("count", 1.0).

    Raises TaskError for a weight that is no number above 0.
    """
    spec, star, weight = spec.partition("*")
    if not star:
        return spec, 1.0
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", weight) or not float(weight):
        raise TaskError(
            f"the task {f'{spec}*{weight}'!r} has the weight {weight!r}: write a number above 0, as in "
            f"{spec}*3 or {spec}*0.5."
        )
    return spec, float(weight)


def needs_words(specs: Iterable[str]) -> bool:
    """Whether any of the tasks is about words."""
    return any(re.split("[:*]", spec)[0] in RECIPES for spec in specs)
