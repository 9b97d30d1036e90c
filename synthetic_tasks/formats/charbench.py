"""CharBench: counting letters and finding their places (4 tasks, places from 0, answers are whole numbers).

Uzan & Pinter, "CharBench: Evaluating the Role of Tokenization in Character-Level Tasks", AAAI 2026, arXiv
2508.02591; files, prompt and marking as in the repository omriuz/CharBench, read there. Words of 4 to 10
letters with their capitals, 6,250 a task and length: 43,750 a task.

Asked: a system message and one message of a user, at temperature 0; the number of new tokens is the service's
own, here 32. Marked: the whole text, without the space around it, must be what Python's int() takes, and
equal the answer; anything else is a parse failure.

The table holds the questions; the sentences around them are in the repository's Python files. With the table
alone (as on the hub) they are this project's own, and the tasks are called charbench-like. That the hub's
table has the columns of the repository's is known from programs that read it, not from the table itself.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import File, Format, Tables, draw_task, key_of, lower_case_words
from .tables import Rows, fill, messages, need, not_own, parse_python, table

COLUMNS = ("question", "answer", "word", "character", "task")
TASKS = (
    "count_character_frequency",
    "count_unique_chars",
    "find_first_occurrence",
    "find_last_occurrence",
)
ROOM = 32
INSTRUCTION = "Reply with one whole number and nothing else. Capitals and small letters differ.\n\n{question}\n"


def whole_number(generated: str) -> str | None:
    """A text that is a number and nothing else, as CharBench takes it. " 07\\n" -> "7"; "7." -> None"""
    try:
        return str(int(generated.strip()))
    except ValueError:
        return None


def parse_sentences(name: str, text: str) -> Rows:
    """The user's prompt (the text that get_evaluation_prompt returns) or the system message (the dict with
    the role system) in one of the repository's Python files, whichever it holds.
    """
    tree = parse_python(name, text)
    prompts = [
        statement.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "get_evaluation_prompt"
        for statement in node.body
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Constant)
    ]
    systems = [fill(name, text) for text in messages(tree, "system")]
    found = [("prompt", text) for text in prompts] + [("system", text) for text in systems]
    if not found or not all(isinstance(text, str) for _, text in found):
        raise not_own(name, "has neither get_evaluation_prompt with its text nor a system message")
    return [{"role": role, "text": str(text)} for role, text in found]


def read(tables: Tables) -> list[BenchmarkTask]:
    """A table with the columns question, answer, word, character and task; with evaluation/utils.py and
    evaluation/eval_openai.py of the repository beside it, prompts are CharBench's own.
    """
    rows = {name: rows for name, rows in tables.items() if not name.endswith(".py")}
    said = {
        row["role"]: row["text"] for name in tables if name.endswith(".py") for row in tables[name]
    }
    if len(rows) != 1:
        raise TaskError(
            f"charbench is one table, not {len(rows)} ({', '.join(sorted(rows)) or 'none'}): name its own "
            "file, benchmark_english.csv."
        )
    if said and set(said) != {"prompt", "system"}:
        raise TaskError(
            "charbench's sentences are half there: put both utils.py and eval_openai.py of its evaluation/ "
            "beside the table, or neither, for this project's own sentences."
        )
    ((name, table_rows),) = rows.items()
    asking = Asking(chat=True, system=said.get("system", ""), room=ROOM, stop="")
    prompt, prefix = said.get("prompt", INSTRUCTION), "charbench" if said else "charbench-like"
    by_task: dict[str, list[Item]] = {task: [] for task in TASKS}
    for number, row in enumerate(need(name, table_rows, *COLUMNS), 1):
        if row["task"] not in by_task or whole_number(row["answer"]) is None:
            raise TaskError(
                f"row {number} of {name} has the task {row['task']!r} and the answer {row['answer']!r}: "
                f"CharBench has {', '.join(TASKS)}, and whole numbers."
            )
        named = [row["word"], *filter(None, [row["character"]])]
        by_task[row["task"]].append(
            Item(
                fill("evaluation/utils.py", prompt, question=row["question"]),
                " " + str(whole_number(row["answer"])),
                key_of(prefix + "/" + row["task"], *named),
            )
        )
    return [
        BenchmarkTask(f"{prefix}/{task}", tuple(items), asking, whole_number)
        for task, items in by_task.items()
        if items
    ]


# The same tasks from words of one's own

QUESTIONS = {
    "count_character_frequency": "How often does '{character}' stand in '{word}'?",
    "count_unique_chars": "How many different characters does '{word}' have?",
    "find_first_occurrence": "At which place does '{character}' first stand in '{word}'? Count from 0.",
    "find_last_occurrence": "At which place does '{character}' last stand in '{word}'? Count from 0.",
}


def solve(task: str, word: str, character: str) -> int:
    if task == "count_unique_chars":
        return len(set(word))
    if task == "count_character_frequency":
        return word.count(character)
    return word.index(character) if task == "find_first_occurrence" else word.rindex(character)


def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    """CharBench's tasks about these words of 4 to 10 letters: a character of the word, all places alike."""
    usable = lower_case_words("charbench", words, 4, 10)

    def generate_task(task: str) -> BenchmarkTask:
        full = f"charbench-like/{task}"

        def draw_item(rng: Random) -> Item:
            word = rng.choice(usable)
            character = rng.choice(word)
            named = (word,) if task == "count_unique_chars" else (word, character)
            question = QUESTIONS[task].format(word=word, character=character)
            answer = f" {solve(task, word, character)}"
            return Item(INSTRUCTION.format(question=question), answer, key_of(full, *named))

        return draw_task(
            full, n, seed, draw_item, Asking(chat=True, room=ROOM, stop=""), whole_number
        )

    return [generate_task(task) for task in TASKS]


FORMAT = Format(
    "charbench",
    "arXiv 2508.02591, github.com/omriuz/CharBench, the hub's omriuz/CharBench",
    (
        File("utils.py", parse_sentences),
        File("eval_openai.py", parse_sentences),
        File("*.csv", table),
        File("*.jsonl", table),
    ),
    read,
    generate,
)
