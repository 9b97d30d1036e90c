"""Published benchmarks: read from hand-made files, imitated offline, scored as their authors do."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import (
    FORMATS,
    BenchmarkTask,
    as_rows,
    charbench,
    cute,
    cute_hub,
    langgame,
    nanochat,
    spelling_bee,
)
from synthetic_tasks.formats.tables import table
from synthetic_tasks.scoring import read_answer
from synthetic_tasks.task import Item
from tests.conftest import ROOT
from tests.messages import raises
from tests.tasks import reference_formats

DATA = ROOT / "tests" / "data" / "formats"
TEXT = """a to be tea pea ant bean beam null none true level onion apple banana cherry turnip radish garlic
letters spinach parsley strawberry watermelon undeniable"""
WORDS = TEXT.split()
every_format = pytest.mark.parametrize("name", FORMATS)
# Pieces that the parsers look for, and pieces that resemble them.
MARKS = """Answer:| Answer: "|"|""|</s>|\n| |\t|#### |####|-|+|,|.|_|0|12|\
3|٣|²|Ⅷ|\x00|\u2028|\u00a0|cat|İ|ß|🍓"""
junk = st.lists(st.sampled_from(MARKS.split("|")) | st.text(max_size=4), max_size=12).map("".join)


@cache
def published(name: str) -> dict[str, BenchmarkTask]:
    form = FORMATS[name]
    return {task.name: task for task in form.read(form.load(DATA / name))}


@cache
def made(name: str, n: int = 10, seed: int = 0) -> list[BenchmarkTask]:
    return FORMATS[name].generate(WORDS, n, seed)


def named(key: str) -> list[str]:
    return key.split("\t")[1:]


# Scoring


@given(junk)
@example('cat"')
@example("cat")
@example('" Answer: none')
@example('x" Answer: "dog" and "cat"')
@example("</s>cat")
def test_cute_takes_what_its_authors_take(text: str) -> None:
    assert cute.between_quotes(text) == reference_formats.cute_answer(text)


@given(junk)
@example("1_0")
@example("٣")
@example(" -0 ")
@example("3.")
def test_charbench_takes_whole_numbers_alone(text: str) -> None:
    found, expected = charbench.whole_number(text), reference_formats.charbench_number(text)
    assert found == (None if expected is None else str(expected))


@given(junk)
@example("#### -1,024.")
@example("#### -#### 2")
def test_nanochat_takes_the_first_number_after_hashes(text: str) -> None:
    assert nanochat.after_hashes(text) == reference_formats.nanochat_number(text)


@given(junk)
def test_spelling_bee_takes_the_first_line(text: str) -> None:
    (task,) = (task for task in made("spelling_bee", 1) if task.name.endswith("/reverse"))
    assert task.read(text) == read_answer(text) == reference_formats.first_line(text)
    item = task.items[0]
    expected = reference_formats.first_line(text).lower() == item.answer.strip().lower()
    assert task.is_right(text, item) == expected


@pytest.mark.parametrize(
    ("name", "task", "given_text", "right"),
    [
        ("cute", "cute/spell", 'n u l l"', True),
        ("cute", "cute/spell", "n u l l", True),
        ("cute", "cute/spell", 'N U L L"', False),
        ("cute", "cute/spell", 'n-u-l-l"', False),
        ("cute", "cute/spell", 'x"\nI mean: Answer: "n u l l".', True),
        ("cute", "cute/contains_char", 'yes"', False),
        ("cute", "cute/contains_word", 'yes"', True),
        ("cute", "cute/swap_word", 'Fox the ran."', True),
        ("cute", "cute/swap_char", 'AET"', False),
        ("charbench", "charbench/find_last_occurrence", "4\n", True),
        ("charbench", "charbench/find_last_occurrence", "04", True),
        ("charbench", "charbench/find_last_occurrence", "The index is 4", False),
        ("charbench", "charbench/find_last_occurrence", "5", False),
        ("nanochat", "nanochat/SpellingBee", "we count.\n\n#### 1", True),
        ("nanochat", "nanochat/SpellingBee", "1", False),
        ("nanochat", "nanochat/SpellingBee", "#### 2 no, #### 1", False),
        ("spelling_bee", "spelling_bee/index", "E\nand so on", True),
        ("spelling_bee", "spelling_bee/index", "e.", False),
    ],
)
def test_an_answer_is_scored_as_the_authors_do(
    name: str, task: str, given_text: str, right: bool
) -> None:
    found = published(name)[task]
    assert found.is_right(given_text, found.items[0]) == right


@every_format
def test_the_right_answer_is_right_and_an_empty_one_wrong(name: str) -> None:
    says: dict[str, Callable[[str], str]] = {
        "cute": lambda answer: f'{answer}"\n\nDone.',
        "execute": lambda answer: f'{answer}"',
        "cute-hub": lambda answer: f' {answer} "\n\nDone.',
        "charbench": str,
        "nanochat": lambda answer: f"#### {answer}" if answer.isdigit() else f" {answer}\n",
        "spelling_bee": lambda answer: f" {answer}\nNext",
        "langgame": lambda answer: f" {answer}",
        "strawberry_bench": lambda answer: f"There are {answer}.",
        "reasoning_gym": lambda answer: f"So: <answer>{answer}</answer>",
    }
    for task in [*published(name).values(), *made(name)]:
        for item in task.items:
            assert item.answer.startswith(" ")
            assert task.is_right(says[name](item.answer.strip()), item)
            assert not task.is_right("", item)
            assert not item.choices or item.answer in item.choices


# Reading


def test_words_that_look_like_missing_values_stay_words() -> None:
    task = published("cute")["cute/spell"]
    assert [named(item.key)[0] for item in task.items[:3]] == ["null", "none", "true"]
    assert '"null"' in task.items[0].prompt
    counted = published("charbench")["charbench/count_unique_chars"]
    assert named(counted.items[0].key) == ["null"]
    assert table("t.jsonl", '{"a": null, "b": "null", "c": NaN, "d": 1}\n\n')[0] == {
        "a": "", "b": "null", "c": "NaN", "d": "1"
    }  # fmt: skip


@given(
    st.lists(
        st.lists(
            st.text(alphabet=st.characters(exclude_characters='\t\r\n"')), min_size=2, max_size=2
        )
    )
)
def test_a_table_comes_back_as_it_was_written(rows: list[list[str]]) -> None:
    rows = [["NA", "1e5"], *rows]
    text = "".join("\t".join(row) + "\n" for row in [["left", "right"], *rows])
    assert table("t.tsv", text) == [{"left": a, "right": b} for a, b in rows]


def test_cute_has_all_its_tasks_with_their_own_prompts() -> None:
    tasks = published("cute")
    assert list(tasks) == [f"cute/{task}" for task in (*cute.TASKS, *cute.RANDOM_TASKS)]
    prompts = {
        row["task"]: row["prompt"] for row in FORMATS["cute"].load(DATA / "cute")["prompts.py"]
    }
    assert tasks["cute/spell"].items[0].prompt == prompts["spell"].replace("{}", "null")
    assert (
        " " * 12 + "\n" in prompts["spell"]
    )  # the indentation of a continued line of Python stays
    assert (
        tasks["cute/ins_char_rand"].items[0].prompt
        == 'Insert.\n\nQuestion: "x" behind "q" in "kqz".'
    )
    for task in tasks.values():
        assert task.prompt_format == cute.PROMPT_FORMAT
        for item in task.items:
            if not task.name.endswith(("sem", "orth")):
                assert (
                    reference_formats.solve(task.name, named(item.key)).strip()
                    == item.answer.strip()
                )


def test_the_hubs_rows_of_cute_are_prompts_already() -> None:
    rows = as_rows([{"prompt": 'Apart: "null".', "answer": "n u l l"}])
    for name in ("cute", "cute-hub"):  # another prompt than the repository's, so another name
        (task,) = FORMATS[name].read({"spell": rows})
        assert task.name == "cute-hub/spell"
        assert task.items == (Item('Apart: "null".', " n u l l", "cute-hub/spell\tnull"),)
        (task,) = FORMATS[name].read(FORMATS[name].load(DATA / "cute_hub"))
        assert len(task.items) == 2


def test_the_inputs_of_the_hubs_questions_are_read_back() -> None:
    tasks = published("cute-hub")
    assert named(tasks["cute-hub/spell_inverse"].items[0].key) == ["n u l l"]
    assert named(tasks["cute-hub/sem"].items[0].key) == ["bean", "beam", "pea"]
    question = 'Question: Without " red " in " The red fox said "no" to it. ".'
    inputs = ["red", 'The red fox said "no" to it.']
    assert cute_hub.inputs_of("del_word", question) == inputs
    for task in tasks.values():
        for item in task.items:
            if not task.name.endswith("sem"):
                expected = reference_formats.solve(task.name, named(item.key))
                assert item.answer == f" {expected}"
    with raises(TaskError, "1 spell 1"):
        FORMATS["cute-hub"].read({"spell": as_rows([{"prompt": "Apart: null.", "answer": "x"}])})
    with raises(TaskError, "spell prompt, answer"):
        FORMATS["cute-hub"].read({"spell": as_rows([{"input1": "tea", "label": "t e a"}])})


@given(junk)
@example(' cat "')
@example("cat")
@example('" Answer: " none')
def test_the_papers_marking_of_cute_keeps_the_blanks(text: str) -> None:
    task = FORMATS["cute"].markings["paper"](published("cute")["cute/spell"])
    assert task.name == "cute@paper/spell"
    found = reference_formats.cute_answer(text, strips=False)
    for item in task.items:
        assert task.is_right(text, item) == (found == item.answer[1:])
    label = task.items[0].answer[1:]
    assert task.is_right(f'{label}"', task.items[0])
    assert not task.is_right(f' {label} "', task.items[0])
    assert published("cute")["cute/spell"].is_right(f' {label} "', task.items[0])


def test_olmes_reads_the_answer_after_an_open_quote() -> None:
    mark = FORMATS["cute-hub"].markings["olmes"]
    tasks = {name: mark(task) for name, task in published("cute-hub").items()}
    for name, task in tasks.items():
        plain = published("cute-hub")[name]
        assert task.name == name.replace("cute-hub/", "cute-hub@olmes/")
        assert task.prompt_format.greedy
        assert not task.prompt_format.chat
        assert task.copy_baseline(task.items) == plain.copy_baseline(plain.items)
        assert task.baseline(task.items) == plain.baseline(plain.items)
        for item, before in zip(task.items, plain.items, strict=True):
            quote = ' "' if "contains" in name else ' " '
            assert item.prompt + item.answer == before.prompt.strip() + " Answer:" + quote + (
                before.answer.strip()
            )
            assert task.subject(item) == plain.subject(before)
            assert task.is_right(item.answer, item)
            assert not task.is_right(item.answer + " ", item)
            assert not task.is_right("", item)


def test_charbench_without_its_sentences_says_so_in_its_name() -> None:
    own = published("charbench")["charbench/find_first_occurrence"]
    assert own.prompt_format.system == "You answer briefly."
    assert (
        own.items[0].prompt
        == "\n    A number, please.\n    \n\nQuestion: First 'n' in 'banana'?\nFrom 0.\n\n    "
    )
    tables = FORMATS["charbench"].load(DATA / "charbench" / "benchmark_english.csv")
    like = {task.name: task for task in FORMATS["charbench"].read(tables)}
    assert set(like) == {f"charbench-like/{task}" for task in charbench.TASKS}
    assert (
        "First 'n' in 'banana'?\nFrom 0."
        in like["charbench-like/find_first_occurrence"].items[0].prompt
    )
    tables |= FORMATS["charbench"].load(DATA / "charbench" / "evaluation" / "utils.py")
    with raises(TaskError, "half"):
        FORMATS["charbench"].read(tables)


def test_a_checkout_of_charbench_needs_the_table_of_the_hub_alone(tmp_path: Path) -> None:
    checkout = shutil.copytree(DATA / "charbench", tmp_path / "CharBench")
    table_path = checkout / "benchmark_english.csv"
    text = table_path.read_text()
    table_path.unlink()
    for path in ("analysis/utils.py", "analysis/const.py", "benchmark/benchmark.py", "main.py"):
        (checkout / path).parent.mkdir(exist_ok=True)
        (checkout / path).write_text("def load_and_filter_data(path):\n    return path\n")
    form = FORMATS["charbench"]
    with raises(TaskError, "eval_openai.py, utils.py omriuz/CharBench benchmark_english.csv"):
        form.read(form.load(checkout))
    table_path.write_text(text)
    assert [task.items for task in form.read(form.load(checkout))] == [
        task.items for task in published("charbench").values()
    ]


def test_nanochats_items_are_drawn_as_nanochat_draws_them() -> None:
    """One call of the generator after the other, written out."""
    tasks = published("nanochat")
    words = (DATA / "nanochat" / "words_alpha.txt").read_text().split()
    forms = [
        "The {letter} of {word}",
        "{word} has which number of {letter}",
        "Zähle {letter} in {word}",
    ]
    for i, item in enumerate(tasks["nanochat/SpellingBee"].items):
        rng = random.Random(10_000_000 + i)
        word = rng.choice(words)
        letter = (
            rng.choice(word) if rng.random() < 0.9 else rng.choice("abcdefghijklmnopqrstuvwxyz")
        )
        form = rng.choice(forms)
        if rng.random() < 0.3:
            form = form.lower()
        letter_mark = rng.choice(["", "'", '"'])
        word_mark = rng.choice(["", "'", '"'])
        prompt = form.replace("{letter}", letter_mark + letter + letter_mark)
        prompt = prompt.replace("{word}", word_mark + word + word_mark)
        prompt += "?" if rng.random() < 0.5 else ""
        assert (item.prompt, item.answer) == (prompt, f" {word.count(letter)}")
    random.Random(42).shuffle(words)
    spelled = tasks["nanochat/SimpleSpelling"].items
    assert [item.prompt for item in spelled] == [
        f"Letters: {random.Random(10_000_000 + i).choice(words)}" for i in range(256)
    ]


def test_spelling_bee_puts_its_examples_before_each_question() -> None:
    tasks = published("spelling_bee")
    assert tasks["spelling_bee/count"].items[0].prompt == "A in banana: 3\nN in banana: "
    assert (
        tasks["spelling_bee/index"].items[0].prompt
        == "Q: first of 'tea'?\nA:t\n\nQ: second of 'tea'?\nA:"
    )
    assert tasks["spelling_bee/reverse"].items[0].answer == " naeb"


def test_langgames_kind_is_told_from_the_question_and_not_from_its_options() -> None:
    tasks = published("langgame")
    assert list(tasks) == [f"langgame/{kind}" for kind in langgame.KINDS]
    (item,) = tasks["langgame/ends_with"].items
    assert "contains" in item.prompt
    assert item.choices == (
        " bean",
        " contains",
        " null",
        " tea",
    )  # in an order that does not tell the answer
    assert item.answer == " tea"


# Made offline


@every_format
def test_an_item_made_offline_is_a_function_of_words_and_seed(name: str) -> None:
    for long, short, other in zip(made(name), made(name, 5), made(name, seed=1), strict=True):
        assert long.items[:5] == short.items
        assert long.items != other.items
        assert len({item.key for item in long.items}) == 10
        assert long.name.startswith(f"{name}-like/")


@pytest.mark.parametrize("name", ["cute", "charbench", "nanochat", "spelling_bee"])
def test_answers_made_offline_are_those_of_a_slow_twin(name: str) -> None:
    for task in made(name):
        for item in task.items:
            assert reference_formats.solve(task.name, named(item.key)) == item.answer.strip()
            assert all(thing in item.prompt for thing in named(item.key))


def test_langgames_own_rule_has_two_blanks_and_the_right_option_first() -> None:
    """stochastok's program joins question, blank and option, which begins with a blank."""
    for kind, task in published("langgame").items():
        theirs = langgame.as_in_stochastok(task)
        assert theirs.name == kind.replace("langgame", "langgame@stochastok")
        assert theirs.prompt_format.ends_choice
        assert theirs.prompt_format.as_dict()["ends_choice"] is True
        assert "ends_choice" not in task.prompt_format.as_dict()
        for one, other in zip(task.items, theirs.items, strict=True):
            assert one.prompt == other.prompt
            assert other.choices[0] == other.answer == " " + one.answer
            assert sorted(other.choices) == [" " + choice for choice in one.choices]
            assert theirs.is_right(other.choices[0], other)
            assert not any(theirs.is_right(choice, other) for choice in other.choices[1:])


