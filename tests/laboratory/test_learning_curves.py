"""Held-out loss and exact match during training: the same rows whatever happens, and no effect."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.laboratory.test_damage import flip, stopping_after
from tests.messages import raises
from training.ask.eval_sets import make_eval_sets
from training.ask.learning_curve import LearningCurve, measured_steps
from training.data.batches import text_batches
from training.data.prepare import Data
from training.errors import Damaged, Interrupted
from training.files import read_record, read_tensors, write_record, write_tensors
from training.run.arm import train_arm
from training.run.machine import Machine
from training.run.run import TOKENS_PER_SECOND, ArmRun, Run
from training.train.kinds import phase_batches
from training.train.loop import take_step

MACHINE = Machine(cache=Path("unused"), cpu=True, progress=False)
CURVES = ("pretrain.curve.jsonl", "finetune.curve.jsonl")


def trained(out: Path, data: Data, machine: Machine = MACHINE, name: str = "lstm") -> ArmRun:
    """Train an arm of the tiny preset in this process, from the state that its folder holds."""
    arm = Run(out, data).arm(name, 0)
    train_arm(arm, machine)
    return arm


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> ArmRun:
    return trained(tmp_path_factory.mktemp("curves"), data)


def curves(arm: ArmRun) -> list[bytes]:
    return [(arm.folder / name).read_bytes() for name in CURVES]


def losses(arm: ArmRun) -> list[Any]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in arm.metrics()]


def weights(arm: ArmRun) -> list[bytes]:
    """The saved values alone: the files also hold the hash of metrics.jsonl, which has times."""
    found = []
    for path in sorted(arm.folder.glob("*.safetensors")):
        values = sorted(load_file(path).items())
        found.append(b"".join(each.numpy().tobytes() for _, each in values))
    return found


@pytest.mark.parametrize(
    ("steps", "times"),
    [(400, 12), (2600, 12), (10, 12), (6, 12), (4, 1), (0, 12), (400, 0), (13, 2)],
)
def test_steps_are_spread_evenly_and_end_at_the_last_one(steps: int, times: int) -> None:
    found = measured_steps(steps, times)
    assert len(set(found)) == len(found) <= times
    assert found == sorted(found)
    if steps and times:
        assert found[-1] == steps
        gaps = {after - before for before, after in zip([0, *found], found, strict=False)}
        assert max(gaps) - min(gaps) <= 1
        assert len(found) == times or min(gaps) <= 5
    else:
        assert not found


def test_both_phases_are_measured_alike_for_all_arms(
    whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    for arm in (whole, trained(tmp_path, data, name="plain")):
        rows = arm.curves()
        assert [row["step"] for row in rows if row["task"] == "text"] == [3, 6, 5, 10]
        asked = [row for row in rows if row["metric"] == "exact_match"]
        assert {(row["phase"], row["step"]) for row in asked} == {("finetune", 5), ("finetune", 10)}
        assert len({(row["task"], row["split"]) for row in asked}) == 4 * 4
        assert all(0 <= row["value"] <= 1 and row["n"] >= 1 for row in asked)
        assert all(row["value"] > 1 and row["n"] % 32 == 0 for row in rows if row not in asked)
        assert len(arm.metrics()) == 16, "the rows of steps have a file of their own"


def test_all_arms_and_seeds_get_the_same_questions_and_not_those_of_the_evaluation(
    data: Data,
) -> None:
    asked = [
        [
            (one.task.name, one.split, [item.prompt for item in one.items])
            for one in LearningCurve.of(
                Run(Path("unused"), data).arm(arm, 0).built(), data, data.config.phase("finetune"),
                arm, seed, 12,
            ).eval_sets
        ]
        for arm, seed in (("lstm", 0), ("plain", 3))
    ]  # fmt: skip
    assert asked[0] == asked[1]
    final = [
        (one.task.name, one.split, [item.prompt for item in one.items])
        for one in make_eval_sets(data, 0)
    ]
    assert not [one for one in asked[0] if one in final]


def test_measuring_changes_no_number_of_the_training(
    whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    arm = trained(tmp_path, data, replace(MACHINE, measures=0))
    assert losses(arm) == losses(whole)
    assert weights(arm) == weights(whole)
    assert arm.answers() == whole.answers()
    assert arm.curves() == []
    assert whole.curves() != []


def test_the_same_arm_twice_has_the_same_curve(whole: ArmRun, data: Data, tmp_path: Path) -> None:
    assert curves(trained(tmp_path, data)) == curves(whole)


def test_measuring_moves_no_random_generator_and_no_mode(whole: ArmRun, data: Data) -> None:
    model = whole.model().train()
    curve = LearningCurve.of(model, data, data.config.phase("finetune"), "lstm", 0, 12)
    before = torch.get_rng_state()
    measured = curve(10)
    assert not curve(9)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    last = [r for r in whole.curves() if (r["phase"], r["step"]) == ("finetune", 10)]
    assert measured == last, "these are the weights of the last step"


@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_a_stopped_arm_ends_with_the_same_curve(
    saves: int, whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    machine = replace(MACHINE, save_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.train.shards.save_state", stopping_after(saves))
        with pytest.raises(Interrupted):
            trained(tmp_path, data, machine)
    arm = trained(tmp_path, data, machine)
    assert curves(arm) == curves(whole)
    assert weights(arm) == weights(whole)


@pytest.mark.parametrize("step", [1, 4, 7])
@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_a_killed_arm_ends_with_the_same_curve(
    phase: str, step: int, whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    """Rows behind the last saved state are in the files when the process dies."""
    step = min(step, data.config.phase(phase).steps - 1)

    def dying(t: Any, *rest: Any) -> Any:
        if (t.phase.name, t.position.step) == (phase, step):
            raise MemoryError
        return take_step(t, *rest)

    machine = replace(MACHINE, save_every=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.train.loop.take_step", dying)
        with pytest.raises(MemoryError):
            trained(tmp_path, data, machine)
    arm = trained(tmp_path, data, machine)
    assert curves(arm) == curves(whole)
    assert weights(arm) == weights(whole)


def copy(arm: ArmRun, to: Path) -> ArmRun:
    shutil.copytree(arm.run.folder, to)
    return Run(to, arm.run.data).arm(arm.name, arm.seed)


@pytest.mark.parametrize("gone", [CURVES[:1], CURVES[1:], CURVES], ids="+".join)
def test_a_deleted_curve_costs_no_training(
    gone: tuple[str, ...], whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    arm = copy(whole, tmp_path / "run")
    for name in gone:
        (arm.folder / name).unlink()
    assert arm.is_finished
    kept = [row for row in whole.curves() if f"{row['phase']}.curve.jsonl" not in gone]
    assert arm.curves() == kept
    (arm.folder / "answers.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run.arm.train", None)  # to call it would fail
        train_arm(arm, MACHINE)
    assert arm.answers() == whole.answers()
    assert arm.curves() == kept


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("done", [True, False])
def test_a_changed_curve_is_named(
    name: str, done: bool, whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    arm = copy(whole, tmp_path / "run")
    flip(arm.folder / name, 40, 1)
    if not done:
        (arm.folder / "done.json").unlink()
    with raises(Damaged, f"{arm.folder / name} delete"):
        train_arm(arm, MACHINE)


def test_an_arm_of_a_version_without_curves_opens_and_goes_on(
    whole: ArmRun, data: Data, tmp_path: Path
) -> None:
    arm = copy(whole, tmp_path / "run")
    for name in (*CURVES, "text.json"):
        (arm.folder / name).unlink()
    done = read_record(arm.folder / "done.json")
    new = {*CURVES, "text.json"}
    done["files"] = {name: value for name, value in done["files"].items() if name not in new}
    write_record(arm.folder / "done.json", done)
    assert arm.is_finished
    assert arm.curves() == []
    assert arm.text_losses() == {}
    (arm.folder / "done.json").unlink()
    train_arm(arm, MACHINE)
    assert arm.text_losses() == whole.text_losses(), "read from the saved weights of each phase"
    assert arm.curves() == []


# Text, by window and by the frequency of its tokens


def test_losses_of_windows_and_bins_add_up_to_the_row(whole: ArmRun, data: Data) -> None:
    rows = {row.task: row for row in whole.rows() if row.metric == "loss_nats"}
    found = whole.text_losses()
    assert list(found) == list(rows) == ["text, after pretraining", "text, after fine-tuning"]
    for task, losses in found.items():
        assert len(losses.window_nats) * losses.tokens_per_window == rows[task].n
        assert losses.tokens_per_window == data.config.text.context
        mean = sum(losses.window_nats) / rows[task].n
        assert mean == pytest.approx(rows[task].value, rel=1e-5)
        assert sum(nats for *_, nats, _ in losses.bins) == pytest.approx(sum(losses.window_nats))
        assert sum(tokens for *_, tokens in losses.bins) == rows[task].n
        ranges = [(low, high) for low, high, *_ in losses.bins]
        assert ranges == [(0, 9), (10, 99), (100, 999), (1000, None)]


def test_losses_by_frequency_are_those_of_a_slow_twin(whole: ArmRun, data: Data) -> None:
    model, context = whole.model(), data.config.text.context
    ids = data.held_out_texts["text"].ids
    counts = Counter(data.train_ids.tolist())
    windows, bins = [], {low: [0.0, 0] for low in (0, 10, 100, 1000)}
    batch = text_batches(ids, 4, context, "validation")(0)
    for inputs, targets in zip(batch.ids_BT, batch.targets_BT, strict=True):
        with torch.no_grad():
            logs = model(inputs[None])[0].log_softmax(-1)
        nats = [-float(row[target]) for row, target in zip(logs, targets, strict=True)]
        windows.append(sum(nats))
        for each, target in zip(nats, targets.tolist(), strict=True):
            low = max(low for low in bins if low <= counts[target])
            bins[low][0] += each
            bins[low][1] += 1
    found = whole.text_losses()["text, after fine-tuning"]
    assert found.window_nats == pytest.approx(windows, rel=1e-5)
    for low, _, nats, tokens in found.bins:
        assert [nats, tokens] == pytest.approx(bins[low], rel=1e-5)


# Cost


def test_tokens_read_are_those_of_all_batches_without_padding(whole: ArmRun, data: Data) -> None:
    config = data.config
    read = {
        "pretrain": {"text": 6 * 4 * 32},
        # a tenth of the steps replays text
        "finetune": {"text": 1 * 4 * 32, "question": 0},
    }
    finetune, questions = config.phase("finetune"), data.questions(48)
    batch_at = phase_batches(data, finetune, 0)
    for k in range(10):
        if batch_at(k).kind == "question":
            for row in range(8):
                item, *ids = questions.item("finetune", 0, k * 8 + row)
                read["finetune"]["question"] += len(questions.arrange(item, *ids).targets)
    assert whole.tokens() == read


def test_each_phase_has_its_seconds_and_its_rate(whole: ArmRun) -> None:
    rows = {(row.task, row.metric): row for row in whole.rows()}
    steps = whole.metrics()
    for phase, kind in (("pretrain", "text"), ("finetune", "question")):
        spent = [step["seconds"] for step in steps if step["phase"] == phase]
        assert rows[phase, "training_seconds"].value == pytest.approx(sum(spent))
        row = rows[phase, TOKENS_PER_SECOND]
        median = rows[phase, "median_step_seconds"].value
        assert row.value * median * row.n == pytest.approx(whole.tokens()[phase][kind])
    total = rows["all", "training_seconds"].value
    assert total == pytest.approx(sum(step["seconds"] for step in steps))


def test_a_resumed_arm_has_read_the_same_tokens(whole: ArmRun, data: Data, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.train.shards.save_state", stopping_after(3))
        with pytest.raises(Interrupted):
            trained(tmp_path, data, replace(MACHINE, save_every=2))
    assert trained(tmp_path, data).tokens() == whole.tokens()


def test_an_arm_that_began_without_a_count_has_no_rate(data: Data, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.train.shards.save_state", stopping_after(1))
        with pytest.raises(Interrupted):
            trained(tmp_path, data, replace(MACHINE, save_every=2))
    (path,) = tmp_path.rglob("state.safetensors")
    tensors, facts = read_tensors(path)
    new = ("tokens", "curve_bytes", "curve_sha256")  # fields that an earlier version did not write
    write_tensors(path, tensors, {key: facts[key] for key in facts if key not in new})
    (path.parent / CURVES[0]).unlink()
    arm = trained(tmp_path, data)
    assert list(arm.tokens()) == ["finetune"]
    rates = [row.task for row in arm.rows() if row.metric == TOKENS_PER_SECOND]
    assert rates == ["finetune"]
    assert [r["step"] for r in arm.curves() if r["phase"] == "pretrain"] == [6], "3 was before"
