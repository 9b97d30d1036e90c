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

import re
from collections.abc import Sequence
from functools import partial
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer, same_in_any_case
from synthetic_tasks.task import Item, Subject
from synthetic_tasks.word_tasks.letters import place_of_letter
from synthetic_tasks.word_tasks.recipes import RECIPES

from .format import (
    BenchmarkTask,
    Format,
    PromptFormat,
    draw_items,
    key_of,
    tasks_of,
    words_for,
)
from .tables import Rows, Tables, need, not_own, parse_json, table

_TASKS = ("count", "index", "reverse")
_FORMAT = PromptFormat(max_new_tokens=32)
_BRANCH = re.compile(r"{%\s*(?:el)?if task_type == '(\w+)'\s*%}(.*?)(?={%)", re.DOTALL)
_FIELD = re.compile(r"{{\s*input\s*}}")


def _parse_template(name: str, text: str) -> Rows:
    """Find the prompts in spelling_bee.yaml: a branch per task in doc_to_text, one quoted line."""
    # A regular expression instead of a YAML parser: the standard library has none.
    line = re.search(r'^doc_to_text: (".*")[ \r]*$', text, re.MULTILINE)
    branches = dict(_BRANCH.findall((parse_json(line[1]) if line else None) or ""))
    fields = [len(_FIELD.findall(prompt)) for prompt in branches.values()]
    if set(branches) != set(_TASKS) or set(fields) != {1}:
        wanted = f"a branch for each of {', '.join(_TASKS)} that contains {{{{input}}}} once"
        raise not_own(name, f"has no doc_to_text on one quoted line with {wanted}")
    return [{"task": task, "prompt": prompt} for task, prompt in branches.items()]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read spelling_bee.jsonl (input, target, task_type, metadata) with spelling_bee.yaml."""
    templates = [name for name in tables if name.endswith((".yaml", ".yml"))]
    others = [name for name in tables if name not in templates]
    if len(templates) != 1 or len(others) != 1:
        present = ", ".join(sorted(tables)) or "nothing"
        wanted = "spelling_bee.jsonl and spelling_bee.yaml in one folder"
        raise TaskError(f"spelling_bee needs {wanted}, and there is {present}.")
    (yaml,), (name,) = templates, others
    prompts = {row["task"]: row["prompt"] for row in need(yaml, tables[yaml], "task", "prompt")}
    items = []
    for number, row in enumerate(need(name, tables[name], "input", "target", "task_type"), 1):
        task = row["task_type"]
        if task not in _TASKS:
            known = ", ".join(_TASKS)
            raise TaskError(f"row {number} of {name} has the task_type {task!r}, not in {known}.")
        # Split and join: re.sub would read backslashes in the question as escapes. The prompts of
        # count and reverse end in a space, which many tokenizers would put into the answer's first
        # token; it is kept.
        prompt = row["input"].join(_FIELD.split(prompts[task]))
        key = key_of(f"spelling_bee/{task}", *_arguments(row))
        items.append(Item(prompt, f" {row['target']}", key))
    names = [f"spelling_bee/{task}" for task in _TASKS]
    return tasks_of(names, items, _FORMAT, read_answer, same_in_any_case, _about)


def _arguments(row: dict[str, str]) -> list[str]:
    """Return the word, char and index of a row's metadata; the question if there are none."""
    metadata = parse_json(row.get("metadata", ""))
    known = metadata if isinstance(metadata, dict) else {}
    found = [str(known[key]) for key in ("word", "char", "index") if key in known]
    return found or [row["input"]]


_ORDINALS = (  # words have at most ten letters
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _about(word: str, *other: str) -> Subject | None:
    """Return the word, and the place of the letter that is counted or asked for, if it is known.

    _about("banana", "N") -> Subject("banana", 2); _about("banana", "1") and "second" -> place 1
    """
    if " " in word:  # a row without metadata has its question here
        return None
    (argument,) = other or ("",)
    if argument.isdecimal():  # an index of the metadata
        return Subject(word, int(argument))
    if argument in _ORDINALS:  # a place of the imitation
        return Subject(word, _ORDINALS.index(argument))
    # Words are in lower case, and the letter to count is a capital.
    return Subject(word, place_of_letter(word.upper(), argument.upper()))


# The imitation

_QUESTIONS = {
    "count": "How often the letter {b} stands in {a}: ",
    "index": "Q: Which letter of '{a}' is the {b} one?\nA:",
    "reverse": "{a} from back to front: ",
}


def _draw(task: str, words: Sequence[str], rng: Random) -> tuple[str, str, str]:
    """Draw the word, the other argument and the answer: ("banana", "A", "3")."""
    word = rng.choice(words)
    if task == "count":
        # Four questions in five are about a letter of the word.
        present = rng.random() < 0.8
        letter = rng.choice(sorted(set(word.upper())) if present else _LETTERS)
        return word, letter, RECIPES["count"].solve(word.upper(), letter)
    if task == "index":
        place = rng.randrange(len(word))
        return word, _ORDINALS[place], RECIPES["nth_letter"].solve(word, str(place))
    return word, "", RECIPES["reverse"].solve(word)


def _draw_item(words: Sequence[str], name: str, rng: Random) -> Item:
    task = name.partition("/")[2]
    *examples, (word, other, answer) = [_draw(task, words, rng) for _ in range(4)]
    question, joint = _QUESTIONS[task], "\n\n" if task == "index" else "\n"
    shown = "".join(question.format(a=a, b=b) + right + joint for a, b, right in examples)
    key = key_of(name, word, *filter(None, [other]))
    return Item(shown + question.format(a=word, b=other), f" {answer}", key)


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    # Palindromes would be right by copying.
    no_palindromes = [word for word in words if word != word[::-1]]
    draw = partial(_draw_item, words_for("spelling_bee", no_palindromes, 4, 10))
    names = [f"spelling_bee-like/{task}" for task in _TASKS]
    items = draw_items(names, n, seed, draw)
    return tasks_of(names, items, _FORMAT, read_answer, same_in_any_case, _about)


_SOURCE = "arXiv 2601.18030, github.com/zherendong/littletrainingloop"
_FILES = {"spelling_bee.yaml": _parse_template, "spelling_bee.jsonl": table}
FORMAT = Format("spelling_bee", _SOURCE, _FILES, _read, _generate)
