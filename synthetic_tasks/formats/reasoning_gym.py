"""reasoning-gym: seven of its tasks, those about letters, with the package's own items.

Stojanovski et al., "REASONING GYM", arXiv 2505.24760; github.com/open-thought/reasoning-gym
(Apache-2.0), version 0.1.25 on PyPI. Item i of seed s is drawn by random.Random(s + i). The
published results have 50 items of seed 45: draws 45 to 94. Fresh ones begin at 95, because item i
of seed s is item i + 1 of seed s - 1.

The package is read and not imported: its word list, its book and the question in the source of each
task. `pip install --no-deps reasoning-gym==0.1.25` is enough; its eleven dependencies serve other
tasks. Nothing of it runs: its score of string_insertion evaluates the model's answer as Python.

Prompt: a system message that asks for the answer between <answer> and </answer>, and the question.
Scoring: the text between the last such tags equals the answer. The package's own score is kept
beside it; see `reasoning_gym_marks`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

from synthetic_tasks.errors import TaskError
from synthetic_tasks.task import Item

from .format import (
    BenchmarkTask,
    Format,
    Generate,
    PromptFormat,
    draw_items,
    key_of,
    no_word,
    word_last,
    words_for,
)
from .reasoning_gym_draws import TASKS, LetterTask, Setting, Texts
from .tables import (
    Rows,
    Tables,
    assigned,
    by_stem,
    fill,
    need,
    not_own,
    parse_python,
    plain_fields,
)

VERSION = "0.1.25"
FIRST, FRESH = 45, 95  # the first published draw, and the first that no published result has
PUBLISHED_TASKS = ("spell_backward", "letter_counting", "string_insertion")  # in our documentation
# The authors set no limit. Their models think before they answer, so it must be generous.
_MAX_NEW_TOKENS = 512
_BOOK, _WORDS, _UTILS = "in_the_year_2889", "words3to10", "utils"
_STRIDE = 1_000_000  # fresh draws of two seeds do not overlap

# Reading the package


def _parse_text(name: str, text: str) -> Rows:
    return [{"text": text}]


def _parse_system(name: str, text: str) -> Rows:
    """Read the system message that the published results were made with from utils.py."""
    prompts = assigned(name, parse_python(name, text), "SYSTEM_PROMPTS")
    system = prompts.get("default") if isinstance(prompts, dict) else None
    if not isinstance(system, str):
        raise not_own(name, "assigns no dict with a text for 'default' to SYSTEM_PROMPTS")
    return [{"text": system}]


def _parse_question(name: str, text: str) -> Rows:
    """Find a task's question: a constant QUESTION_TEMP..., or the f-string at the key "question"."""
    tree = parse_python(name, text)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            variable = node.targets[0].id
            # The package also spells it QUESTION_TEMPALTE.
            if variable.startswith("QUESTION_TEMP"):
                return [{"text": plain_fields(name, str(assigned(name, tree, variable)))}]
    for pairs in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
        for key, value in zip(pairs.keys, pairs.values, strict=True):
            is_question = isinstance(key, ast.Constant) and key.value == "question"
            if is_question and isinstance(value, ast.JoinedStr):
                parts = (
                    str(part.value).replace("{", "{{").replace("}", "}}")
                    if isinstance(part, ast.Constant) else "{}"
                    for part in value.values
                )  # fmt: skip
                return [{"text": "".join(parts)}]
    raise not_own(name, "has no constant QUESTION_TEMPLATE and no f-string at the key 'question'")


def read_answer_tags(generated: str) -> str | None:
    """Parse the text between the last answer tags; None if there are none.

    "so <answer> eert </answer>." -> "eert"
    """
    found = re.findall("<answer>(.*?)</answer>", generated, re.DOTALL)
    return found[-1].strip() if found else None


