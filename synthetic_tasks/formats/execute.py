"""EXECUTE: CUTE's questions about characters and words in eight languages.

Edman, Schmid & Fraser, "EXECUTE: A Multilingual Benchmark for LLM Token Understanding", Findings of
ACL 2025, arXiv 2505.17784; github.com/Leukas/EXECUTE. Items are in data/tasks/LANGUAGE/TASK.tsv, and
those about the parts of characters in data/extra_tasks/LANGUAGE/TASK.tsv, with the columns of CUTE:
the inputs of the question and its label.

Each of these folders keeps its prompts in a pickle, prompts.pkl, which can run code when it is read,
so that it is not read here: convert it once to a prompts.json beside it. One file for all folders
works too; its format strings are by task, by language and task, or by task and language.

Prompt and scoring follow the repository's program, execute.py, and are CUTE's but for two things: 500
new tokens, and an answer also ends at the end-of-turn token of Llama 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .cute_like import imitate
from .cute_tasks import PROMPT_FORMAT as _OF_CUTE
from .cute_tasks import TASKS, between_quotes, cute_task
from .format import BenchmarkTask, Format, key_of
from .tables import Rows, Tables, fill, need, not_own, parse_json, table

PROMPT_FORMAT = replace(_OF_CUTE, max_new_tokens=500)
_INPUTS, _LABELS = ("input1", "input2", "input3"), ("label", "answer")
_FILE, _EXTRA = "prompts.json", "extra_tasks/"
# dicts and texts need no class, so a pickle that asks for one is refused before it can run code
_CONVERT = (
    "import json, pathlib, pickle; Plain = type('Plain', (pickle.Unpickler,), {'find_class': None}); "
    "[p.with_suffix('.json').write_text(json.dumps(Plain(p.open('rb')).load())) "
    "for p in pathlib.Path('EXECUTE/data').rglob('prompts.pkl')]"
)
_Prompts = Mapping[frozenset[str], str]


def between_quotes_of_turn(generated: str) -> str | None:
    """Parse the answer as for CUTE, from a text that also ends at Llama 3's end of a turn."""
    # The program looks for the last "Answer:" first: an end before it ends nothing.
    before, sign, answer = generated.rpartition("Answer:")
    return between_quotes(before + sign + answer.partition("<|eot_id|>")[0])


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
    """Read LANGUAGE/TASK.tsv with the prompts.json of its folder, or with one for all folders."""
    files = {name: rows for name, rows in tables.items() if name.rpartition("/")[2] == _FILE}
    others = {name: rows for name, rows in tables.items() if name not in files}
    if not files:
        way_out = (
            f'Convert its pickles, of which only dicts and texts are read: python -c "{_CONVERT}"'
        )
        raise TaskError(f"execute needs a file prompts.json. {way_out}.")
    if not others:
        raise TaskError("execute has prompts but no items. Add its data/tasks/LANGUAGE/TASK.tsv.")
    prompts = {_folder(name): _prompts(name, rows) for name, rows in files.items()}
    general = [name for name in files if _folder(name) not in map(_folder, others)]
    if len(general) > 1:
        raise TaskError(f"execute has {' and '.join(general)}. Keep one for all folders.")
    of_all: _Prompts = prompts[_folder(general[0])] if general else {}
    return [
        _read_task(name, others[name], prompts.get(_folder(name), {}), of_all)
        for name in sorted(others, key=lambda name: (name.removeprefix(_EXTRA), name))
    ]


def _folder(name: str) -> str:
    """Return the folder of a table: "extra_tasks/kor/g2c.tsv" -> "extra_tasks/kor"."""
    return name.rpartition("/")[0]


def _prompts(name: str, rows: Rows) -> _Prompts:
    return {
        frozenset((row["first"], row["second"])): row["prompt"]
        for row in need(name, rows, "first", "second", "prompt")
    }


def _read_task(name: str, rows: Rows, own: _Prompts, of_all: _Prompts) -> BenchmarkTask:
    language, _, task = name.removeprefix(_EXTRA).removesuffix(".tsv").partition("/")
    # The repository names the prompts of extra tasks with their language: kor_g2c.
    keys = ((language, task), (task, ""), (f"{language}_{task}", ""))
    found = [prompts.get(frozenset(key)) for prompts in (own, of_all) for key in keys]
    if not any(found):
        raise TaskError(f"prompts.json has no prompt of {task} in {language}. Add one.")
    prompt = next(filter(None, found))
    label = next((column for column in _LABELS if column in rows[0]), _LABELS[0])
    full, items = f"execute/{language}/{task}", []
    for row in need(name, rows, label):
        # As in its program; other columns are no part of the question. A table without these names
        # has its inputs in order; columns without a name are row numbers.
        named = [row[column] for column in _INPUTS if column in row]
        inputs = named or [text for column, text in row.items() if column not in (label, "", "id")]
        key = key_of(full, *inputs)
        items.append(Item(fill("prompts.json", prompt, *inputs), f" {row[label]}", key))
    if task in TASKS:
        return _as_execute(cute_task(task, full, items))
    return _as_execute(BenchmarkTask(full, tuple(items)))  # about the parts of characters


def _as_execute(task: BenchmarkTask) -> BenchmarkTask:
    return replace(task, prompt_format=PROMPT_FORMAT, read=between_quotes_of_turn)


# orth and sem are tasks of CUTE alone.
_IMITATED = tuple(task for task in TASKS if task not in ("orth", "sem"))


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    return [_as_execute(task) for task in imitate("execute-like", _IMITATED, words, n, seed)]


_SOURCE = "arXiv 2505.17784, github.com/Leukas/EXECUTE (its pickles converted to prompts.json)"
_FILES = {
    # Both folders have the same languages, each with its own prompts.
    f"{_EXTRA}*/{_FILE}": _parse_prompts,
    f"{_EXTRA}*/*.tsv": table,
    f"*/{_FILE}": _parse_prompts,
    "*/*.tsv": table,
}
FORMAT = Format("execute", _SOURCE, _FILES, _read, _generate)
