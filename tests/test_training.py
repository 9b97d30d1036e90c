"""The decoder, generation and the one loop."""

from __future__ import annotations

import json
import math
import os
import signal
import string
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from charembed import SpellingTable
from tests.reference import generate_one_by_one
from training.arms import assert_paired, build_arm, num_parameters
from training.batches import Batch, text_batches
from training.config import CompareConfig, preset
from training.decoder import Cache, Decoder, DecoderConfig
from training.files import read_tensors, write_atomically, write_tensors
from training.generate import generate
from training.loop import Interrupted, NotFinite, Phase, load_parameters, train, trained_parameters
from training.optimizers import build_optimizers, lr_scale

SMALL = DecoderConfig(vocab_size=50, context=24, n_layer=2, n_head=2, n_embd=16)
PHASE = Phase(name="pretrain", steps=12, lr=1e-2, char_lr=1e-2, seed=0, warmup=2, save_every=5)
TABLE = SpellingTable.from_bytes([bytes([97 + i % 26, 97 + i // 26]) for i in range(50)])


def small_model(seed: int = 0, dropout: float = 0.0, arm: str = "lstm") -> nn.Module:
    config = replace(preset("tiny"), vocab_size=50, context=24, width=16, heads=2, dropout=dropout)
    return build_arm(config, arm, seed, TABLE)


def batches(seed: int = 0) -> Callable[[int], Batch]:
    ids = (torch.arange(2000) * 7 % 50).int()
    return text_batches(ids, 4, 8, seed)


def test_the_parents_models_have_895104_parameters_each(cache: Path) -> None:
    config = preset("parent")
    printable = [character.encode() for character in string.printable]
    merges = [(a + b).encode() for a in string.ascii_letters for b in string.ascii_letters][:412]
    table = SpellingTable.from_bytes(printable + merges)
    models = {arm: build_arm(config, arm, 0, table) for arm in ("matched", "lstm")}
    assert {arm: num_parameters(model) for arm, model in models.items()} == {"matched": 895_104, "lstm": 895_104}
    assert models["matched"].get_parameter("wte.encoder.table.weight").shape == (512, 252)


def test_the_cache_changes_no_logits() -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL).eval()
    ids = torch.randint(50, (3, 10))
    cache: Cache = []
    parts = [model(ids[:, :4], None, cache), *(model(ids[:, [t]], None, cache) for t in range(4, 10))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=1e-5, atol=1e-6)


def test_kept_logits_are_the_logits_kept() -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL).eval()
    ids, keep = torch.randint(50, (3, 10)), torch.rand(3, 10) > 0.5
    torch.testing.assert_close(model(ids, keep), model(ids)[keep])


def test_no_position_sees_a_later_one() -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL).eval()
    ids = torch.randint(50, (1, 10))
    changed = ids.clone()
    changed[0, 6:] = 0
    assert torch.equal(model(ids)[:, :6], model(changed)[:, :6])
    assert not torch.equal(model(ids)[:, 6:], model(changed)[:, 6:])


def test_a_longer_context_keeps_the_learned_positions() -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL).eval()
    ids = torch.randint(50, (1, 24))
    before = model(ids)
    with pytest.raises(ValueError, match="25 tokens do not fit the context of 24"):
        model(torch.zeros(1, 25, dtype=torch.long))
    model.extend_context(32, torch.Generator().manual_seed(0))
    assert torch.equal(model(ids), before)
    assert model(torch.zeros(1, 32, dtype=torch.long)).shape == (1, 32, 50)


def test_a_tied_head_is_one_parameter() -> None:
    assert num_parameters(Decoder(SMALL)) - num_parameters(Decoder(replace(SMALL, tie=True))) == 50 * 16


@pytest.mark.parametrize("arm", ["plain", "lstm"])
def test_batched_answers_equal_one_by_one_without_cache(arm: str) -> None:
    model = small_model(3, arm=arm)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(50, (n,), generator=generator).tolist() for n in (3, 5, 3, 1, 5, 3, 9)]
    stop = [7, 11, *range(20, 30)]
    ours = generate(model, prompts, max_new_tokens=9, stop=stop, context=24)
    assert ours == generate_one_by_one(model, prompts, max_new_tokens=9, stop=stop)
    assert len({len(answer) for answer in ours}) > 1, "the stop tokens must matter for this test to say anything"


def test_prompts_that_do_not_fit_are_refused() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="prompt 1 has 20 tokens and the answer up to 5, the context only 24: shorten"):
        generate(model, [[1], [1] * 20], max_new_tokens=5, context=24)
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        generate(model, [[]], max_new_tokens=5, context=24)


