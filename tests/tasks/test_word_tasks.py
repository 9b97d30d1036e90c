"""The word tasks: answers and scratchpads against slow twins, arguments, baselines, scoring."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import END, WORD_TASKS, Item, distinct, read_answer, read_work, stream
from synthetic_tasks.errors import TaskError
from synthetic_tasks.registry import RECIPES
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.task import ANSWER_FORMS, WORDINGS
from synthetic_tasks.word_tasks.letters import edit_distance
from synthetic_tasks.word_tasks.word_task import word_and_arguments
from synthetic_tasks.words import usable_words, vary_form
from tests.messages import raises
from tests.tasks import reference_tasks
from tests.tasks.test_synthetic_tasks import SAMPLES, built, seeds, word_task
from training.data.corpus import load_words

some_words = st.text(alphabet="abcz", min_size=1, max_size=12)
mixed_words = st.text(alphabet="aAbBéÉñ1ß", min_size=1, max_size=12)
word_tasks = pytest.mark.parametrize("task", WORD_TASKS)
# Tasks whose answer is a string of letters.
LETTERED = ("reverse", "swap", "spell", "insert", "delete", "substitute", "exchange")


@given(word=some_words | mixed_words, seed=seeds)
def test_answers_and_scratchpads_equal_the_slow_twins(word: str, seed: int) -> None:
    for name, recipe in RECIPES.items():
        for stratum in recipe.strata(word):
            question = recipe.ask(word, stratum, Random(seed))
            if question is None:
                continue
            assert question.answer == reference_tasks.solve_word(name, word, question.arguments)
            for form in ANSWER_FORMS:
                work = recipe.scratchpad_of(question, form)
                assert work.strip(" =") == reference_tasks.show_work(
                    name, form, word, question.arguments
                )
                assert not work or (work.startswith(" ") and work.endswith(" ="))


@pytest.mark.parametrize("form", ANSWER_FORMS)
@word_tasks
def test_items_of_every_split_are_answered_as_the_slow_twin_answers_what_they_ask(
    task: str, form: str
) -> None:
    """An item's prompt and its answer belong together, by its own key."""
    mixed = [vary_form(word) for word in SAMPLE_WORDS]
    for drawn in (*built(task, form=form), word_task(task, *mixed, form=form)):
        for split in drawn.splits:
            for i in range(30):
                item = drawn.draw(split.name, stream(i))
                word, *named = word_and_arguments(item)
                shown = " ".join(word) if task == "unspell" else word
                assert item.prompt == " ".join([task, *named, f"{shown}:"])
                right = reference_tasks.solve_word(task, word, tuple(named))
                apart = form != "plain" and task in LETTERED
                assert item.answer == " " + (" ".join(right) if apart else right)
                assert item.work.strip(" =") == reference_tasks.show_work(
                    task, form, word, tuple(named)
                )


@settings(max_examples=500)
@given(one=st.text("abc", max_size=12), other=st.text("abcd", max_size=12))
def test_distances_equal_the_slow_twins(one: str, other: str) -> None:
    assert edit_distance(one, other) == reference_tasks.edits(one, other)


REFUSING = (
    "contains",
    "delete",
    "exchange",
    "longer",
    "nearer",
)  # if the only word is one repeated letter


@word_tasks
@pytest.mark.parametrize("word", ["aaaaa", "é"])
def test_a_word_of_one_letter_is_asked_about_or_refused_in_a_sentence(task: str, word: str) -> None:
    for form, wording in product(ANSWER_FORMS, WORDINGS):
        built_task = word_task(task, word, wording=wording, form=form)
        if task not in REFUSING:
            assert built_task.draw("seen", Random(0)).text.endswith(END)
            assert built_task.ask(word, Random(0)).text.endswith(END)
    if task in REFUSING:
        with raises(TaskError, f"seen {task}"):
            built_task.draw("seen", Random(0))
    if task in ("delete", "exchange"):
        with raises(TaskError, f"{task} {word}"):
            built_task.ask(word, Random(0))


def test_count_asks_for_the_most_frequent_letter_and_index_for_the_first_occurrence() -> None:
    def named(task: str, kind: int) -> set[tuple[str, ...]]:
        return {RECIPES[task].ask("banana", kind, Random(i)).arguments for i in range(9)}

    assert named("count", 3) == {("a",)}
    assert RECIPES["index"].strata("banana") == [0, 1, 2]
    assert RECIPES["index"].ask("banana", 2, Random(0)).answer == "2"
    assert RECIPES["last_index"].strata("banana") == [0, 4, 5]
    assert named("nth_letter", ord("n")) == {("2",), ("4",)}
    assert RECIPES["swap"].ask("ab", 0, Random(0)).answer in ("bb", "aa")


