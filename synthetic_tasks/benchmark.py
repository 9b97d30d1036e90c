"""A benchmark of the field: items that stand in a file, put to a model and marked as its authors do both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .errors import TaskError
from .scoring import END, majority_baseline, read_answer
from .task import Item


@dataclass(frozen=True)
class Asking:
    """How a prompt is put to a model, and when its answer ends.

    Attributes:
        chat: the prompt is one message of a user, in the model's own chat template; a model without one reads
            the prompt as it is.
        system: a system message before the prompt, for a model with a chat template; "" for none.
        opening: what the answer is made to begin with, after the template: ' Answer: "'.
        room: most new tokens; None for what the longest right answer takes.
        stop: text that ends an answer besides the model's own end of text; "" for none.
    """

    chat: bool = False
    system: str = ""
    opening: str = ""
    room: int | None = None
    stop: str = END


@dataclass(frozen=True, eq=False)
class BenchmarkTask:
    """One task of a benchmark. BenchmarkTask("cute/spell", items, Asking(chat=True), read=between_quotes)

    Items with `choices` are answered by likelihood: the choice that the model finds most likely is what it
    said. All others are answered in the model's own words.

    Attributes:
        items: the key of each is the task's name and what its question names, with tabs between:
            "cute/sub_char\ta\tb\tbanana".
        read: what of a generated text is the answer; None where there is none, a parse failure.
        equal: (what was read, the item's answer without the space around it) -> is that right?
    """

    name: str
    items: tuple[Item, ...]
    asking: Asking = Asking()
    read: Callable[[str], str | None] = field(default=read_answer)
    equal: Callable[[str, str], bool] = field(default=str.__eq__)

    def __post_init__(self) -> None:
        if not self.items:
            raise TaskError(
                f"the benchmark task {self.name!r} has no items: name a file that holds some."
            )

    def is_right(self, given: str, item: Item) -> bool:
        """Whether a generated text, or the choice that was taken, answers the item."""
        found = given if item.choices else self.read(given)
        return found is not None and self.equal(found.strip(), item.answer.strip())

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Nothing besides right and wrong: these tasks are marked as their authors do."""
        return {}

    def baseline(self, items: Sequence[Item]) -> float:
        """What the best constant answer gets, or a blind choice where there are choices (0 to 1)."""
        constant = majority_baseline([item.answer for item in items])
        return max(
            constant, sum(1 / len(item.choices) for item in items if item.choices) / len(items)
        )

    def copy_baseline(self, items: Sequence[Item]) -> float:
        """What the best rule gets that always copies the same one of the things that a question names (0 to
        1): the word, the first letter, the second option.
        """
        named = [item.key.split("\t")[1:] for item in items]
        places = range(max(map(len, named), default=0))
        return max((self._copied(items, named, place) for place in places), default=0.0)

    def _copied(self, items: Sequence[Item], named: Sequence[Sequence[str]], place: int) -> float:
        right = [
            place < len(things) and self.equal(things[place].strip(), item.answer.strip())
            for item, things in zip(items, named, strict=True)
        ]
        return sum(right) / len(right)
