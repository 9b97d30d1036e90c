"""Bad input: one message, status 2, no file created, and no internal error.

FLAGS holds inputs that are refused before any file is made, with an empty cache. LATE holds inputs
that are refused after the text is tokenised; their cache holds the tokens of an earlier run.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import warm
from tests.conftest import ROOT
from tests.laboratory.bad_files import files as files
from tests.messages import says
from training import compare
from training.config.fields import allowed
from training.config.flags import changed, settings
from training.config.presets import PRESETS, preset
from training.data.prepare import Data
from training.data.readers import COMPRESSIONS
from training.errors import BAD_INPUT, BROKE
from training.files import write_record
from training.models.arms import num_parameters
from training.run import machine as preflight
from training.run.build import build_arm

TINY = ["--preset", "tiny", "--quiet", "--cpu"]
# FILES stands for the folder of prepared files. The last of two equal flags counts.
FLAGS: list[tuple[str, str]] = [
    # what argparse says
    ("--preset", "--preset"),
    ("--preset fast", "fast smollm2"),
    ("--preset ''", "quick smollm2"),
    ("--vocabsize 512", "--vocabsize 512"),
    ("--ste 5", "--ste 5"),
    ("FILES/text.txt", "text.txt"),
    ("--steps 1e3", "--steps 1e3"),
    ("--steps ''", "--steps"),
    ("--seeds 1.5", "--seeds 1.5"),
    ("--lr fast", "--lr fast"),
    ("--lr ''", "--lr"),
    ("--steps", "--steps"),
    # numbers out of bounds
    (f"--steps {'9' * 400}", "9223372036854775807"),
    ("--seeds 0", "seeds 0 1"),
    ("--steps -5", "steps -5 0"),
    ("--width 15", "width 15 2"),
    ("--questions 9223372036854775808", "questions 9223372036854775808"),
    ("--init-std 0", "init_std 0.0"),
    ("--replay-share 1", "replay_share 1.0 0 1"),
    ("--init pretrained", "init char_dim 128 char_hidden 256 16"),
    ("--scale -1", "-1.0 0"),
    ("--lr inf", "lr inf finite"),
    ("--lr 1e400", "lr inf finite"),
    ("--other-corpus ''", "other_corpus"),
    ("--epochs 1e300", "epochs 1e+300 0 1000000"),
    ("--epochs 1.7e308", "epochs 1.7e+308 0 1000000"),
    ("--set beta2=1", "beta2 1.0 0 1"),
    ("--questions 0", "questions 0 1"),
    ("--num-words 0", "num_words 0 1"),
    ("--min-letters 11", "min_letters 11"),
    ("--longest-letters 9", "longest_letters 9"),
    ("--finetune-context 8", "finetune_context 8 32 smaller"),
    ("--steps 0 --finetune-steps 0", "step"),
    # how to run it
    ("--threads 0", "--threads 0 1"),
    ("--jobs 0", "--jobs 0 1"),
    ("--jobs -1", "--jobs -1 1"),
    ("--save-every 0", "--save-every 0 1"),
    ("--measures -1", "--measures -1 0"),
    ("--threads 100000", "--threads 100000"),
    # names
    ("--optimizer sgd", "sgd muon adamw"),
    ("--precision fp8", "precision fp8 fp32 bf16"),
    ("--precision ''", "precision"),
    ("--objective diffusion", "objective diffusion next_token"),
    ("--arms ''", "arms"),
    ("--arms lstm,lstm", "arms lstm,lstm"),
    ("--arms matched,gpt", "arms matched,gpt"),
    ("--tasks ''", "task reverse"),
    ("--tasks reverse,reverse", "tasks reverse,reverse"),
    ("--tasks anagram", "anagram"),
    ("--tasks path_star:1x5", "path_star:1x5"),
    ("--tasks path_star:9999x9999", "path_star:9999x9999"),
    ("--tasks counting:0", "counting:0"),
    ("--tasks counting:", "counting"),
    ("--tasks reverse:3", "reverse"),
    # text and words
    ("--corpus ''", "corpus"),
    ("--corpus FILES/nowhere.txt", "nowhere.txt"),
    ("--corpus FILES/empty.txt", "empty.txt"),
    ("--corpus FILES/latin1.txt", "latin1.txt UTF-8 4 0xe9"),
    ("--corpus FILES/no_texts", "no_texts"),
    ("--corpus FILES/some_latin1", "some_latin1/b.txt UTF-8 0 0xff"),
    ("--corpus FILES/cut16.txt", "cut16.txt UTF-16-LE UTF-8"),
    ("--corpus FILES/unmarked16.txt", "unmarked16.txt null UTF-16 UTF-8"),
    ("--words FILES/cut16.txt", "cut16.txt UTF-16-LE UTF-8"),
    ("--words FILES/unmarked16.txt", "unmarked16.txt null UTF-16 UTF-8"),
    ("--corpus FILES/broken_link", "gone.txt"),
    ("--corpus /dev/zero", "/dev/zero"),
    ("--corpus hf:no/such-dataset", "no/such-dataset"),
    ("--corpus hf:FILES/numbers", "int64"),
    ("--corpus hf:", "hf"),
    ("--words ''", "words"),
    ("--words FILES/nowhere.txt", "nowhere.txt"),
    ("--words FILES", "FILES folder"),
    ("--words FILES/empty.txt", "empty.txt"),
    ("--words FILES/latin1.txt", "latin1.txt UTF-8 4 0xe9"),
    ("--words /dev/zero", "/dev/zero"),
    ("--words FILES/german.txt", "2 words"),
    ("--num-words 10", "10 words"),
    ("--corpus FILES/text.txt --vocab-size 5000", "corpus"),
    ("--vocab-size 100", "vocab_size 100 256"),
    ("--corpus FILES/greek.txt --alphabet printable", "document"),
    # places to write to
    ("--out ''", "--out"),
    ("--cache ''", "--cache"),
    ("--out FILES/text.txt", "text.txt"),
    ("--out FILES/text.txt/run", "text.txt"),
    ("--out FILES/no_texts", "--out"),
    ("--out /proc/charembed/run", "--out /proc/charembed/run"),
    ("--out /dev/full", "--out /dev/full"),
    ("--out /dev/full/run", "--out /dev/full/run /dev/full"),
    (f"--out FILES/{'long' * 100}", "--out"),
    ("--cache FILES/text.txt", "--cache FILES/text.txt"),
    ("--cache FILES/text.txt/below/it", "text.txt"),
    ("--cache /proc/charembed", "--cache /proc/charembed"),
    # more than any machine has
    ("--width 1000000000", "GB memory"),
    ("--layers 10000000", "GB memory"),
    ("--layers 9223372036854775807", "GB memory"),
    ("--vocab-size 10000000000", "GB memory"),
    ("--batch-size 1000000000", "GB memory"),
    ("--finetune-batch-size 10000000000", "GB memory"),
    ("--context 1000000000 --finetune-context 1000000000", "GB memory"),
    ("--finetune-context 100000000000", "GB memory"),
    ("--questions 10000000000", "GB memory"),
    ("--char-dim 1000000000", "GB memory"),
    ("--char-hidden 1000000000", "GB memory"),
    ("--arms random,lstm --char-dim 1000000000", "GB memory"),
    ("--seeds 1000000000", "GB disk"),
    # pretrained models
    ("--model ''", "model"),
    (f"--model {'long' * 100}", "hub"),
    (f"--corpus {'long' * 100}", "exist"),
    ("--model FILES/text.txt", "text.txt"),
    ("--model FILES/nowhere/at/all", "hub"),
    ("--model no/such-model", "no/such-model"),
    ("--model FILES/no_texts", "config.json"),
    ("--model FILES/broken_config", "broken_config"),
    ("--model FILES/list_config", "list_config"),
    ("--model FILES/unknown_kind", "unknown_kind"),
    ("--model FILES/no_tokenizer", "no_tokenizer"),
    ("--model FILES/broken_tokenizer", "broken_tokenizer"),
    ("--model FILES/no_weights", "no_weights"),
    ("--model FILES/broken_weights", "broken_weights"),
    ("--model FILES/cut_weights", "cut_weights"),
    ("--model FILES/half_the_weights", "half_the_weights"),
    ("--model FILES/model --finetune-context 200", "128"),
    ("--model FILES/model --width 64", "width decoder"),
    ("--model FILES/model --batch-size 1000000000", "GB memory"),
]  # fmt: skip
LATE = [
    ("--wording sentences", "finetune_context"),
    ("--longest-letters 60 --max-letters 50", "longer_words"),
    ("--context 24 --finetune-context 24", "finetune_context"),
    ("--num-words 60", "empty"),
    ("--tasks counting:2x999", "finetune_context"),
]
FLOATS = sorted(
    name for name, setting in settings(preset("quick")).items() if isinstance(setting.value, float)
)
SECONDS: dict[str, float] = {}


@pytest.fixture(scope="module", autouse=True)
def _timer() -> Iterator[None]:
    """Print the seconds of the slowest refusals at the end."""
    yield
    slowest = sorted(SECONDS, key=lambda flags: -SECONDS[flags])[:3]
    told = "; ".join(f"{SECONDS[flags]:.1f} s for {flags}" for flags in slowest)
    print(f"\n{len(SECONDS)} bad inputs, the slowest: {told}")


def words_of(flags: str, files: Path) -> list[str]:
    return [("" if word == "''" else word.replace("FILES", str(files))) for word in flags.split()]


def everything(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def assert_refused(
    flags: str,
    sentence: str,
    files: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    command = [
        *TINY,
        "--cache",
        str(cache),
        "--out",
        str(tmp_path / "run"),
        *words_of(flags, files),
    ]
    before = everything(tmp_path, cache, files)
    capsys.readouterr()
    began = time.perf_counter()
    status = compare.main(command)
    SECONDS[flags] = time.perf_counter() - began
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.strip()]
    assert status == BAD_INPUT, shown.err
    says(shown.err, sentence.replace("FILES", str(files)))
    assert len(lines) == 1, shown.err
    assert "Traceback" not in shown.err
    assert everything(tmp_path, cache, files) == before


@pytest.mark.parametrize(("flags", "sentence"), FLAGS, ids=[flags for flags, _ in FLAGS])
def test_bad_input_gets_one_sentence_and_creates_nothing(
    flags: str,
    sentence: str,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cache").mkdir()
    assert_refused(flags, sentence, files, tmp_path / "cache", tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(("flags", "sentence"), LATE, ids=[flags for flags, _ in LATE])
def test_what_only_tokens_can_tell_gets_one_sentence_too(
    flags: str,
    sentence: str,
    files: Path,
    data: Data,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert_refused(flags, sentence, files, cache, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", FLOATS)
def test_what_is_no_number_is_refused_in_every_field(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in ("nan", "inf", "-inf", "1e999"):
        assert compare.main([*TINY, "--set", f"{name}={given}"]) == BAD_INPUT
        errors = capsys.readouterr().err
        own = settings(preset("tiny"))[name].item.name  # without the name of a phase
        assert re.fullmatch(rf"(\w+_)?{own}\b.*\b(nan|inf)\b.*\n", errors), errors


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param("--width 7", "width 7", marks=pytest.mark.slow),
        pytest.param("--lr nan", "lr nan", marks=pytest.mark.slow),
        pytest.param("--corpus FILES/latin1.txt", "UTF-8", marks=pytest.mark.slow),
        pytest.param("--layers 10000000", "GB memory", marks=pytest.mark.slow),
        ("--model no/such-model", "no/such-model"),
        pytest.param("--corpus hf:no/such-dataset", "no/such-dataset", marks=pytest.mark.slow),
    ],
)
def test_a_process_of_its_own_says_the_same(
    flags: str, sentence: str, files: Path, tmp_path: Path
) -> None:
    """Without HF_HUB_OFFLINE: an unreachable hub is reported as fast as a forbidden one."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "hf"),
    }
    (tmp_path / "here").mkdir()
    began = time.perf_counter()
    done = warm.run(
        [sys.executable, "-m", "training.compare", *TINY, *words_of(flags, files)],
        cwd=tmp_path / "here",
        env=environment,
        cold="no/such" in flags,  # huggingface_hub reads these variables when it is imported
    )
    SECONDS[f"{flags} (a process)"] = time.perf_counter() - began
    assert done.returncode == BAD_INPUT, done.stderr
    says(done.stderr, sentence)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list((tmp_path / "here").iterdir())


