"""nanochat's SpellingBee (count a letter in a word) and SimpleSpelling (2 tasks).

github.com/karpathy/nanochat (MIT), tasks/spellingbee.py and scripts/chat_eval.py, which were deleted
on 2026-07-03: the last commit with them is da32e1d657b62cc1110f20f86fbc301d6189726e. No file holds the
items: random.Random(10,000,000 + i) draws test item i from the word list words_alpha.txt of
github.com/dwyl/english-words and the question templates of spellingbee.py. From both files this
module draws the same items. Another word list gives other items, so its hash is printed with the
scores.

Prompt: one user message, greedy, up to 512 new tokens. Scoring: the first number after "#### ",
without commas.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence
from functools import partial
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item
from synthetic_tasks.word_tasks.recipes import RECIPES

from .format import BenchmarkTask, Format, PromptFormat, draw_items, key_of, word_first, words_for
from .tables import Rows, Tables, assigned, by_stem, fill, messages, need, not_own, parse_python

_NUM_ITEMS = 256  # as nanochat evaluates of SpellingBee; of SimpleSpelling it is our choice
_ORDER_SEED = 42  # nanochat shuffles the word list for SimpleSpelling
# nanochat runs Python that its model writes; here nothing runs, so a model that waits for Python's
# output is scored without it.
_COUNT_FORMAT = PromptFormat(chat=True, max_new_tokens=512, stop="")
# nanochat trains on SimpleSpelling and does not score it: exact match up to the newline is ours.
_SPELL_FORMAT = PromptFormat(chat=True, max_new_tokens=512)
# Of words_alpha.txt at commit 20f5cc9b3f0ccc8ce45d814c532b7c2031bba31c of dwyl/english-words.
_WORDS_HASH = "2d8cf2326673fa0c179bdc3a58053872d16bff5352331580955ae62101f6a34d"
_TEMPLATES, _OFFSET = "USER_MSG_TEMPLATES", "TEST_RANDOM_SEED_OFFSET"
_COUNT, _SPELL = "SpellingBee", "SimpleSpelling"
_NUMBER = re.compile("#### (-?[0-9.,]+)")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def after_hashes(generated: str) -> str | None:
    """Parse the first number after four hashes: "That makes 2.\\n\\n#### 1,024" -> "1024"."""
    found = _NUMBER.search(generated)
    return found[1].replace(",", "") if found else None


def _parse_templates(name: str, text: str) -> Rows:
    """Return a row per template of spellingbee.py; each has the seed offset and SimpleSpelling's."""
    tree = parse_python(name, text)
    templates, offset = assigned(name, tree, _TEMPLATES), assigned(name, tree, _OFFSET)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == _SPELL]
    spell = [content for node in classes for content in messages(node, "user")]
    is_list = isinstance(templates, list) and len(templates) > 0
    if not is_list or not all(isinstance(template, str) for template in templates):
        raise not_own(name, f"assigns no list of texts to {_TEMPLATES}")
    if not isinstance(offset, int) or len(spell) != 1:
        raise not_own(name, f"lacks an integer {_OFFSET}, or {_SPELL} with one user message")
    return [{"count": each, "offset": str(offset), "spell": spell[0]} for each in templates]


def _parse_words(name: str, text: str) -> Rows:
    # An empty line is an error: without it, the draws would choose other words than nanochat's.
    words = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if not all(words):
        raise not_own(name, "has an empty line, or no word at all")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return [{"word": word, "sha256": digest} for word in words]


def _draw_count(
    file: str, templates: Sequence[str], words: Sequence[str], name: str, rng: Random
) -> Item:
    # Subtle: the draws and their order are nanochat's; another order gives other items.
    word = rng.choice(words)
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice(_LETTERS)
    template = rng.choice(templates)
    template = template.lower() if rng.random() < 0.3 else template
    quotes = [rng.choice(("", "'", '"')) for _ in range(2)]
    quoted = [f"{quote}{text}{quote}" for quote, text in zip(quotes, (letter, word), strict=True)]
    prompt = fill(file, template, letter=quoted[0], word=quoted[1])
    mark = "?" if rng.random() < 0.5 else ""
    answer = RECIPES["count"].solve(word, letter)
    return Item(prompt + mark, f" {answer}", key_of(name, word, letter))


