"""The main job on the tiny preset and the real corpus, by the commands of a user."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import charembed
from synthetic_tasks import SPLITS
from tests import warm
from tests.conftest import ROOT
from tests.laboratory import pairs
from tests.laboratory.runs import COMMAND, TINY, losses, numbers
from tests.messages import raises, says
from training import compare
from training.config.flags import changed, command_for, parse, settings
from training.config.presets import preset
from training.data.prepare import Data
from training.intervals import read_rows
from training.models.arms import ARMS
from training.report.verdict import HELD, judge
from training.run.arm import train_arm
from training.run.machine import Machine
from training.run.run import Run


def test_the_run_folder_is_complete(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "results.json",
        "report.html",
        "answers.svg",
        "seed0",
        "seed1",
    }
    saved = json.loads((finished / "config.json").read_text())
    assert saved["config"]["data"]["vocab_size"] == 512
    for digest in (saved["data"]["corpus_sha256"], saved["weights_sha256"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert saved["versions"]["torch"] == torch.__version__
    (begun,) = saved["begun"]
    flags = shlex.split(begun["command"])[3:]
    assert parse(flags, None)[0].as_dict() == saved["config"]
    assert begun["charembed"] == charembed.__version__
    date = datetime.strptime(begun["date"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - date).days) <= 1
    page = (finished / "report.html").read_text()
    says(page.split("How to get the same numbers")[1], begun["command"], begun["date"])
    if begun["commit"]:  # the tests run in a checkout, or in an unpacked archive
        says(page, begun["commit"][:12])
    assert len(losses(finished)) == 2 * 2 * 16


def test_every_cell_has_its_row_with_interval_and_majority(finished: Path) -> None:
    rows = [row for row in read_rows(finished / "results.json") if row.metric == "exact_match"]
    cells = {(row.arm, row.seed, row.task, row.split) for row in rows}
    assert cells == {
        (arm, seed, task, split)
        for arm in ("plain", "lstm")
        for seed in (0, 1, "mean")
        for task in ("reverse", "count", "index", "swap")
        for split in SPLITS
    }
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert row.majority is not None
        assert 0 <= row.low <= row.value <= row.high <= 1
        assert row.n == (16 if row.seed == "mean" else 8)


def test_the_report_is_one_file_with_its_plots(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    # at a glance, tasks, loss and difference by phase, cost
    count = 1 + 4 + 2 * 2 + 1
    # during training: held-out text in both phases, and each split; text by token frequency
    count += 2 + 4 + 2
    # forest plots and exact match by word beside them
    assert page.count("<svg") > count
    assert not re.search(r'(src|href)="(?!#)', page), (
        "self-contained: nothing is loaded from elsewhere"
    )
    for words in (
        "reverse",
        "unseen tokens",
        "lstm − plain",
        "nats per token",
        "parameters",
    ):
        assert words in page


def test_one_process_gives_the_same_numbers_as_two(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    assert (
        compare.main(
            [
                *TINY,
                "--seeds",
                "2",
                "--jobs",
                "1",
                "--out",
                str(tmp_path / "x"),
                "--cache",
                str(cache),
            ]
        )
        == 0
    )
    assert numbers(tmp_path / "x") == numbers(finished)
    assert losses(tmp_path / "x") == losses(finished)


def test_a_finished_run_is_rendered_again_without_training(
    finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "report.html").unlink()
    assert (
        compare.main([*TINY, "--seeds", "2", "--out", str(copy), "--cache", str(cache), "--resume"])
        == 0
    )
    assert (copy / "report.html").read_text() == (finished / "report.html").read_text()
    says(capsys.readouterr().out, "answers")


def test_two_distributed_processes_give_the_losses_of_one(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    flags = ["--out", tmp_path / "ddp", "--cache", cache]
    pairs.well(pairs.start([*COMMAND[1:], *flags]))
    facts = json.loads((tmp_path / "ddp" / "config.json").read_text())
    assert facts["machine"]["processes_per_arm"] == 2
    one = [row for row in losses(finished) if row[1] == 0]
    two = losses(tmp_path / "ddp")
    assert [row[:4] for row in two] == [row[:4] for row in one]
    np.testing.assert_allclose([row[4] for row in two], [row[4] for row in one], rtol=1e-4)
    curves = [
        [
            json.loads(line)
            for path in sorted(folder.glob("seed0/lstm/*.curve.jsonl"))
            for line in path.read_text().splitlines()
        ]
        for folder in (finished, tmp_path / "ddp")
    ]
    assert [len(rows) for rows in curves] == [2 + 2 * (1 + 16)] * 2, "only one process writes"
    for row, other in zip(*curves, strict=True):
        assert row | {"value": 0} == other | {"value": 0}
        if row["metric"] == "loss_nats":
            assert other["value"] == pytest.approx(row["value"], rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vocab-size", "100"], "vocab_size 100 256"),
        (["--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--words", "nowhere.txt"], "nowhere.txt"),
        (["--preset", "fast"], "fast smollm2"),
        (["--arms", "matched,gpt"], "arms matched,gpt"),
        (["--tasks", "path_star:1x5"], "path_star:1x5"),
        (["--model", "EMPTY"], "config.json"),
        (["--wording", "sentences"], "finetune_context"),
        (
            ["--init", "zero", "--scale", "0.3"],
            "0.3 init zero",
        ),
        (
            ["--arms", "plain,bee", "--scale", "0.3"],
            "0.3 bee projection",
        ),
        (
            ["--arms", "plain,bee", "--low-fisher-share", "0.5"],
            "0.5 bee",
        ),
    ],
)
def test_bad_input_gets_one_sentence_before_any_training(
    flags: list[str], message: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    flags = [str(tmp_path / "empty") if flag == "EMPTY" else flag for flag in flags]
    assert compare.main([*TINY, "--cache", str(cache), "--out", str(tmp_path / "x"), *flags]) == 2
    errors = capsys.readouterr().err
    says(errors, message)
    assert len(errors.splitlines()) == 1 or "The question" in errors
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_bad_loss_names_the_step_and_ends_with_1(jobs: str, cache: Path, tmp_path: Path) -> None:
    flags = ["--lr", "1e30", "--jobs", jobs, "--out", tmp_path / "x", "--cache", cache]
    done = warm.run([*COMMAND, *flags], cwd=ROOT)
    assert done.returncode == 1
    assert re.search(r"pretrain .*\b(nan|inf)\b.* step \d+", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--preset", "smollm2", "--seeds", "3"],
        ["--preset", "parent", "--lr", "1e-5", "--set", "clip=2.0", "--tasks-only-steps", "7"],
        [
            "--model",
            "some/model",
            "--finetune-lr",
            "1e-5",
            "--warmup",
            "7",
            "--set",
            "finetune-beta2=0.9",
            "--replay-text",
            "both",
        ],
        ["--preset", "tiny", "--model", "some/model", "--optimizer", "adamw"],
        [
            "--tasks",
            "index,spell*3",
            "--arms",
            "plain,gru",
            "--seeds",
            "4",
            "--precision",
            "fp32",
        ],
    ],
)
def test_the_command_of_a_config_gives_that_config(flags: list[str]) -> None:
    config, options = parse(flags, None)
    program, *given = shlex.split(command_for(options.preset, config))[2:]
    assert program == "training.compare"
    assert parse(given, None)[0] == config


def test_an_unknown_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--vocabsize", "512"]) == 2
    says(capsys.readouterr().err, "--vocabsize 512 python -m training.compare --help")


def test_help_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.main(["--help"])
    shown = capsys.readouterr().out
    known = settings(preset("quick"))
    assert len(re.findall(r"(?m)^  --", shown)) <= 77
    for name, setting in known.items():
        if setting.group:
            assert re.search(rf"{setting.flag} ", shown), name
        elif len(setting.places) > 1:
            assert f"{name}: " in " ".join(shown.split()), name


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("--vocabsize 5", "--vocab-size"),
        ("--warmup-spelling-steps 5", "--spelling-steps"),
        ("--finetune-warmup=5", "--set finetune_warmup=VALUE"),
        ("--token-dropout 0", "--token-dropout"),
        ("--set finetune_warmupp=5", "finetune_warmup"),
        ("--set clip=high", "clip number"),
        ("--set clip", "NAME=VALUE"),
    ],
)
def test_a_flag_of_an_earlier_version_gets_a_hint(flags: str, hint: str) -> None:
    with raises(ValueError, hint):
        parse(flags.split(), None)


def test_a_folder_with_another_run_is_left_alone(
    finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    common = [*TINY, "--cache", str(cache), "--out", str(finished)]
    assert compare.main([*common, "--seeds", "2", "--width", "32", "--resume"]) == 2
    says(capsys.readouterr().err, "width 16 32")
    assert compare.main([*common, "--seeds", "2"]) == 2
    says(capsys.readouterr().err, "--resume")
    (tmp_path / "notes.txt").write_text("mine")
    assert compare.main([*TINY, "--cache", str(cache), "--out", str(tmp_path)]) == 2
    says(capsys.readouterr().err, "run folder")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_two_arms_of_the_same_kind_differ_by_exactly_zero(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    """A/A test: an arm trained alone, in another run, has the same losses as in the pair."""
    assert (
        compare.main([*TINY, "--arms", "lstm", "--out", str(tmp_path / "a"), "--cache", str(cache)])
        == 0
    )
    assert losses(tmp_path / "a") == [row for row in losses(finished) if row[:2] == ("lstm", 0)]


OPTIONS = [
    "--tasks",
    "counting:3x8,reverse,path_star:2x3",
    "--arms",
    "plain,length,lstm",
    "--objective",
    "teacherless",
    "--spelling-steps",
    "3",
    "--spelling-loss",
    "0.3",
    "--set",
    "schedule=constant",
    "--finetune-context",
    "64",
]


def test_other_questions_objectives_and_losses_cross_with_other_arms(
    cache: Path, tmp_path: Path
) -> None:
    assert (
        compare.main(
            [*TINY, *OPTIONS, "--jobs", "1", "--out", str(tmp_path / "x"), "--cache", str(cache)]
        )
        == 0
    )
    rows = read_rows(tmp_path / "x" / "results.json")
    cells = {(row.task, row.split) for row in rows if row.metric == "exact_match"}
    assert {
        ("counting:3x8", "fresh"),
        ("path_star:2x3", "more_arms"),
        ("reverse", "unseen_tokens"),
    } <= cells
    steps = [
        json.loads(line) for line in (tmp_path / "x" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {step["phase"] for step in steps} == {"warmup_spelling", "pretrain", "finetune"}
    assert all("spelling_nats" in step for step in steps if step["kind"] != "spelling")
    page = (tmp_path / "x" / "report.html").read_text()
    assert "more arms" in page
    assert ARMS["length"].sentence in page


def test_a_third_phase_is_an_entry(data: Data, cache: Path, tmp_path: Path) -> None:
    """The last phase of the parent preset: tasks alone, at its own constant learning rate."""
    tiny = preset("tiny")
    last = replace(
        tiny.phase("finetune"),
        name="tasks_only",
        title="tasks alone",
        steps=3,
        lr=3e-5,
        replay_share=0.0,
    )
    config = replace(tiny, arms=("plain",), phases=(*tiny.phases, last))
    assert changed(config, tasks_only_steps=5).phases[-1].steps == 5
    arm = Run(tmp_path, replace(data, config=config)).arm("plain")
    train_arm(arm, Machine(cache=cache, cpu=True))
    assert [row.task for row in arm.rows() if row.metric == "loss_nats"] == [
        "text, after pretraining", "text, after fine-tuning", "text, after tasks alone"
    ]  # fmt: skip
    steps = [step["phase"] for step in arm.metrics()]
    assert [steps.count(phase.name) for phase in config.phases] == [0, 6, 10, 3]


def test_results_hold_the_differences_of_all_pairs_and_name_their_chance(finished: Path) -> None:
    found = [row for row in read_rows(finished / "results.json") if " - " in row.arm]
    assert {row.arm for row in found} == {"lstm - plain"}
    assert all(row.controls == 1 for row in found)
    covers = {row.metric: row.covers for row in found}
    assert covers["exact_match_difference"] == "seeds and questions"
    assert covers["loss_nats_difference"] == "seeds and windows", "held-out rows are a sample"
    text = [row for row in found if row.metric == "loss_nats_difference"]
    assert all(row.p_holm is not None for row in text)


@pytest.mark.slow  # six arms, of two layers
def test_a_text_difference_of_a_real_run_is_in_its_headline(cache: Path, tmp_path: Path) -> None:
    """The headline said that no difference was shown, above a line that showed one on text."""
    sizes = ["--layers", "2", "--width", "64", "--heads", "2", "--char-dim", "32"]
    flags = [*sizes, "--char-hidden", "32", "--steps", "10", "--set", "init=normal"]
    out = tmp_path / "run"
    command = [*TINY, "--arms", "plain,lstm", "--seeds", "3", *flags, "--jobs", "1"]
    assert compare.main([*command, "--out", str(out), "--cache", str(cache)]) == 0
    page = (out / "report.html").read_text("utf-8")
    (title,) = re.findall("<h1>(.*?)</h1>", page, re.DOTALL)
    rows = read_rows(out / "results.json")
    held = [
        row
        for row in rows
        if row.metric == "loss_nats_difference" and row.controls and judge(row) in HELD
    ]
    assert ("nats per token" in title) == bool(held), (title, held)
    if not any(judge(row) in HELD for row in rows if row.metric == "exact_match_difference"):
        assert "in answers" in title.lower()
    assert "between the models" not in title
