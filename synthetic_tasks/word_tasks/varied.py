"""Ask in several ways: the wording "varied", and the sentences that it never trains on.

Each question is drawn from three ways:

    compact     "count a banana:", answered in the answer form of the material
    sentence    "How many a does banana have? Write the letters first, then the result.": the answer
                form is drawn, and a sentence says it
    few-shot    two or three solved questions about training words before the question; the answer
                form is drawn, and the solved questions show it

No prompt ends with a space or with a beginning of the answer, so that it can be the user's turn of
a chat template, and the answer the assistant's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random

from synthetic_tasks.task import Item, Material

from .recipe import Recipe, WordQuestion
from .rendering import fill_wording, fixed_answers, item_of, with_stand_ins

_COMPACT, _SENTENCE, _FEW_SHOT = "compact", "sentence", "few-shot"
_WAYS = (_COMPACT, _SENTENCE, _FEW_SHOT)
# Texts around a question: (before it, after it).
_LABELS = (
    ("Question: ", "\nAnswer:"),
    ("Q: ", "\nA:"),
    ("Task: ", "\nSolution:"),
    ("Exercise: ", "\nResult:"),
)
_NO_LABEL = ("", "")
_SEPARATORS = ("\n", "\n\n")  # between solved questions
# How an answer is written -> sentences that say so.
_INSTRUCTIONS = {
    "result": (
        "Answer with the result alone.",
        "Give the result and nothing else.",
        "Write only the result.",
        "Please reply without any steps.",
    ),
    "word": (
        "Answer with the letters joined to one word.",
        "Give the result as one word, without spaces.",
        "Write only the result, in one piece.",
        "Please reply with one string.",
    ),
    "letters": (
        "Answer with single letters and nothing else.",
        "Give the result alone, letter by letter.",
        "Write only the result, with spaces between its letters.",
        "Please reply with the letters apart.",
    ),
    "worked": (
        "Spell first, then answer.",
        "Write the letters first, then the result.",
        "Before the result, write the letters that you need.",
        "Please show the letters before you answer.",
    ),
    "counted": (
        "Spell with numbers first, then answer.",
        "Write the letters with numbers first, then the result.",
        "Before the result, write and number the letters that you need.",
        "Please show the letters and their numbers before you answer.",
    ),
}
_MOST_DRAWS = 20  # of a solved question; a short list of words may have too few
Example = Callable[[], WordQuestion | None]


def forms_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the answer forms that differ: count -> ("spelled", "worked", "counted").

    The plain form of `spell` is left out: its answer would be the word of the question.
    """
    has_word_answer = recipe.spaced_answer and recipe.scratchpad is not None
    pads = {"worked": recipe.scratchpad, "counted": recipe.numbered_scratchpad}
    with_pad = (form for form, scratchpad in pads.items() if scratchpad is not None)
    return (*(("plain",) if has_word_answer else ()), "spelled", *with_pad)


def render_varied(
    question: WordQuestion,
    recipe: Recipe,
    material: Material,
    rng: Random,
    example: Example,
    *,
    held_out: bool = False,
) -> Item:
    """Turn a question into an item of the wording "varied".

    Arguments:
        example: draws a question to be solved before this one; None if there is none.
        held_out: ask with a held-out sentence, without solved questions.
    """
    way = _SENTENCE if held_out else rng.choice(_WAYS)
    if way == _COMPACT:
        prompt = _filled(recipe.wordings.compact, question, recipe, material)
        return item_of(question, recipe, prompt, material.form)
    form = rng.choice(forms_of(recipe))
    if way == _FEW_SHOT and (examples := _examples(question, rng, example)):
        return _few_shot(question, recipe, material, rng, examples, form)
    sentences = recipe.wordings.held_out if held_out else recipe.wordings.trained
    before, after = rng.choice((_NO_LABEL, rng.choice(_LABELS)))
    parts = [
        _filled(rng.choice(sentences), question, recipe, material),
        rng.choice(_instructions(recipe, form)),
    ]
    rng.shuffle(parts)
    return item_of(question, recipe, before + " ".join(parts) + after, form)


def fixed_texts_varied(recipe: Recipe) -> list[str]:
    """List all texts that can surround a word; see `Task.fixed_texts`."""
    wordings = recipe.wordings
    before, after = zip(_NO_LABEL, *_LABELS, strict=True)
    said = [text for form in forms_of(recipe) for text in _instructions(recipe, form)]
    asked = [_ended(with_stand_ins(question, recipe)) for question in wordings.questions]
    # Behind another sentence, a sentence begins with a space.
    sentences = map("".join, product((*before, " "), (*asked, *said)))
    ends = map("".join, product(".?!", (*after, *_SEPARATORS)))
    compact = with_stand_ins(wordings.compact, recipe)
    return [compact, *sentences, *ends, *after, *fixed_answers(recipe)]


def _filled(wording: str, question: WordQuestion, recipe: Recipe, material: Material) -> str:
    letters = material.letters_in_prompts
    filled = fill_wording(wording, recipe, question.word, question.arguments, letters)
    return filled if wording == recipe.wordings.compact else _ended(filled)


def _ended(sentence: str) -> str:
    """End a sentence, because another one follows: "Glue together: t e a" -> "... t e a."."""
    return sentence if sentence[-1] in ".?!" else f"{sentence}."


def _instructions(recipe: Recipe, form: str) -> tuple[str, ...]:
    lettered = {"plain": "word", "spelled": "letters" if recipe.spaced_answer else "result"}
    return _INSTRUCTIONS[lettered.get(form, form)]


def _examples(question: WordQuestion, rng: Random, example: Example) -> list[WordQuestion]:
    """Draw two or three questions, each about a word of its own; fewer if there are fewer."""
    found, words, wanted = [], {question.word, *question.arguments}, rng.choice((2, 3))
    for _ in range(_MOST_DRAWS):
        drawn = example()
        # The question's own word would give away its letters.
        if drawn is not None and words.isdisjoint({drawn.word, *_words(drawn)}):
            found.append(drawn)
            words |= {drawn.word, *_words(drawn)}
        if len(found) == wanted:
            break
    return found


def _words(question: WordQuestion) -> list[str]:
    return [argument for argument in question.arguments if len(argument) > 1]


def _few_shot(
    question: WordQuestion,
    recipe: Recipe,
    material: Material,
    rng: Random,
    examples: list[WordQuestion],
    form: str,
) -> Item:
    wording, (before, after) = recipe.wordings.compact, _NO_LABEL
    if rng.choice((True, False)):
        wording, (before, after) = rng.choice(recipe.wordings.trained), rng.choice(_LABELS)
    prompts = [
        before + _filled(wording, each, recipe, material) + after for each in (*examples, question)
    ]
    solved = [
        prompt + item_of(each, recipe, prompt, form).written
        for prompt, each in zip(prompts, examples, strict=False)
    ]
    return item_of(question, recipe, rng.choice(_SEPARATORS).join([*solved, prompts[-1]]), form)