def _draw_spelling(file: str, template: str, words: Sequence[str], name: str, rng: Random) -> Item:
    word = rng.choice(words)
    return Item(fill(file, template, word=word), f" {word}:{','.join(word)}", key_of(name, word))


def _tasks(
    prefix: str, count: Sequence[Item], spelling: Sequence[Item], note: str = ""
) -> list[BenchmarkTask]:
    make = partial(BenchmarkTask, about=word_first, note=note)
    return [
        make(f"{prefix}/{_COUNT}", tuple(count), _COUNT_FORMAT, after_hashes),
        make(f"{prefix}/{_SPELL}", tuple(spelling), _SPELL_FORMAT),
    ]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Draw 256 test items of each task from spellingbee.py and words_alpha.txt."""
    found = by_stem(tables)
    if not {"spellingbee", "words_alpha"} <= set(found):
        present = ", ".join(sorted(found)) or "nothing"
        wanted = "spellingbee.py and words_alpha.txt in one folder"
        raise TaskError(f"nanochat needs {wanted}, and there is {present}.")
    (file, rows), (list_file, word_rows) = found["spellingbee"], found["words_alpha"]
    templates = need(file, rows, "count", "offset", "spell")
    words = [row["word"] for row in need(list_file, word_rows, "word")]
    digest = word_rows[0].get("sha256", "unknown")
    # SimpleSpelling draws from the shuffled list, each task from generators of its own.
    shuffled = list(words)
    Random(_ORDER_SEED).shuffle(shuffled)
    draw_count = partial(_draw_count, file, [row["count"] for row in templates], words)
    draw_spelling = partial(_draw_spelling, file, templates[0]["spell"], shuffled)
    first = int(templates[0]["offset"])
    seeds = range(first, first + _NUM_ITEMS)
    count = [draw_count(f"nanochat/{_COUNT}", Random(seed)) for seed in seeds]
    spelling = [draw_spelling(f"nanochat/{_SPELL}", Random(seed)) for seed in seeds]
    known = "the list that nanochat downloads" if digest == _WORDS_HASH else "another list than its"
    note = f"nanochat: {list_file} has {len(words):,} words, SHA-256 {digest} ({known})"
    return _tasks("nanochat", count, spelling, note)


# The imitation

_OWN_TEMPLATES = (
    "How often does {letter} stand in {word}",
    "Please count the {letter} of {word}",
    "Look at {word}. Its number of {letter}",
    "Which number of {letter} has the word {word}",
    "If I write {word}, how many {letter} do I write",
    "Wie oft steht {letter} in {word}",
    "Nombre de {letter} dans {word}",
)
_OWN_SPELL = "The letters of this word, please: {word}"


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    # As in nanochat the prompt does not mention the four hashes: its models learn them in training.
    usable = words_for("nanochat", words, 1)
    draw_count = partial(_draw_count, "nanochat", _OWN_TEMPLATES, usable)
    draw_spelling = partial(_draw_spelling, "nanochat", _OWN_SPELL, usable)
    count = draw_items([f"nanochat-like/{_COUNT}"], n, seed, draw_count)
    spelling = draw_items([f"nanochat-like/{_SPELL}"], n, seed, draw_spelling)
    return _tasks("nanochat-like", count, spelling)


_SOURCE = "github.com/karpathy/nanochat and github.com/dwyl/english-words"
_FILES = {"spellingbee.py": _parse_templates, "words_alpha.txt": _parse_words}
FORMAT = Format("nanochat", _SOURCE, _FILES, _read, _generate)
