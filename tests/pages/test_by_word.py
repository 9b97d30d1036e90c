"""Exact match by letters, tokens and rarest token of the word, from answers and a slow twin."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.messages import says
from tests.pages.made_up import built, page_of
from training.ask.eval_sets import make_eval_sets
from training.data.prepare import Data
from training.report.breakdowns import LEAST, breakdown, count_bin
from training.report.words import by_word

ARMS = ("plain", "lstm")


@pytest.fixture(scope="module")
def answers(data: Data) -> list[dict[str, Any]]:
    """Two seeds of two arms: lstm is right about words of an even number of letters."""
    lines = []
    for seed in (0, 1):
        for arm in ARMS:
            for one in make_eval_sets(data, seed):
                for item in one.items:
                    word = item.key.split(" ")[-1]
                    lines.append({
                        "arm": arm, "seed": seed, "task": one.task.name, "split": one.split,
                        "key": item.key, "prompt": item.prompt, "expected": item.answer.strip(),
                        "given": "?", "right": arm == "lstm" and len(word) % 2 == 0,
                    })  # fmt: skip
    return lines


def twin(answers: list[dict[str, Any]], data: Data) -> dict[tuple[str, ...], tuple[int, int]]:
    """Hits and questions by axis, task, bin and arm, one answer after another."""
    counts = Counter(data.train_ids.tolist())
    found: defaultdict[tuple[str, ...], list[bool]] = defaultdict(list)
    for one in answers:
        if one["split"] != "seen":
            word = one["key"].split(" ")[-1]
            tokens = data.tokenizer.encode(f" {word}")
            facts = {"word letters": str(len(word)), "word tokens": str(len(tokens))}
            facts["rarest token"] = count_bin(min(counts[token] for token in tokens)).name
            for axis, value in facts.items():
                found[axis, one["task"], value, one["arm"]].append(one["right"])
    return {cell: (sum(of), len(of)) for cell, of in found.items() if len(of) >= LEAST}


def test_the_shares_of_every_bin_are_those_of_a_slow_count(
    answers: list[dict[str, Any]], data: Data
) -> None:
    rows = breakdown(answers, data)
    shares = {
        (one.axis, one.row.task, one.bin.name, one.row.arm): (
            round(one.row.value * one.row.n),
            one.row.n,
        )
        for one in rows
    }
    expected = twin(answers, data)
    assert shares == expected
    assert len({axis for axis, *_ in shares}) == 3
    for one in rows:
        assert one.row.low is not None
        assert one.row.high is not None
        assert one.row.low <= one.row.value <= one.row.high
        assert one.row.majority


def test_an_old_run_without_keys_has_the_same_rows(
    answers: list[dict[str, Any]], data: Data
) -> None:
    old = [{name: value for name, value in one.items() if name != "key"} for one in answers]
    assert breakdown(old, data) == breakdown(answers, data)


def test_a_task_whose_questions_cannot_be_found_again_has_no_rows(
    answers: list[dict[str, Any]], data: Data
) -> None:
    old = [{name: value for name, value in one.items() if name != "key"} for one in answers]
    last = max(i for i, one in enumerate(old) if one["task"] == "swap")
    old[last] = old[last] | {"prompt": "swap two of another version:"}
    tasks = {one.row.task for one in breakdown(answers, data)}
    assert {one.row.task for one in breakdown(old, data)} == tasks - {"swap"}


def test_bins_of_counts_have_no_gaps_and_are_in_order() -> None:
    bins = [count_bin(count) for count in range(40_000)]
    for count, one in enumerate(bins):
        low, _, high = one.name.replace(",", "").partition(" to ")
        assert one.low == int(low) <= count <= int(high or low)
    assert bins == sorted(bins)
    shown = [count_bin(count) for count in (0, 2, 7, 12, 1234, 29_999)]
    assert [one.short for one in shown] == ["0", "1+", "3+", "10+", "1k+", "10k+"]


def test_all_arms_are_side_by_side_in_figures_and_tables(
    answers: list[dict[str, Any]], data: Data, tmp_path: Path
) -> None:
    rows = breakdown(answers, data)
    sections = by_word(rows, ARMS)
    for section in sections:
        assert section.table.headings[-2:] == ["plain", "lstm"]
        for task, svg in section.figures:
            assert f" of {task} by " in svg
            assert "plain 0 %, lstm " in svg, "the accessible label has both arms"
    page = page_of(tmp_path, ARMS, built("reverse"))
    assert "By word" not in page, "without rows there is no section"
    page = page_of(tmp_path, ARMS, built("reverse"), by_word=rows)
    for title in ("Letters of the word", "Tokens of the word", "rarest token"):
        says(page.split("<h2>By word</h2>")[1], title)
