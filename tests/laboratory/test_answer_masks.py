"""The place in the tokens where an answer begins, for all wordings, tasks and six tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from synthetic_tasks import END, WORD_TASKS, Item, Material, WordTask, build_task, one_list, stream
from synthetic_tasks.registry import RECIPES
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.task import ANSWER_FORMS
from synthetic_tasks.word_tasks.word_task import render
from synthetic_tasks.words import vary_form
from tests.laboratory.pretrained import train_tokenizer
from training.data.encodings import published_encoding
from training.data.prepare import Data
from training.data.questions import encode_item
from training.data.tokenizers import HuggingFaceTokenizer, Tiktoken, Tokenizer

TOKENIZERS = ("of this laboratory", "gpt2", "cl100k_base", "o200k_base", "byte_level", "metaspace")


class Nth(Random):
    """Choose the n-th of any sequence, so that twenty of them go through all wordings."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.n = n

    def choice(self, choices: Sequence[Any]) -> Any:
        return choices[self.n % len(choices)]


def worded_items(name: str, words: Sequence[str]) -> list[Item]:
    """Return an item of each sentence in each form, and items of the other wordings."""
    recipe, items = RECIPES[name], []
    for form in ANSWER_FORMS:
        for n in range(20):
            task = build_task(name, Material(one_list(words), form=form))
            assert isinstance(task, WordTask)
            compact = task.draw("seen", stream(name, form, n))
            _, *named, word = compact.key.split()
            question = recipe.question(word, tuple(named))
            material = Material(one_list(words), wording="sentences", form=form)
            items += [compact, render(question, recipe, material, Nth(n))]
            several = build_task(name, Material(one_list(words), wording="varied", form=form))
            split = ("seen", "unseen_wordings")[n % 2]
            items.append(several.draw(split, stream(name, form, n)))
    return items


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest, data: Data, cache: Path) -> Tokenizer:
    if request.param == "of this laboratory":
        return data.tokenizer
    if request.param in ("byte_level", "metaspace"):
        texts = [item.text for name in WORD_TASKS for item in worded_items(name, SAMPLE_WORDS)[::5]]
        return HuggingFaceTokenizer(train_tokenizer(" ".join(texts), request.param))
    return Tiktoken(published_encoding(request.param, cache))


def check_mask(tokenizer: Tokenizer, item: Item) -> None:
    """Check that the answer's tokens decode to the answer, and those before it to the prompt."""
    prompt, answer = encode_item(tokenizer, item)
    written = b"".join(tokenizer.spellings[token] or b"?" for token in answer).decode()
    assert written == item.work + item.answer + END, item
    assert tokenizer.encode(item.prompt) == prompt, item


@pytest.mark.parametrize("task", WORD_TASKS)
def test_every_wording_has_the_mask_of_its_answer(task: str, tokenizer: Tokenizer) -> None:
    items = worded_items(task, SAMPLE_WORDS)
    prompts = " ".join(item.prompt for item in items)
    beginnings = [question.split("{")[0] for question in RECIPES[task].wordings.questions]
    assert all(text in prompts for text in (*beginnings, *RECIPES[task].wordings.answers))
    for item in items:
        check_mask(tokenizer, item)


def test_words_with_capitals_digits_and_accents_have_it_too(tokenizer: Tokenizer) -> None:
    if "é" not in tokenizer.decode(tokenizer.encode("é")):
        pytest.skip("a vocabulary of the characters that it was trained on")
    words = [vary_form(word) for word in SAMPLE_WORDS]
    for task in WORD_TASKS:
        for item in worded_items(task, words)[::7]:
            check_mask(tokenizer, item)