@dataclass(frozen=True)
class _Package:
    """The texts and questions of the package, or of files in the same form."""

    texts: Texts
    prompt_format: PromptFormat
    questions: Mapping[str, str]

    @classmethod
    def of(cls, tables: Tables) -> _Package:
        found = by_stem(tables)
        if missing := {_BOOK, _WORDS, _UTILS}.difference(found):
            wanted = "Name the folder of the package reasoning_gym"
            raise TaskError(f"reasoning_gym lacks a file {min(missing)}. {wanted}.")
        text = {stem: need(name, rows, "text")[0]["text"] for stem, (name, rows) in found.items()}
        questions = {task: text[task] for task in TASKS if task in text}
        if not questions:
            raise TaskError(f"reasoning_gym has no source of a task. Add one of {_listed(TASKS)}.")
        texts = Texts(text[_BOOK], text[_WORDS].splitlines())
        return cls(texts, _format_of(text[_UTILS]), questions)

    def task(self, name: str, prefix: str, level: str, draws: Sequence[int]) -> BenchmarkTask:
        """Draw the items of a task: draw i by Random(i)."""
        task = TASKS[name]
        setting = task.easy if level == "easy" else task.hard
        pool = task.pool(self.texts, setting)
        full = f"{prefix}/{name}"
        ask = partial(_item, f"{name}.py", self.questions[name], task, pool, setting, full)
        items = tuple(ask(Random(i)) for i in draws)
        return _build(full, task, items, self.prompt_format)


def _format_of(system: str) -> PromptFormat:
    return PromptFormat(chat=True, system=system, max_new_tokens=_MAX_NEW_TOKENS, stop="")


def _item(
    file: str, question: str, task: LetterTask, pool: Sequence[str], setting: Setting, name: str,
    rng: Random,
) -> Item:  # fmt: skip
    arguments, answer = task.draw(pool, setting, rng)
    return Item(fill(file, question, *arguments), f" {answer}", key_of(name, *arguments))


def _build(
    name: str, task: LetterTask, items: tuple[Item, ...], form: PromptFormat
) -> BenchmarkTask:
    # The other tasks are about many words or about a string that is no word.
    about = word_last if name.endswith("/spell_backward") else no_word
    return BenchmarkTask(
        name, items, form, read_answer_tags, task.equal, about, own_score=task.own_score
    )


def _read(tables: Tables) -> list[BenchmarkTask]:
    """Draw the 50 published items of each task from the files of the package."""
    package, draws = _Package.of(tables), range(FIRST, FRESH)
    return [package.task(name, "reasoning_gym", "hard", draws) for name in package.questions]


def _installed() -> Path:
    """Return the folder of the installed package, which is not imported."""
    found = find_spec("reasoning_gym")
    if found is None or not found.submodule_search_locations:
        way_out = f"pip install --no-deps reasoning-gym=={VERSION}"
        raise TaskError(f"reasoning_gym needs the package reasoning-gym: {way_out}.")
    return Path(next(iter(found.submodule_search_locations)))


# SHA-256 of the 50 published items of each task, as version 0.1.25 of the package makes them.
_HASHES = {
    "spell_backward": "a3d1ba70c5263e28",
    "letter_counting": "bb6ab4614329d1ec",
    "string_insertion": "3cea0b87c9ab021e",
    "letter_jumble": "0250ffce1f718b90",
    "caesar_cipher": "e73eb1d96d1b1e94",
    "palindrome_generation": "4cff63b3a72d2df0",
    "word_sorting": "c56faca4919ab2b5",
}


def _hash_of(task: BenchmarkTask) -> str:
    content = json.dumps([[item.prompt, item.answer[1:]] for item in task.items])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


_SOURCES = ("", "all", "fresh", "easy", "like")