@given(word=some_words, seed=seeds)
def test_what_one_names_oneself_gives_the_question_that_names_it(word: str, seed: int) -> None:
    rng = Random(seed)
    for name, recipe in RECIPES.items():
        task = word_task(name, word)
        draw = {
            "letter": lambda: rng.choice(word),
            "any letter": lambda: rng.choice("abcz"),
            "place": lambda: str(rng.randrange(len(word))),
            "gap": lambda: str(rng.randint(0, len(word))),
            "word": lambda: rng.choice(["tea", "cab", "abacus"]),
        }
        named = tuple(draw[kind]() for kind in recipe.arguments)
        if recipe.refuse(word, *named):
            with raises(TaskError, f"{name} {word!r}"):
                task.ask_about(word, named, Random(0))
        else:
            item = task.ask_about(word, named, Random(0))
            shown = " ".join(word) if name == "unspell" else word
            assert item.prompt == " ".join([name, *named, f"{shown}:"])
            assert item.answer.replace(" ", "") == reference_tasks.solve_word(name, word, named)


@pytest.mark.parametrize(
    ("task", "named", "message"),
    [
        ("count", "z", "banana z"),
        ("index", "", "banana"),
        ("swap", "b", "banana b"),
        ("reverse", "b", "banana b"),
        ("nth_letter", "6", "banana 6 0 5"),
        ("nth_letter", "٣", "nth_letter"),
        ("insert", "x", "banana x"),
        ("insert", "x 7", "0 6"),
        ("insert", "= 3", "= 3"),
        ("exchange", "1 3", "banana 1 3"),
        ("exchange", "1", "banana"),
        ("longer", "orange", "banana orange 6"),
        ("longer", "", "banana"),
        ("nearer", "tea", "banana"),
        ("nearer", "tea pea", "tea pea 5"),
        ("nearer", "tea banana", "words"),
        ("contains", "ab", "banana ab"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_about_is_refused(task: str, named: str, message: str) -> None:
    with raises(TaskError, message):
        word_task(task, "banana").ask_about("banana", named.split(), Random(0))
    with raises(TaskError, "left"):
        word_task("delete", "aaa").ask_about("aaa", "a", Random(0))


@word_tasks
def test_there_are_twenty_wordings_each_and_the_word_stands_alone(task: str) -> None:
    recipe = RECIPES[task]
    assert len(set(recipe.wordings.questions)) == 20
    assert len(set(recipe.wordings.answers)) == 20
    for question in (*recipe.wordings.questions, recipe.wordings.compact):
        assert re.search(r" \{word\}([^a-zA-Z']|$)", question), question
        for place, name in zip("ab", (*recipe.arguments, "", ""), strict=False):
            assert (f"{{{place}}}" in question) == bool(name), question
            assert not name or re.search(rf" \{{{place}\}}([^a-zA-Z']|$)", question), question
    for answer in recipe.wordings.answers:
        assert answer == answer.strip()
        assert "{" not in answer


def test_no_two_tasks_share_a_wording() -> None:
    questions = [question for recipe in RECIPES.values() for question in recipe.wordings.questions]
    assert len(set(questions)) == len(questions) == 20 * len(WORD_TASKS)


# Baselines


MAJORITY = {
    "count": 0.33,
    "index": 0.19,
    "contains": 0.56,
    "first_letter": 0.1,
    "last_letter": 0.1,
    "nth_letter": 0.1,
}
MAJORITY |= {"last_index": 0.16, "distinct": 0.2, "longer": 0.58, "nearer": 0.58}
COPY = {"spell": 1.0, "longer": 0.5}


def test_guessing_gets_no_more_than_each_task_may_give() -> None:
    words = usable_words(load_words("wordsegment", 10_000), 5, 10)
    for name in WORD_TASKS:
        for form in ("plain", "worked"):
            task = word_task(name, *words, form=form)
            items = distinct(task, "seen", 250, "balance")
            assert task.baseline(items) < MAJORITY.get(name, 0.02), Counter(
                item.answer for item in items
            )
            assert task.copy_baseline(items) == pytest.approx(COPY.get(name, 0.0), abs=0.08), name


def test_neither_letter_nor_answer_alone_tells_whether_a_word_contains_it() -> None:
    task = word_task("contains", *usable_words(load_words("wordsegment", 10_000), 5, 10))
    items = [task.draw("seen", stream(i)) for i in range(6000)]
    yes = Counter(word_and_arguments(item)[1] for item in items if item.answer == " yes")
    no = Counter(word_and_arguments(item)[1] for item in items if item.answer == " no")
    assert set(yes) == set(no) == set("abcdefghijklmnopqrstuvwxyz")
    by_letter = sum(max(yes[letter], no[letter]) for letter in yes) / len(items)
    assert by_letter < 0.55, "a model that reads the letter and no word"


def test_the_order_of_two_words_says_nothing_and_neither_do_their_lengths_of_the_nearer() -> None:
    for name in ("longer", "nearer"):
        (task,) = built(name)
        items = [task.draw("seen", stream(i)) for i in range(2000)]
        firsts = sum(word_and_arguments(item)[1] == item.answer.strip() for item in items) / len(
            items
        )
        assert firsts == pytest.approx(0.5, abs=0.035), name
        assert all(set(word_and_arguments(item)) <= set(SAMPLES.seen) for item in items)
    assert (
        sum(len(word_and_arguments(item)[1]) == len(word_and_arguments(item)[2]) for item in items)
        / len(items)
        > 0.9
    )


# Answers and scoring


@pytest.mark.parametrize("form", ANSWER_FORMS)
@word_tasks
def test_compact_prompt_and_answer(task: str, form: str) -> None:
    drawn = word_task(task, "strawberry", "tea", "gentle", form=form).draw("seen", Random(1))
    assert drawn.prompt.replace(" ", "") == drawn.key.replace(" ", "") + ":"
    assert (" " in drawn.answer[1:]) == (form != "plain" and task in LETTERED)
    assert bool(drawn.work) == (
        form in ("worked", "counted") and task not in ("spell", "unspell", "first_letter")
    )
    assert (
        drawn.text
        == drawn.prompt + drawn.written + END
        == drawn.prompt + drawn.work + drawn.answer + END
    )


def test_the_forms_are_the_ones_that_the_documentation_shows() -> None:
    def answer(task: str, form: str, *named: str) -> str:
        return word_task(task, "banana", form=form).ask_about("banana", named, Random(0)).written

    assert answer("index", "worked", "n") == " b a n = 2"
    assert answer("index", "counted", "n") == " b0 a1 n2 = 2"
    assert answer("count", "worked", "a") == " b a n a n a = 3"
    assert answer("count", "counted", "a") == " b a1 n a2 n a3 = 3"
    assert answer("distinct", "counted") == " b1 a2 n3 = 3"
    assert answer("contains", "worked", "z") == " b a n a n a = no"
    assert answer("reverse", "worked") == " b a n a n a = a n a n a b"
    assert answer("reverse", "spelled") == " a n a n a b"
    assert answer("reverse", "plain") == " ananab"
    assert answer("longer", "counted", "tea") == " t1 e2 a3, b1 a2 n3 a4 n5 a6 = banana"
    assert (
        answer("nearer", "counted", "tea", "bandana")
        == " t e a 5, b a n d a n a 1, b a n a n a = bandana"
    )


def test_sentences_vary_and_name_everything() -> None:
    task = word_task("swap", "strawberry", wording="sentences")
    texts = [task.draw("seen", stream(i)).prompt for i in range(200)]
    assert len(set(texts)) > 150
    assert all(" strawberry" in text and "{" not in text for text in texts)


@given(st.text(alphabet="abc", min_size=1, max_size=9))
def test_marking_goes_there_and_back(word: str) -> None:
    task = word_task("reverse", "abc")
    for form in ANSWER_FORMS:
        item = Item("reverse it:", f" {word if form == 'plain' else ' '.join(word)}", "reverse it")
        assert task.is_right(item.answer + "\nreverse", item)
        assert task.is_right(item.answer, item)
        assert not task.is_right(item.answer + " a\n", item)
        assert not task.is_right(item.answer[:-1], item)
    assert read_answer(" a e t\nreverse tea:") == "a e t"


@pytest.mark.parametrize(
    ("wrote", "right", "work_right"),
    [
        (" b a n = 2\n", True, True),
        (" b a n = 2", True, True),
        (" b a n = 2\nindex a tea: t e a = 3", True, True),
        (" b n = 2\n", True, False),
        (" b a n = 3\n", False, True),
        (" b a n = 2 = 3\n", False, False),
        (" b a n = 3 = 2\n", True, False),
        (" = 2\n", True, False),
        (" 2\n", False, False),
        (" b a n =2\n", False, False),
        (" b a n =\n 2", False, False),
        (" b a n = 22\n", False, True),
        (" b a n = 2 .\n", False, True),
        ("", False, False),
    ],
)
def test_the_result_is_what_follows_the_last_equals_sign_and_work_is_marked_apart(
    wrote: str, right: bool, work_right: bool
) -> None:
    task = word_task("index", "banana", form="worked")
    item = task.ask_about("banana", "n", Random(0))
    assert task.is_right(wrote, item) is right
    assert task.parts(wrote, item) == {"work_exact_match": work_right}


def test_work_is_read_by_the_last_sign() -> None:
    assert read_work(" b a n = 2\nindex") == ("b a n", "2")
    assert read_work(" a = b = c") == ("a = b", "c")
    assert read_work("no sign") == ("", "")
