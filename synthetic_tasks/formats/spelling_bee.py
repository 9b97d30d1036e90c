"""The spelling benchmark of Spelling Bee Embeddings: count a letter, name the n-th letter, reverse (3 tasks).

Rabe, Clymo & Dong, "Spelling Bee Embeddings for Language Modeling", arXiv 2601.18030; files, prompts and
marking as in spelling_benchmark/ of the repository zherendong/littletrainingloop, read there: it names the
paper's figures for 816 million parameters (27.4, 16.2 and 0.0 %). 5,000 items: 2,450 count, 2,450 index, 100
reverse; words of 4 to 10 letters, half of them common ones.

Asked: three examples of the same kind and the question, as plain text; at most 32 new tokens, up to a
newline. Marked by lm-evaluation-harness: the text without the space around it equals the target, capitals or
not. The prompt of count and reverse ends in a space, which many tokenizers would rather put into the answer;
it is left there as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item

from .format import File, Format, Tables, by_stem, draw_task, key_of, lower_case_words
from .tables import Rows, need, not_own, table

TASKS = ("count", "index", "reverse")
ASKING = Asking(room=32)
BRANCH = re.compile(r"{%\s*(?:el)?if task_type == '(\w+)'\s*%}(.*?)(?={%)", re.DOTALL)
PLACE = re.compile(r"{{\s*input\s*}}")


def same_in_any_case(found: str, answer: str) -> bool:
    return found.lower() == answer.lower()


def parse_template(name: str, text: str) -> Rows:
    """spelling_bee.yaml, whose doc_to_text is one quoted line with a branch per kind of task
    -> [{"task": "count", "prompt": "... {{input}}"}, ...]
    """
    line = re.search(r'^doc_to_text: (".*")[ \r]*$', text, re.MULTILINE)
    try:
        template = json.loads(line[1]) if line else ""
    except ValueError:
        template = ""
    branches = dict(BRANCH.findall(template))
    if set(branches) != set(TASKS) or any(
        len(PLACE.findall(prompt)) != 1 for prompt in branches.values()
    ):
        raise not_own(
            name,
            f"has no doc_to_text on one quoted line with a branch for each of {', '.join(TASKS)} that holds "
            "{{input}} once",
        )
    return [{"task": task, "prompt": prompt} for task, prompt in branches.items()]


def read(tables: Tables) -> list[BenchmarkTask]:
    """spelling_bee.jsonl (input, target, task_type and metadata, of which word and char are used) and
    spelling_bee.yaml, which holds the examples.
    """
    yaml = {name: rows for name, rows in tables.items() if name.endswith((".yaml", ".yml"))}
    found = by_stem({name: rows for name, rows in tables.items() if name not in yaml})
    if len(yaml) != 1 or len(found) != 1:
        seen = ", ".join(sorted(tables)) or "nothing"
        raise TaskError(
            f"spelling_bee needs spelling_bee.jsonl and spelling_bee.yaml, not {seen}: put both there."
        )
    ((template_name, template_rows),) = yaml.items()
    prompts = {
        row["task"]: row["prompt"] for row in need(template_name, template_rows, "task", "prompt")
    }
    ((name, rows),) = found.values()
    by_task: dict[str, list[Item]] = {task: [] for task in TASKS}
    for number, row in enumerate(need(name, rows, "input", "target", "task_type"), 1):
        task = row["task_type"]
        if task not in by_task:
            raise TaskError(
                f"row {number} of {name} has the task_type {task!r}: choose one of {', '.join(TASKS)}."
            )
        prompt = PLACE.sub(lambda _, asked=row["input"]: asked, prompts[task])  # type: ignore[misc]
        by_task[task].append(
            Item(prompt, " " + row["target"], key_of(f"spelling_bee/{task}", *_named(row)))
        )
    return [_task(f"spelling_bee/{task}", items) for task, items in by_task.items() if items]


def _named(row: dict[str, str]) -> list[str]:
    """What a row's question names: its metadata's word, char or index; the question if there is none."""
    try:
        metadata = json.loads(row.get("metadata") or "{}")
    except ValueError:
        metadata = {}
    named = (
        [str(metadata[key]) for key in ("word", "char", "index") if key in metadata]
        if isinstance(metadata, dict)
        else []
    )
    return named or [row["input"]]


def _task(name: str, items: Sequence[Item]) -> BenchmarkTask:
    return BenchmarkTask(name, tuple(items), ASKING, read_answer, same_in_any_case)


# The same tasks from words of one's own

ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
QUESTIONS = {
    "count": "How often the letter {b} stands in {a}: ",
    "index": "Q: Which letter of '{a}' is the {b} one?\nA:",
    "reverse": "{a} from back to front: ",
}
JOINTS = {"count": "\n", "index": "\n\n", "reverse": "\n"}


def draw(task: str, words: Sequence[str], rng: Random) -> tuple[str, str, str]:
    """Word, what else the question names, answer. ("count", ...) -> ("banana", "A", "3")"""
    word = rng.choice(words)
    if task == "count":  # four in five ask about a letter of the word
        letter = (
            rng.choice(sorted(set(word.upper()))) if rng.random() < 0.8 else rng.choice(LETTERS)
        )
        return word, letter, str(word.upper().count(letter))
    if task == "index":
        place = rng.randrange(len(word))
        return word, ORDINALS[place], word[place]
    return word, "", word[::-1]


def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    """The three tasks about these words of 4 to 10 letters, without palindromes, after three examples."""
    usable = lower_case_words("spelling_bee", [word for word in words if word != word[::-1]], 4, 10)

    def generate_task(task: str) -> BenchmarkTask:
        full = f"spelling_bee-like/{task}"

        def draw_item(rng: Random) -> Item:
            shown = [draw(task, usable, rng) for _ in range(3)]
            word, other, answer = draw(task, usable, rng)
            before = [
                QUESTIONS[task].format(a=a, b=b) + right + JOINTS[task] for a, b, right in shown
            ]
            prompt = "".join(before) + QUESTIONS[task].format(a=word, b=other)
            return Item(prompt, " " + answer, key_of(full, word, *filter(None, [other])))

        return draw_task(full, n, seed, draw_item, ASKING, read_answer, same_in_any_case)

    return [generate_task(task) for task in TASKS]


FORMAT = Format(
    "spelling_bee",
    "arXiv 2601.18030, github.com/zherendong/littletrainingloop",
    (File("spelling_bee.yaml", parse_template), File("spelling_bee.jsonl", table)),
    read,
    generate,
)
