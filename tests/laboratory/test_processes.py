"""Arms over two processes: DDP and FSDP2 train, save and resume as one process does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from charembed.spelling_loss import ids_with_characters
from tests.conftest import ROOT
from tests.laboratory import pairs
from tests.laboratory.pairs import joined
from tests.laboratory.pretrained import llama
from tests.laboratory.runs import COMMAND, TINY, losses, numbers
from tests.laboratory.test_step_flags import QUESTIONS, lettered, questions
from tests.laboratory.test_training import PHASE, TABLE, batches, small_model
from tests.laboratory.test_training import losses as steps_of
from tests.messages import raises, says
from training import compare
from training.config.flags import changed
from training.config.presets import preset
from training.data.batches import Batch, BatchAt, spelling_batches, with_spelling
from training.errors import BadInput, Broke, Interrupted, exit_status
from training.models.language_model import LanguageModel
from training.run import arm as arm_of
from training.run import processes
from training.run.machine import Machine
from training.run.processes import accelerator_of, check_launch, check_processes
from training.train import shards
from training.train.loop import Training, train
from training.train.loss import heads_for

STEPS = 50
TEXT = replace(PHASE, steps=STEPS, lr=3e-3)  # the rate of the laboratory
ASKED = replace(QUESTIONS, steps=STEPS, lr=3e-3)
WARM_UP = replace(
    TEXT, name="warmup_spelling", kind="spelling", steps=10, batch_size=32, optimizer="adamw"
)
SPELLED = replace(TEXT, steps=20, spelling_loss=0.3)


@pytest.fixture(autouse=True)
def _forget_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def rich(k: int) -> Batch:
    return with_spelling(batches(), ids_with_characters(TABLE), 16, "x", 0)(k)


# what is trained: a model, its phase, its batches
CASES: dict[str, Any] = {
    "text": (small_model, TEXT, batches()),
    "questions": (small_model, ASKED, questions),
    "spelling": (small_model, SPELLED, rich),
    "warm_up": (small_model, WARM_UP, spelling_batches(ids_with_characters(TABLE), 32, "x", 0)),
    "llama": (lambda: lettered(llama()), replace(ASKED, steps=20, lr=1e-3), questions),
}


# accelerate's code and `fully_shard` are compared once: their losses are equal
SHARED = [*((way, case) for way in ("ddp", "fsdp2") for case in CASES), ("fully_shard", "text")]


def training(
    case: str, folder: Path, accelerator: Accelerator, batch_at: BatchAt | None = None, **how: Any
) -> tuple[LanguageModel, Training]:
    make, phase, usual = CASES[case]
    model = make()
    heads = heads_for(model, model.embedding, TABLE, 0) if phase.spells else None
    made = Training(
        model=model, phase=phase, batch_at=batch_at or usual, folder=folder, seed=0, heads=heads,
        accelerator=accelerator, save_every=10, **how,
    )  # fmt: skip
    return model, made


def evaluated(model: nn.Module, step: int) -> list[dict[str, Any]]:
    """Measure the model at some steps, on ids of its own."""
    if step % 10:
        return []
    was = model.training
    model.eval()
    with torch.no_grad():
        value = float(model(torch.arange(12).view(2, 6)).square().mean())
    model.train(was)
    return [{"step": step, "value": value}]


def run_case(case: str, folder: Path, accelerator: Accelerator, **how: Any) -> str:
    model, made = training(case, folder, accelerator, **how)
    made.measure = lambda step: evaluated(model, step)
    made.measured = range(0, 1000, 10)
    position = train(made)
    if accelerator.is_main_process:
        (folder / "end.json").write_text(
            json.dumps([position.batches, evaluated(model, 0), len(list(model.parameters()))])
        )
    return position.batches


def every_case(out: str) -> None:
    """Run by one of two processes."""
    for way, case in SHARED:
        run_case(case, Path(out) / way / case, joined(way))
    run_case("text", Path(out) / "fsdp2" / "parts", joined("fsdp2"), accumulate=2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    pairs.well(pairs.calling(every_case, out))
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    for case in CASES:
        run_case(case, out / case, Accelerator(cpu=True))
    return out


def near(folder: Path, other: Path) -> None:
    """Assert that two trainings are the same one, up to last digits."""
    assert steps_of(folder) == pytest.approx(steps_of(other), abs=1e-4)
    ends = [json.loads((each / "end.json").read_text()) for each in (folder, other)]
    assert ends[0][0] == ends[1][0], "the same batches"
    assert ends[0][1][0]["value"] == pytest.approx(ends[1][1][0]["value"], rel=0.02)
    curves = [(each / f"{name}.curve.jsonl") for each in (folder, other) for name in ("pretrain",)]
    if curves[0].exists():
        rows = [[json.loads(line) for line in each.read_text().splitlines()] for each in curves]
        found, expected = ({row["step"]: row["value"] for row in each} for each in rows)
        # a run that was stopped here was not measured before
        assert max(found) == max(expected)
        for step, value in found.items():
            assert value == pytest.approx(expected[step], rel=0.02)


@pytest.mark.parametrize(("way", "case"), SHARED)
def test_two_processes_train_as_one(way: str, case: str, one: Path, two: Path) -> None:
    near(two / way / case, one / case)
    assert not (two / way / case / "shards").exists() or way != "ddp"


def test_parts_of_a_sharded_step(one: Path, two: Path) -> None:
    near(two / "fsdp2" / "parts", one / "text")


# Stop, go on


def stopped_at(step: int, what: str, who: int) -> BatchAt:
    """Return batches at which one process is signalled, or killed."""

    def batch_at(k: int) -> Batch:
        if k == step and pairs.rank() == who:
            os.kill(os.getpid(), getattr(signal, what))
        return batches()(k)

    return batch_at


def interrupted(out: str, way: str) -> None:
    """Run by one of two processes, of which the second is asked to stop in step 23."""
    accelerator = joined(way)
    with raises(Interrupted, "pretrain 24 50"):
        train(training("text", Path(out), accelerator, stopped_at(23, "SIGINT", 1))[1])


def goes_on(out: str, way: str) -> None:
    run_case("text", Path(out), joined(way))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States of step 24, by two processes and by one."""
    out = tmp_path_factory.mktemp("halves")
    for way in ("ddp", "fsdp2"):
        pairs.well(pairs.calling(interrupted, out / way, way))

    def stopping(k: int) -> Batch:
        if k == 23:
            os.kill(os.getpid(), signal.SIGINT)
        return batches()(k)

    with raises(Interrupted):
        train(training("text", out / "one", Accelerator(cpu=True), stopping)[1])
    return out


