"""Spelling Bee Embeddings: count a letter, name the n-th letter, reverse (3 tasks).

Rabe, Clymo & Dong, "Spelling Bee Embeddings for Language Modeling", arXiv 2601.18030; files,
prompts and scoring after spelling_benchmark/ of the repository zherendong/littletrainingloop, which
gives the paper's figures for 816 million parameters (27.4, 16.2 and 0.0 %). 5,000 items: 2,450
count, 2,450 index, 100 reverse; words of 4 to 10 letters, half of them common ones.

Prompt: three examples of the same kind and the question, as plain text; at most 32 new tokens, up
to a newline. Scoring, by lm-evaluation-harness: the text without surrounding space equals the
target, ignoring case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item
from synthetic_tasks.word_tasks.counts import COUNT
from synthetic_tasks.word_tasks.places import NTH_LETTER
from synthetic_tasks.word_tasks.spelling import REVERSE

from .benchmark import BenchmarkTask, PromptFormat
from .format import File, Format, Tables, by_stem, draw_items, key_of, lower_case_words, tasks_of
from .tables import Rows, need, not_own, table

_TASKS = ("count", "index", "reverse")
_FORMAT = PromptFormat(max_new_tokens=32)
_BRANCH = re.compile(r"{%\s*(?:el)?if task_type == '(\w+)'\s*%}(.*?)(?={%)", re.DOTALL)
_FIELD = re.compile(r"{{\s*input\s*}}")


def same_in_any_case(found: str, answer: str) -> bool:
    return found.lower() == answer.lower()


def _parse_template(name: str, text: str) -> Rows:
    """Find the prompts in spelling_bee.yaml: a branch per task in doc_to_text, one quoted line.

    -> [{"task": "count", "prompt": "... {{input}}"}, ...]
    """
    # A regular expression instead of a YAML parser: the standard library has none.
    line = re.search(r'^doc_to_text: (".*")[ \r]*$', text, re.MULTILINE)
    try:
        template = json.loads(line[1]) if line else ""
    except ValueError:
        template = ""
    branches = dict(_BRANCH.findall(template))
    if set(branches) != set(_TASKS) or any(
        len(_FIELD.findall(prompt)) != 1 for prompt in branches.values()
    ):
        raise not_own(
            name,
            "has no doc_to_text on one quoted line with a branch for each of "
            f"{', '.join(_TASKS)} that contains {{{{input}}}} once",
        )
    return [{"task": task, "prompt": prompt} for task, prompt in branches.items()]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read spelling_bee.jsonl (input, target, task_type, metadata) with spelling_bee.yaml."""
    yaml = {name: rows for name, rows in tables.items() if name.endswith((".yaml", ".yml"))}
    found = by_stem({name: rows for name, rows in tables.items() if name not in yaml})
    if len(yaml) != 1 or len(found) != 1:
        present = ", ".join(sorted(tables)) or "nothing"
        raise TaskError(
            f"spelling_bee needs spelling_bee.jsonl and spelling_bee.yaml, and there is {present}. "
            "Put both into one folder."
        )
    ((template_name, template_rows),) = yaml.items()
    prompts = {
        row["task"]: row["prompt"] for row in need(template_name, template_rows, "task", "prompt")
    }
    ((name, rows),) = found.values()
    items: dict[str, list[Item]] = {f"spelling_bee/{task}": [] for task in _TASKS}
    for number, row in enumerate(need(name, rows, "input", "target", "task_type"), 1):
        task = row["task_type"]
        if task not in _TASKS:
            raise TaskError(
                f"row {number} of {name} has the task_type {task!r}; "
                f"choose one of {', '.join(_TASKS)}."
            )
        # Split and join: re.sub would read backslashes in the question as escapes. The prompts of
        # count and reverse end in a space, which many tokenizers would put into the answer's first
        # token; it is kept.
        prompt = row["input"].join(_FIELD.split(prompts[task]))
        full = f"spelling_bee/{task}"
        items[full].append(Item(prompt, f" {row['target']}", key_of(full, *_arguments(row))))
    return tasks_of(items, _FORMAT, read_answer, same_in_any_case)


def _arguments(row: dict[str, str]) -> list[str]:
    """Return the word, char and index of a row's metadata; the question if there are none."""
    try:
        metadata = json.loads(row.get("metadata") or "{}")
    except ValueError:
        metadata = {}
    if not isinstance(metadata, dict):
        metadata = {}
    found = [str(metadata[key]) for key in ("word", "char", "index") if key in metadata]
    return found or [row["input"]]


# The imitation

_ORDINALS = (  # words have at most ten letters
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_QUESTIONS = {
    "count": "How often the letter {b} stands in {a}: ",
    "index": "Q: Which letter of '{a}' is the {b} one?\nA:",
    "reverse": "{a} from back to front: ",
}
_JOINTS = {"count": "\n", "index": "\n\n", "reverse": "\n"}


def _draw(task: str, words: Sequence[str], rng: Random) -> tuple[str, str, str]:
    """Draw the word, the other argument and the answer: ("banana", "A", "3")."""
    word = rng.choice(words)
    if task == "count":
        # Four questions in five are about a letter of the word.
        present = rng.random() < 0.8
        letter = rng.choice(sorted(set(word.upper())) if present else _LETTERS)
        return word, letter, COUNT.solve(word.upper(), letter)
    if task == "index":
        place = rng.randrange(len(word))
        return word, _ORDINALS[place], NTH_LETTER.solve(word, str(place))
    return word, "", REVERSE.solve(word)


def _draw_item(task: str, words: Sequence[str], rng: Random) -> Item:
    examples = [_draw(task, words, rng) for _ in range(3)]
    word, other, answer = _draw(task, words, rng)
    question = _QUESTIONS[task]
    shown = "".join(question.format(a=a, b=b) + right + _JOINTS[task] for a, b, right in examples)
    key = key_of(f"spelling_bee-like/{task}", word, *filter(None, [other]))
    return Item(shown + question.format(a=word, b=other), f" {answer}", key)


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    # Palindromes would be right by copying.
    usable = lower_case_words("spelling_bee", [word for word in words if word != word[::-1]], 4, 10)
    names = {task: f"spelling_bee-like/{task}" for task in _TASKS}
    items = {
        name: draw_items(name, n, seed, partial(_draw_item, task, usable))
        for task, name in names.items()
    }
    return tasks_of(items, _FORMAT, read_answer, same_in_any_case)


FORMAT = Format(
    "spelling_bee",
    "arXiv 2601.18030, github.com/zherendong/littletrainingloop",
    (File("spelling_bee.yaml", _parse_template), File("spelling_bee.jsonl", table)),
    _read,
    _generate,
)
