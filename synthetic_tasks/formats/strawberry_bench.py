"""StrawberryBench: count a letter in a word, a sentence or a paragraph (7 tasks, 847 items).

github.com/floleuerer/strawberry-bench (data CC-BY-4.0). The program data/generate_dataset.py draws
the items from its own lists with random.Random(42), and prompts.py holds the system message; from
both files this module draws the same items. The hub's floleuerer/strawberry-bench (question,
answer, word, letter, difficulty) has them as rows, without the system message.

Prompt: the system message and the question, zero-shot. Scoring: the whole number after "ANSWER:",
else the first whole number that stands alone, else a number word from zero to twenty, the smallest
one. The authors ask a second model if a text has several numbers or none; here the rule decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item, Subject
from synthetic_tasks.word_tasks.recipes import RECIPES

from .charbench import whole_number
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
from .tables import Rows, Tables, assigned, fill, need, not_own, parse_json, parse_python, table

# Texts, their templates and the number of letters that are asked about; in the order of drawing.
_LISTS = {
    "easy": ("EASY_WORDS", "TEMPLATES", 4),
    "medium": ("MEDIUM_WORDS", "TEMPLATES", 4),
    "hard": ("HARD_WORDS", "TEMPLATES", 4),
    "sentence": ("SENTENCES", "SENTENCE_TEMPLATES", 4),
    "paragraph": ("PARAGRAPHS", "PARAGRAPH_TEMPLATES", 5),
    "names": ("NAMES", "NAME_TEMPLATES", 4),
    "foreign": ("NON_ENGLISH_WORDS", "FOREIGN_TEMPLATES", 4),
}
TASKS = tuple(_LISTS)
_ABSENT_SHARE = 0.45  # texts that are also asked about a letter that they lack
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MAX_NEW_TOKENS = 512  # the authors' limit is 10,000, for models that think first
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_OWN_SYSTEM = "Write the number and no other word."


def count_in(generated: str) -> str | None:
    """Parse the count from a text: "It has 3, not two" -> "3"; None if it has no number.

    "2, no: ANSWER: 3" -> "3"; "two or one" -> "1"
    """
    found = re.search(r"ANSWER\s*:\s*(\d+)", generated, re.IGNORECASE) or re.search(
        r"\b(\d+)\b", generated
    )
    if found is None:
        words = set(re.findall(r"\w+", generated.lower()))
        return next((str(n) for n, word in enumerate(_NUMBER_WORDS) if word in words), None)
    try:
        return str(int(found[1]))
    except ValueError:  # Python converts at most 4,300 digits
        return None


# Reading


def _parse_lists(name: str, text: str) -> Rows:
    """Return a row per list of generate_dataset.py: its difficulty, texts and templates as JSON."""
    tree = parse_python(name, text)
    rows, seed = [], assigned(name, tree, "SEED")
    if not isinstance(seed, int):
        raise not_own(name, f"assigns {seed!r} to SEED, which is no integer")
    for difficulty, (texts, templates, most) in _LISTS.items():
        values = [assigned(name, tree, variable) for variable in (texts, templates)]
        # A foreign word comes with its language.
        pairs = [each if isinstance(each, tuple) else (each,) for each in _as_list(values[0])]
        parts = [part for pair in (*pairs, tuple(_as_list(values[1]))) for part in pair]
        if not pairs or not values[1] or not all(isinstance(part, str) for part in parts):
            raise not_own(name, f"assigns no lists of texts to {texts} and {templates}")
        row = {"difficulty": difficulty, "most": str(most), "seed": str(seed)}
        rows.append(row | {"texts": json.dumps(pairs), "templates": json.dumps(values[1])})
    return rows


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) and value else [None]  # None is no text


def _parse_system(name: str, text: str) -> Rows:
    system = assigned(name, parse_python(name, text), "SYSTEM_PROMPT")
    if not isinstance(system, str):
        raise not_own(name, "assigns no text to SYSTEM_PROMPT")
    return [{"system": system}]


class _Drawn(NamedTuple):
    difficulty: str
    text: str
    letter: str
    question: str


def _draw(file: str, rows: Rows) -> list[_Drawn]:
    """Draw all questions. Subtle: the draws and their order are those of generate_dataset.py."""
    rng, drawn = Random(int(rows[0]["seed"])), []
    for row in rows:
        for text, *language in parse_json(row["texts"]):
            present = sorted(set(text.lower().replace(" ", "")))
            letters = rng.sample(present, min(int(row["most"]), len(present)))
            absent = (letter for letter in _LETTERS if letter not in present)
            templates = [rng.choice(parse_json(row["templates"])) for _ in letters]
            if rng.random() < _ABSENT_SHARE and (other := next(absent, None)):
                letters.append(other)
                templates.append(rng.choice(parse_json(row["templates"])))
            named = dict(zip(["language"], language, strict=False))
            for letter, template in zip(letters, templates, strict=True):
                question = fill(file, template, letter=letter, word=text, **named)
                drawn.append(_Drawn(row["difficulty"], text, letter, question))
    rng.shuffle(drawn)
    return drawn


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Draw from generate_dataset.py, or read rows; the system message is that of prompts.py."""
    others = dict(tables)
    systems = [others.pop(name) for name in tables if name.endswith("prompts.py")]
    system = need("prompts.py", systems[0], "system")[0]["system"] if systems else ""
    if not others:
        wanted = "generate_dataset.py or dataset.jsonl"
        raise TaskError(f"strawberry_bench has prompts.py alone. Put {wanted} beside it.")
    # The program and the files that it writes hold the same items.
    name = min(others, key=lambda other: (not other.endswith(".py"), other))
    rows = others[name]
    # Without the authors' system message it is another prompt, so it has another name.
    prefix = "strawberry_bench" if system else "strawberry_bench-like"
    if name.endswith(".py"):
        drawn = _draw(name, need(name, rows, "difficulty", "texts", "templates", "most", "seed"))
        items = [_item(prefix, one, _solve(one.text, one.letter)) for one in drawn]
    else:
        columns = ("difficulty", "word", "letter", "question")
        items = []
        for number, row in enumerate(need(name, rows, *columns, "answer"), 1):
            if row["difficulty"] not in TASKS:
                problem = f"has the difficulty {row['difficulty']!r}, not in {', '.join(TASKS)}"
                raise TaskError(f"row {number} of {name} {problem}. Leave that row out.")
            if (answer := whole_number(row["answer"])) is None:
                problem = f"has the answer {row['answer']!r}, which is no whole number"
                raise TaskError(f"row {number} of {name} {problem}. Leave that row out.")
            items.append(_item(prefix, _Drawn(*(row[c] for c in columns)), answer))
    return _tasks(prefix, items, system or _OWN_SYSTEM)


