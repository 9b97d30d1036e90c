"""Files that changed, shrank or vanished between two commands are reported or made again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from examples import ask
from tests.laboratory.runs import ROOT, TINY, losses, numbers
from tests.messages import raises, says
from training import compare
from training.config.flags import changed
from training.config.presets import preset
from training.errors import BadInput
from training.files import read_record, write_record
from training.run.identity import short_name
from training.run.workers import train_all
from training.train.state import Position, load_trained, save_state

ARM = Path("seed1") / "lstm"
READ_OF_A_FINISHED_ARM = [
    ARM / name
    for name in (
        "answers.jsonl",
        "done.json",
        "finetune.safetensors",
        "metrics.jsonl",
        "results.json",
    )
]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def again(run: Path, cache: Path, *flags: str) -> int:
    common = ["--seeds", "2", "--jobs", "1", "--resume", "--out", str(run), "--cache", str(cache)]
    return compare.main([*TINY, *common, *flags])


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


# Changed


@pytest.mark.parametrize("kind", ["flipped", "cut", "empty"])
@pytest.mark.parametrize("name", [Path("config.json"), *READ_OF_A_FINISHED_ARM], ids=str)
def test_a_changed_file_of_a_finished_run_is_named(
    name: Path, kind: str, run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / name
    size, chance = path.stat().st_size, Random(f"{name} {kind}")
    if kind == "flipped":
        flip(path, chance.randrange(size), chance.randrange(8))
    else:
        path.write_bytes(path.read_bytes()[: chance.randrange(1, size) if kind == "cut" else 0])
    left = path.read_bytes()
    assert again(run, cache) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"{path} "), errors
    says(errors, "damaged")
    says(errors, "--resume")
    assert errors.count("\n") == 1
    assert path.read_bytes() == left


def test_the_named_way_out_works(run: Path, finished: Path, cache: Path) -> None:
    for name in READ_OF_A_FINISHED_ARM:
        flip(run / name, 40, 3)
        assert again(run, cache) == 2
        (run / name).unlink()
        assert again(run, cache) == 0, name
        assert numbers(run) == numbers(finished), name
        assert losses(run) == losses(finished), name
    flip(run / "config.json", 40, 3)
    assert again(run, cache) == 2
    (run / "config.json").unlink()
    assert again(run, cache) == 0
    assert numbers(run) == numbers(finished)


@pytest.mark.parametrize("name", ["state.safetensors", "pretrain.safetensors", "metrics.jsonl"])
def test_a_changed_file_of_an_unfinished_run_is_named(
    name: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--arms",
        "lstm",
        "--out",
        str(tmp_path / "run"),
        "--cache",
        str(cache),
        "--save-every",
        "4",
    ]
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("training.train.shards.save_state", stopping_after(2))
        assert compare.main([*TINY, *flags]) == 130
    path = tmp_path / "run" / "seed0" / "lstm" / name
    flip(path, path.stat().st_size // 2, 5)
    capsys.readouterr()
    assert compare.main([*TINY, *flags, "--resume"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"{path} ")
    says(errors, "damaged")
    path.unlink()
    assert compare.main([*TINY, *flags, "--resume"]) == 0


def stopping_after(saves: int) -> Callable[..., None]:
    """Save the state, and press Ctrl-C after that number of saves."""
    done: list[int] = []

    def saving(*arguments: Any) -> None:
        save_state(*arguments)
        done.append(1)
        if len(done) == saves:
            os.kill(os.getpid(), signal.SIGINT)

    return saving


@pytest.mark.parametrize("kind", ["text", "vocabulary"])
def test_a_changed_cache_is_named_and_made_again_once_deleted(
    kind: str, cache: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = shutil.copytree(cache, tmp_path / "cache")
    run = shutil.copytree(finished, tmp_path / "run")
    paths = list(mine.glob(f"{kind}-*"))
    assert paths
    for path in paths:
        flip(path, path.stat().st_size // 2, 1)
    assert again(run, mine) == 2
    errors = capsys.readouterr().err
    named = next(path for path in paths if errors.startswith(f"{path} "))
    says(errors, "damaged delete")
    assert ask.main(["--run", str(run), "--cache", str(mine), "--word", "strawberry"]) == 2
    says(capsys.readouterr().err, str(named))
    for path in paths:
        path.unlink()
    assert again(run, mine) == 0
    assert named.exists()


def test_weights_of_another_arm_are_refused(
    run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(run / "seed0" / "lstm" / "finetune.safetensors", run / ARM)
    (run / ARM / "done.json").unlink()
    assert again(run, cache) == 2
    says(capsys.readouterr().err, f"{run / ARM / 'finetune.safetensors'}")


# Vanished


@pytest.mark.parametrize(
    "names",
    [
        ["answers.jsonl", "results.json"],
        ["finetune.safetensors"],
        ["metrics.jsonl"],
        ["done.json", "pretrain.safetensors"],
    ],
    ids="+".join,
)
def test_what_is_missing_of_a_finished_arm_is_made_again(
    names: list[str], run: Path, finished: Path, cache: Path
) -> None:
    for name in names:
        (run / ARM / name).unlink()
    assert again(run, cache) == 0
    for name in names:
        if name.endswith(".safetensors"):
            assert (run / ARM / name).exists()
    assert numbers(run) == numbers(finished)
    assert losses(run) == losses(finished)
    assert not list(run.rglob("state.safetensors"))


def test_weights_that_nothing_reads_may_go(run: Path, cache: Path, finished: Path) -> None:
    (run / ARM / "pretrain.safetensors").unlink()
    assert again(run, cache) == 0
    assert not (run / ARM / "pretrain.safetensors").exists()
    assert numbers(run) == numbers(finished)


def test_asking_a_run_without_weights_says_how_to_get_them(
    run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "seed0" / "lstm" / "finetune.safetensors"
    path.unlink()
    assert ask.main(["--run", str(run), "--cache", str(cache), "--word", "strawberry"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"{path} ")
    says(errors, "--resume")
    assert again(run, cache) == 0
    assert ask.main(["--run", str(run), "--cache", str(cache), "--word", "strawberry"]) == 0


# Another run under the same name


def test_a_corpus_that_changed_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, out, cache = tmp_path / "corpus.txt", tmp_path / "run", tmp_path / "cache"
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / "training").rglob("*.py")))
    corpus.write_text(text)
    flags = [
        "--corpus",
        str(corpus),
        "--arms",
        "lstm",
        "--out",
        str(out),
        "--cache",
        str(cache),
    ]
    assert compare.main([*TINY, *flags]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    corpus.write_text(text + "one more word")
    assert compare.main([*TINY, *flags, "--resume"]) == 2
    says(capsys.readouterr().err, f"{out} corpus sha256")
    assert ask.main(["--run", str(out), "--cache", str(cache), "--word", "strawberry"]) == 2
    says(capsys.readouterr().err, "data")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "bf16"}, "precision bf16 fp32"),
        ({"device": "cuda"}, "device cuda cpu"),
        (
            {"weights_sha256": "0" * 64},
            "SHA-256 000000000000...",
        ),
        ({"machine": {"threads_per_arm": 8}}, "threads 8 1"),
    ],
)
def test_another_arithmetic_is_refused(
    change: dict[str, Any], message: str, run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = read_record(run / "config.json")
    change = {
        key: saved[key] | value if isinstance(value, dict) else value
        for key, value in change.items()
    }
    write_record(run / "config.json", saved | change)
    assert again(run, cache) == 0, "what is finished may be rendered anywhere"
    (run / ARM / "answers.jsonl").unlink()
    capsys.readouterr()
    assert again(run, cache) == 2
    says(capsys.readouterr().err, message)


def test_other_versions_may_render_a_run_but_not_go_on_with_it(
    run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = read_record(run / "config.json")
    saved["versions"]["torch"] = "1.0"
    write_record(run / "config.json", saved)
    assert again(run, cache) == 0
    (run / ARM / "answers.jsonl").unlink()
    capsys.readouterr()
    assert again(run, cache) == 2
    says(capsys.readouterr().err, "torch 1.0")


def test_a_run_of_a_version_that_recorded_no_start_is_rendered_without_one(
    run: Path, cache: Path
) -> None:
    saved = read_record(run / "config.json")
    (begun,) = saved.pop("begun")
    write_record(run / "config.json", saved)
    assert again(run, cache) == 0
    assert "begun" not in read_record(run / "config.json"), "the first code stays unknown"
    page = (run / "report.html").read_text("utf-8").split("How to get the same numbers")[1]
    says(page, begun["command"], begun["charembed"])
    assert begun["date"] not in page


def test_an_unfinished_run_that_goes_on_with_other_code_names_both(run: Path, cache: Path) -> None:
    saved = read_record(run / "config.json")
    saved["begun"][0] |= {"commit": "1" * 40, "date": "2026-01-02 03:04 UTC"}
    write_record(run / "config.json", saved)
    assert again(run, cache) == 0
    assert len(read_record(run / "config.json")["begun"]) == 1, "a finished run is only rendered"
    (run / ARM / "answers.jsonl").unlink()
    assert again(run, cache) == 0
    assert len(read_record(run / "config.json")["begun"]) == 2
    says((run / "report.html").read_text("utf-8"), "1" * 12, "2026-01-02", "Continued")


# More pairs


def test_more_pairs_join_those_that_are_there(
    finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    common = [*TINY, "--jobs", "1", "--out", str(out), "--cache", str(cache)]
    assert compare.main(common) == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "seed0").rglob("*")}
    assert compare.main([*common, "--seeds", "2"]) == 0
    assert numbers(out) == numbers(finished)
    assert {path: path.stat().st_mtime_ns for path in (out / "seed0").rglob("*")} == before
    record = read_record(out / "config.json")
    assert record["config"]["seeds"] == 2
    first, second = (shlex.split(one["command"]) for one in record["begun"])
    assert second == [*first, "--seeds", "2"], "the page shows the command of the whole run"
    assert compare.main([*common, "--resume"]) == 2
    says(capsys.readouterr().err, f"{out} 2 1 --seeds --resume")


def test_the_folder_of_a_comparison_does_not_depend_on_how_many_pairs_it_has() -> None:
    quick = preset("quick")
    fives = short_name(changed(quick, seeds=5)), short_name(changed(quick, min_letters=4))
    assert fives[0] == short_name(quick) != fives[1]


def test_a_record_tells_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"a": 1})
    assert read_record(path) == {"a": 1}
    assert set(json.loads(path.read_text())) == {"a", "sha256"}


# Found by a hostile reading


def test_a_corpus_that_changes_while_the_run_goes_on_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each arm reads the corpus again in its own process."""
    corpus, out = tmp_path / "corpus.txt", tmp_path / "run"
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / "training").rglob("*.py")))
    corpus.write_text(text)
    flags = ["--corpus", str(corpus), "--jobs", "2", "--out", str(out)]

    def edited(*arguments: Any) -> None:
        corpus.write_text(text + "one more word")
        train_all(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run.workers.train_all", edited)
        assert compare.main([*TINY, *flags, "--cache", str(tmp_path / "cache")]) == 2
    says(capsys.readouterr().err, f"{out}")
    assert not list(out.rglob("*.safetensors"))


def test_a_finished_arm_of_another_config_is_refused(
    run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "config.json").unlink()
    assert again(run, cache, "--lr", "0.5") == 2
    says(capsys.readouterr().err, f"{run / 'seed0' / 'plain'}")


def test_an_arm_that_is_made_again_is_not_done_until_it_is(
    run: Path, cache: Path, finished: Path
) -> None:
    """The stop comes after the evaluation, once the metrics are written again."""
    (run / ARM / "finetune.safetensors").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "training.run.run.ArmRun.finish", lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )
        assert again(run, cache) == 130
    assert not (run / ARM / "done.json").exists()
    assert again(run, cache) == 0
    assert numbers(run) == numbers(finished)


def test_a_config_that_is_none_of_ours_is_left_alone(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert again(tmp_path, cache) == 2
    says(capsys.readouterr().err, f"{tmp_path}")


@pytest.mark.parametrize(
    "name", [ARM / "done.json", ARM / "metrics.jsonl", Path("results.json")], ids=str
)
def test_a_folder_where_a_file_should_be_is_named(
    name: Path, run: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    assert again(run, cache) in (1, 2)
    errors = capsys.readouterr().err
    says(errors, str(run / name))
    assert "defect" not in errors
    assert errors.count("\n") == 1


def test_weights_of_another_phase_are_refused(tmp_path: Path) -> None:
    part = {"model": torch.nn.Linear(2, 2)}
    save_state(tmp_path / "x.safetensors", Position("run", "pretrain"), part)
    with raises(BadInput, "pretrain finetune"):
        load_trained(tmp_path / "x.safetensors", part, "run", "finetune")
