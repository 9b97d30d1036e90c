"""The spelling and counting tasks of nanochat: SpellingBee (how often a letter stands in a word) and
SimpleSpelling.

github.com/karpathy/nanochat (MIT), tasks/spellingbee.py and scripts/chat_eval.py, read there. There are no
items in a file: test item i is drawn by Python's random.Random(10,000,000 + i) from the word list
words_alpha.txt of github.com/dwyl/english-words and from the question forms in spellingbee.py. Read from both
files, the items here are the same ones. nanochat asks 256 of SpellingBee; 256 of SimpleSpelling are our
choice.

Asked: one message of a user, greedy, up to 512 new tokens. nanochat runs Python that its model writes in
between; here nothing is run, so that a model which waits for Python's answer is marked without it.
SpellingBee is marked by the first "#### " and number in the text, without commas. SimpleSpelling is for
training and has no marking of its own: here it is exact match up to the newline.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import partial
from random import Random

from synthetic_tasks.benchmark import Asking, BenchmarkTask
from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item

from .format import File, Format, Tables, by_stem, draw_task, key_of, lower_case_words
from .tables import Rows, assigned, fill, messages, need, not_own, parse_python

NUM_ITEMS = 256
ORDER_SEED = 42  # SimpleSpelling shuffles the word list
ASKING = Asking(chat=True, room=512, stop="")
SPELLING_ASKING = Asking(chat=True, room=512)
FORMS, OFFSET, SPELL = "USER_MSG_TEMPLATES", "TEST_RANDOM_SEED_OFFSET", "SimpleSpelling"
NUMBER = re.compile("#### (-?[0-9.,]+)")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def after_hashes(generated: str) -> str | None:
    """The first number that follows four hashes and a space. "That makes 2.\\n\\n#### 1,024" -> "1024" """
    found = NUMBER.search(generated)
    return found[1].replace(",", "") if found else None


def parse_forms(name: str, text: str) -> Rows:
    """spellingbee.py -> how it asks to count, the offset of its test seeds, how it asks to spell:
    [{"what": "USER_MSG_TEMPLATES", "text": "..."}, ...]
    """
    tree = parse_python(name, text)
    forms, offset = assigned(name, tree, FORMS), assigned(name, tree, OFFSET)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == SPELL]
    asked = [form for node in classes for form in messages(node, "user")]
    if not isinstance(forms, list) or not forms or not all(isinstance(form, str) for form in forms):
        raise not_own(name, f"assigns no list of texts to {FORMS}")
    if not isinstance(offset, int) or len(asked) != 1:
        raise not_own(name, f"lacks a whole number {OFFSET}, or {SPELL} with one message of a user")
    said = [*((FORMS, form) for form in forms), (OFFSET, str(offset)), (SPELL, asked[0])]
    return [{"what": what, "text": text} for what, text in said]


def parse_words(name: str, text: str) -> Rows:
    """A list of words, one a line -> [{"word": "a"}, ...]. Raises TaskError for an empty one."""
    words = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if not all(words):
        raise not_own(name, "has an empty line, or no word at all")
    return [{"word": word} for word in words]


def draw_count(
    file: str, words: Sequence[str], forms: Sequence[str], rng: Random
) -> tuple[str, str, str]:
    """One question of SpellingBee: prompt, word, letter. What is drawn, and in which order, is nanochat's."""
    word = rng.choice(words)
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice(LETTERS)
    form = rng.choice(forms)
    form = form.lower() if rng.random() < 0.3 else form
    around_letter, around_word = (rng.choice(("", "'", '"')) for _ in range(2))
    prompt = fill(
        file,
        form,
        letter=f"{around_letter}{letter}{around_letter}",
        word=f"{around_word}{word}{around_word}",
    )
    return (prompt + "?" if rng.random() < 0.5 else prompt), word, letter


def _count_item(task: str, prompt: str, word: str, letter: str) -> Item:
    return Item(prompt, f" {word.count(letter)}", key_of(task, word, letter))


def _spell_item(task: str, file: str, form: str, word: str) -> Item:
    return Item(fill(file, form, word=word), f" {word}:{','.join(word)}", key_of(task, word))


def read(tables: Tables) -> list[BenchmarkTask]:
    """tasks/spellingbee.py of nanochat and the word list words_alpha.txt -> 256 test items of each task."""
    found = by_stem(tables)
    if not {"spellingbee", "words_alpha"} <= set(found):
        seen = ", ".join(sorted(found)) or "nothing"
        raise TaskError(
            f"nanochat needs spellingbee.py and words_alpha.txt, not {seen}: put both into one folder."
        )
    (file, rows), (list_file, word_rows) = found["spellingbee"], found["words_alpha"]
    said: dict[str, list[str]] = {FORMS: [], OFFSET: [], SPELL: []}
    for row in need(file, rows, "what", "text"):
        said.setdefault(row["what"], []).append(row["text"])
    words = [row["word"] for row in need(list_file, word_rows, "word")]
    shuffled = list(words)
    Random(ORDER_SEED).shuffle(shuffled)
    chances = [Random(int(said[OFFSET][0]) + i) for i in range(NUM_ITEMS)]
    again = [Random(int(said[OFFSET][0]) + i) for i in range(NUM_ITEMS)]
    counted = [
        _count_item("nanochat/SpellingBee", *draw_count(file, words, said[FORMS], rng))
        for rng in chances
    ]
    spelled = [
        _spell_item("nanochat/SimpleSpelling", file, said[SPELL][0], rng.choice(shuffled))
        for rng in again
    ]
    return [
        BenchmarkTask("nanochat/SpellingBee", tuple(counted), ASKING, after_hashes),
        BenchmarkTask("nanochat/SimpleSpelling", tuple(spelled), SPELLING_ASKING, read_answer),
    ]


# The same tasks from words of one's own

OWN_FORMS = (
    "How often does {letter} stand in {word}",
    "Please count the {letter} of {word}",
    "Look at {word}. Its number of {letter}",
    "Which number of {letter} has the word {word}",
    "If I write {word}, how many {letter} do I write",
    "Wie oft steht {letter} in {word}",
    "Nombre de {letter} dans {word}",
)
OWN_SPELL = "The letters of this word, please: {word}"


def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    """Both tasks about these words. As in nanochat nothing in the prompt says that a count follows four
    hashes: its models learn that in training.
    """
    usable = lower_case_words("nanochat", words, 1)

    def draw_counted(rng: Random) -> Item:
        return _count_item(
            "nanochat-like/SpellingBee", *draw_count("nanochat", usable, OWN_FORMS, rng)
        )

    def draw_spelled(rng: Random) -> Item:
        return _spell_item(
            "nanochat-like/SimpleSpelling", "nanochat", OWN_SPELL, rng.choice(usable)
        )

    task = partial(draw_task, n=n, seed=seed)
    return [
        task("nanochat-like/SpellingBee", draw=draw_counted, asking=ASKING, read=after_hashes),
        task("nanochat-like/SimpleSpelling", draw=draw_spelled, asking=SPELLING_ASKING),
    ]


FORMAT = Format(
    "nanochat",
    "github.com/karpathy/nanochat and github.com/dwyl/english-words",
    (File("spellingbee.py", parse_forms), File("words_alpha.txt", parse_words)),
    read,
    generate,
)