Disk = namedtuple("Disk", "total used free")


def test_a_disk_without_room_is_told_with_both_numbers(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: Disk(10**6, 10**6, 1000))
    (tmp_path / "cache").mkdir()
    sentence = "0.8 MB disk 0.0"
    assert_refused("", sentence, files, tmp_path / "cache", tmp_path, monkeypatch, capsys)
    (tmp_path / "config.json").write_text("all that a run writes is there")
    preflight.check_disk(30, 10**6, tmp_path)  # it may be rendered again


def test_a_folder_that_may_not_be_written_is_told(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight.tempfile, "TemporaryDirectory", refuse)
    (tmp_path / "cache").mkdir()
    sentence = "permission"
    assert_refused("", sentence, files, tmp_path / "cache", tmp_path, monkeypatch, capsys)


def test_bf16_where_it_cannot_be_is_told(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "is_bf16_available", lambda ignore_tpu: False)
    (tmp_path / "cache").mkdir()
    sentence = "precision bf16 fp32"
    assert_refused(
        "--precision bf16", sentence, files, tmp_path / "cache", tmp_path, monkeypatch, capsys
    )


def test_an_internal_error_is_no_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any) -> None:
        raise ValueError("shapes (3,) and (4,) differ")

    monkeypatch.setattr("training.data.prepare.load_corpus", broken)
    assert compare.main([*TINY, "--cache", str(tmp_path), "--out", str(tmp_path / "run")]) == BROKE
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    says(errors, "ValueError (3,) (4,)")
    says(errors, "defect")


