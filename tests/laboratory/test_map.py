"""The map: its grid, cells that fail, its estimate, its table, its verdicts and its page."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.permuted_map import exchanged, held, program
from tests.laboratory.runs import losses
from tests.messages import raises, says
from training.ask.added_tokens import WAYS
from training.data.prepare import Data
from training.errors import BadInput
from training.intervals import Row, share_row
from training.run.folder import read_facts
from training.run.machine import Machine
from training.run.run import ArmRun, Run
from training.study import __main__ as study
from training.study import estimate
from training.study.added import ADDED
from training.study.estimate import TIMES, Estimate, in_words, read_times
from training.study.map_answers import answers
from training.study.map_rows import HELPS, HURTS, NOT_SHOWN, Vocabulary, judged, verdict
from training.study.studies import STUDIES
from training.train.loop import NotFinite

MAP = STUDIES["map"]
FLAGS = ["map", "--size", "tiny", "--quiet", "--cpu"]


def test_each_vocabulary_is_a_run_with_its_own_seeds_and_arms() -> None:
    by_name = {point.name: point for point in MAP.points("published")}
    seeds = {name: point.config.seeds for name, point in by_name.items()}
    assert seeds == {"v512": 5, "v4096": 5, "aa-v4096": 5, "v32768": 3}
    for name, point in by_name.items():
        assert point.config.data.vocab_size == point.at["vocabulary"] == int(name.split("v")[1])
    assert by_name["aa-v4096"].config.arms == ("again",)
    assert {"plain", "matched", "shuffled", "lstm"} < set(by_name["v32768"].config.arms)
    assert {point.config.seeds for point in MAP.points("published", 2)} == {2}


@pytest.fixture(scope="module")
def mapped(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny map."""
    out = tmp_path_factory.mktemp("maps") / "map"
    assert study.main([*FLAGS, "--jobs", "1", "--out", str(out), "--cache", str(cache)]) == 0
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_map_is_a_folder_of_ordinary_runs_with_one_table(mapped: Path, cache: Path) -> None:
    rows = read(mapped / "map.csv")
    for point in MAP.points("tiny"):
        run = Run.open(mapped / point.name, cache)
        assert run.config == point.config
        assert (run.folder / "report.html").exists()
        command = read_facts(run.folder)["begun"][0]["command"]
        assert command == "python -m training.study map --size tiny"
        for arm in run.arms():
            own = [
                r
                for r in rows
                if (r["point"], r["arm"], r["seed"]) == (point.name, arm.name, str(arm.seed))
            ]
            assert {r["config"] for r in own} == {arm.identity}
            kept = {(r["task"], r["split"], r["metric"]): float(r["value"]) for r in own}
            for row in arm.rows():
                assert kept[row.task, row.split, row.metric] == pytest.approx(row.value)
            added = {r["split"] for r in own} & set(WAYS)
            assert added == set(WAYS), "each cell is asked about tokens added after training"
    page = (mapped / "report.html").read_text()
    assert "<script" not in page
    assert "cells failed" not in page
    assert all(f'href="{point.name}/report.html"' in page for point in MAP.points("tiny"))


@pytest.mark.slow
def test_the_differences_name_their_control_and_an_a_a_cell_shows_nothing(mapped: Path) -> None:
    rows = read(mapped / "differences.csv")
    assert {row["arm"] for row in rows} == {"lstm", "again"}
    assert {row["control"] for row in rows if row["arm"] == "again"} == {"lstm"}
    assert {row["control"] for row in rows if row["arm"] == "lstm"} <= {"plain", "shuffled"}
    assert {row["verdict"] for row in rows if row["kind"] == "A/A"}.isdisjoint({HELPS, HURTS})
    assert {row["split"] for row in rows} >= {"unseen_tokens", "added_tokens", "all"}
    assert "in_pieces" not in {row["split"] for row in rows}, "a reference is not judged"


