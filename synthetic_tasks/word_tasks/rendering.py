"""Put a question about a word into text, in the wordings "compact" and "sentences".

The wording "varied", which draws from several ways to ask, is in varied.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

from synthetic_tasks.task import Item, Material

from .letters import spaced
from .recipe import ARGUMENTS, Recipe, WordQuestion

_QUESTION_PREFIXES = ("", "Question: ", "Q: ", "Task: ", "Exercise: ")
_JOINTS = (" ", "\n", " \n")
_ANSWER_PREFIXES = ("", "Answer: ", "A: ", "Solution: ", "Result: ")
# Numbers in questions and answers; words of more letters are rare.
_NUMBERS = " ".join(map(str, range(20)))


def fill_wording(
    wording: str, recipe: Recipe, word: str, arguments: Sequence[str], letters: bool = False
) -> str:
    """Fill in a wording: "count {a} {word}:", "tea", ("e",) -> "count e tea:".

    With `letters`, the letters of the word follow it: "count e tea t e a:".
    """
    shown = f"{word} {spaced(word)}" if letters else word
    if recipe.spaced_word:  # such a question gives the letters and not the word
        shown = spaced(word)
    return wording.format(word=shown, **dict(zip("ab", arguments, strict=False)))


def item_of(question: WordQuestion, recipe: Recipe, prompt: str, form: str) -> Item:
    """Return the item of a question in an answer form, with the prompt as it is given."""
    has_spaces = recipe.spaced_answer and form != "plain"
    answer = f" {spaced(question.answer) if has_spaces else question.answer}"
    key = " ".join((question.task, *question.arguments, question.word))
    return Item(prompt, answer, key, work=recipe.scratchpad_of(question, form))


def render(question: WordQuestion, recipe: Recipe, material: Material, rng: Random) -> Item:
    """Turn a question into an item.

    The wording "compact" is fixed. The wording "sentences" joins a prefix, a question, a joint, a
    prefix and the beginning of an answer, each drawn from `rng`.
    """

    def filled(wording: str) -> str:
        letters = material.letters_in_prompts
        return fill_wording(wording, recipe, question.word, question.arguments, letters)

    if material.wording == "compact":
        return item_of(question, recipe, filled(recipe.wordings.compact), material.form)
    # Subtle: the order of these draws is part of what an item is.
    prefix, wording = rng.choice(_QUESTION_PREFIXES), rng.choice(recipe.wordings.questions)
    joint, answer_prefix = rng.choice(_JOINTS), rng.choice(_ANSWER_PREFIXES)
    prompt = prefix + filled(wording) + joint + answer_prefix + rng.choice(recipe.wordings.answers)
    return item_of(question, recipe, prompt, material.form)


def fixed_texts(recipe: Recipe, wording: str) -> list[str]:
    """List all texts that can surround a word; see `Task.fixed_texts`."""
    wordings, answers = recipe.wordings, fixed_answers(recipe)
    if wording == "compact":
        return [with_stand_ins(wordings.compact, recipe), *answers]
    filled = [with_stand_ins(question, recipe) for question in wordings.questions]
    questions = map("".join, product(_QUESTION_PREFIXES, filled))
    beginnings = map("".join, product(_JOINTS, _ANSWER_PREFIXES, wordings.answers))
    return [*questions, *beginnings, *answers]


def with_stand_ins(wording: str, recipe: Recipe) -> str:
    """Fill in a wording with stand-ins: "count {a} {word}:" -> "count q q:"."""
    stand_ins = (ARGUMENTS[kind][2] for kind in recipe.arguments)
    return wording.format(word="q", **dict(zip("ab", stand_ins, strict=False)))


def fixed_answers(recipe: Recipe) -> list[str]:
    """List the parts of answers and arguments that any word can have: numbers, " yes"."""
    # Numbers are answers, arguments and parts of numbered scratchpads.
    return [_NUMBERS, *(f" {answer}" for answer in recipe.fixed_answers)]