def test_one_option_of_langgame_is_right_and_three_are_wrong() -> None:
    rules: dict[str, Callable[[str, str], bool]] = {
        "contains": lambda word, part: part in word,
        "starts_with": str.startswith,
        "ends_with": str.endswith,
        "most_of_letter": lambda word, letter: word.count(letter) >= 2,
    }
    for task in made("langgame"):
        kind = task.name.partition("/")[2]
        for item in task.items:
            options = [choice.strip() for choice in item.choices]
            shown = re.search(r"\[(.*)\]", item.prompt)
            assert shown is not None
            assert sorted(shown[1].split(", ")) == sorted(options)
            assert len(options) == 4
            if kind in rules:
                part = item.prompt.split("'")[1]
                assert [word for word in options if rules[kind](word, part)] == [
                    item.answer.strip()
                ]
            else:
                best = (max if kind == "longest" else min)(options, key=len)
                assert best == item.answer.strip()
                assert sum(len(word) == len(best) for word in options) == 1
            assert langgame.kind_of(item.prompt) == kind


def test_examples_do_not_give_the_question_away() -> None:
    for task in made("cute"):
        for item in task.items:
            shown, _, question = item.prompt.partition("\n\nQuestion: ")
            assert question
            assert question not in shown
            assert shown.count("Answer: ") == 4


