"""CUTE as the hub has it: the items of cute.py in other prompts (14 tasks, 1,000 items each).

The data set leukas/cute has a split per task with the columns prompt and answer. Its prompts are not
those of the repository: there are blanks inside the quotes, the examples of the word tasks begin with
a capital and end with a full stop, and the options of sem are quoted. So the two have different
scores. The inputs are read back from the question, for baselines and for scores by word.

Marking: as in cute.py; or "olmes", as in OLMES (oe_eval/tasks, class CUTE), which AllenAI's figures
use: the prompt and ' Answer:' are followed by ' " ' and the answer (by ' "' if it is Yes or No). The
item is right if every token of that text is the most likely one. No closing quote is read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .cute_like import imitate
from .cute_tasks import TASKS, cute_task, tables_by_task
from .format import BenchmarkTask, Format, PromptFormat, arguments_of, key_of
from .tables import Rows, Tables, need, table

NAME = "cute-hub"
# Inputs of a question, by the first part of the name; all other tasks have three.
_NUM_INPUTS = {"spell": 1, "contains": 2, "del": 2}
_OLMES = PromptFormat(greedy=True)


def is_hub(rows: Rows) -> bool:
    """Return whether rows have the columns of the hub's data set."""
    return bool(rows) and {"prompt", "answer"} <= set(rows[0])


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read the splits of the hub's data set: rows of prompt and answer by the name of a task."""
    found = tables_by_task(NAME, tables, TASKS)
    return [read_task(task, name, rows) for task, (name, rows) in found.items()]


def read_task(task: str, name: str, rows: Rows) -> BenchmarkTask:
    """Read one split, with the inputs of each question. Raises TaskError."""
    full, items = f"{NAME}/{task}", []
    for number, row in enumerate(need(name, rows, "prompt", "answer"), 1):
        inputs = inputs_of(task, row["prompt"])
        if inputs is None:
            problem = f"ends in no question with {_num_inputs(task)} quoted inputs"
            raise TaskError(
                f"row {number} of {name} {problem}. Put the hub's own file in its place."
            )
        items.append(Item(row["prompt"], " " + row["answer"], key_of(full, *inputs)))
    return cute_task(task, full, items)


def _num_inputs(task: str) -> int:
    return _NUM_INPUTS.get(task.split("_")[0], 3)


def inputs_of(task: str, prompt: str) -> list[str] | None:
    """Read the inputs of a question back from its prompt; None if it has others.

    del_char, '... Question: Delete every instance of " a " in " banana ".' -> ["a", "banana"]
    """
    question = prompt.rpartition("Question:")[2]
    # The last input may be a sentence with quotes in it: it ends at the last quote of the text.
    pattern = r'[^"]*"([^"]*)"' * (_num_inputs(task) - 1) + r'[^"]*"(.*)"[^"]*'
    found = re.fullmatch(pattern, question, re.DOTALL)
    return None if found is None else [part.strip() for part in found.groups()]


def as_in_olmes(task: BenchmarkTask) -> BenchmarkTask:
    """Return a task of the hub with OLMES's marking: the greedy likelihood of ' " t e a'."""
    name = task.name.replace("/", "@olmes/", 1)
    # Yes and No follow their quote at once, as in the examples; the words of orth and sem do not.
    quote = ' "' if name.partition("/")[2].startswith("contains_") else ' " '
    items = [
        Item(
            item.prompt.strip() + " Answer:",
            quote + item.answer.strip(),
            key_of(name, *arguments_of(item)),
        )
        for item in task.items
    ]
    return replace(
        task, name=name, items=tuple(items), prompt_format=_OLMES, read=whole, equal=str.__eq__,
        keeps_blanks=True,
    )  # fmt: skip


def whole(generated: str) -> str | None:
    """Return a text without the space that begins it: ' " t e a' -> '" t e a'; None for no text."""
    return generated.removeprefix(" ") or None


_SOURCE = "arXiv 2409.15452, the hub's leukas/cute"
_FILES = dict.fromkeys([f"{task}.*" for task in TASKS], table)
FORMAT = Format(
    NAME,
    _SOURCE,
    _FILES,
    _read,
    partial(imitate, f"{NAME}-like", TASKS, blanks=True),
    markings={"olmes": as_in_olmes},
)
