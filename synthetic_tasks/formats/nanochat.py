"""nanochat's SpellingBee (count a letter in a word) and SimpleSpelling (2 tasks).

github.com/karpathy/nanochat (MIT), tasks/spellingbee.py and scripts/chat_eval.py. No file holds the
items: random.Random(10,000,000 + i) draws test item i from the word list words_alpha.txt of
github.com/dwyl/english-words and the question templates of spellingbee.py. From both files this
module draws the same items.

Prompt: one user message, greedy, up to 512 new tokens. Scoring: the first number after "#### ",
without commas.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item
from synthetic_tasks.word_tasks.counts import COUNT

from .benchmark import BenchmarkTask, PromptFormat
from .format import File, Format, Tables, by_stem, draw_items, key_of, lower_case_words, tasks_of
from .tables import Rows, assigned, fill, messages, need, not_own, parse_python

_NUM_ITEMS = 256  # as nanochat evaluates of SpellingBee; of SimpleSpelling it is our choice
_ORDER_SEED = 42  # nanochat shuffles the word list for SimpleSpelling
# nanochat runs Python that its model writes; here nothing runs, so a model that waits for Python's
# output is scored without it.
_COUNT_FORMAT = PromptFormat(chat=True, max_new_tokens=512, stop="")
# nanochat trains on SimpleSpelling and does not score it: exact match up to the newline is ours.
_SPELL_FORMAT = PromptFormat(chat=True, max_new_tokens=512)
_TEMPLATES, _OFFSET = "USER_MSG_TEMPLATES", "TEST_RANDOM_SEED_OFFSET"
_COUNT, _SPELL = "SpellingBee", "SimpleSpelling"
_NUMBER = re.compile("#### (-?[0-9.,]+)")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def after_hashes(generated: str) -> str | None:
    """Parse the first number after four hashes: "That makes 2.\\n\\n#### 1,024" -> "1024"."""
    found = _NUMBER.search(generated)
    return found[1].replace(",", "") if found else None


def _parse_templates(name: str, text: str) -> Rows:
    """Find the templates and the seed offset in spellingbee.py.

    -> [{"what": "USER_MSG_TEMPLATES", "text": "..."}, ...]
    """
    tree = parse_python(name, text)
    templates, offset = assigned(name, tree, _TEMPLATES), assigned(name, tree, _OFFSET)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == _SPELL]
    spell = [content for node in classes for content in messages(node, "user")]
    is_list = isinstance(templates, list) and len(templates) > 0
    if not is_list or not all(isinstance(template, str) for template in templates):
        raise not_own(name, f"assigns no list of texts to {_TEMPLATES}")
    if not isinstance(offset, int) or len(spell) != 1:
        raise not_own(name, f"lacks an integer {_OFFSET}, or {_SPELL} with one user message")
    found = [*((_TEMPLATES, template) for template in templates), (_OFFSET, str(offset))]
    return [{"what": what, "text": text} for what, text in [*found, (_SPELL, spell[0])]]


def _parse_words(name: str, text: str) -> Rows:
    # An empty line is an error: without it, the draws would choose other words than nanochat's.
    words = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if not all(words):
        raise not_own(name, "has an empty line, or no word at all")
    return [{"word": word} for word in words]


def _draw_count(
    task: str, file: str, words: Sequence[str], templates: Sequence[str], rng: Random
) -> Item:
    # Subtle: the draws and their order are nanochat's; another order gives other items.
    word = rng.choice(words)
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice(_LETTERS)
    template = rng.choice(templates)
    template = template.lower() if rng.random() < 0.3 else template
    letter_quote, word_quote = (rng.choice(("", "'", '"')) for _ in range(2))
    prompt = fill(
        file,
        template,
        letter=f"{letter_quote}{letter}{letter_quote}",
        word=f"{word_quote}{word}{word_quote}",
    )
    mark = "?" if rng.random() < 0.5 else ""
    return Item(prompt + mark, f" {COUNT.solve(word, letter)}", key_of(task, word, letter))


def _spell_item(task: str, file: str, template: str, word: str) -> Item:
    prompt = fill(file, template, word=word)
    return Item(prompt, f" {word}:{','.join(word)}", key_of(task, word))


def _tasks(prefix: str, count: Sequence[Item], spell: Sequence[Item]) -> list[BenchmarkTask]:
    return [
        *tasks_of({f"{prefix}/{_COUNT}": count}, _COUNT_FORMAT, after_hashes),
        *tasks_of({f"{prefix}/{_SPELL}": spell}, _SPELL_FORMAT),
    ]


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Draw 256 test items of each task from spellingbee.py and words_alpha.txt."""
    found = by_stem(tables)
    if not {"spellingbee", "words_alpha"} <= set(found):
        present = ", ".join(sorted(found)) or "nothing"
        raise TaskError(
            f"nanochat needs spellingbee.py and words_alpha.txt, and there is {present}. "
            "Put both into one folder."
        )
    (file, rows), (list_file, word_rows) = found["spellingbee"], found["words_alpha"]
    texts: dict[str, list[str]] = {_TEMPLATES: [], _OFFSET: [], _SPELL: []}
    for row in need(file, rows, "what", "text"):
        texts.setdefault(row["what"], []).append(row["text"])
    words = [row["word"] for row in need(list_file, word_rows, "word")]
    # SimpleSpelling draws from the shuffled list, each task from generators of its own.
    shuffled = list(words)
    Random(_ORDER_SEED).shuffle(shuffled)
    seeds = range(int(texts[_OFFSET][0]), int(texts[_OFFSET][0]) + _NUM_ITEMS)
    count = [
        _draw_count(f"nanochat/{_COUNT}", file, words, texts[_TEMPLATES], Random(seed))
        for seed in seeds
    ]
    spell = [
        _spell_item(f"nanochat/{_SPELL}", file, texts[_SPELL][0], Random(seed).choice(shuffled))
        for seed in seeds
    ]
    return _tasks("nanochat", count, spell)


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
    usable = lower_case_words("nanochat", words, 1)
    count, spell = f"nanochat-like/{_COUNT}", f"nanochat-like/{_SPELL}"

    def draw_count(rng: Random) -> Item:
        return _draw_count(count, "nanochat", usable, _OWN_TEMPLATES, rng)

    def draw_spell(rng: Random) -> Item:
        return _spell_item(spell, "nanochat", _OWN_SPELL, rng.choice(usable))

    return _tasks(
        "nanochat-like",
        draw_items(count, n, seed, draw_count),
        draw_items(spell, n, seed, draw_spell),
    )


FORMAT = Format(
    "nanochat",
    "github.com/karpathy/nanochat and github.com/dwyl/english-words",
    (File("spellingbee.py", _parse_templates), File("words_alpha.txt", _parse_words)),
    _read,
    _generate,
)
