"""Imitate CUTE: the same tasks about other words, in this project's wording; see cute.py."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.task import Item
from synthetic_tasks.word_tasks.letters import edit_distance, spaced

from .cute_tasks import cute_task
from .format import BenchmarkTask, draw_items, key_of, words_for

_LETTERS, _CONSONANTS = "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwxz"
# Task of letters or words -> instruction, question.
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


def imitate(
    prefix: str, tasks: Sequence[str], words: Sequence[str], n: int, seed: int, blanks: bool = False
) -> list[BenchmarkTask]:
    """Imitate some tasks about these words: "cute-like" -> "cute-like/spell", ...

    `blanks`: write a blank inside each quote, as the prompts of the hub do.
    """
    usable = words_for(prefix.removesuffix("-like"), words, 3)
    # Without sem: words alone do not tell which one is semantically nearer.
    return [
        _generate_task(task, f"{prefix}/{task}", usable, n, seed, blanks)
        for task in tasks
        if task != "sem"
    ]


def _generate_task(
    task: str, full: str, words: Sequence[str], n: int, seed: int, blanks: bool
) -> BenchmarkTask:
    """Imitate a task: an instruction, four examples, the question. A sentence is 4 to 8 words."""
    plain = task.removesuffix("_rand")
    instruction, question = _WORDING[plain]
    blank = " " if blanks else ""
    question = question.replace('"{}"', f'"{blank}{{}}{blank}"')
    # In the hub's prompts, too, Yes and No have no blanks around them.
    around = "" if plain.startswith("contains") else blank

    def ask(rng: Random) -> Item:
        arguments, answer = _draw(plain, words, task != plain, rng)
        return Item(question.format(*arguments), " " + answer, key_of(full, *arguments))

    # All items of a task share their examples.
    examples = distinct_draws(ask, _NUM_EXAMPLES, full, "examples", seed)
    lines = [
        f'{i}. {e.prompt} Answer: "{around}{e.answer.strip()}{around}"'
        for i, e in enumerate(examples, 1)
    ]
    before = "\n".join([f"{instruction} Some examples:\n", *lines, "\nQuestion: "])
    keys = {example.key for example in examples}

    def draw(name: str, rng: Random) -> Item:
        item = ask(rng)
        while item.key in keys:  # an example would give the answer away
            item = ask(rng)
        return item._replace(prompt=before + item.prompt)

    return cute_task(task, full, draw_items([full], n, seed, draw))