# Baselines


@every_format
def test_baselines_are_what_the_best_constant_and_the_best_copy_get(name: str) -> None:
    for task in [*published(name).values(), *made(name)]:
        items = task.items
        answers = [item.answer.strip() for item in items]
        constant = max(sum(other == answer for other in answers) for answer in answers) / len(
            answers
        )
        chance = 0.25 if name == "langgame" else 0.0
        assert task.baseline(items) == max(constant, chance)
        places = max(len(named(item.key)) for item in items)
        copied = [
            sum(
                task.equal(named(item.key)[i], item.answer.strip())
                for item in items
                if i < len(named(item.key))
            )
            for i in range(places)
        ]
        assert task.copy_baseline(items) == max(copied) / len(items)


def test_the_baselines_of_these_files_are_known() -> None:
    tasks = published("cute")
    known = {"contains_char": (2 / 3, 0.0), "orth": (1 / 3, 2 / 3), "sub_char": (1 / 2, 1 / 2)}
    for task, expected in known.items():
        items = tasks[f"cute/{task}"].items
        assert (
            tasks[f"cute/{task}"].baseline(items),
            tasks[f"cute/{task}"].copy_baseline(items),
        ) == expected
    (task, *_) = made("langgame")
    assert task.baseline(task.items) >= 0.25


def test_a_blind_guess_scores_nothing_where_letters_are_written() -> None:
    for task in made("spelling_bee"):
        if task.name.endswith("/reverse"):
            assert task.baseline(task.items) == 0.1
            assert task.copy_baseline(task.items) == 0
    assert spelling_bee.same_in_any_case("TEA", "tea")


def test_nanochats_word_list_is_named_by_its_hash() -> None:
    import hashlib

    path = DATA / "nanochat" / "words_alpha.txt"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for task in published("nanochat").values():
        assert digest in task.note
        assert f"{len(path.read_text().split())} words" in task.note
        assert "another list" in task.note
