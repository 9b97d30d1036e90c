"""python -m synthetic_tasks: its output, and the table in the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from synthetic_tasks import TASKS, WORD_TASKS
from synthetic_tasks.__main__ import NUM_DRAWS, main, split_sample, table
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.words import usable_words
from tests.conftest import ROOT
from tests.messages import says


def shown(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(flags) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out


def test_it_needs_nothing_but_python() -> None:
    command = [sys.executable, "-S", "-m", "synthetic_tasks", "contains", "--form", "worked"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\ncontains ") == 10


def test_all_tasks_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys).splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
    assert all(len(line) < 120 for line in lines)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_shown_with_ten_items_and_its_baselines(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, task)
    about, axes, answers, guesses, splits, empty, *items = text.splitlines()
    assert about.startswith(f"{task}:")
    assert ": " in axes
    assert re.search(": .+ [0-9]+ %", answers)
    assert ("copying the word 0" in guesses or "copying the word 1" in guesses) == (
        task in WORD_TASKS
    )
    assert re.search(r" [01]\.[0-9]{2}", guesses)
    assert splits.endswith(" seen")
    assert empty == ""
    assert len(set(items[:10])) == 10
    assert shown(capsys, task) == text, "the same flags show the same items"
    assert shown(capsys, task, "--seed", "1") != text


def test_shares_of_answers_are_of_all_draws(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = re.findall("answers: (.*)", shown(capsys, "contains"))
    shares = list(map(int, re.findall("([0-9]+) %", line)))
    assert sum(shares) == 100
    assert all(abs(share - 50) < 6 for share in shares), (shares, NUM_DRAWS)


def test_splits_forms_and_wordings_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(
        capsys, "index", "--split", "longer_words", "--form", "counted", "--wording", "sentences"
    )
    assert " longer_words\n" in text
    assert len(re.findall("[a-z]0 [a-z]1 ", text)) >= 5
    assert "\\n" in text
    text = shown(capsys, "count", "--word-forms", "mixed", "--seed", "3")
    assert not "".join(text.splitlines()[6:16]).isascii() or re.search("count [A-Z0-9]", text)


def test_words_of_a_file_are_taken_and_what_is_left_out_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text(
        "tea\n\ncafé\nte\0a\nשלום\n" + "a" * 10_000 + "\ntea\n🍓🍓🍓\ncocoa\n"
    )
    text = shown(capsys, "reverse", "--words", str(tmp_path / "words.txt"))
    says(text, "2 9")
    for reason in (
        "1 empty",
        "1 twice",
        "1 with control characters",
        "1 from right to left",
        "1 longer than 13",
    ):
        assert reason in text
    (tmp_path / "words.txt").write_text("\n".join(SAMPLE_WORDS))
    text = shown(capsys, "reverse", "--words", str(tmp_path / "words.txt"))
    assert text.count(f"{len(SAMPLE_WORDS)} ") >= 2
    assert "Left out" not in text


def test_what_cannot_be_shown_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin1"))
    (tmp_path / "empty.txt").write_text("")
    for flags, message in (
        (["anagram"], "anagram"),
        (
            ["reverse", "--split", "new"],
            "new unseen_words",
        ),
        (
            ["path_star", "--split", "unseen_words"],
            "path_star:2x5 unseen_words",
        ),
        (
            ["reverse", "--form", "loud"],
            "form loud plain",
        ),
        (
            ["reverse", "--word-forms", "x"],
            "'x' lower mixed",
        ),
        (
            ["reverse", "--words", str(tmp_path)],
            "directory",
        ),
        (
            ["reverse", "--words", "nowhere.txt"],
            "nowhere.txt",
        ),
        (["reverse", "--words", "no\0where"], "null byte"),
        (["reverse", "--words", str(tmp_path / "latin.txt")], "UTF-8 3 0xe9"),
        (
            ["reverse", "--words", str(tmp_path / "empty.txt")],
            "0 words",
        ),
    ):
        assert main(flags) == 2
        captured = capsys.readouterr()
        says(captured.err, message)
        assert captured.err.count("\n") == 1
        assert not captured.out


def test_the_words_that_come_with_the_tasks_can_all_be_asked_about() -> None:
    assert usable_words(SAMPLE_WORDS, 3, 13) == list(SAMPLE_WORDS)
    assert split_sample(SAMPLE_WORDS).held_out


def test_the_table_of_the_documentation_is_the_one_of_the_code() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    (found,) = re.findall("<!-- table -->\n(.*?)\n<!-- end of table -->", text, re.DOTALL)
    assert found == table(split_sample(SAMPLE_WORDS)), (
        "write it anew: python -m synthetic_tasks --table"
    )
