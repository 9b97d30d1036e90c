"""The studies: their grids, their findings from planted rows, and a real tiny study."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from synthetic_tasks import Material, build_task, stream
from tests import warm
from tests.conftest import ROOT
from tests.messages import says
from training.config.presets import preset
from training.intervals import Row, read_rows, wilson
from training.run.folder import read_config
from training.run.run import Run
from training.study import __main__ as study
from training.study.findings import Findings, Measured
from training.study.points import Point
from training.study.run import page
from training.study.studies import STUDIES, study_named

RATES, MAP = "learning_rates", "map"

# learning_rates and the map have the tasks and arms of the main job
GRIDS = [
    (name, size)
    for name, one in STUDIES.items()
    for size in one.sizes
    # the text of these studies is no question
    if name not in (RATES, MAP, "lexical", "text", "parent")
]


@pytest.mark.parametrize(("name", "size"), GRIDS)
def test_every_point_has_a_name_a_place_and_room_for_its_questions(name: str, size: str) -> None:
    points = STUDIES[name].points(size, 2)
    assert len({point.name for point in points}) == len(points)
    for point in points:
        assert point.config.seeds == 2
        assert point.config.arms == ("plain",)
        room = point.config.phase("finetune").context
        for spec in point.config.data.tasks:
            task = build_task(spec, Material())
            for split in task.splits:
                for i in range(5):
                    text = task.draw(split.name, stream("room", i)).text
                    # each name, number and mark a token, one for the answer's space, and the end
                    assert len(re.findall(r"\w+|[^\w\s]", text)) + 2 <= room, (
                        point.name,
                        split.name,
                    )


def test_the_published_grid_of_counting_is_that_of_the_paper() -> None:
    points = STUDIES["counting"].points("published", 1)
    widths, symbols = ({point.at[axis] for point in points} for axis in ("d", "m"))
    assert (min(widths), max(widths), min(symbols), max(symbols)) == (8, 128, 5, 150)
    assert len(points) == len(widths) * len(symbols)
    for point in points:
        model, phase, m = point.config.model, point.config.phase("finetune"), int(point.at["m"])
        assert (model.layers, model.heads, model.width) == (2, 4, point.at["d"])
        assert point.config.data.tasks == (f"counting:{m}x{10 * m}",)
        assert (phase.optimizer, phase.lr, phase.batch_size, phase.steps) == (
            "adamw",
            1e-4,
            16,
            100_000,
        )
        assert point.config.evaluation.questions == 1600


# What planted rows say

Chance = Callable[[Point, str, str], float]  # of a point, task and split


def measured(points: Sequence[Point], metrics: dict[str, Chance], n: int = 1000) -> list[Measured]:
    """Return a row for each seed of each point, task, split and metric, with the planted share."""
    rows = []
    for point in points:
        for spec in point.config.data.tasks:
            task = build_task(spec, Material())
            for split in task.splits:
                for seed in point.config.seed_range:
                    for metric, chance in metrics.items():
                        hits = round(n * chance(point, task.name, split.name))
                        cell = ("plain", seed, task.name, split.name, metric)
                        rows.append(
                            Measured(point.at, Row(*cell, hits / n, *wilson(hits, n), n, 0.1))
                        )
    return rows


def check_pictures(findings: Findings, *texts: str) -> None:
    for picture in findings.pictures:
        ElementTree.fromstring(picture.svg)
        assert len(picture.caption) > 20
    for text in texts:
        assert any(f">{text}</text>" in picture.svg for picture in findings.pictures), text


def test_a_reader_that_has_gone_is_no_fault() -> None:
    """As with `python -m training.study --list | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "training.study", "--list"],
            cwd=ROOT,
            stdout=writing,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""


@pytest.mark.parametrize("seeds", [1, 3])
def test_planted_thresholds_of_counting_are_found_with_their_line(seeds: int) -> None:
    """Accuracy falls from 1 at m = d / 2 to 0.2 at m = 3 d / 2: it passes 0.8 at m = 0.75 d."""
    one = study_named("counting")
    points = [
        Point(f"d{d}-m{m}", {"d": d, "m": m}, point.config)
        for point in one.points("tiny", seeds)[:1]
        for d in (4, 8, 16, 128)
        for m in range(2, 40)
    ]

    def chance(point: Point, task: str, split: str) -> float:
        d, m = int(point.at["d"]), int(point.at["m"])
        return min(1.0, max(0.2, 1 - 0.8 * (m / d - 0.5))) if split == "fresh" else 0.0

    findings = one.findings(measured(points, {"exact_match": chance}))
    assert [line[0] for line in findings.lines] == ["d = 4", "d = 8", "d = 16", "d = 128"]
    assert [line[-1] for line in findings.lines] == ["3.0", "6.0", "12.0", "above 39"]
    told = {row["metric"]: row for row in findings.rows}
    assert told["m_thr_slope"]["value"] == pytest.approx(0.75, abs=0.01)
    assert sum(row["metric"] == "m_thr" for row in findings.rows) == 4 * seeds
    assert ("train several" in " ".join(findings.sentences)) == (seeds == 1)
    assert "that width is left out of the line" in " ".join(findings.sentences)
    assert "3.0 at width 4, 6.0 at width 8" in findings.headline
    check_pictures(
        findings, "d = 4", "d = 128", "80 %", "m_thr = 0.0 + 0.75 d", "different symbols m"
    )


@pytest.mark.parametrize(
    ("slopes", "verdict"),
    [
        (
            (1.0, 2.0, 1.5),
            "grows with its width: by 1.50 for each unit (3 seeds, 95 % interval 0.26 to 2.74)",
        ),
        ((1.0, 0.0, -1.0), "is not shown to grow with its width"),
    ],
)
def test_the_headline_says_whether_thresholds_grow_over_seeds(
    slopes: tuple[float, ...], verdict: str
) -> None:
    """Accuracy falls from 1 to 0 within a symbol of 20 + slope (d - 4)."""
    cell = ("counting", "fresh", "exact_match")
    rows = [
        Measured(
            {"d": d, "m": m},
            Row("plain", seed, *cell, float(m < 20 + slope * (d - 4)), 0, 1, 9, 0.1),
        )
        for seed, slope in enumerate(slopes)
        for d in (4, 8, 12)
        for m in range(2, 50)
    ]
    assert verdict in study_named("counting").findings(rows).headline


def test_a_study_without_any_threshold_still_has_its_page() -> None:
    one = study_named("counting_mfc")
    points = one.points("tiny", 1)
    findings = one.findings(measured(points, {"exact_match": lambda *_: 0.3}))
    assert {line[-1] for line in findings.lines} == {"below 2"}
    assert "too few thresholds for a line" in " ".join(findings.sentences)
    assert "below 2" in page(one, "tiny", points, findings)


def test_first_steps_stand_against_guessing() -> None:
    one = study_named("path_star")
    points = one.points("tiny", 2)

    def solved(point: Point, task: str, split: str) -> float:
        return 1.0 if point.at["objective"] == "reversed" else 1 / int(point.at["d"])

    findings = one.findings(measured(points, {"exact_match": solved, "first_step": solved}))
    shares = {(line[0], line[1]): (line[2], line[3][:4], line[4][:4]) for line in findings.lines}
    assert shares["3 arms", "next_token"] == ("0.33", "0.33", "0.33")
    assert shares["2 arms", "reversed"] == ("0.50", "1.00", "1.00")
    assert "next_token 50 % with 2 arms" in findings.headline
    check_pictures(findings, "next_token", "teacherless", "guessing, 1/d", "arms d")


def test_errors_of_functions_fall_with_examples_inside_the_mixture_alone() -> None:
    one = study_named("functions")
    points = one.points("tiny", 1)

    def right(point: Point, task: str, split: str) -> float:
        return (0.9 if "functions:1" in task else 0.2) if split in ("seen", "fresh") else 0.05

    marks: dict[str, Chance] = {"exact_match": right, "of_the_mixture": lambda *_: 0.6}
    findings = one.findings(measured(points, marks))
    inside, *outside = findings.lines
    assert [cell[:4] for cell in inside] == ["insi", "0.20", "0.90", "0.60"]
    assert [line[0] for line in outside] == ["held-out family", "two composed", "longer strings"]
    assert all(cell[:4] == "0.05" for line in outside for cell in line[1:3])
    assert "With 1 example a model applies 90 %" in findings.headline
    check_pictures(findings, "inside the mixture", "held-out family", "examples k")


# The command


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "counting path_star"),
        (
            ["countng"],
            "countng counting path_star",
        ),
        (
            ["counting", "--size", "big"],
            "big tiny small published",
        ),
        (["counting", "--seeds", "0"], "seeds 0 1"),
        (["counting", "--jobs", "0"], "--jobs 0 1"),
        (["counting", "--steps", "5"], "python -m training.study --help"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "study"
    assert study.main([*flags, "--out", str(out)]) == 2
    says(capsys.readouterr().err, told)
    assert not out.exists()


def test_the_list_names_every_study_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{told}" for name in STUDIES)
    assert told.count("--size published") == len(STUDIES)
    assert re.search(r"(?s)\ntext: .*--size published: 3 runs of up to 16 passes", told)


FLAGS = ["--size", "tiny", "--jobs", "1", "--quiet", "--cpu"]


@pytest.fixture(scope="module")
def counted(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny study of counting."""
    out = tmp_path_factory.mktemp("studies") / "counting"
    assert study.main(["counting", *FLAGS, "--out", str(out), "--cache", str(cache)]) == 0
    return out


def numbers(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / "results.json").read_text())
    return [row for row in rows if "seconds" not in row["metric"]]


def test_a_study_is_a_folder_of_ordinary_runs_with_rows_pictures_and_a_page(
    counted: Path, cache: Path
) -> None:
    points = STUDIES["counting"].points("tiny", 1)
    rows = numbers(counted)
    for point in points:
        folder = counted / point.name
        assert read_config(folder) == point.config
        assert Run.open(folder, cache).config == point.config
        of_run = [row for row in rows if row.get("point") == point.name]
        assert {(row["d"], row["m"]) for row in of_run} == {(point.at["d"], point.at["m"])}
        kept = [row for row in read_rows(folder / "results.json") if "seconds" not in row.metric]
        assert [row["value"] for row in of_run] == [row.value for row in kept]
    assert sum(row["metric"] == "m_thr" for row in rows) == 2
    html = (counted / "report.html").read_text()
    assert "<script" not in html
    for name in ("accuracy", "threshold"):
        assert ElementTree.parse(counted / f"{name}.svg").getroot().tag.endswith("svg")
    assert all(f'href="{point.name}/report.html"' in html for point in points)


def test_a_study_that_was_killed_ends_with_the_same_numbers(
    counted: Path, cache: Path, tmp_path: Path
) -> None:
    """The kill comes after the evaluation of the second run, before its record is written.

    The remaining runs are trained two at a time, each in its own process.
    """
    flags = ["counting", *FLAGS, "--out", str(tmp_path / "killed"), "--cache", str(cache)]
    script = (
        "import os, signal, training.run.run as run, training.study.__main__ as study\n"
        "write, calls = run.ArmRun.finish, []\n"
        "def killed(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(*arguments)\n"
        "run.ArmRun.finish = killed\n"
        f"study.main({flags!r})\n"
    )
    done = warm.run([sys.executable, "-c", script], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = list((tmp_path / "killed").glob("*/seed0/plain/done.json"))
    assert len(finished) == 1
    assert study.main([*flags, "--jobs", "2", "--resume"]) == 0
    assert numbers(tmp_path / "killed") == numbers(counted)


def test_a_folder_that_holds_something_else_is_refused(
    counted: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in counted.rglob("*") if path.is_file()}
    there = ["--out", str(counted), "--cache", str(cache)]
    assert study.main(["counting", *FLAGS, *there]) == 2
    says(capsys.readouterr().err, "--resume")
    assert study.main(["path_star", *FLAGS, *there, "--resume"]) == 2
    says(capsys.readouterr().err, f"{counted} counting path_star")
    (tmp_path / "letter.txt").write_text("mine")
    assert study.main(["counting", *FLAGS, "--out", str(tmp_path), "--cache", str(cache)]) == 2
    says(capsys.readouterr().err, "--out")
    assert {
        path: path.stat().st_mtime_ns for path in counted.rglob("*") if path.is_file()
    } == before


# Learning rates


def test_every_arm_gets_the_same_rates_on_seeds_that_no_comparison_reports() -> None:
    for size in STUDIES[RATES].sizes:
        points = STUDIES[RATES].points(size, 2)
        assert {point.config.arms for point in points} == {points[0].config.arms}
        for point in points:
            assert list(point.config.seed_range) == [100, 101]
            usual = preset(STUDIES[RATES].sizes[size].get("preset", "quick"))
            for phase, other in zip(point.config.phases, usual.phases, strict=True):
                assert not phase.steps or phase.lr == other.lr * float(point.at["factor"])


def measured_rates(scores: dict[str, list[float]]) -> list[Measured]:
    rows = []
    for arm, values in scores.items():
        for factor, value in zip((0.5, 1, 2), values, strict=True):
            for task, other in (("reverse", 0.1), ("count", -0.1)):
                one = Row(arm, 100, task, "seen", "exact_match", value + other, None, None, 9, 0.1)
                rows.append(Measured({"factor": factor}, one))
    return rows


def test_the_best_factor_of_each_arm_is_a_flag_of_the_comparison() -> None:
    rows = measured_rates({"plain": [0.3, 0.5, 0.4], "lstm": [0.3, 0.5, 0.7]})
    found = study_named(RATES).findings(rows)
    says(found.headline, "--lr-factors lstm=2")
    assert {row["arm"]: row["value"] for row in found.rows} == {"plain": 1, "lstm": 2}
    says(" ".join(found.sentences), "lstm end of the grid")
    assert found.lines[0][1:4] == ["0.300", "0.500 *", "0.400"]


def test_equal_scores_keep_the_presets_rate() -> None:
    found = study_named(RATES).findings(measured_rates({"plain": [0.5, 0.5, 0.5]}))
    says(found.headline, "--lr-factors none")
