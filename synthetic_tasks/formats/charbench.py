"""CharBench: count letters and find their places (4 tasks; places from 0; answers are integers).

Uzan & Pinter, "CharBench: Evaluating the Role of Tokenization in Character-Level Tasks", AAAI 2026,
arXiv 2508.02591; files, prompt and scoring after the repository omriuz/CharBench. Words of 4 to 10
letters, capitals kept; 6,250 questions per task and length, 43,750 per task.

Prompt: a system message and a user message, temperature 0. Scoring: Python's int() must parse the
whole text, without surrounding space, and equal the answer. Other texts are parse failures.

The table holds the questions and is on the hub alone; the repository's evaluation/utils.py and
evaluation/eval_openai.py hold the sentences around them.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item, Subject
from synthetic_tasks.word_tasks.recipes import RECIPES

from .format import (
    BenchmarkTask,
    Format,
    PromptFormat,
    draw_items,
    key_of,
    tasks_of,
    word_first,
    words_for,
)
from .tables import Rows, Tables, fill, messages, need, not_own, parse_python, table

_PLACE = "At which place does '{1}' %s stand in '{0}'? Count from 0."
# Task -> question of the imitation about {0}, the word, and {1}, a character; word task that answers.
_QUESTIONS = {
    "count_character_frequency": ("How often does '{1}' stand in '{0}'?", "count"),
    "count_unique_chars": ("How many different characters does '{0}' have?", "distinct"),
    "find_first_occurrence": (_PLACE % "first", "index"),
    "find_last_occurrence": (_PLACE % "last", "last_index"),
}
TASKS = tuple(_QUESTIONS)
# As in the authors' analysis, a place is in the token that holds it, the last one for the last.
_ABOUT = dict.fromkeys(TASKS, word_first) | {
    "find_last_occurrence": lambda word, letter: Subject(word, word.rfind(letter))
}
# The authors leave the number of new tokens to the service; 32 is this project's choice.
_FORMAT = PromptFormat(chat=True, max_new_tokens=32, stop="")
_RULE = "Reply with one whole number and nothing else. Capitals and small letters differ."
_INSTRUCTION = _RULE + "\n\n{question}\n"


def whole_number(generated: str) -> str | None:
    """Parse a text that is an integer and nothing else: " 07\\n" -> "7"; "7." -> None."""
    # As in the authors' program, int() also takes "07", "1_0" and digits of other scripts.
    try:
        return str(int(generated.strip()))
    except ValueError:
        return None


def _parse_sentences(name: str, text: str) -> Rows:
    """Find the text that get_evaluation_prompt returns, and the system message; one is enough."""
    tree = parse_python(name, text)
    # Only a plain text is taken: an f-string would have to be computed.
    prompts = [
        statement.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "get_evaluation_prompt"
        for statement in node.body
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Constant)
    ]
    # Filled without values: the system message must have no fields.
    systems = [fill(name, text) for text in messages(tree, "system")]
    found = [*(("prompt", text) for text in prompts), *(("system", text) for text in systems)]
    if not found or not all(isinstance(text, str) for _, text in found):
        raise not_own(name, "has neither get_evaluation_prompt with its text nor a system message")
    return [{"role": role, "text": str(text)} for role, text in found]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read the table; utils.py and eval_openai.py of evaluation/ give CharBench's prompts."""
    found = {name: rows for name, rows in tables.items() if not name.endswith(".py")}
    files = [rows for name, rows in tables.items() if name.endswith(".py")]
    sentences = {row["role"]: row["text"] for rows in files for row in rows}
    if not found:
        have = ", ".join(sorted(tables))
        raise TaskError(
            f"charbench is one table, not 0 (there is {have or 'nothing'}). The repository has none: "
            "save the hub's data set omriuz/CharBench as benchmark_english.csv beside evaluation/."
        )
    if len(found) > 1:
        present = f"{len(found)} ({', '.join(sorted(found))})"
        raise TaskError(f"charbench is one table, not {present}. Name benchmark_english.csv.")
    if sentences and set(sentences) != {"prompt", "system"}:
        raise TaskError(
            "only half of charbench's sentences are there. Put utils.py and eval_openai.py of its "
            "evaluation/ beside the table, or neither, for this project's own sentences."
        )
    ((name, table_rows),) = found.items()
    # The hub has the table alone. Then the sentences are this project's, and the names say so. That
    # its columns are the repository's is known from programs that use it, not from the table.
    prompt = sentences.get("prompt", _INSTRUCTION)
    prefix = "charbench" if sentences else "charbench-like"
    items = []
    rows = need(name, table_rows, "question", "answer", "word", "character", "task")
    for number, row in enumerate(rows, 1):
        task, answer = row["task"], whole_number(row["answer"])
        if task not in TASKS or answer is None:
            raise TaskError(
                f"row {number} of {name} has the task {task!r} and the answer {row['answer']!r}. "
                f"CharBench's tasks are {', '.join(TASKS)}; its answers are integers."
            )
        # The column is empty for count_unique_chars.
        arguments = [row["word"], *filter(None, [row["character"]])]
        text = fill("evaluation/utils.py", prompt, question=row["question"])
        items.append(Item(text, f" {answer}", key_of(f"{prefix}/{task}", *arguments)))
    prompt_format = replace(_FORMAT, system=sentences.get("system", ""))
    names = [f"{prefix}/{task}" for task in TASKS]
    return tasks_of(names, items, prompt_format, whole_number, about=_ABOUT)


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    usable = words_for("charbench", words, 4, 10)

    def draw(name: str, rng: Random) -> Item:
        task = name.partition("/")[2]
        word = rng.choice(usable)
        character = rng.choice(word)  # a place is drawn, so frequent letters are more likely
        arguments = (word,) if task == "count_unique_chars" else (word, character)
        question, recipe = _QUESTIONS[task]
        prompt = _INSTRUCTION.format(question=question.format(*arguments))
        return Item(prompt, " " + RECIPES[recipe].solve(*arguments), key_of(name, *arguments))

    names = [f"charbench-like/{task}" for task in TASKS]
    items = draw_items(names, n, seed, draw)
    return tasks_of(names, items, _FORMAT, whole_number, about=_ABOUT)


_SOURCE = "arXiv 2508.02591, github.com/omriuz/CharBench, the hub's omriuz/CharBench"
_PROGRAMS = dict.fromkeys(("utils.py", "eval_openai.py"), _parse_sentences)
_FILES = _PROGRAMS | dict.fromkeys(("*.csv", "*.jsonl"), table)
# analysis/ has a utils.py of its own.
_OTHERS = ("analysis", "benchmark")
FORMAT = Format("charbench", _SOURCE, _FILES, _read, _generate, other_folders=_OTHERS)
