"""CUTE: what a model knows of the letters in its tokens and of the words in a sentence (14 tasks).

Edman, Schmid & Fraser, "CUTE: Measuring LLMs' Understanding of Their Tokens", EMNLP 2024, arXiv 2409.15452;
files, prompts and marking as in the repository Leukas/CUTE (MIT), read there. Seven tasks come again with
random consonants for words (spell_rand, ...). 1,000 items each.

Asked: one message of a user, then ' Answer: "' after the chat template; greedy, 100 new tokens. Marked: of
all text, opening included, what follows the last "Answer:", up to "</s>", between the first quote and the
next one or the end; for the five tasks about words in lower case. The authors keep a model's other special
tokens in that text, so that a missing closing quote costs some of their models the item; here no special
token is ever part of a generated text.

What is not theirs: a reader of tables that took "null" for a missing value would ask about another word than
this one. The hub's data set has the prompts filled in already; whether they equal those of the repository,
space by space, is not verified. `generate` has no sem: what is semantically nearer cannot be told from words
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import File, Format, Tables, by_stem, draw_task, key_of, lower_case_words
from .tables import Rows, assigned, fill, need, parse_python, table

CHARACTER_TASKS = ("contains_char", "ins_char", "del_char", "sub_char", "swap_char")
WORD_TASKS = ("contains_word", "ins_word", "del_word", "sub_word", "swap_word")
TASKS = ("spell", "spell_inverse", "orth", "sem", *CHARACTER_TASKS, *WORD_TASKS)
RANDOM_TASKS = tuple(f"{task}_rand" for task in ("spell", "spell_inverse", *CHARACTER_TASKS))
OTHER_NAMES = {"add_char_rand": "ins_char_rand"}  # as the file is called in the repository
OPENING = ' Answer: "'
ASKING = Asking(chat=True, opening=OPENING, room=100, stop="")
LETTERS, CONSONANTS = "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwxz"


def between_quotes(generated: str) -> str | None:
    """What CUTE takes for the answer in a text that follows the opening; None where it finds none.

    'cat" I hope that helps' -> "cat"; 'cat' -> "cat"; '" Answer: none' -> None
    """
    answer = (OPENING + generated).rsplit("Answer:", 1)[-1].partition("</s>")[0]
    _, quote, after = answer.partition('"')
    return after.partition('"')[0].strip() if quote else None


def same_in_lower_case(found: str, answer: str) -> bool:
    return found.lower() == answer.lower()


def parse_prompts(name: str, text: str) -> Rows:
    """prompts.py, which assigns a dict of format strings to PROMPTS -> [{"task": "spell", "prompt": ...}]"""
    prompts = assigned(name, parse_python(name, text), "PROMPTS")
    if not isinstance(prompts, dict) or not all(
        isinstance(x, str) for pair in prompts.items() for x in pair
    ):
        raise TaskError(
            f"PROMPTS in {name} is no dict of texts: put the benchmark's own file in its place."
        )
    return [{"task": task, "prompt": prompt} for task, prompt in prompts.items()]


def read(tables: Tables) -> list[BenchmarkTask]:
    """The repository's data/*.tsv (columns input1, input2, input3 as needed, label) with its prompts.py, or
    the hub's splits (columns prompt, answer).
    """
    found = by_stem(tables)
    file, rows = found.pop("prompts", ("prompts.py", []))
    prompts = (
        {row["task"]: row["prompt"] for row in need(file, rows, "task", "prompt")} if rows else {}
    )
    known = {OTHER_NAMES.get(stem, stem): named for stem, named in found.items()}
    if len(known) < len(found):
        raise TaskError(
            "ins_char_rand.tsv and add_char_rand.tsv are the same task: keep one of them."
        )
    if unknown := set(known) - {*TASKS, *RANDOM_TASKS}:
        raise TaskError(
            f"cute has no task {', '.join(sorted(unknown))}: its tasks are {', '.join(TASKS)}."
        )
    if not known:
        raise TaskError("cute has prompts but no items: put its data/*.tsv beside prompts.py.")
    return [
        _read_task(task, *known[task], prompts) for task in (*TASKS, *RANDOM_TASKS) if task in known
    ]


def _read_task(task: str, name: str, rows: Rows, prompts: dict[str, str]) -> BenchmarkTask:
    plain, full = task.removesuffix("_rand"), f"cute/{task}"
    if rows and {"prompt", "answer"} <= set(rows[0]):
        items = [
            Item(row["prompt"], " " + row["answer"], key_of(full, row["prompt"]))
            for row in need(name, rows, "prompt", "answer")
        ]
    elif plain not in prompts:
        raise TaskError(
            f"{name} needs the prompt of {plain}: put the benchmark's prompts.py beside it."
        )
    else:
        items = []
        for row in need(name, rows, "input1", "label"):
            inputs = [row[column] for column in ("input1", "input2", "input3") if column in row]
            prompt = fill("prompts.py", prompts[plain], *inputs)
            items.append(Item(prompt, " " + row["label"], key_of(full, *inputs)))
    return BenchmarkTask(full, tuple(items), ASKING, between_quotes, _equal(plain))


def _equal(plain: str) -> Callable[[str, str], bool]:
    return same_in_lower_case if plain in WORD_TASKS else str.__eq__


# The same tasks from words of one's own

Drawn = tuple[tuple[str, ...], str]  # what the question names, and the answer

# instruction, question
WORDING = {
    "spell": ("Give all letters of a word with a blank between them.", 'The letters of "{}"?'),
    "spell_inverse": ("Put letters together to the word they make.", 'The word made of "{}"?'),
    "contains_char": ("Say Yes if a word has a letter in it, else No.", 'The letter "{}" in "{}"?'),
    "contains_word": ("Say Yes if a sentence has a word in it, else No.", 'The word "{}" in "{}"?'),
    "orth": ("Choose the word that is fewer letters away from the first.", 'Nearer to "{}": "{}" or "{}"?'),
    "ins_char": ("Write a new letter behind each one of another.", 'Write "{}" behind each "{}" of "{}".'),
    "ins_word": ("Write a new word behind each one of another.", 'Write "{}" behind each "{}" of "{}".'),
    "del_char": ("Leave a letter out wherever a word has it.", 'Without "{}": "{}".'),
    "del_word": ("Leave a word out wherever a sentence has it.", 'Without "{}": "{}".'),
    "sub_char": ("Write another letter in place of one of a word.", 'Instead of "{}" write "{}" in "{}".'),
    "sub_word": ("Write another word in place of one of a sentence.", 'Instead of "{}" write "{}" in "{}".'),
    "swap_char": ("Let two letters of a word change places.", '"{}" and "{}" change places in "{}".'),
    "swap_word": ("Let two words of a sentence change places.", '"{}" and "{}" change places in "{}".'),
}  # fmt: skip
NUM_EXAMPLES = 4


def distance(a: str, b: str) -> int:
    """Levenshtein distance: how many letters have to be inserted, deleted or replaced."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other)))
    return row[-1]