@pytest.mark.slow
def test_the_time_is_estimated_before_and_stored_after(
    mapped: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (start,) = json.loads((mapped / "times.json").read_text())
    assert (start["cells"], start["jobs"]) == (8, 1)
    assert set(start["seconds_of_a_cell"]) == {
        "v512 plain", "v512 shuffled", "v512 lstm", "aa-v512 again",
    }  # fmt: skip
    assert start["seconds"] > 0 < start["estimated_seconds"]
    again = [*FLAGS, "--out", str(mapped), "--cache", str(cache), "--resume"]
    assert study.main(again) == 0
    assert "stimated" not in capsys.readouterr().out, "nothing is left to train"
    assert len(json.loads((mapped / "times.json").read_text())) == 1


def test_an_arm_whose_steps_fail_is_left_out_of_the_estimate(
    data: Data, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = Run(tmp_path, data, "v512")
    timed = estimate.timed_steps

    def breaks(arm: ArmRun, machine: Machine) -> list[float]:
        if arm.name == "lstm":
            raise NotFinite("the pretrain loss is nan")
        return timed(arm, machine, 2)

    monkeypatch.setattr(estimate, "timed_steps", breaks)
    found = estimate.estimate(run.arms(), Machine(cache=cache, cpu=True, jobs=1))
    assert set(found.each) == {"v512 plain"}
    assert found.seconds > 0
    says(found, "1 cell v512 lstm")
    says(capsys.readouterr().err, "v512 lstm nan")
    assert not list(tmp_path.iterdir()), "the folder of the run is left as it is"


def test_an_estimate_states_hours_and_cells() -> None:
    assert (
        str(Estimate({"v512 lstm": 270.0}, 100, 2, 27_000))
        == "7.5 hours for 100 cells, 2 at a time"
    )
    assert in_words([{"seconds": 7200, "estimated_seconds": 60}]) == (
        "The runs took 2.0 hours; the estimate before them was 1 minute."
    )


def test_the_time_of_a_study_that_went_on_is_compared_with_the_estimate_of_all_cells() -> None:
    first, second = (
        {"seconds": 7200, "estimated_seconds": 18_000},
        {"seconds": 10_800, "estimated_seconds": 10_000},
    )
    says(in_words([first, second]), "5.0 hours 2 starts 5.0 hours")
    assert "2.8 hours" not in in_words([first, second])
    # the time of a killed start is unknown
    killed = {"seconds": None, "estimated_seconds": 20_000}
    says(in_words([killed, second]), "3.0 hours 5.6 hours 1 start killed")
    assert in_words([killed]) == ""


def test_a_killed_study_keeps_its_estimate(tmp_path: Path) -> None:
    found = Estimate({"v512 lstm": 270.0}, 5, 2, 675.0)
    estimate.Clock(tmp_path / "map", found, "2026-01-01 00:00 UTC")  # and no write at its end
    later = estimate.Clock(tmp_path / "map", found._replace(seconds=300.0), "2026-01-01 01:00 UTC")
    later.write()
    first, second = read_times(tmp_path / "map")
    assert (first["seconds"], first["estimated_seconds"]) == (None, 675.0)
    assert second["seconds"] is not None
    says(in_words([first, second]), "11 minutes 1 killed")


@pytest.mark.parametrize("content", ["{", "[1]", "{}\n", '[{"seconds": 1}]'])
def test_damaged_times_are_left_out(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / TIMES).write_text(content)
    assert read_times(tmp_path) == []
    # an object without members is read as no starts
    assert TIMES in capsys.readouterr().err or content == "{}\n"


@pytest.mark.slow
def test_the_ways_out_of_damaged_files_of_a_finished_map(
    mapped: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FLAGS, "--out", str(mapped), "--cache", str(cache), "--resume"]
    record, table = mapped / "study.json", (mapped / "map.csv").read_text()
    kept, times = record.read_text(), (mapped / TIMES).read_text()
    record.write_text("{}")
    assert study.main(flags) == 2
    says(capsys.readouterr().err, "study.json delete --resume")
    record.unlink()
    (mapped / TIMES).write_text("{")
    assert study.main(flags) == 0
    assert record.read_text() == kept
    assert (mapped / "map.csv").read_text() == table
    (mapped / TIMES).write_text(times)
    # the arms stay beside their values, in however many parts the table is printed
    assert capsys.readouterr().out.count("shuffled") > 1


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cell_that_fails_is_on_the_page_and_stops_no_other(
    jobs: str, mapped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is in the place of the cell's folder; without it the cell is trained."""
    out = tmp_path / "map"
    flags = [*FLAGS, "--seeds", "1", "--jobs", jobs, "--cache", str(cache), "--out", str(out)]
    blocked = out / "v512" / "seed0" / "shuffled"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    assert study.main([*flags, "--resume"]) == 1
    says(capsys.readouterr().err, "1 v512 seed 0 shuffled --resume")
    done = {path.parent.name for path in out.rglob("done.json")}
    assert done == {"plain", "lstm", "again"}
    says((out / "report.html").read_text(), "1 cell failed v512 shuffled --resume")
    assert {row["arm"] for row in read(out / "map.csv")} == done
    command = read_facts(out / "v512")["begun"][-1]["command"]
    assert command == "python -m training.study map --size tiny --seeds 1"
    blocked.unlink()
    assert study.main([*flags, "--resume"]) == 0
    assert "cell failed" not in (out / "report.html").read_text()
    # the same losses, whether steps were timed in the process of the cells or in another one
    assert losses(out / "v512") == [row for row in losses(mapped / "v512") if row[1] == 0]


@pytest.mark.slow
def test_a_damaged_score_of_added_tokens_is_measured_again(mapped: Path, cache: Path) -> None:
    path = mapped / "v512" / "seed0" / "lstm" / ADDED
    before = path.read_text()
    path.write_text(before.replace("true", "false", 1))
    flags = [*FLAGS, "--out", str(mapped), "--cache", str(cache), "--resume"]
    assert study.main(flags) == 0
    assert path.read_text() == before


# Verdicts


def row(value: float, low: float, high: float, p_holm: float, metric: str, task: str = "") -> Row:
    return Row(
        "lstm - plain", "mean", task, "all", metric, value, low, high, 9, None, 0.001, p_holm
    )


ANSWERS, NATS = "exact_match_difference", "loss_nats_difference"


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (row(0.2, 0.1, 0.3, 0.01, ANSWERS), HELPS),
        (row(-0.2, -0.3, -0.1, 0.01, ANSWERS), HURTS),
        (row(-0.2, -0.3, -0.1, 0.01, NATS), HELPS),
        (row(0.2, 0.1, 0.3, 0.06, ANSWERS), NOT_SHOWN),
        (row(0.0, -0.04, 0.04, 1.0, ANSWERS), "no difference larger than 0.05"),
        (row(0.0, -0.04, 0.06, 1.0, ANSWERS), NOT_SHOWN),
        (row(0.0, -0.015, 0.015, 1.0, NATS, "text, after pretraining"), NOT_SHOWN),
        (
            row(0.0, -0.009, 0.009, 1.0, NATS, "text, after pretraining"),
            "no difference larger than 0.01 nats",
        ),
        (
            row(0.0, -0.015, 0.015, 1.0, NATS, "text, after fine-tuning"),
            "no difference larger than 0.02 nats",
        ),
    ],
)
def test_a_verdict_needs_the_correction_or_an_interval_within_the_margin(
    one: Row, expected: str
) -> None:
    assert verdict(one, 5) == expected
    assert verdict(one, 1) == NOT_SHOWN, "one seed says nothing about arms"


def planted(
    data: Data, rng: np.random.Generator, gain: float, arms: tuple[str, ...], seeds: int = 5
) -> Vocabulary:
    """A vocabulary with drawn scores and losses, in which the last arm is better by `gain`."""
    one = Vocabulary(data.config.data.vocab_size, data, arms=list(arms))
    one.hashes = {(arm, seed): "" for arm in arms for seed in range(seeds)}
    for task in data.tasks:
        for split in task.splits:
            easy = rng.uniform(0.2, 0.6)
            for place, arm in enumerate(arms):
                for seed in range(seeds):
                    chance = easy + gain * (place == len(arms) - 1) + rng.normal(0, 0.03)
                    right = (rng.random(100) < chance).tolist()
                    one.marks[arm, seed, task.name, split.name] = right
                    cell = (arm, seed, task.name, split.name, "exact_match")
                    one.rows.append(share_row(*cell, sum(right), 100, 0.1))
    for arm in arms:
        for seed in range(seeds):
            windows = (5 + rng.normal(0, 0.05, 8)).tolist()
            task_name = "text, after pretraining"
            one.windows[arm, seed, task_name] = windows
            mean = float(np.mean(windows))
            one.rows.append(
                Row(arm, seed, task_name, "all", "loss_nats", mean, None, None, 8, None)
            )
    return one


def test_a_planted_gain_is_found_and_answered(data: Data) -> None:
    arms = ("plain", "matched", "shuffled", "lstm")
    one = planted(data, np.random.default_rng(0), 0.35, arms)
    found = judged([one])
    assert all(each.verdict == HELPS for each in found if each.row.metric == ANSWERS)
    said = answers([one], found)
    for each in said:
        text = str(each)
        assert ("helps" in text) <= any(d.verdict == HELPS for d in found)
    says(said[1], "512 tokens helps unseen reverse")
    says(said[2], "16 matched shuffled")
    none = planted(data, np.random.default_rng(1), 0.0, arms)
    quiet = answers([none], judged([none]))
    assert not any(re.search(r"\b(helps|hurts) on\b", str(each)) for each in quiet)


@pytest.mark.slow
def test_labels_exchanged_at_random_yield_no_verdict_but_by_chance(data: Data) -> None:
    """A real gain, whose labels are exchanged within each seed: at most 5 % of the maps, and 3
    standard errors, have any verdict."""
    rng, maps = np.random.default_rng(2), 60
    arms = ("plain", "matched", "shuffled", "lstm")
    whole = planted(data, rng, 0.3, arms)
    assert held(judged([whole])) > 0
    wrong = sum(held(judged([exchanged(whole, rng)])) > 0 for _ in range(maps))
    assert wrong / maps <= 0.05 + 3 * (0.05 * 0.95 / maps) ** 0.5


@pytest.mark.slow
def test_a_finished_map_is_judged_under_exchanged_labels(
    mapped: Path, cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert program([str(mapped), "--rounds", "3", "--cache", str(cache)]) == 0
    says(capsys.readouterr().out, "0 3 rounds")
    with raises(BadInput, f"{tmp_path} study"):
        program([str(tmp_path)])


def test_a_cell_that_lacks_a_seed_is_compared_on_the_others(data: Data) -> None:
    arms = ("plain", "shuffled", "lstm")
    one = planted(data, np.random.default_rng(3), 0.3, arms)
    del one.hashes["shuffled", 4]
    one.rows = [r for r in one.rows if (r.arm, r.seed) != ("shuffled", 4)]
    found = judged([one])
    assert {each.seeds for each in found} == {4}
    assert found
