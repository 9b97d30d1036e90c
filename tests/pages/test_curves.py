"""The figures of the measurements during training, and of the text loss by token frequency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthetic_tasks import Material, build_task
from training.ask.run_evaluation import TextLosses
from training.config.presets import preset
from training.data.prepare import Data
from training.report.curves import by_frequency, during_training
from training.report.report import setting, write_report
from training.report.results import Results
from training.run.arm import train_arm
from training.run.machine import Machine
from training.run.run import Run

PHASES = preset("quick").phases
TASK = [build_task("reverse", Material()), build_task("count", Material())]


def measured_rows(arms: Sequence[str], seeds: int, steps: Sequence[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm in arms:
        for seed in range(seeds):
            for step in steps:
                at = {"arm": arm, "seed": seed, "step": step}
                text = {"task": "text", "split": "all", "metric": "loss_nats", "n": 2048}
                rows += [
                    {**at, "phase": phase, **text, "value": 6 - step / 100 - seed / 10}
                    for phase in ("pretrain", "finetune")
                ]
                rows += [
                    {
                        **at, "phase": "finetune", "task": task.name, "split": split.name, "n": 12,
                        "metric": "exact_match", "value": (step / 400 + seed / 4) / (number + 1),
                    }
                    for number, task in enumerate(TASK)
                    for split in task.splits
                ]  # fmt: skip
    return rows


def test_each_phase_has_its_figures_with_the_last_value_of_each_arm() -> None:
    rows = measured_rows(["plain", "lstm"], 2, [100, 200])
    pretrain, finetune = during_training(rows, PHASES, TASK)
    assert (len(pretrain.plots), len(finetune.plots)) == (1, 1 + 4)
    assert (pretrain.questions, finetune.questions, finetune.tokens) == (0, 12, 2048)
    # two seeds: 4.0 and 3.9; the mean of (0.5 + 0, 0.5 + 0.25) over the tasks at 1 and 1 / 2
    assert "plain, step 200: 3.95." in pretrain.plots[0][1]
    assert "lstm, step 200: 47%." in finetune.plots[1][1]
    # the band of each arm reaches from the least to the largest seed
    assert len(re.findall("fill-opacity: 0.2|opacity: 0.2", finetune.plots[1][1])) >= 2


def test_one_seed_has_no_band_and_seeds_without_a_common_step_have_a_line_each() -> None:
    one = measured_rows(["plain"], 1, [100, 200])
    (phase, *_) = during_training(one, PHASES, TASK)
    assert "opacity: 0.2" not in phase.plots[0][1]
    others = [row | {"seed": 1, "step": row["step"] + 50} for row in one]
    (phase, *_) = during_training([*one, *others], PHASES, TASK)
    assert "step 200" in phase.plots[0][1]
    assert "step 250" in phase.plots[0][1]


def test_nothing_measured_draws_nothing() -> None:
    assert not list(during_training([], PHASES, TASK))
    found = by_frequency({("plain", 0): {}, ("lstm", 0): {}}, ["plain", "lstm"])
    assert not found.plots
    assert not found.table.lines


def test_losses_by_frequency_are_means_per_token_over_seeds() -> None:
    def losses(rare: float, often: float) -> TextLosses:
        bins = [(0, 9, rare, 2), (10, 99, 0.0, 0), (1000, None, often, 10)]
        return TextLosses([rare + often], 12, bins)

    task = "text, after pretraining"
    texts = {
        ("plain", 0): {task: losses(20.0, 30.0)},
        ("plain", 1): {task: losses(22.0, 31.0)},
        ("lstm", 0): {task: losses(16.0, 30.0)},
    }
    found = by_frequency(texts, ["plain", "lstm"])
    assert [line[1:] for line in found.table.lines] == [
        ["up to 9 times", "2", "10.500", "8.000"],
        ["1,000 times or more", "10", "3.050", "3.000"],
    ]
    ((caption, svg),) = found.plots
    assert caption == "Text, after pretraining"
    assert "plain 10.50, lstm 8.00" in svg


def test_the_page_of_a_run_has_both_and_that_of_an_older_run_has_none(
    data: Data, tmp_path: Path
) -> None:
    config = replace(data.config, arms=("plain", "lstm"), seeds=2)
    run = Run(tmp_path, replace(data, config=config))
    for arm in run.arms():
        train_arm(arm, Machine(cache=tmp_path, cpu=True, progress=False))
    facts = {
        "config": config.as_dict(), "data": data.facts,
        "machine": {"threads_per_arm": 1, "gpu": None, "cpu": "a processor", "cores": 2},
    }  # fmt: skip
    found = Results.of(run)
    pages = []
    for each in (found, found._replace(curves=(), texts={})):
        write_report(tmp_path, facts, setting(config, data), each)
        pages.append((tmp_path / "report.html").read_text())
    for title in ("During training", "By the frequency of the token", "tokens read per second"):
        assert title in pages[0]
    assert "During training" not in pages[1]
    assert "By the frequency of the token" not in pages[1]
    assert pages[0].count("<svg") - pages[1].count("<svg") == 1 + (1 + 4) + 2
    ids = re.findall(' id="([^"]+)"', pages[0])
    assert len(ids) == len(set(ids))
