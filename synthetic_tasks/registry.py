"""All tasks by name, and the parser of specs such as "path_star:2x5". A new task is a line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .errors import TaskError
from .sequences import counting, functions, path_star
from .task import Material, Task
from .word_tasks.recipes import RECIPES
from .word_tasks.word_task import WordTask

WORD_TASKS = tuple(RECIPES)


def _build_word_task(name: str, sizes: str, material: Material) -> WordTask:
    if sizes:
        raise TaskError(f"the task {f'{name}:{sizes}'!r} has sizes; {name} has none. Write {name}.")
    return WordTask(RECIPES[name], material)


# Name -> function of (name, sizes, material); the sizes are "" if the spec has none.
TASKS: dict[str, Callable[[str, str, Material], Task]] = {
    **dict.fromkeys(RECIPES, _build_word_task),
    "counting": counting.build,
    "counting_mfc": counting.build,
    "path_star": path_star.build,
    "functions": functions.build,
}


def build_task(spec: str, material: Material) -> Task:
    """Build the task of a spec: "reverse", or with sizes "path_star:2x5", "counting:10x100".

    A weight, "reverse*3", is checked and ignored: it belongs to the pool, not to the task.

    Raises TaskError for an unknown name, impossible sizes or a bad weight.
    """
    spec, _ = split_weight(spec)
    name, colon, sizes = spec.partition(":")
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}; choose from {', '.join(TASKS)}.")
    if colon and not sizes:
        raise TaskError(f"the task {spec!r} ends in a colon. Write {name}, or add the sizes.")
    return TASKS[name](name, sizes, material)


def split_weight(spec: str) -> tuple[str, float]:
    """Split a spec into task and weight: "reverse*3" -> ("reverse", 3.0); the default is 1.0.

    Raises TaskError if the weight is not a number above 0.
    """
    spec, star, weight = spec.partition("*")
    if not star:
        return spec, 1.0
    # Plain decimals only: float() would also take "1e9", "nan" and "inf".
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", weight) or not float(weight):
        raise TaskError(
            f"the weight of the task {f'{spec}*{weight}'!r} is {weight!r}; "
            f"it must be a number above 0, as in {spec}*3 or {spec}*0.5."
        )
    return spec, float(weight)


def needs_words(specs: Iterable[str]) -> bool:
    """Return whether any of the tasks is about words."""
    # Sizes and weights are cut off unchecked: build_task checks them.
    return any(re.split("[:*]", spec)[0] in RECIPES for spec in specs)
