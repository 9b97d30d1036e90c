"""Evaluations of right, wrong and broken functions: questions, records, scores, messages."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest

from synthetic_tasks import Item, one_list
from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS, BenchmarkTask, PromptFormat
from tests.conftest import ROOT
from tests.messages import raises, says
from tests.tasks.reference_tasks import solve_word
from training.ask.evaluated_model import TokenCounts, cut
from training.ask.scores import count_bin, word_facts
from training.errors import BadInput, Damaged, Interrupted
from training.evaluate import suites
from training.evaluate.__main__ import main
from training.evaluate.command import parse, questions_of
from training.evaluate.evaluation import Evaluation, evaluate
from training.evaluate.load import FewShotPrompts, from_function
from training.evaluate.page import print_scores
from training.intervals import Row, read_rows

TASKS = "letters=reverse+count+index+swap+spell"
JUNK = (
    "",
    "\n",
    " ",
    "a" * 10_000,
    "\0",
    "🍓" * 40,
    "שלום\u202e עולם",
    "1\u0301",
    "\ud800",
    "-",
    "²",
    "٣",
)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> FewShotPrompts:
    """A small list of words."""
    rng, path = Random(0), tmp_path_factory.mktemp("words") / "words.txt"
    words = {"".join(rng.choices(ascii_lowercase[:9], k=rng.randint(5, 13))) for _ in range(900)}
    path.write_text("\n".join(sorted(words)))
    return FewShotPrompts(words=str(path), shots=2)


def oracle(prompt: str) -> str:
    """Return the correct answer to the last question of a prompt, letter by letter."""
    task, *letters, word = prompt.splitlines()[-1].removesuffix(":").split()
    answer = solve_word(task, word, tuple(letters))
    return " " + (" ".join(answer) if answer.isalpha() else answer) + "\nand on"


def scores(done: Evaluation, metric: str) -> dict[tuple[str, str], float]:
    return {
        (r.task, r.split): r.value for r in done.rows if r.metric == metric and r.arm == done.name
    }


# Marks


def test_the_oracle_scores_one_and_the_majority_nothing(prompts: FewShotPrompts) -> None:
    done = evaluate(oracle, TASKS, questions=20, prompts=prompts)
    assert len(scores(done, "exact_match")) == 20
    for metric in ("exact_match", "exact_match_corrected", "letters_right", "first_letter"):
        assert set(scores(done, metric).values()) == {1.0}
    assert set(scores(done, "unreadable").values()) == {0.0}
    most = {
        item.prompt: Counter(item.answer for item in exam.items).most_common(1)[0][0]
        for exam in done.eval_sets for item in exam.items
    }  # fmt: skip
    constant = evaluate(most.__getitem__, TASKS, questions=20, prompts=prompts, name="constant")
    assert set(scores(constant, "exact_match_corrected").values()) == {0.0}
    assert min(scores(constant, "exact_match").values()) > 0


def test_a_function_of_many_prompts_answers_as_one_of_each(prompts: FewShotPrompts) -> None:
    sizes = []

    def many(prompts: list[str]) -> list[str]:
        sizes.append(len(prompts))
        return [oracle(prompt) if len(prompt) % 3 else "no" for prompt in prompts]

    together = evaluate(
        many, TASKS, questions=9, prompts=prompts, batched=True, batch_size=50, name="it"
    )
    alone = evaluate(lambda p: many([p])[0], TASKS, questions=9, prompts=prompts, name="it")
    assert together.rows == alone.rows
    assert sizes[:3] == [50, 50, 50]
    assert sizes[-1] == 1


def test_shots_are_solved_questions_and_never_the_one_that_is_asked(
    prompts: FewShotPrompts,
) -> None:
    done = evaluate(oracle, TASKS, questions=30, prompts=replace(prompts, shots=3))
    for exam in done.eval_sets:
        for item in exam.items:
            *lines, asked = item.prompt.splitlines()
            assert len(lines) == 3
            assert all(
                oracle(line.split(":")[0] + ":").startswith(line.split(":")[1]) for line in lines
            )
            assert asked not in {line.split(":")[0] + ":" for line in lines}


@pytest.mark.parametrize("form", ["spelled", "plain"])
def test_junk_is_marked_as_wrong_and_shown(
    form: str, prompts: FewShotPrompts, tmp_path: Path
) -> None:
    calls = iter(JUNK * 1000)
    junk = evaluate(lambda p: next(calls), TASKS, questions=12, prompts=replace(prompts, form=form),
                    out=tmp_path / "junk", name="j\ud800nk")  # fmt: skip
    assert set(scores(junk, "exact_match").values()) == {0.0}
    assert all(value > 0 for value in scores(junk, "unreadable").values())
    page = (tmp_path / "junk" / "report.html").read_text("utf-8")
    assert page.count("<article") == 60
    assert "(empty)" in page, "a text without a visible character is shown as such"


def test_the_page_names_command_version_and_date(prompts: FewShotPrompts, tmp_path: Path) -> None:
    command = "python -m training.evaluate 'a model' --questions 5"
    how: dict[str, Any] = {"questions": 5, "prompts": prompts, "out": tmp_path / "out"}
    evaluate(lambda p: " 1", "letters=count", command=command, **how)
    (begun,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["begun"]
    evaluate(lambda p: " 1", "letters=count", command="another", resume=True, **how)
    page = (tmp_path / "out" / "report.html").read_text("utf-8").split("get the same numbers")[1]
    says(page.replace("&#39;", "'"), command, begun["date"], begun["charembed"])
    options = parse(["a model", "--questions", "5"], None)
    assert shlex.split(options.command) == [*command.split()[:3], "a model", "--questions", "5"]


OWN_FILE = f"cute={ROOT / 'tests' / 'data' / 'formats' / 'cute'}:spell"


def test_the_record_counts_the_questions_that_a_file_has(tmp_path: Path) -> None:
    out, record = tmp_path / "out", tmp_path / "out" / "evaluation.json"
    for number in (None, 1000):  # all four items, and more than there are
        evaluate(lambda p: " 1", OWN_FILE, questions=number, out=out, resume=number is not None)
        assert json.loads(record.read_text())["questions"] == 4
    with raises(BadInput, "4 2 SHA-256"):
        evaluate(lambda p: " 1", OWN_FILE, questions=2, out=out, resume=True)


def test_other_questions_get_another_folder() -> None:
    def chosen(suite: str, *flags: str) -> Any:
        return questions_of(parse(["model", "--suite", suite, *flags], None), {"shots": 4})

    default = ("--questions", "250")
    assert chosen("letters=count,cute") == chosen("letters=count,cute", *default)
    # A file is asked whole without the flag: 250 of its items are other questions.
    assert chosen(OWN_FILE) != chosen(OWN_FILE, *default)
    assert chosen(OWN_FILE) == chosen(OWN_FILE) != chosen(OWN_FILE, "--questions", "3")


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        ("cute:speling", "speling spell sub_word"),
        ("execute=:eng/spell", "eng/spell spell"),
        *((f"{name}:nope", "nope") for name in FORMATS),
        ("letters:reverse+swap", "letters=reverse+swap"),
        ("letters@paper", "letters=reverse+count"),
    ],
)
def test_an_unknown_task_is_refused_before_a_model_is_loaded(spec: str, seen: str) -> None:
    with raises(ValueError, seen):
        suites.open_suites(spec)


def test_a_task_that_is_named_twice_counts_once(prompts: FewShotPrompts) -> None:
    done = evaluate(lambda p: " 1", "letters=count+count", questions=3, prompts=prompts)
    assert {row.task for row in done.rows} == {"count"}


def test_a_split_of_which_a_task_can_ask_nothing_is_left_out(prompts: FewShotPrompts) -> None:
    model = from_function(oracle, prompts=prompts)
    splits = model.material.words
    assert splits is not None
    longest = tuple(word for word in splits.longer_words if len(word) == 13)
    assert len(longest) > 5
    one_length = replace(
        model, material=replace(model.material, words=replace(splits, longer_words=longest))
    )
    asked = [exam.split for exam in suites.word_eval_sets("longer", one_length, 5, 0)]
    assert asked == ["seen", "unseen_words"] + ["unseen_tokens"] * bool(splits.unseen_tokens)
    assert "longer_words" in [
        exam.split for exam in suites.word_eval_sets("reverse", one_length, 5, 0)
    ]
    nowhere = replace(model, material=replace(model.material, words=one_list(longest)), shots=0)
    with raises(TaskError, "longer"):
        suites.word_eval_sets("longer", nowhere, 5, 0)


def test_what_makes_a_question_hard_is_read_off_its_word(prompts: FewShotPrompts) -> None:
    class Pieces:
        spellings = (b" ban", b"an", b"a")

        def encode_word(self, word: str) -> list[int]:
            assert word == "banana"
            return [0, 1, 2]

    tokenizer: Any = Pieces()
    counts = TokenCounts(torch.tensor([1234, 0, 7]), "")
    model = replace(from_function(oracle, prompts=prompts), tokenizer=tokenizer, counts=counts)
    told = [
        dict(word_facts(Item(f"{key}:", " ?", key), model))
        for key in ("count n banana", "reverse banana")
    ]
    assert told[0] == {
        "word letters": "6", "word tokens": "3", "token letters": "3", "token count": "1,000 to 9,999",
    }  # fmt: skip
    assert told[1]["token letters"] == "3"
    assert dict(word_facts(Item("", "", ""), model)) == {}
    assert [count_bin(n) for n in (0, 7, 10, 99_999)] == [
        "0",
        "1 to 9",
        "10 to 99",
        "10,000 to 99,999",
    ]


def sometimes(prompt: str) -> str:
    return oracle(prompt) if "a" in prompt[-6:] else ""


def test_breakdowns_hold_every_question_once(prompts: FewShotPrompts) -> None:
    done = evaluate(sometimes, "letters=count", questions=60, prompts=prompts)
    lines = [row for row in done.rows if row.metric.startswith("exact_match[word letters=")]
    asked = [len(item.key.split()[-1]) for exam in done.eval_sets for item in exam.items]
    counts = Counter(asked)
    assert {row.metric[25:-1]: row.n for row in lines} == {
        str(length): n for length, n in counts.items() if n >= 10
    }
    whole = sum(row.value * row.n for row in done.rows if row.metric == "exact_match")
    few = sum(n for n in counts.values() if n < 10)
    assert whole - few <= sum(row.value * row.n for row in lines) <= whole


@pytest.mark.parametrize("suite", ["charbench", "nanochat", "spelling_bee"])
def test_breakdowns_of_a_benchmark_are_by_the_length_of_its_word(
    suite: str, prompts: FewShotPrompts
) -> None:
    done = evaluate(lambda prompt: "", suite, questions=80, prompts=prompts)
    for exam in done.eval_sets:
        lengths = Counter(len(item.key.split("\t")[1]) for item in exam.items)
        lines = {
            row.metric[25:-1]: row.n
            for row in done.rows
            if row.task == exam.task.name and row.metric.startswith("exact_match[word letters=")
        }
        assert lines == {str(length): n for length, n in lengths.items() if n >= 10}
        assert lines


# Pairs


def test_two_models_are_paired_question_by_question(
    prompts: FewShotPrompts, tmp_path: Path
) -> None:
    def weak(prompt: str) -> str:
        return oracle(prompt) if len(prompt) % 2 else " 1"

    both = evaluate(
        oracle, TASKS, against=weak, questions=15, prompts=prompts, out=tmp_path / "both"
    )
    differences = [row for row in both.rows if row.arm == "oracle - weak"]
    assert len(differences) == 20
    for row in differences:
        exam = next(e for e in both.eval_sets if (e.task.name, e.split) == (row.task, row.split))
        right = [exam.task.is_right(weak(item.prompt), item) for item in exam.items]
        gained = right.count(False)
        assert row.value == pytest.approx(gained / len(right))
        assert row.p == pytest.approx(binomtest(gained, gained).pvalue if gained else 1.0)
    ps = sorted(row.p or 0 for row in differences)
    assert min(row.p_holm or 0 for row in differences) == pytest.approx(min(1, 20 * ps[0]))
    assert read_rows(tmp_path / "both" / "results.json") == both.rows
    again = evaluate(weak, TASKS, against=tmp_path / "both", questions=15, prompts=prompts)
    assert {r.value for r in again.rows if r.arm == "weak - oracle"} == {
        -r.value for r in differences
    }
    with raises(BadInput, "questions 15"):
        evaluate(weak, TASKS, against=tmp_path / "both", questions=14, prompts=prompts)


# Kept answers


class Stopping:
    """A function that raises KeyboardInterrupt at its n-th prompt."""

    def __init__(self, at: int) -> None:
        self.at, self.asked = at, 0

    def __call__(self, prompt: str) -> str:
        self.asked += 1
        if self.asked == self.at:
            raise KeyboardInterrupt
        return oracle(prompt) if len(prompt) % 3 else " 2"


def test_what_is_answered_is_not_asked_again(prompts: FewShotPrompts, tmp_path: Path) -> None:
    def go(at: int, **how: Any) -> tuple[Stopping, Evaluation]:
        model = Stopping(at)
        settled = {"questions": 6, "prompts": prompts, "out": tmp_path / "out", "name": "it"} | how
        return model, evaluate(model, TASKS, **settled)

    with raises(Interrupted, "24 120"):
        go(25)
    with raises(BadInput, "96"):
        evaluate(_never, TASKS, questions=6, prompts=prompts, against=tmp_path / "out")
    with raises(BadInput, "--resume"):
        go(-1)
    with raises(BadInput, "function"):
        go(-1, resume=True, name="other")
    with raises(BadInput, "questions"):
        go(-1, resume=True, questions=7)
    file = sorted((tmp_path / "out" / "answers").iterdir())[0]
    whole = file.read_text()
    file.write_text(whole[:-9])  # as a dead machine may leave it
    model, resumed = go(-1, resume=True)
    assert model.asked == 120 - 24 + 1
    assert file.read_text() == whole
    assert resumed.rows == go(-1, out=None)[1].rows
    assert go(-1, resume=True)[0].asked == 0
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "marks.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 120
    file.write_text(whole.replace('"given"', '"take"', 1))
    with raises(Damaged, "1 --resume"):
        go(-1, resume=True)
    file.unlink()
    assert go(-1, resume=True)[0].asked == 6
    with raises(BadInput, "evaluation folder"):
        go(-1, out=tmp_path, resume=True)


# Suites


@dataclass(frozen=True)
class Capitals:
    """A stand-in for a benchmark: the first letter of a word, in a quoted answer."""

    name: str = "capitals"

    def load(self, path: Path) -> dict[str, list[dict[str, str]]]:
        if not path.is_dir():
            raise TaskError(f"{path} does not exist: name a folder with the files of capitals.")
        return {
            file.stem: list(csv.DictReader(file.read_text().splitlines()))
            for file in sorted(path.glob("*.csv"))
        }

    def read(self, rows_by_file: Mapping[str, list[dict[str, str]]]) -> list[BenchmarkTask]:
        return [
            self._task(f"capitals/{file}", [(row["word"], row["label"]) for row in rows])
            for file, rows in rows_by_file.items()
        ]

    def generate(self, words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
        rng = Random(seed)
        return [
            self._task(
                "capitals/own", [(word, word[0].upper()) for word in rng.sample(list(words), n)]
            )
        ]

    def _task(self, name: str, pairs: Sequence[tuple[str, str]]) -> BenchmarkTask:
        items = tuple(
            Item(f"First letter of {w}?", f" {label}", f"first {w}") for w, label in pairs
        )
        return BenchmarkTask(
            name, items, PromptFormat(opening=' Answer: "', max_new_tokens=8, stop='"'),
            read=lambda text: text or None,
            equal=lambda ours, theirs: ours.lower() == theirs.lower(),
        )  # fmt: skip


@pytest.fixture
def capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "FORMATS", {"capitals": Capitals()})


def first_letter(prompt: str) -> str:
    if not prompt.endswith(' Answer: "'):
        return oracle(prompt)
    return prompt.split("?")[0].split()[-1][0] + '" and more'


def test_the_constant_answer_is_printed_beside_the_baseline(
    prompts: FewShotPrompts, tmp_path: Path
) -> None:
    suite = "spelling_bee,letters=count"
    done = evaluate(lambda p: " 1", suite, questions=60, prompts=prompts, out=tmp_path / "out")
    for exam in done.eval_sets:
        constant = done.constants[exam.task.name, exam.split]
        if constant:
            share = [item.answer.strip() == constant for item in exam.items].count(True) / 60
            assert share == exam.majority
    assert done.constants["spelling_bee-like/count", "all"] in ("0", "1")
    assert done.constants["spelling_bee-like/reverse", "all"] == ""
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    print_scores(console, done.name, done.other, done.rows, done.constants)
    line = next(line for line in stream.getvalue().splitlines() if "like/count" in line)
    constant = done.constants["spelling_bee-like/count", "all"]
    assert f"(“{constant}”)" in line
    assert f"“{constant}”" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("capitals")
def test_a_benchmark_is_made_offline_or_read_from_its_files(
    prompts: FewShotPrompts, tmp_path: Path
) -> None:
    made = evaluate(first_letter, "capitals", questions=20, prompts=prompts)
    assert made.value("capitals/own") == 1
    folder = tmp_path / "files"
    folder.mkdir()
    rows = [("none", "n"), ("true", "T"), ("שלום", "x"), ("tea", "t")]
    (folder / "some.csv").write_text("word,label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    read = evaluate(first_letter, f"capitals={folder},letters=count", questions=5, prompts=prompts,
                    against=lambda p: "", out=tmp_path / "out")  # fmt: skip
    assert read.value("capitals/some") == 0.75
    assert read.value("capitals/some", metric="exact_match_corrected") == pytest.approx(2 / 3)


CUTE = ROOT / "tests" / "data" / "formats" / "cute"


def goes_on(prompt: str) -> str:
    """Answer a question of CUTE, then go on with an example, as models without a template do."""
    task = prompt.partition(".")[0]
    given = prompt.rsplit("Question:", 1)[1].split('"')[1::2]
    answer = " ".join(given[0]) if task == "Letters apart" else "Yes"
    return f'{answer}"\n\n5. Apart: "dog". Answer: "d o g"\n\n6. Apart: "'


def test_cutes_answer_ends_at_its_quote_without_a_chat_template() -> None:
    done = evaluate(goes_on, f"cute={CUTE}")
    assert done.value("cute/spell") == 1.0
    assert done.value("cute/contains_char") == pytest.approx(2 / 3)
    # with a chat template the last answer of the text counts, as in the authors' program
    exam = next(exam for exam in done.eval_sets if exam.task.name == "cute/spell")
    assert not exam.task.is_right(goes_on(exam.items[0].prompt), exam.items[0])
    assert exam.prompt_format.as_dict() == {
        "chat": True, "system": "", "opening": ' Answer: "', "room": 100, "stop": ""
    }  # fmt: skip


def test_some_tasks_and_some_items_of_a_benchmarks_own_files(prompts: FewShotPrompts) -> None:
    def names(suite: str, n: int = 3) -> list[str]:
        return [
            exam.task.name for exam in evaluate(str, suite, questions=n, prompts=prompts).eval_sets
        ]

    assert names(f"cute={CUTE}:spell+orth") == ["cute/spell", "cute/orth"]
    assert names(f"cute@paper={CUTE}:spell") == ["cute@paper/spell"]
    assert names("cute:spell_rand") == ["cute-like/spell_rand"]
    assert len(names(f"cute={CUTE}:spell,cute@paper={CUTE}:spell")) == 2
    kept = []
    for n in (1, 2, 3, 99, None):
        done = evaluate(str, f"cute={CUTE}:spell", questions=n, seed=5)
        kept.append([item.key for item in done.eval_sets[0].items])
    assert [len(keys) for keys in kept] == [1, 2, 3, 4, 4]
    for fewer, more in pairwise(kept):  # in their order, and a larger sample holds a smaller one
        assert [key for key in more if key in fewer] == fewer
    other = [evaluate(str, f"cute={CUTE}:spell", questions=1, seed=seed) for seed in range(9)]
    assert len({done.eval_sets[0].items[0].key for done in other}) > 1


BAD: list[tuple[str, str]] = [
    ("", "letters, capitals"),
    ("cutee", "'cutee' letters, capitals"),
    ("letters=revers", "'revers' reverse,"),
    ("capitals=", "'capitals=' '='"),
    ("capitals=NOWHERE", "NOWHERE capitals"),
    ("capitals=hf:", "'hf:' cute=hf:NAME"),
    ("capitals=hf:NOWHERE", "'NOWHERE'"),
    ("letters,letters=count", "count"),
    ("capitals:small", "'small' own"),
    ("capitals@loud", "'loud' capitals"),
]


@pytest.mark.usefixtures("capitals")
@pytest.mark.parametrize(("suite", "message"), BAD)
def test_what_cannot_be_asked_is_refused_before_anything_is(
    suite: str, message: str, prompts: FewShotPrompts, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with raises((BadInput, TaskError), message):
        evaluate(_never, suite, questions=2, prompts=prompts, out=out)
    assert not out.exists()


def _never(prompt: str) -> str:
    raise AssertionError(prompt)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["NOWHERE", "--suite", "cutee"], "cutee"),
        (["NOWHERE"], "NOWHERE"),
        (["EMPTY"], "config.json"),
        (
            ["NOWHERE", "--arm", "lstm"],
            "NOWHERE --arm",
        ),
        (["NOWHERE", "--questions", "0"], "--questions 0 1"),
        (["NOWHERE", "--shots", "-1"], "--shots -1 0"),
    ],
)
def test_the_command_says_in_a_sentence_what_it_cannot_do(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    assert main(flags) == 2
    told = capsys.readouterr()
    says(" ".join(told.err.split()), message)
    assert "Traceback" not in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["EMPTY"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda prompts: [""], "4 1"),
        (lambda prompts: [7] * len(prompts), "7"),
    ],
)
def test_a_function_that_returns_something_else_is_told_so(
    write: Callable[[Any], Any], message: str, prompts: FewShotPrompts
) -> None:
    with raises(BadInput, message):
        evaluate(write, "letters=count", questions=1, prompts=prompts, batched=True)


def test_a_stop_ends_an_answer_wherever_it_stands() -> None:
    assert cut(' abc" x', '"') == " abc"
    assert cut(" abc", "") == " abc"
    assert cut("\n 3", "\n") == ""


# The page


def test_the_page_can_be_read_on_a_phone_and_on_a_screen(
    browser: Any, prompts: FewShotPrompts, tmp_path: Path
) -> None:
    evaluate(
        oracle, TASKS, against=lambda p: " 1", questions=12, prompts=prompts, out=tmp_path / "out"
    )
    for width in (400, 1200):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "out" / "report.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = page.evaluate(
            "[...document.querySelectorAll('td, dd, dt')].filter(e => e.getBoundingClientRect().right > "
            "document.querySelector('h2').getBoundingClientRect().right + 1).map(e => e.textContent)"
        )
        assert beyond == []
        page.close()


def test_names_stand_whole_in_a_narrow_terminal() -> None:
    rows = [Row("it", 0, "charbench-like/count_unique_chars", "all", m, 0.5, 0.4, 0.6, 9, 0.3)
            for m in ("exact_match", "unreadable")]  # fmt: skip
    console = Console(width=60, record=True, file=io.StringIO())
    print_scores(console, "it", "", rows)
    parts = console.export_text().split("(part ")[1:]  # each repeats the names
    for part in parts:
        column = [line.split("│")[1].strip() for line in part.splitlines() if "│" in line]
        assert "".join(column) == "charbench-like/count_unique_chars"
    assert parts


def test_the_letter_tasks_of_reasoning_gym_are_asked_with_their_own_score(
    prompts: FewShotPrompts, tmp_path: Path
) -> None:
    """Exact match beside the package's score, and a note that says which items were asked."""

    def backwards(prompt: str) -> str:
        word = prompt.split()[1]
        return f"I think <answer>{word[::-1]}{'x' * (len(word) == 5)}</answer>"

    suite = "reasoning_gym=like:spell_backward,strawberry_bench:easy"
    done = evaluate(backwards, suite, questions=30, prompts=prompts, out=tmp_path / "out")
    name = "reasoning_gym-like/spell_backward"
    (task, other) = (one.task.name for one in done.eval_sets)
    assert (task, other) == (name, "strawberry_bench-like/easy")
    right = [item for item in done.eval_sets[0].items if len(item.answer.strip()) != 5]
    assert 0 < len(right) < 30
    assert done.value(name) == len(right) / 30
    assert done.value(name, metric="own_score") > done.value(name)
    assert "own score" in (tmp_path / "out" / "report.html").read_text("utf-8")
    with raises(TaskError, "reasoning-gym pip") if not_installed() else nullcontext():
        evaluate(backwards, "reasoning_gym:spell_backward", questions=2, prompts=prompts)


def not_installed() -> bool:
    return find_spec("reasoning_gym") is None