def packaged(source: str, tasks: Sequence[str]) -> Generate | None:
    """Return the generator of a spec's source and tasks; None if the source is a path.

    "" -> the published items of `tasks`, or of the three tasks of docs/benchmarks.md; "all" -> of
    all seven; "fresh" -> items that no published result has; "easy" -> the package's default
    settings, whose items were published for other versions only; "like" -> an imitation.

    Raises TaskError for an unknown name, and if the package is missing or draws other items.
    """
    if source not in _SOURCES:
        if source.startswith("hf:") or "/" in source or Path(source).exists():
            return None
        known = _listed(f"reasoning_gym={each}" for each in _SOURCES[1:])
        raise TaskError(f"reasoning_gym has no items {source!r}. Write {known} or reasoning_gym.")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise TaskError(f"reasoning_gym has no task {unknown[0]!r}; choose from {_listed(TASKS)}.")
    names = tuple(tasks) or (tuple(TASKS) if source == "all" else PUBLISHED_TASKS)
    if source == "like":
        return lambda words, n, seed: _imitate(names, words, n, seed)
    package = _Package.of(FORMAT.load(_installed()))
    for name in names:
        task = package.task(name, "reasoning_gym", "hard", range(FIRST, FRESH))
        if _hash_of(task) != _HASHES[name]:
            problem = f"The installed reasoning-gym makes other items of {name} than {VERSION}"
            raise TaskError(f"{problem}: pip install --no-deps reasoning-gym=={VERSION}.")
    fresh, level = source == "fresh", "easy" if source == "easy" else "hard"
    prefix = f"reasoning_gym-{source}" if source in ("fresh", "easy") else "reasoning_gym"

    def generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
        first = FRESH + _STRIDE * seed if fresh else FIRST
        # There are 50 published items, however many are asked for.
        end = min(FRESH, first + n) if level == "hard" and not fresh else first + n
        made = [package.task(name, prefix, level, range(first, end)) for name in names]
        settings = "hard settings" if level == "hard" else "default settings"
        note = f"{prefix}: draws {first:,} to {end - 1:,} of reasoning-gym {VERSION}, {settings}"
        return [replace(task, note=note) for task in made]

    return generate


# The imitation: the same draws from other words, in the package's default settings

_SYSTEM = "Think about the problem first. Then write the result alone: <answer>result</answer>"
_QUESTIONS = {
    "spell_backward": "Write {} from its last letter to its first.",
    "letter_counting": 'How often does the letter "{}" occur in "{}"?',
    "string_insertion": (
        "Read the letters A to E as a ring, in which A follows E. Go through {} from the left. "
        "After each four neighbours of the ring in a row, write the first of the four again and "
        "go on behind it."
    ),
    "letter_jumble": "In each of these words letters changed places. Put them back: {}",
    "caesar_cipher": "All letters were moved by the same number of places in the alphabet: {}",
    "palindrome_generation": "Use all of these letters for one palindrome: {}",
    "word_sorting": "Sort these words in {} order of their code points, with commas: {}",
}


def _imitate(names: Iterable[str], words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    usable = words_for("reasoning_gym", words, 3)
    # A book of 1,000 sentences of ten words: the tasks about texts need no grammar.
    rng, tasks = Random(seed), []
    sentences = (" ".join(rng.choices(usable, k=10)) for _ in range(1000))
    texts = Texts(". ".join(sentences), usable)
    for name in names:
        task, full = TASKS[name], f"reasoning_gym-like/{name}"
        pool = task.pool(texts, task.easy)
        ask = partial(_item, name, _QUESTIONS[name], task, pool, task.easy)
        items = tuple(draw_items([full], n, seed, ask))
        tasks.append(_build(full, task, items, _format_of(_SYSTEM)))
    return tasks


def _generate(words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
    return _imitate(TASKS, words, n, seed)


_SOURCE = f"arXiv 2505.24760, the package reasoning-gym {VERSION}"
_FILES = {
    f"{_BOOK}.txt": _parse_text,
    f"{_WORDS}.txt": _parse_text,
    f"reasoning_gym/{_UTILS}.py": _parse_system,  # other folders of the package have one too
    **{f"{task}.py": _parse_question for task in TASKS},
}
FORMAT = Format("reasoning_gym", _SOURCE, _FILES, _read, _generate, packaged=packaged)