@pytest.mark.slow  # in the default tests, training.evaluate asks such models
def test_a_pretrained_model_may_be_asked_as_it_is(files: Path, cache: Path, tmp_path: Path) -> None:
    """--resume is also allowed in the first command, for scripts."""
    flags = ["--model", str(files / "model"), "--arms", "plain,lstm", "--jobs", "1", "--resume"]
    sizes = [
        "--steps",
        "0",
        "--finetune-steps",
        "0",
        "--finetune-context",
        "64",
        "--questions",
        "2",
    ]
    command = [*TINY, *flags, *sizes, "--cache", str(cache), "--out", str(tmp_path / "run")]
    assert compare.main(command) == 0
    assert (tmp_path / "run" / "report.html").is_file()


FROM_SCRATCH = [name for name, config in PRESETS.items() if not config.model.pretrained]


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_the_presets_fit_this_machine_on_paper(name: str, tmp_path: Path) -> None:
    config = preset(name)
    size = preflight.size_of(config)
    assert 1e6 < preflight.memory_needed(config, size, 2) < 4e9
    assert (
        1e4
        < preflight.states_size(config, size, 2)
        < preflight.weights_size(config, size) * 10
        < 1e9
    )


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_parameters_are_counted_as_the_model_has_them(name: str, data: Data) -> None:
    config = changed(preset(name), vocab_size=512, arms=("plain", "lstm"))
    plain, lstm = (build_arm(config, arm, 0, data.spellings) for arm in config.arms)
    for model in (plain, lstm):
        model.extend_context(config.context, torch.Generator())
    size = preflight.size_of(config)
    assert (
        size.parameters == preflight.arm_parameters(config, size, "plain") == num_parameters(plain)
    )
    assert 0.8 < preflight.arm_parameters(config, size, "lstm") / num_parameters(lstm) <= 1.0


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_shows_every_fields_choices_and_bounds(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stopped:
        compare.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= int(columns)
    paragraphs = {
        match[1]: " ".join(match[0].split())
        for match in re.finditer(r"(?ms)^  --([\w-]+).*?(?=^  -|\Z)", shown)
    }
    says(paragraphs["corpus"], *COMPRESSIONS)
    for name, setting in settings(preset("quick")).items():
        if not setting.group and len(setting.places) == 1:
            continue  # a field of all phases, by its name in one of them
        told = paragraphs[setting.flag[2:] if setting.group else "set"].replace(" ", "")
        assert allowed(setting.item).replace(" ", "") in told, name
        for choice in (
            *setting.item.metadata.get("choices", ()),
            *setting.item.metadata.get("some_of", tuple)(),
        ):
            assert choice in told, (name, choice)


def test_a_config_file_with_no_number_in_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset("tiny").as_dict()
    config["phases"][1]["lr"] = float("nan")
    write_record(tmp_path / "config.json", {"config": config})
    assert compare.main([*TINY, "--out", str(tmp_path), "--resume"]) == BAD_INPUT
    says(capsys.readouterr().err, "lr nan 0")
