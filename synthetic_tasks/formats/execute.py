"""EXECUTE: CUTE's questions about characters and words in eight languages.

Edman, Schmid & Fraser, "EXECUTE: A Multilingual Benchmark for LLM Token Understanding", Findings of
ACL 2025, arXiv 2505.17784; github.com/Leukas/EXECUTE. Items are in data/tasks/LANGUAGE/TASK.tsv,
with the columns of CUTE: the inputs of the question and its label.

The repository keeps its prompts in a pickle, which can run code when it is read, so that it is not
read here: convert it once to prompts.json. The format strings are by task, by language and task, or
by task and language. Prompt and scoring are CUTE's. The repository itself was not at hand: its names
of columns and its scoring are CUTE's by assumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .cute_like import imitate
from .cute_tasks import PROMPT_FORMAT, TASKS, between_quotes, cute_task
from .format import BenchmarkTask, Format, key_of
from .tables import Rows, Tables, fill, need, not_own, parse_json, table

_LABELS = ("label", "answer")
_CONVERT = (
    "import json, pickle; json.dump(pickle.load(open('PICKLE', 'rb')), open('prompts.json', 'w'))"
)


def _parse_prompts(name: str, text: str) -> Rows:
    """Flatten prompts.json to rows of two names, each a task or a language, and a prompt.

    {"spell": {"am": "Spell {}"}} -> [{"first": "spell", "second": "am", "prompt": "Spell {}"}]
    """
    rows = list(_flatten(parse_json(text)))
    if not rows or any(not isinstance(prompt, str) for _, _, prompt in rows):
        raise not_own(name, "is no JSON object of prompts by task, with or without the language")
    return [{"first": a, "second": b, "prompt": prompt} for a, b, prompt in rows]


def _flatten(prompts: object) -> Iterator[tuple[str, str, str]]:
    for first, inner in (prompts if isinstance(prompts, dict) else {}).items():
        pairs = inner.items() if isinstance(inner, dict) else [("", inner)]
        yield from ((first, second, prompt) for second, prompt in pairs)


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read LANGUAGE/TASK.tsv with prompts.json."""
    others = dict(tables)
    rows = others.pop("prompts.json", None)
    if rows is None:
        way_out = f'If you trust its pickle, convert it: python -c "{_CONVERT}"'
        raise TaskError(f"execute needs a file prompts.json. {way_out}.")
    if not others:
        raise TaskError("execute has prompts but no items. Add its data/tasks/LANGUAGE/TASK.tsv.")
    prompts = {
        frozenset((row["first"], row["second"])): row["prompt"]
        for row in need("prompts.json", rows, "first", "second", "prompt")
    }
    return [_read_task(name, others[name], prompts) for name in sorted(others)]


def _read_task(name: str, rows: Rows, prompts: dict[frozenset[str], str]) -> BenchmarkTask:
    language, _, task = name.removesuffix(".tsv").partition("/")
    found = [prompts.get(frozenset(key)) for key in ((language, task), (task, ""))]
    if not any(found):
        raise TaskError(f"prompts.json has no prompt of {task} in {language}. Add one.")
    prompt = next(filter(None, found))
    label = next((column for column in _LABELS if column in rows[0]), _LABELS[0])
    full, items = f"execute/{language}/{task}", []
    for row in need(name, rows, label):
        # Columns without a name are row numbers.
        inputs = [value for column, value in row.items() if column not in (label, "", "id")]
        key = key_of(full, *inputs)
        items.append(Item(fill("prompts.json", prompt, *inputs), f" {row[label]}", key))
    if task in TASKS:
        return cute_task(task, full, items)
    return BenchmarkTask(full, tuple(items), PROMPT_FORMAT, between_quotes)  # of sub-characters


# orth and sem are tasks of CUTE alone.
_IMITATED = tuple(task for task in TASKS if task not in ("orth", "sem"))
_SOURCE = "arXiv 2505.17784, github.com/Leukas/EXECUTE (its prompts converted to prompts.json)"
_FILES = {"prompts.json": _parse_prompts, "*/*.tsv": table}
FORMAT = Format("execute", _SOURCE, _FILES, _read, partial(imitate, "execute-like", _IMITATED))