def test_arms_begin_alike_and_a_difference_is_caught() -> None:
    models = {arm: small_model(5, arm=arm) for arm in ("plain", "matched", "lstm", "shuffled")}
    assert_paired(models)
    with torch.no_grad():
        models["lstm"].get_parameter("blocks.0.ln_1.weight")[0] += 1e-6
    with pytest.raises(AssertionError, match=r"blocks.0.ln_1.weight begins differently in plain and lstm"):
        assert_paired(models)


def test_matched_has_about_as_many_parameters(tiny: CompareConfig) -> None:
    table = SpellingTable.from_bytes([bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676]) for i in range(4096)])
    sizes = {arm: num_parameters(build_arm(preset("quick"), arm, 0, table)) for arm in ("matched", "lstm")}
    assert abs(sizes["matched"] / sizes["lstm"] - 1) < 0.005


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_has_one_optimizer(kind: str) -> None:
    model = small_model()
    optimizers = build_optimizers(model, kind=kind, lr=1.0, char_lr=0.5, weight_decay=0.1)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    assert {group["name"]: group["lr"] for group in groups}["char"] == 0.5
    assert {group["name"]: group["weight_decay"] for group in groups if group["weight_decay"]} == {"blocks": 0.1}


def test_the_rate_rises_and_falls() -> None:
    rates = [lr_scale(step, 100, 10) for step in range(100)]
    assert rates[9] == rates[10] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def run(folder: Path, batch_at: Callable[[int], Batch], phase: Phase = PHASE, dropout: float = 0.1, arm: str = "lstm") -> tuple[nn.Module, str]:
    model = small_model(dropout=dropout, arm=arm)
    digest = train(model, phase, batch_at, folder, Accelerator(cpu=True))
    return model, digest


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss_nats"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("arm", ["plain", "matched", "lstm", "shuffled"])
def test_the_loss_falls(tmp_path: Path, arm: str) -> None:
    run(tmp_path, batches(), replace(PHASE, steps=60), arm=arm)
    assert losses(tmp_path)[0] > 3.5
    assert losses(tmp_path)[-1] < 2.0


def test_the_same_run_twice_differs_by_exactly_zero(tmp_path: Path) -> None:
    (first, digest), (second, again) = run(tmp_path / "a", batches()), run(tmp_path / "b", batches())
    assert digest == again
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("step", [1, 5, 8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path: Path, step: int, number: int) -> None:
    whole, digest = run(tmp_path / "whole", batches())

    def interrupting(k: int) -> Batch:
        if k == step:
            os.kill(os.getpid(), number)
        return batches()(k)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"pretrain stopped after step {step + 1} of 12; its state is saved"):
        run(tmp_path / "parts", interrupting)
    assert signal.getsignal(number) is before
    resumed, again = run(tmp_path / "parts", batches())
    assert again == digest
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_run_killed_between_saves_goes_on_from_the_last_one(tmp_path: Path) -> None:
    run(tmp_path / "whole", batches())

    def broken(k: int) -> Batch:
        if k == 8:
            raise RuntimeError("power cut")
        return batches()(k)

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "parts", broken)
    assert read_tensors(tmp_path / "parts" / "state.safetensors")[1]["step"] == 5
    run(tmp_path / "parts", batches())
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_bad_loss_stops_before_the_weights_move(tmp_path: Path) -> None:
    model = small_model()
    seen: list[dict[str, torch.Tensor]] = []

    def poisoned(k: int) -> Batch:
        if k == 7:
            seen.append({name: value.clone() for name, value in model.state_dict().items()})
            model.get_parameter("ln_f.bias").data[0] = math.nan
        return batches()(k)

    with pytest.raises(NotFinite, match="the pretrain loss is nan at step 7, so training stopped before the weights moved; the state of step 5 is kept"):
        train(model, PHASE, poisoned, tmp_path, Accelerator(cpu=True))
    for name, value in model.state_dict().items():
        if name != "ln_f.bias":
            assert torch.equal(value, seen[0][name]), name
    tensors, facts = read_tensors(tmp_path / "state.safetensors")
    assert facts["step"] == 5
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_parameters_of_another_model_are_refused_and_change_nothing() -> None:
    model, other = small_model(), small_model(arm="matched")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"x.safetensors does not fit this model: wte.encoder.* differs \(and \d+ more\)"):
        load_parameters(model, trained_parameters(other), Path("x.safetensors"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_files_are_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.arange(3)}, {"step": 1})
    tensors, facts = read_tensors(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert facts == {"step": 1}
    threads = [threading.Thread(target=write_atomically, args=(tmp_path / "y", "z" * 100_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.safetensors", "y"]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"x.safetensors is damaged"):
        read_tensors(path)
    with pytest.raises(ValueError, match="does not exist: finish the run"):
        read_tensors(tmp_path / "nothing")