def _solve(text: str, letter: str) -> str:
    return RECIPES["count"].solve(text.lower(), letter)


def _item(prefix: str, drawn: _Drawn, answer: str) -> Item:
    key = key_of(f"{prefix}/{drawn.difficulty}", drawn.letter, drawn.text)
    return Item(drawn.question, f" {answer}", key)


def _tasks(prefix: str, items: Sequence[Item], system: str) -> list[BenchmarkTask]:
    form = PromptFormat(chat=True, system=system, max_new_tokens=_MAX_NEW_TOKENS, stop="")
    names = [f"{prefix}/{task}" for task in TASKS]
    return tasks_of(names, items, form, count_in, about=_about)


def _about(letter: str, text: str) -> Subject | None:
    """Find the word and the letter's place: ("o", "Ottilie") -> Subject("Ottilie", 0)."""
    return None if " " in text else Subject(text, word_first(text.lower(), letter).place)


# The imitation

_QUESTIONS = {
    "names": "The name {text}: how many {letter} does it have?",
    "sentence": "Count the {letter} of this line: {text}",
    "paragraph": "Count the {letter} of these lines: {text}",
}
_LENGTHS = {"easy": (3, 6), "medium": (7, 12), "hard": (10, 100), "names": (5, 12)}
_NUM_WORDS = {"sentence": 10, "paragraph": 20}


def _draw_own(words: Sequence[str], name: str, rng: Random) -> Item:
    task = name.partition("/")[2]
    if task in _NUM_WORDS:
        text = " ".join(rng.choices(words, k=_NUM_WORDS[task]))
    else:
        least, most = _LENGTHS.get(task, (3, 100))
        # With a short list of words a difficulty may have none of its lengths.
        fitting = [word for word in words if least <= len(word) <= most] or words
        text = rng.choice(fitting)
    text = text.capitalize() if task == "names" else text
    present = sorted(set(text.lower().replace(" ", "")))
    absent = sorted(set(_LETTERS).difference(present)) or present
    letter = rng.choice(present if rng.random() < 0.9 else absent)
    question = _QUESTIONS.get(task, "How many {letter} are in {text}?")
    question = question.format(letter=letter, text=text)
    return _item(
        "strawberry_bench-like", _Drawn(task, text, letter, question), _solve(text, letter)
    )


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    draw = partial(_draw_own, words_for("strawberry_bench", words, 3))
    # Without the foreign words: there are none among these.
    names = [f"strawberry_bench-like/{task}" for task in TASKS if task != "foreign"]
    return _tasks("strawberry_bench-like", draw_items(names, n, seed, draw), _OWN_SYSTEM)


_SOURCE = "github.com/floleuerer/strawberry-bench, the hub's floleuerer/strawberry-bench"
_FILES = {
    "generate_dataset.py": _parse_lists,
    "prompts.py": _parse_system,
    **dict.fromkeys(("dataset.jsonl", "dataset.csv"), table),
}
FORMAT = Format("strawberry_bench", _SOURCE, _FILES, _read, _generate)