@pytest.mark.parametrize(
    ("began", "way"),
    [("fsdp2", "one"), ("fsdp2", "fsdp2"), ("one", "fsdp2"), ("fsdp2", "ddp"), ("ddp", "one")],
)
def test_a_run_goes_on_over_other_processes(
    began: str, way: str, halves: Path, one: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(halves / began, tmp_path / "run")
    sharded = [path.name for path in out.glob("shards/*/*")]
    names = ["record.json", *(f"shard-0000{n}-model-00001-of-00001.safetensors" for n in (1, 2))]
    assert sorted(sharded) == (names if began == "fsdp2" else [])
    assert (out / "state.safetensors").exists() == (began != "fsdp2")
    if way == "one":
        run_case("text", out, Accelerator(cpu=True))
    else:
        pairs.well(pairs.calling(goes_on, out, way))
    near(out, one / "text")


def test_a_damaged_shard_is_named(halves: Path, tmp_path: Path) -> None:
    out = shutil.copytree(halves / "fsdp2", tmp_path / "run")
    path = next(out.glob("shards/*/shard-00002*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with raises(ValueError, f"{path} --resume"):
        run_case("text", out, Accelerator(cpu=True))
    path.unlink()
    with raises(ValueError, f"{path} --resume"):
        run_case("text", out, Accelerator(cpu=True))


def test_shards_of_another_run_are_refused(halves: Path, tmp_path: Path) -> None:
    out = shutil.copytree(halves / "fsdp2", tmp_path / "run")
    _, made = training("text", out, Accelerator(cpu=True))
    made.position = replace(made.position, run="another")
    with raises(BadInput, "record.json another"):
        train(made)


def killed(out: str, way: str) -> None:
    """Run by one of two processes, of which the second is killed in step 23."""

    def program() -> int:
        train(training("text", Path(out), joined(way), stopped_at(23, "SIGKILL", 1))[1])
        return 0

    sys.exit(exit_status(program))


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_a_killed_process_ends_all_with_a_sentence(way: str, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    statuses, errors = pairs.end(pairs.calling(killed, out, way))
    assert statuses == [1, -signal.SIGKILL], errors
    says(errors[0], "process connection --resume")
    assert "Traceback" not in errors[0]
    run_case("text", out, Accelerator(cpu=True))  # from step 20
    near(out, one / "text")


def killed_in_a_save(out: str) -> None:
    """Run by one of two processes; the second is killed when the shards of step 30 are written."""
    hashed, calls = shards._sha256, [0]

    def deadly(path: Path) -> str:
        calls[0] += 1
        if calls[0] == 3 and pairs.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return hashed(path)

    shards._sha256 = deadly

    def program() -> int:
        train(training("text", Path(out), joined("fsdp2"))[1])
        return 0

    sys.exit(exit_status(program))


def test_a_process_killed_in_a_save_loses_nothing(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    statuses, errors = pairs.end(pairs.calling(killed_in_a_save, out))
    assert statuses == [1, -signal.SIGKILL], errors
    says(errors[0], "process --resume")
    assert "Traceback" not in errors[0]
    assert [path.parent.name for path in out.glob("shards/*/record.json")] == ["pretrain-20"]
    assert (out / "shards" / "pretrain-30").exists()
    pairs.well(pairs.calling(goes_on, out, "fsdp2"))
    near(out, one / "text")


def full_disk(out: str) -> None:
    """Run by one of two processes, of which the second cannot write a shard."""
    accelerator = joined("fsdp2")
    if pairs.rank() == 1:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
    with raises(Broke, "shards/pretrain-10 large --resume"):
        train(training("text", Path(out), accelerator)[1])


def test_a_disk_that_takes_no_more_of_a_shard(tmp_path: Path) -> None:
    pairs.well(pairs.calling(full_disk, tmp_path / "run"))
    assert not list(tmp_path.rglob("record.json"))


# The command


def forged_command(out: str, cache: str) -> None:
    """Run the command in one of two processes, with FSDP2."""
    arm_of.accelerator_of = lambda *given: pairs.forged_again(accelerator_of, *given)  # type: ignore
    flags = ["--out", out, "--cache", cache, "--save-every", "4"]
    status = compare.main([*TINY, *flags, "--arms", "plain,lstm", "--accumulate", "2"])
    sys.exit(status)


def test_the_command_shards_trains_evaluates_and_saves(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    pairs.well(pairs.calling(forged_command, out, cache))
    one = [row for row in losses(finished) if row[1] == 0]
    two = losses(out)
    assert [row[:4] for row in two] == [row[:4] for row in one]
    assert [row[4] for row in two] == pytest.approx([row[4] for row in one], abs=1e-4)
    assert not list(out.rglob("shards"))
    assert {row[:5] for row in numbers(out)} <= {row[:5] for row in numbers(finished)} | {
        row[:5] for row in numbers(out) if row[1] == "mean"
    }
    facts = json.loads((out / "config.json").read_text())
    assert facts["machine"]["processes_per_arm"] == 2
    # a process alone opens it, and renders it again
    flags = ["--out", str(out), "--cache", str(cache), "--arms", "plain,lstm", "--accumulate", "2"]
    assert compare.main([*TINY, *flags, "--resume"]) == 0


# Refusals


def launch(**given: str) -> dict[str, str]:
    return {f"ACCELERATE_{name}": value for name, value in given.items()}


FSDP2 = launch(USE_FSDP="true") | {"FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        (launch(USE_CPU="True"), {"cpu": False}, "use_cpu --cpu"),
        (launch(USE_DEEPSPEED="true"), {}, "DeepSpeed fsdp_version 2"),
        (launch(USE_MEGATRON_LM="true"), {}, "Megatron-LM"),
        (launch(USE_PARALLELISM_CONFIG="true"), {}, "parallelism_config"),
        (launch(MIXED_PRECISION="fp16"), {}, "mixed_precision fp16 --precision"),
        (launch(MIXED_PRECISION="bf16"), {}, "mixed_precision bf16 --precision"),
        (launch(GRADIENT_ACCUMULATION_STEPS="4"), {}, "gradient_accumulation_steps 4 --accumulate"),
        (launch(DYNAMO_BACKEND="INDUCTOR"), {}, "dynamo_backend inductor --compile"),
        (launch(USE_FSDP="true"), {}, "fsdp_version 1 2"),
        (FSDP2, {}, "FSDP MULTI_CPU --cpu"),
        (FSDP2, {"cpu": False}, "FSDP MULTI_CPU"),
    ],
)
def test_a_launch_that_asks_for_another_training_is_refused(
    given: dict[str, str], how: dict[str, Any], message: str
) -> None:
    machine = Machine(**{"cache": Path("unused"), "cpu": True} | how)
    with raises(BadInput, message):
        check_launch(given, preset("tiny"), machine)


@pytest.mark.parametrize(
    ("more", "how", "message"),
    [
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "fsdp_cpu_ram_efficient_loading false"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "--gradient-checkpointing"),
        ({}, {"compile": True}, "--compile FSDP"),
    ],
)
def test_options_of_fsdp_that_do_not_fit_are_refused(
    more: dict[str, str], how: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        processes.torch.accelerator, "current_accelerator", lambda: torch.device("cuda")
    )
    machine = Machine(cache=Path("unused"), **how)
    with raises(BadInput, message):
        check_launch(FSDP2 | more, preset("tiny"), machine)


def test_the_same_values_in_both_places_are_accepted() -> None:
    machine = Machine(cache=Path("unused"), cpu=True, accumulate=4, compile=True)
    given = launch(
        USE_CPU="True", MIXED_PRECISION="no", GRADIENT_ACCUMULATION_STEPS="4",
        DYNAMO_BACKEND="INDUCTOR",
    )  # fmt: skip
    check_launch(given, preset("tiny"), machine)


def test_accelerate_does_not_divide_the_loss_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    machine = Machine(cache=Path("unused"), cpu=True, accumulate=4)
    loss = torch.ones((), requires_grad=True)
    accelerator_of(machine, preset("tiny")).backward(loss * 1.0)
    assert loss.grad == 1.0


@pytest.mark.parametrize(
    ("environment", "cpu", "message"),
    [
        ({"WORLD_SIZE": "2"}, False, "2 WORLD_SIZE NO --cpu"),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"},
            True,
            "accelerate torchrun --nproc_per_node --cpu",
        ),
    ],
)
def test_processes_that_would_train_apart_are_refused(
    environment: dict[str, str], cpu: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.accelerator.current_accelerator() is not None:
        pytest.skip("here accelerate joins them")
    for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with raises(BadInput, message):
        check_processes(preset("tiny"), Machine(cache=Path("unused"), cpu=cpu))


def test_fsdp_that_accelerate_drops_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with raises(BadInput, "FSDP NO examples/accelerate"):
        accelerator_of(Machine(cache=Path("unused"), cpu=True), preset("tiny"))


def test_more_processes_than_rows_are_refused(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [*COMMAND[1:], "--batch-size", "1", "--out", out, "--cache", cache]
    statuses, errors = pairs.end(pairs.start(flags))
    assert statuses == [2, 2]
    for text in errors:
        says(text, "pretrain 1 2")
    assert not out.exists()


FILES = sorted((ROOT / "examples" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_config_files_ask_for_what_the_command_gives(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate reads the file, and the command accepts the environment that it makes of it."""
    from accelerate.commands import launch as launcher
    from accelerate.utils import launch as made

    argv = ["--config_file", str(path), "-m", "training.compare"]
    args = launcher.launch_command_parser().parse_args(argv)
    monkeypatch.setattr(launcher.torch.cuda, "is_available", lambda: True)
    args, _, _ = launcher._validate_launch_command(args)
    name = path.stem
    assert args.num_processes == {"one": 1}.get(name, 32 if "nodes" in name else 8)
    assert args.use_fsdp == name.startswith("fsdp2")
    assert args.multi_gpu == name.startswith("ddp")
    if name == "one":
        given = made.prepare_simple_launcher_cmd_env(args)[1]
    else:
        given = made.prepare_multi_gpu_env(args)
    gpu = torch.device("cuda")
    monkeypatch.setattr(processes.torch.accelerator, "current_accelerator", lambda: gpu)
    config = changed(preset("tiny"), precision="fp32")
    check_launch(given, config, Machine(cache=Path("unused")))
    assert given.get("FSDP_VERSION") == ("2" if args.use_fsdp else None)
