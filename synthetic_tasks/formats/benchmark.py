"""A published benchmark: items from a file, prompted and scored as its authors do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import END, majority_baseline, read_answer
from synthetic_tasks.task import Item


@dataclass(frozen=True)
class PromptFormat:
    """The way a prompt is put to a model, and the end of its answer.

    Attributes:
        chat: send the prompt as one user message in the model's chat template. A model without a
            template reads the prompt as it is.
        system: system message before the prompt, if there is a chat template; "" for none.
        opening: beginning of the answer, put after the template: ' Answer: "'.
        max_new_tokens: None for the length of the longest right answer.
        stop: text that ends an answer, besides the model's end of text; "" for none.
    """

    chat: bool = False
    system: str = ""
    opening: str = ""
    max_new_tokens: int | None = None
    stop: str = END

    def as_dict(self) -> dict[str, object]:
        """Return the fields under the names that evaluations hash."""
        # Subtle: "room" is the old name of max_new_tokens; a new key would refuse old evaluations.
        return {
            "chat": self.chat,
            "system": self.system,
            "opening": self.opening,
            "room": self.max_new_tokens,
            "stop": self.stop,
        }


@dataclass(frozen=True, eq=False)  # by identity: a hash of thousands of items would be slow
class BenchmarkTask:
    """One task of a benchmark.

    BenchmarkTask("cute/spell", items, PromptFormat(chat=True), read=between_quotes)

    Items with `choices` are answered by likelihood: the likeliest choice is the answer. All others
    are answered by a generated text.

    Attributes:
        items: their keys are the task's name and the arguments of the question, separated by tabs:
            "cute/sub_char\\ta\\tb\\tbanana".
        read: parses the answer from a generated text; returns None if it cannot be parsed.
        equal: compares a parsed answer with the right one, both without surrounding space.
    """

    name: str
    items: tuple[Item, ...]
    prompt_format: PromptFormat = PromptFormat()
    read: Callable[[str], str | None] = field(default=read_answer)
    equal: Callable[[str, str], bool] = field(default=str.__eq__)

    def __post_init__(self) -> None:
        if not self.items:
            raise TaskError(
                f"the benchmark task {self.name!r} has no items. Name a file with some."
            )

    def is_right(self, given: str, item: Item) -> bool:
        """Return whether a generated text, or the likeliest choice, answers the item."""
        # A choice is an option of the item: there is nothing to parse.
        found = given if item.choices else self.read(given)
        return found is not None and self.equal(found.strip(), item.answer.strip())

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Return no further scores: benchmarks are scored as their authors do."""
        return {}

    def baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the majority baseline, or of a random choice if that is higher."""
        majority = majority_baseline([item.answer for item in items])
        chance = sum(1 / len(item.choices) for item in items if item.choices) / len(items)
        return max(majority, chance)

    def copy_baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the best rule that always copies the n-th argument."""
        # A key begins with the name of the task.
        arguments = [item.key.split("\t")[1:] for item in items]
        places = range(max(map(len, arguments), default=0))
        return max((self._copied(items, arguments, place) for place in places), default=0.0)

    def _copied(
        self, items: Sequence[Item], arguments: Sequence[Sequence[str]], place: int
    ) -> float:
        right = [
            place < len(given) and self.equal(given[place].strip(), item.answer.strip())
            for item, given in zip(items, arguments, strict=True)
        ]
        return sum(right) / len(right)