def change(
    operation: str, parts: Sequence[str], new: Sequence[str], rng: Random
) -> tuple[list[str], list[str]]:
    """What a question names beside the parts (letters or words), and the parts after the operation.

    "del", ["t", "e", "a"] -> ["e"], ["t", "a"]
    """
    old = rng.choice(sorted(set(parts)))
    if operation == "del":
        return [old], [part for part in parts if part != old]
    if operation == "swap":
        a, b = rng.sample(sorted(part for part in set(parts) if parts.count(part) == 1), 2)
        return [a, b], [{a: b, b: a}.get(part, part) for part in parts]
    added = rng.choice(new)
    if operation == "ins":
        return [added, old], [
            x for part in parts for x in ([part, added] if part == old else [part])
        ]
    return [old, added], [added if part == old else part for part in parts]


def draw(plain: str, words: Sequence[str], randomly: bool, rng: Random) -> Drawn:
    """One question of a task, named without _rand; `randomly` puts consonants in the place of the word."""
    word = rng.choice(words)
    if randomly:
        word = "".join(rng.sample(CONSONANTS, min(len(word), len(CONSONANTS))))
    if plain == "spell":
        return (word,), " ".join(word)
    if plain == "spell_inverse":
        return (" ".join(word),), word
    if plain == "orth":
        return _draw_nearer(word, words, rng)
    operation, _, of = plain.partition("_")
    parts = list(word) if of == "char" else rng.choices(words, k=rng.randint(4, 8))
    new, joint = (LETTERS, "") if of == "char" else (words, " ")
    whole = joint.join(parts)
    if operation == "contains":
        right = rng.choice(("Yes", "No"))
        asked = rng.choice(sorted(set(parts) if right == "Yes" else set(new) - set(parts)))
        return (asked, whole), right
    while operation == "swap" and sum(parts.count(part) == 1 for part in parts) < 2:
        return draw(plain, words, randomly, rng)
    named, changed = change(operation, parts, new, rng)
    return (*named, whole), joint.join(changed)


def _draw_nearer(word: str, words: Sequence[str], rng: Random) -> Drawn:
    others = [other for other in rng.sample(words, min(20, len(words))) if other != word]
    by_distance = sorted(others, key=lambda other: distance(word, other))
    near, far = by_distance[0], by_distance[-1]
    if distance(word, near) == distance(word, far):
        return _draw_nearer(rng.choice(words), words, rng)
    return ((word, near, far) if rng.random() < 0.5 else (word, far, near)), near


def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    """CUTE's tasks but sem, about these words: an instruction, four examples, the question. Sentences are
    four to eight of the words in a row.
    """
    usable = lower_case_words("cute", words, 3)
    return [
        _generate_task(task, usable, n, seed) for task in (*TASKS, *RANDOM_TASKS) if task != "sem"
    ]


def _generate_task(task: str, words: Sequence[str], n: int, seed: int) -> BenchmarkTask:
    plain, full = task.removesuffix("_rand"), f"cute-like/{task}"
    instruction, question = WORDING[plain]

    def ask(rng: Random) -> Item:
        named, answer = draw(plain, words, task != plain, rng)
        return Item(question.format(*named), " " + answer, key_of(full, *named))

    examples = distinct_draws(ask, NUM_EXAMPLES, full, "examples", seed)
    shown = "\n".join(
        f'{i}. {e.prompt} Answer: "{e.answer.strip()}"' for i, e in enumerate(examples, 1)
    )

    def draw_item(rng: Random) -> Item:
        item = ask(rng)
        while item.key in {example.key for example in examples}:
            item = ask(rng)
        return Item(
            f"{instruction} Some examples:\n\n{shown}\n\nQuestion: {item.prompt}",
            item.answer,
            item.key,
        )

    return draw_task(full, n, seed, draw_item, ASKING, between_quotes, _equal(plain))


FORMAT = Format(
    "cute",
    "arXiv 2409.15452, github.com/Leukas/CUTE, the hub's leukas/cute",
    (
        File("prompts.py", parse_prompts),
        *(File(f"{task}.*", table) for task in (*TASKS, *RANDOM_TASKS, *OTHER_NAMES)),
    ),
    read,
    generate,
)
