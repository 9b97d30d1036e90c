"""The wording "varied": its ways to ask, its answer forms, and the sentences that it holds out."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from synthetic_tasks import (
    SPLITS,
    WORD_TASKS,
    Item,
    Material,
    WordTask,
    build_task,
    distinct,
    one_list,
    stream,
)
from synthetic_tasks.__main__ import main
from synthetic_tasks.errors import TaskError
from synthetic_tasks.registry import RECIPES
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.word_tasks.varied import _INSTRUCTIONS, forms_of
from synthetic_tasks.word_tasks.word_task import fill_wording, word_and_arguments
from synthetic_tasks.words import usable_words, vary_form
from tests.messages import raises
from tests.tasks import reference_tasks
from tests.tasks.test_synthetic_tasks import SAMPLES, word_task
from tests.tasks.test_word_tasks import COPY, LETTERED, MAJORITY
from training.data.corpus import load_words

word_tasks = pytest.mark.parametrize("name", WORD_TASKS)
NEW = ("unseen_wordings", "unseen_tokens_and_wordings")
# A word or an argument; letters of a word with spaces between them.
_FILLER = r"(?:\S+|\S(?: \S)+)"


def varied(name: str, form: str = "spelled", *, letters: bool = False) -> WordTask:
    task = build_task(name, Material(SAMPLES, "varied", form, letters))
    assert isinstance(task, WordTask)
    return task


def drawn(task: WordTask, split: str, n: int = 100) -> list[Item]:
    return [task.draw(split, stream("varied", split, i)) for i in range(n)]


@cache
def pattern_of(sentence: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", lambda _: _FILLER, re.escape(sentence)))


def asks_with(sentence: str, prompt: str) -> bool:
    return bool(pattern_of(sentence).search(prompt))


def written_as(item: Item, form: str) -> bool:
    """Whether an item's answer is the slow twin's in an answer form."""
    name, (word, *named) = item.key.split()[0], word_and_arguments(item)
    right = reference_tasks.solve_word(name, word, tuple(named))
    apart = form != "plain" and name in LETTERED
    work = reference_tasks.show_work(name, form, word, tuple(named))
    answer = f" {' '.join(right) if apart else right}"
    return (item.work, item.answer) == (f" {work} =" if work else "", answer)


@word_tasks
def test_a_tenth_of_the_sentences_is_held_out(name: str) -> None:
    wordings = RECIPES[name].wordings
    assert len(wordings.held_out) == 2
    assert sorted((*wordings.trained, *wordings.held_out)) == sorted(wordings.questions)
    assert set(wordings.trained).isdisjoint(wordings.held_out)
    # A few sentences cannot spare one, and adding one moves at most one.
    assert wordings._replace(questions=wordings.questions[:4]).held_out == ()
    assert len(wordings._replace(questions=wordings.questions[:9]).held_out) == 1


def test_the_held_out_sentences_stay_the_same() -> None:
    held_out = RECIPES["spell"].wordings.held_out
    assert held_out == (
        "Spell the word {word}.",
        "Name the letters in {word} in the order they come.",
    )


@word_tasks
def test_items_are_functions_of_their_keys_in_all_six_splits(name: str) -> None:
    task = varied(name)
    assert [split.name for split in task.splits] == [*SPLITS, *NEW]
    assert task.main_split == "unseen_tokens"
    for split in task.splits:
        assert split.place
        items = drawn(task, split.name, 40)
        assert drawn(varied(name), split.name, 40) == items
        words = set(task.words_of(split.name))
        for item in items:
            assert word_and_arguments(item)[0] in words
            # No space at the seam, and no end mark in the answer: a chat template can wrap it.
            assert item.prompt == item.prompt.strip()
            assert re.fullmatch(r" \S.*\S|( \S)+", item.written)
            assert task.is_right(item.written + "\nwhat else", item)
            assert not task.is_right(item.written + " a", item)


@word_tasks
def test_training_and_the_four_splits_of_words_never_ask_with_a_held_out_sentence(
    name: str,
) -> None:
    wordings = RECIPES[name].wordings
    task = varied(name)
    for split in SPLITS:
        for item in drawn(task, split):
            assert not any(asks_with(sentence, item.prompt) for sentence in wordings.held_out)
    for split in NEW:
        asked: Counter[str] = Counter()
        for item in drawn(task, split):
            word, *named = word_and_arguments(item)
            for sentence in wordings.held_out:
                filled = fill_wording(sentence, task.recipe, word, named)
                asked[sentence] += filled in item.prompt
            assert not any(asks_with(sentence, item.prompt) for sentence in wordings.trained)
            assert item.prompt.count("\n") <= 1, "no solved questions"
        assert asked.total() == 100
        assert len(asked) == 2


@word_tasks
def test_all_ways_and_forms_occur_and_each_prompt_says_or_shows_its_form(name: str) -> None:
    task, recipe = varied(name, "counted"), RECIPES[name]
    ways, forms = Counter[str](), Counter[str]()
    for item in drawn(task, "unseen_tokens", 300):
        said = [
            kind for kind, texts in _INSTRUCTIONS.items() if any(t in item.prompt for t in texts)
        ]
        if said:
            (kind,) = said
            form = {"word": "plain", "letters": "spelled", "result": "spelled"}.get(kind, kind)
            assert (kind == "letters") == (form == "spelled" and name in LETTERED)
            assert written_as(item, form), (item, form)
            ways["sentence"] += 1
            forms[form] += 1
        elif item.prompt.count(f"{name} ") == 1 and "\n" not in item.prompt:
            compact = word_task(name, *SAMPLE_WORDS, form="counted")
            word, *named = word_and_arguments(item)
            assert compact.ask_about(word, named, stream(0)) == item
            ways["compact"] += 1
        else:
            ways["few-shot"] += 1
            assert any(written_as(item, form) for form in forms_of(recipe))
    assert set(forms) == set(forms_of(recipe))
    assert all(70 < ways[way] < 130 for way in ("compact", "sentence", "few-shot")), ways


@word_tasks
def test_solved_questions_are_about_training_words_and_show_the_form(name: str) -> None:
    task, found = varied(name), Counter[int]()
    for item in drawn(task, "unseen_tokens", 200):
        lines = [line for line in item.prompt.split("\n") if line]
        *solved, last = lines
        if not solved or not all(line.startswith(f"{name} ") for line in lines):
            continue
        found[len(solved)] += 1
        examples = []
        for line in solved:
            prompt, written = line.split(":", 1)
            # "unspell t e a" has its word apart
            parts = [name, prompt.split(" ", 1)[1].replace(" ", "")]
            key = " ".join(parts) if name == "unspell" else prompt
            work, sign, answer = written.rpartition(" =")
            examples.append(Item(prompt, answer, key, work=work + sign))
        assert last.endswith(":")
        shown = [
            form for form in forms_of(task.recipe) if all(written_as(one, form) for one in examples)
        ]
        assert any(written_as(item, form) for form in shown)
        words = [word_and_arguments(one)[0] for one in examples]
        assert set(words) <= set(SAMPLES.seen)
        assert len({*words, word_and_arguments(item)[0]}) == len(words) + 1
    assert set(found) == {2, 3}, found


def test_the_forms_are_those_that_differ() -> None:
    assert forms_of(RECIPES["spell"]) == ("spelled",)
    assert forms_of(RECIPES["reverse"]) == ("plain", "spelled", "worked")
    assert forms_of(RECIPES["insert"]) == ("plain", "spelled", "worked", "counted")
    assert forms_of(RECIPES["count"]) == ("spelled", "worked", "counted")
    assert forms_of(RECIPES["unspell"]) == forms_of(RECIPES["first_letter"]) == ("spelled",)


def test_an_answer_is_scored_by_the_form_of_its_own_question() -> None:
    task = varied("index")
    items = distinct(task, "unseen_wordings", 100, "forms")
    direct = [item for item in items if not item.work]
    scratchpad = [item for item in items if item.work]
    assert len(direct) > 20
    assert len(scratchpad) > 40
    for item in direct:
        assert task.parts(item.answer, item) == {"direct_exact_match": True}
        assert task.parts(f" a b ={item.answer}", item) == {"direct_exact_match": False}
    for item in scratchpad:
        right = {"work_exact_match": True, "scratchpad_exact_match": True}
        assert task.parts(item.written, item) == right
        assert task.parts(f" ? ={item.answer}", item) == right | {"work_exact_match": False}
        assert task.parts(item.answer, item) == dict.fromkeys(right, False)
    assert "direct_exact_match" not in word_task("index", "banana").parts(" 1", direct[0])


def test_guessing_gets_no_more_than_with_one_form() -> None:
    words = usable_words(load_words("wordsegment", 10_000), 5, 10)
    for name in WORD_TASKS:
        task = WordTask(RECIPES[name], Material(one_list(words), "varied"))
        for split in ("seen", "unseen_wordings"):
            items = distinct(task, split, 250, "balance", split)
            assert task.baseline(items) < MAJORITY.get(name, 0.02) + 0.02, name
            copying = task.copy_baseline(items)
            assert copying == pytest.approx(COPY.get(name, 0.0), abs=0.08), name


def test_words_of_all_forms_and_letters_in_prompts() -> None:
    mixed = one_list([vary_form(word) for word in SAMPLE_WORDS])
    task = WordTask(RECIPES["reverse"], Material(mixed, "varied"))
    assert len({item.prompt for item in drawn(task, "unseen_wordings")}) > 90
    for item in drawn(varied("count", letters=True), "unseen_tokens"):
        word = word_and_arguments(item)[0]
        assert f" {word} {' '.join(word)}" in item.prompt


def test_one_word_alone_is_asked_about_without_solved_questions() -> None:
    task = word_task("spell", "tea", wording="varied")
    assert all(item.prompt.count("tea") == 1 for item in drawn(task, "seen"))
    alone = build_task("spell", Material(wording="varied"))
    assert isinstance(alone, WordTask)
    assert any(alone.ask("tea", stream(i)).prompt.count("\n") > 1 for i in range(9))


def test_other_wordings_have_no_splits_of_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    for wording in ("compact", "sentences"):
        task = word_task("spell", "tea", wording=wording)
        assert [split.name for split in task.splits] == list(SPLITS)
        with raises(TaskError, "unseen_wordings seen"):
            task.draw("unseen_wordings", stream(0))
    assert main(["spell", "--wording", "varied", "--split", "unseen_wordings"]) == 0
    shown = capsys.readouterr().out.splitlines()[6:16]
    sentences = RECIPES["spell"].wordings.held_out
    assert all(any(asks_with(sentence, line) for sentence in sentences) for line in shown)
