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

from collections.abc import Sequence
from random import Random

from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import same_in_any_case
from synthetic_tasks.task import Item, Subject
from synthetic_tasks.word_tasks.letters import edit_distance, spaced

from .format import (
    About,
    BenchmarkTask,
    Format,
    PromptFormat,
    draw_items,
    key_of,
    no_word,
    word_first,
    word_last,
    words_for,
)
from .tables import Rows, Tables, assigned, by_stem, fill, need, not_own, parse_python, table

_CHARACTER_TASKS = ("contains_char", "ins_char", "del_char", "sub_char", "swap_char")
_WORD_TASKS = ("contains_word", "ins_word", "del_word", "sub_word", "swap_word")
TASKS = ("spell", "spell_inverse", "orth", "sem", *_CHARACTER_TASKS, *_WORD_TASKS)
RANDOM_TASKS = tuple(f"{task}_rand" for task in ("spell", "spell_inverse", *_CHARACTER_TASKS))
_ALL_TASKS = (*TASKS, *RANDOM_TASKS)
_OTHER_NAMES = {"add_char_rand": "ins_char_rand"}  # the name of the repository's file
_OPENING = ' Answer: "'
# The authors ask chat models alone and stop nowhere. Other programs, which ask base models, stop at
# the closing quote: such a model goes on with examples of its own, and the last answer is theirs.
PROMPT_FORMAT = PromptFormat(
    chat=True, opening=_OPENING, max_new_tokens=100, stop="", stop_without_chat='"'
)
_LETTERS, _CONSONANTS = "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwxz"


def between_quotes(generated: str) -> str | None:
    """Parse the answer from a text that follows the opening; None if there is none.

    'cat" I hope that helps' -> "cat"; 'cat' -> "cat"; '" Answer: none' -> None
    """
    # The authors keep a model's other special tokens in this text, so that some of their models
    # lose an item by a missing closing quote. Here no special token is part of a generated text.
    answer = (_OPENING + generated).rsplit("Answer:", 1)[-1].partition("</s>")[0]
    _, quote, after = answer.partition('"')
    return after.partition('"')[0].strip() if quote else None


def _joined(spaced_word: str) -> Subject:
    """Return the word of a question that spells it: "t e a" -> Subject("tea")."""
    return Subject(spaced_word.replace(" ", ""))


# The five tasks about words name a sentence; orth and sem name a word and two to choose from.
_ABOUT: dict[str, About] = {
    **dict.fromkeys(_CHARACTER_TASKS, word_last),
    **dict.fromkeys(_WORD_TASKS, no_word),
    **dict.fromkeys(("orth", "sem"), lambda word, *options: Subject(word)),
    "spell": word_first,
    "spell_inverse": _joined,
}


def _task(task: str, name: str, items: Sequence[Item]) -> BenchmarkTask:
    equal = same_in_any_case if task in _WORD_TASKS else str.__eq__
    about = _ABOUT[task.removesuffix("_rand")]
    return BenchmarkTask(name, tuple(items), PROMPT_FORMAT, between_quotes, equal, about)


