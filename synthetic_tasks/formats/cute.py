"""CUTE: the letters of a token and the words of a sentence (14 tasks).

Edman, Schmid & Fraser, "CUTE: Measuring LLMs' Understanding of Their Tokens", EMNLP 2024, arXiv
2409.15452; files, prompts and scoring after the repository Leukas/CUTE (MIT). Seven tasks come
again with random consonants instead of words (spell_rand, ...). 1,000 items each.

Prompt: one user message, then ' Answer: "' after the chat template; greedy, 100 new tokens.
Scoring: the answer follows the last "Answer:" of the text (opening included), ends at "</s>", and
is between the first quote and the next one or the end. The five tasks about words ignore case.
The text of a model without a chat template ends at its first quote.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from . import cute_hub
from .cute_like import imitate
from .cute_tasks import ALL_TASKS, FILES, as_in_paper, cute_task, tables_by_task
from .cute_tasks import PROMPT_FORMAT as PROMPT_FORMAT
from .cute_tasks import RANDOM_TASKS as RANDOM_TASKS
from .cute_tasks import TASKS as TASKS
from .cute_tasks import between_quotes as between_quotes
from .format import BenchmarkTask, Format, key_of
from .tables import Rows, Tables, assigned, fill, need, not_own, parse_python, table


def _parse_prompts(name: str, text: str) -> Rows:
    """Read the dict PROMPTS of prompts.py: -> [{"task": "spell", "prompt": ...}, ...]."""
    prompts = assigned(name, parse_python(name, text), "PROMPTS")
    texts = [x for pair in prompts.items() for x in pair] if isinstance(prompts, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise not_own(name, "assigns no dict of texts to PROMPTS")
    return [{"task": task, "prompt": prompt} for task, prompt in prompts.items()]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read the repository's data/*.tsv with its prompts.py."""
    found = dict(tables)
    named = [name for name in found if PurePosixPath(name).stem == "prompts"]
    prompt_rows = need(named[0], found.pop(named[0]), "task", "prompt") if named else []
    prompts = {row["task"]: row["prompt"] for row in prompt_rows}
    known = tables_by_task("cute", found, ALL_TASKS)
    if not known:
        raise TaskError("cute has prompts but no items. Put its data/*.tsv beside prompts.py.")
    # The rows of the hub are prompts already, and other ones: their tasks are named cute-hub/...
    return [
        cute_hub.read_task(task, name, rows)
        if cute_hub.is_hub(rows)
        else _read_task(task, name, rows, prompts)
        for task, (name, rows) in known.items()
    ]


def _read_task(task: str, name: str, rows: Rows, prompts: dict[str, str]) -> BenchmarkTask:
    plain, full = task.removesuffix("_rand"), f"cute/{task}"
    if plain not in prompts:
        raise TaskError(f"{name} needs the prompt of {plain}. Put CUTE's prompts.py beside it.")
    items = []
    for row in need(name, rows, "input1", "label"):
        # A task has as many inputs as its prompt has fields; fill checks this.
        inputs = [row[column] for column in ("input1", "input2", "input3") if column in row]
        prompt = fill("prompts.py", prompts[plain], *inputs)
        items.append(Item(prompt, " " + row["label"], key_of(full, *inputs)))
    return cute_task(task, full, items)


_SOURCE = "arXiv 2409.15452, github.com/Leukas/CUTE"
_TABLES = dict.fromkeys([f"{task}.*" for task in FILES], table)
FORMAT = Format(
    "cute",
    _SOURCE,
    {"prompts.py": _parse_prompts, **_TABLES},
    _read,
    partial(imitate, "cute-like", ALL_TASKS),
    markings={"paper": as_in_paper},
)
