"""The studies `text` and `parent`: planted differences, equivalence, and tiny runs from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.messages import says
from training.intervals import Row
from training.study import __main__ as study
from training.study.contrasts import NOT_SHOWN
from training.study.findings import Measured
from training.study.parent import RECORDED, parent
from training.study.studies import STUDIES
from training.study.texts import ALL, METRIC, TASK, texts

SEEDS = (0, 1, 2)


def measured(
    arm: str, seed: int, mean: float, task: str = TASK, split: str = ALL, metric: str = METRIC,
    at: dict[str, Any] | None = None,
) -> Measured:  # fmt: skip
    """A hundred values of an arm and a seed, each of which the other arms have too."""
    shared = np.random.default_rng(0).normal(0, 0.5, 100)
    own = np.random.default_rng([seed, *map(ord, arm)]).normal(0, 0.004, 100)
    each = (mean + shared - shared.mean() + own).tolist()
    row = Row(arm, seed, task, split, metric, float(np.mean(each)), None, None, 100, None)
    return Measured(at or {"passes": 1.0, "vocabulary": 512}, row, each)


def test_a_planted_gain_on_text_is_found_and_named() -> None:
    means = {"plain": 3.0, "matched": 3.001, "shuffled": 3.1, "lstm": 2.95}
    found = texts([measured(arm, seed, mean) for arm, mean in means.items() for seed in SEEDS])
    by_name = {row["arm"]: row for row in found.rows}
    assert by_name["lstm - plain"]["value"] == pytest.approx(-0.05, abs=0.005)
    assert by_name["lstm - plain"]["high"] < 0
    assert {row["verdict"] for row in found.rows} == {"helps"}
    says(found.headline, "1 plain matched shuffled helps")


def test_a_loss_that_is_larger_hurts_and_an_equal_one_is_within_the_margin() -> None:
    means = {"plain": 3.0, "matched": 3.0, "shuffled": 2.9, "lstm": 3.0}
    found = texts([measured(arm, seed, mean) for arm, mean in means.items() for seed in SEEDS])
    by_name = {row["arm"]: row["verdict"] for row in found.rows}
    assert by_name["lstm - shuffled"] == "hurts"
    says(by_name["lstm - plain"], "no difference 0.01 nats")


def test_one_seed_has_no_interval_of_a_bin() -> None:
    rows = [measured(arm, 0, 3.0, split="10 to 99 times") for arm in ("plain", "lstm")]
    rows = [Measured(at, row, each[:1]) for at, row, each in rows]
    (row,) = texts(rows).rows
    assert row["low"] is None
    assert row["verdict"] == NOT_SHOWN


@pytest.mark.parametrize(
    ("task", "metric", "difference", "expected"),
    [
        ("text, after pretraining", METRIC, 0.0, "no difference 0.01 nats"),
        # within the margin of the later phases, and not of pretraining
        ("text, after fine-tuning", METRIC, 0.015, "hurts"),
        ("questions, tasks alone", "nats_of_questions", 0.0, "no difference 0.02 nats"),
        ("reverse", "right", 0.0, "no difference 5 points"),
        ("reverse", "right", 0.3, "helps"),
        ("reverse", "right", -0.3, "hurts"),
    ],
)
def test_the_parents_differences_have_margins_of_their_own(
    task: str, metric: str, difference: float, expected: str
) -> None:
    rows = [
        measured(arm, seed, mean, task, "all", metric)
        for arm, mean in (("matched", 0.5), ("lstm", 0.5 + difference))
        for seed in SEEDS
    ]
    found = parent(rows)
    (row,) = found.rows
    says(row["verdict"], expected)
    (line,) = found.lines
    recorded = RECORDED.get(task)
    assert line[2:4] == ([f"{value:g}" for value in recorded] if recorded else ["", ""])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("text", {TASK}),
        ("parent", {*RECORDED, "reverse", "count", "index", "swap"}),
    ],
)
def test_a_tiny_run_has_every_row_and_goes_on(
    name: str, tasks: set[str], cache: Path, tmp_path: Path
) -> None:
    flags = [name, "--size", "tiny", "--quiet", "--cpu", "--jobs", "1"]
    flags += ["--out", str(tmp_path / name), "--cache", str(cache)]
    assert study.main([*flags, "--seeds", "1"]) == 0
    assert study.main([*flags, "--resume"]) == 0
    rows = json.loads((tmp_path / name / "results.json").read_text())
    judged = [row for row in rows if "verdict" in row]
    assert {row.get("task", TASK) for row in judged} == tasks
    page = (tmp_path / name / "report.html").read_text()
    assert all(row["verdict"].removesuffix(" nats per token") in page for row in judged)


def test_the_parent_study_is_the_preset_with_its_steps() -> None:
    (whole,), (tenth,) = (STUDIES["parent"].points(size) for size in ("published", "small"))
    assert [phase.steps for phase in whole.config.phases] == [0, 15_000, 12_000, 74_000]
    assert [phase.steps for phase in tenth.config.phases] == [0, 1500, 1200, 7400]
    assert whole.config.arms == ("matched", "lstm")
    assert whole.config.seeds == 3