def _parse_prompts(name: str, text: str) -> Rows:
    """Read the dict PROMPTS of prompts.py: -> [{"task": "spell", "prompt": ...}, ...]."""
    prompts = assigned(name, parse_python(name, text), "PROMPTS")
    texts = [x for pair in prompts.items() for x in pair] if isinstance(prompts, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise not_own(name, "assigns no dict of texts to PROMPTS")
    return [{"task": task, "prompt": prompt} for task, prompt in prompts.items()]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Read the repository's data/*.tsv with its prompts.py, or the splits of the hub's data set."""
    found = by_stem(tables)
    file, rows = found.pop("prompts", ("prompts.py", []))
    prompt_rows = need(file, rows, "task", "prompt") if rows else []
    prompts = {row["task"]: row["prompt"] for row in prompt_rows}
    # The repository calls one file add_char_rand; both names are read.
    known = {_OTHER_NAMES.get(stem, stem): named for stem, named in found.items()}
    if len(known) < len(found):
        raise TaskError("ins_char_rand.tsv and add_char_rand.tsv are the same task. Keep one.")
    if unknown := set(known).difference(_ALL_TASKS):
        raise TaskError(f"cute has no task {min(unknown)}; its tasks are {', '.join(TASKS)}.")
    if not known:
        raise TaskError("cute has prompts but no items. Put its data/*.tsv beside prompts.py.")
    return [_read_task(task, *known[task], prompts) for task in _ALL_TASKS if task in known]


def _read_task(task: str, name: str, rows: Rows, prompts: dict[str, str]) -> BenchmarkTask:
    plain, full = task.removesuffix("_rand"), f"cute/{task}"
    items = []
    if rows and {"prompt", "answer"} <= set(rows[0]):
        # From the hub. Whether its prompts equal the repository's, space by space, is not verified.
        for row in need(name, rows, "prompt", "answer"):
            items.append(Item(row["prompt"], " " + row["answer"], key_of(full, row["prompt"])))
    elif plain not in prompts:
        raise TaskError(f"{name} needs the prompt of {plain}. Put CUTE's prompts.py beside it.")
    else:
        for row in need(name, rows, "input1", "label"):
            # A task has as many inputs as its prompt has fields; fill checks this.
            inputs = [row[column] for column in ("input1", "input2", "input3") if column in row]
            prompt = fill("prompts.py", prompts[plain], *inputs)
            items.append(Item(prompt, " " + row["label"], key_of(full, *inputs)))
    return _task(task, full, items)


# The imitation. Task of letters or words -> instruction, question.
_EDIT = {
    "ins": ("Write a new {0} behind each one of another.", 'Write "{}" behind each "{}" of "{}".'),
    "del": ("Leave a {0} out wherever a {1} has it.", 'Without "{}": "{}".'),
    "sub": ("Write another {0} in place of one of a {1}.", 'Instead of "{}" write "{}" in "{}".'),
    "swap": ("Let two {0}s of a {1} change places.", '"{}" and "{}" change places in "{}".'),
}
_WORDING = {
    "spell": ("Give all letters of a word with a blank between them.", 'The letters of "{}"?'),
    "spell_inverse": ("Put letters together to the word they make.", 'The word made of "{}"?'),
    "contains_char": ("Say Yes if a word has a letter in it, else No.", 'The letter "{}" in "{}"?'),
    "contains_word": ("Say Yes if a sentence has a word in it, else No.", 'The word "{}" in "{}"?'),
    "orth": (
        "Choose the word that is fewer letters away from the first.",
        'Nearer to "{}": "{}" or "{}"?',
    ),
    **{
        f"{operation}_{of}": (instruction.format(*names), question)
        for operation, (instruction, question) in _EDIT.items()
        for of, names in (("char", ("letter", "word")), ("word", ("word", "sentence")))
    },
}
_NUM_EXAMPLES = 4
_Drawn = tuple[tuple[str, ...], str]  # the arguments of the question, and the answer


def _change(
    operation: str, parts: Sequence[str], new: Sequence[str], rng: Random
) -> tuple[list[str], list[str]]:
    """Draw the other arguments and apply the operation: del, t e a -> ["e"], ["t", "a"]."""
    old = rng.choice(sorted(set(parts)))
    if operation == "del":
        return [old], [part for part in parts if part != old]
    if operation == "swap":
        # Parts that occur once: with a repeated part the result would be ambiguous.
        a, b = rng.sample(sorted(part for part in set(parts) if parts.count(part) == 1), 2)
        return [a, b], [{a: b, b: a}.get(part, part) for part in parts]
    added = rng.choice(new)
    if operation == "ins":
        pairs = ([part, added] if part == old else [part] for part in parts)
        return [added, old], [part for pair in pairs for part in pair]
    return [old, added], [added if part == old else part for part in parts]


def _draw(plain: str, words: Sequence[str], randomly: bool, rng: Random) -> _Drawn:
    """Draw a question of a task without "_rand"; `randomly` replaces the word by consonants."""
    word = rng.choice(words)
    if randomly:
        # Without repeats, so at most as long as the list.
        word = "".join(rng.sample(_CONSONANTS, min(len(word), len(_CONSONANTS))))
    if plain == "spell":
        return (word,), spaced(word)
    if plain == "spell_inverse":
        return (spaced(word),), word
    if plain == "orth":
        return _draw_nearer(word, words, rng)
    operation, _, of = plain.partition("_")
    # A sentence is a row of random words: none of these tasks needs its grammar.
    parts = list(word) if of == "char" else rng.choices(words, k=rng.randint(4, 8))
    new, joint = (_LETTERS, "") if of == "char" else (words, " ")
    whole = joint.join(parts)
    if operation == "contains":
        # The answer is drawn first, so that both are equally frequent.
        right = rng.choice(("Yes", "No"))
        part = rng.choice(sorted(set(parts) if right == "Yes" else set(new) - set(parts)))
        return (part, whole), right
    # A swap needs two parts that occur once.
    if operation == "swap" and sum(parts.count(part) == 1 for part in parts) < 2:
        return _draw(plain, words, randomly, rng)
    arguments, changed = _change(operation, parts, new, rng)
    return (*arguments, whole), joint.join(changed)


def _draw_nearer(word: str, words: Sequence[str], rng: Random) -> _Drawn:
    # Of 20 words the nearest and the farthest, so that the two distances mostly differ.
    others = [other for other in rng.sample(words, min(20, len(words))) if other != word]
    by_distance = sorted(others, key=lambda other: edit_distance(word, other))
    near, far = by_distance[0], by_distance[-1]
    if edit_distance(word, near) == edit_distance(word, far):
        return _draw_nearer(rng.choice(words), words, rng)
    return ((word, near, far) if rng.random() < 0.5 else (word, far, near)), near


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    usable = words_for("cute", words, 3)
    # Without sem: words alone do not tell which one is semantically nearer.
    return [_generate_task(task, usable, n, seed) for task in _ALL_TASKS if task != "sem"]


def _generate_task(task: str, words: Sequence[str], n: int, seed: int) -> BenchmarkTask:
    """Imitate a task: an instruction, four examples, the question. A sentence is 4 to 8 words."""
    plain, full = task.removesuffix("_rand"), f"cute-like/{task}"
    instruction, question = _WORDING[plain]

    def ask(rng: Random) -> Item:
        arguments, answer = _draw(plain, words, task != plain, rng)
        return Item(question.format(*arguments), " " + answer, key_of(full, *arguments))

    # All items of a task share their examples.
    examples = distinct_draws(ask, _NUM_EXAMPLES, full, "examples", seed)
    lines = [f'{i}. {e.prompt} Answer: "{e.answer.strip()}"' for i, e in enumerate(examples, 1)]
    before = "\n".join([f"{instruction} Some examples:\n", *lines, "\nQuestion: "])
    keys = {example.key for example in examples}

    def draw(name: str, rng: Random) -> Item:
        item = ask(rng)
        while item.key in keys:  # an example would give the answer away
            item = ask(rng)
        return item._replace(prompt=before + item.prompt)

    return _task(task, full, draw_items([full], n, seed, draw))


_SOURCE = "arXiv 2409.15452, github.com/Leukas/CUTE, the hub's leukas/cute"
_TABLES = {f"{task}.*": table for task in (*_ALL_TASKS, *_OTHER_NAMES)}
FORMAT = Format("cute", _SOURCE, {"prompts.py": _parse_prompts, **_TABLES}, _read, _generate)
