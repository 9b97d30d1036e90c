"""Specs of benchmarks: "cute", "cute=FOLDER", "cute@paper=FOLDER:spell+orth"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from synthetic_tasks.draws import stream
from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import BenchmarkTask, Format

_TASKS = re.compile(r"[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*")


class BenchmarkSpec(NamedTuple):
    """A benchmark, where its items are, and the part of it that is wanted.

    Attributes:
        name: of the format, "cute".
        marking: one of the format's other rules of scoring, "paper"; "" for the authors' own.
        source: a folder, "hf:NAME", or "" for an imitation.
        tasks: names without that of the format; () for all.
    """

    name: str
    marking: str = ""
    source: str = ""
    tasks: tuple[str, ...] = ()

    def check(self, form: Format) -> None:
        """Raise TaskError if the format has no such marking."""
        markings = getattr(form, "markings", {})  # a format of a user's own may have none
        if self.marking and self.marking not in markings:
            known = ", ".join(f"{self.name}@{each}" for each in markings) or f"{self.name} alone"
            raise TaskError(f"{self.name} has no scoring rule {self.marking!r}. Write {known}.")

    def choose(self, form: Format, tasks: Sequence[BenchmarkTask]) -> list[BenchmarkTask]:
        """Return the wanted tasks, with the wanted marking. Raises TaskError for an unknown one."""
        known = {task.name.partition("/")[2]: task for task in tasks}
        if missing := [each for each in self.tasks if each not in known]:
            have = ", ".join(known)
            raise TaskError(f"{self.name} has no task {missing[0]!r} here. Choose from {have}.")
        chosen = [known[each] for each in self.tasks] or list(tasks)
        self.check(form)
        return [form.markings[self.marking](task) for task in chosen] if self.marking else chosen


def parse_spec(spec: str) -> BenchmarkSpec:
    """Parse a spec: "cute@paper=FOLDER:spell+orth" -> ("cute", "paper", "FOLDER", (spell, orth)).

    A colon in the path of an existing file or folder is part of the path.
    """
    before, _, source = spec.partition("=")
    before, _, tasks = before.partition(":")
    name, _, marking = before.partition("@")
    place, colon, after = source.rpartition(":")
    if colon and place != "hf" and _TASKS.fullmatch(after) and not Path(source).exists():
        source, tasks = place, after
    # Each once: a task that is named twice is asked once.
    return BenchmarkSpec(
        name, marking, source, tuple(dict.fromkeys(filter(None, tasks.split("+"))))
    )


def sample(items: Sequence[Item], n: int | None, *key: int | str) -> Sequence[Item]:
    """Draw n items, in their order; None, or a larger n, keeps all. A larger n keeps the same ones.

    The same key gives the same items.
    """
    if n is None or n >= len(items):
        return items
    order = stream(*key).sample(range(len(items)), len(items))
    return [items[number] for number in sorted(order[:n])]
