"""CUTE's tasks: their names, the form of the answer, and its marking; see cute.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synthetic_tasks.errors import TaskError
from synthetic_tasks.scoring import same_in_any_case
from synthetic_tasks.task import Item, Subject

from .format import About, BenchmarkTask, PromptFormat, no_word, word_first, word_last
from .tables import Rows, Tables, by_stem

CHARACTER_TASKS = ("contains_char", "ins_char", "del_char", "sub_char", "swap_char")
WORD_TASKS = ("contains_word", "ins_word", "del_word", "sub_word", "swap_word")
TASKS = ("spell", "spell_inverse", "orth", "sem", *CHARACTER_TASKS, *WORD_TASKS)
RANDOM_TASKS = tuple(f"{task}_rand" for task in ("spell", "spell_inverse", *CHARACTER_TASKS))
ALL_TASKS = (*TASKS, *RANDOM_TASKS)
_OTHER_NAMES = {"add_char_rand": "ins_char_rand"}  # the name of the repository's file
FILES = (*ALL_TASKS, *_OTHER_NAMES)
_OPENING = ' Answer: "'
# The authors evaluate chat models alone and stop nowhere. Programs for base models stop at
# the closing quote: such a model goes on with examples of its own, and the last answer is theirs.
PROMPT_FORMAT = PromptFormat(
    chat=True, opening=_OPENING, max_new_tokens=100, stop="", stop_without_chat='"'
)


def quoted(generated: str) -> str | None:
    """Parse the text between the quotes of an answer as it is, with its blanks.

    ' cat " I hope that helps' -> " cat "
    """
    # The authors keep a model's other special tokens in this text, so that some of their models
    # lose an item by a missing closing quote. Here no special token is part of a generated text.
    answer = (_OPENING + generated).rsplit("Answer:", 1)[-1].partition("</s>")[0]
    _, quote, after = answer.partition('"')
    return after.partition('"')[0] if quote else None


def between_quotes(generated: str) -> str | None:
    """Parse the answer from a text that follows the opening; None if there is none.

    'cat" I hope that helps' -> "cat"; 'cat' -> "cat"; '" Answer: none' -> None
    """
    found = quoted(generated)
    return None if found is None else found.strip()


def _joined(spaced_word: str) -> Subject:
    """Return the word of a question that spells it: "t e a" -> Subject("tea")."""
    return Subject(spaced_word.replace(" ", ""))


# The five tasks about words name a sentence; orth and sem name a word and two to choose from.
_ABOUT: dict[str, About] = {
    **dict.fromkeys(CHARACTER_TASKS, word_last),
    **dict.fromkeys(WORD_TASKS, no_word),
    **dict.fromkeys(("orth", "sem"), lambda word, *options: Subject(word)),
    "spell": word_first,
    "spell_inverse": _joined,
}


def cute_task(task: str, name: str, items: Sequence[Item]) -> BenchmarkTask:
    equal = same_in_any_case if task in WORD_TASKS else str.__eq__
    about = _ABOUT[task.removesuffix("_rand")]
    return BenchmarkTask(name, tuple(items), PROMPT_FORMAT, between_quotes, equal, about)


def as_in_paper(task: BenchmarkTask) -> BenchmarkTask:
    """Return a task with the marking of the paper, which does not remove blanks within the quotes."""
    name = task.name.replace("/", "@paper/", 1)
    items = [item._replace(key=item.key.replace("/", "@paper/", 1)) for item in task.items]
    return replace(task, name=name, items=tuple(items), read=quoted, keeps_blanks=True)


def tables_by_task(
    format_name: str, tables: Tables, tasks: Sequence[str]
) -> dict[str, tuple[str, Rows]]:
    """Index tables by task, in the order of `tasks`. Raises TaskError for another name."""
    found = by_stem(tables)
    # The repository calls one file add_char_rand; both names are read.
    known = {_OTHER_NAMES.get(stem, stem): named for stem, named in found.items()}
    if len(known) < len(found):
        raise TaskError("ins_char_rand.tsv and add_char_rand.tsv are the same task. Keep one.")
    if unknown := set(known).difference(tasks):
        wanted = ", ".join(TASKS)
        raise TaskError(f"{format_name} has no task {min(unknown)}; its tasks are {wanted}.")
    return {task: known[task] for task in tasks if task in known}
