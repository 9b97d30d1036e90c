"""The decoder, generation and the one loop."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from charembed import SpellingHeads, SpellingTable
from charembed.embedding import attached
from charembed.spelling_loss import ids_with_characters, spelling_targets
from tests.messages import raises
from tests.plugin.reference import generate_one_by_one
from training.config.flags import changed
from training.config.phase import Phase
from training.config.presets import preset
from training.data.batches import (
    Batch,
    BatchAt,
    spelling_batches,
    text_batches,
    with_spelling,
)
from training.errors import Interrupted
from training.files import read_tensors, write_atomically, write_tensors
from training.models.arms import ARMS, num_parameters
from training.models.decoder import Cache, Decoder, DecoderConfig
from training.models.generate import generate
from training.models.language_model import LanguageModel
from training.models.objectives import OBJECTIVES, GenerationSettings
from training.run.build import build_arm
from training.train.kinds import lr_scale
from training.train.loop import NotFinite, Training, train
from training.train.loss import heads_for, reader
from training.train.state import load_parameters, trained_parameters

SMALL = DecoderConfig(vocab_size=50, context=24, n_layer=2, n_head=2, n_embd=16)
PHASE = Phase(name="pretrain", kind="text", title="pretraining", steps=12, lr=1e-2, warmup=2)
TABLE = SpellingTable.from_bytes([bytes([97 + i % 26, 97 + i // 26]) for i in range(49)] + [None])


def small_model(seed: int = 0, dropout: float = 0.0, arm: str = "lstm") -> LanguageModel:
    config = changed(preset("tiny"), vocab_size=50, context=24, width=16, heads=2, dropout=dropout)
    return build_arm(config, arm, seed, TABLE)


def in_phase(
    model: LanguageModel,
    batch_at: BatchAt,
    folder: Path,
    phase: Phase = PHASE,
    heads: SpellingHeads | None = None,
) -> Training:
    return Training(
        model=model,
        phase=phase,
        batch_at=batch_at,
        folder=folder,
        accelerator=Accelerator(cpu=True),
        seed=0,
        heads=heads,
        save_every=5,
    )


def batches(seed: int = 0) -> Callable[[int], Batch]:
    ids = (torch.arange(2000) * 7 % 50).int()
    return text_batches(ids, 4, 8, seed)


def test_the_cache_changes_no_logits() -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL).eval()
    ids = torch.randint(50, (3, 10))
    cache: Cache = []
    parts = [
        model(ids[:, :4], None, cache),
        *(model(ids[:, [t]], None, cache) for t in range(4, 10)),
    ]
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
    with raises(ValueError, "25 24"):
        model(torch.zeros(1, 25, dtype=torch.long))
    model.extend_context(32, torch.Generator().manual_seed(0))
    assert torch.equal(model(ids), before)
    assert model(torch.zeros(1, 32, dtype=torch.long)).shape == (1, 32, 50)


def test_weights_and_positions_added_later_start_as_loud_as_the_config_says() -> None:
    torch.manual_seed(0)
    model = Decoder(replace(SMALL, init_std=0.3))
    model.extend_context(424, torch.Generator().manual_seed(0))
    for weight in (
        model.wte.weight,
        model.lm_head.weight,
        model.wpe.weight[24:],
        model.blocks[1].mlp[0].weight,
    ):
        assert weight.std().item() == pytest.approx(0.3, rel=0.15)


def test_a_tied_head_is_one_parameter() -> None:
    assert (
        num_parameters(Decoder(SMALL)) - num_parameters(Decoder(replace(SMALL, output="tokens")))
        == 50 * 16
    )


@pytest.mark.parametrize("arm", ["plain", "lstm"])
def test_batched_answers_equal_one_by_one_without_cache(arm: str) -> None:
    model = small_model(3, arm=arm)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(50, (n,), generator=generator).tolist() for n in (3, 5, 3, 1, 5, 3, 9)]
    stop = [7, 11, *range(20, 30)]
    ours = generate(model, prompts, max_new_tokens=9, stop=stop, context=24)
    assert ours == generate_one_by_one(model, prompts, max_new_tokens=9, stop=stop)
    assert len({len(answer) for answer in ours}) > 1, (
        "the stop tokens must matter for this test to say anything"
    )


def test_prompts_that_do_not_fit_are_refused() -> None:
    model = small_model()
    with raises(ValueError, "1 20 5 24"):
        generate(model, [[1], [1] * 20], max_new_tokens=5, context=24)
    with raises(ValueError, "0 empty"):
        generate(model, [[]], max_new_tokens=5, context=24)


def test_the_rate_rises_and_falls() -> None:
    rates = [lr_scale(step, 100, 10) for step in range(100)]
    assert rates[9] == rates[10] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert {lr_scale(step, 100, 0, "constant") for step in range(100)} == {1.0}


def run(
    folder: Path,
    batch_at: Callable[[int], Batch],
    phase: Phase = PHASE,
    dropout: float = 0.1,
    arm: str = "lstm",
) -> tuple[nn.Module, str]:
    model = small_model(dropout=dropout, arm=arm)
    heads = heads_for(model, "wte", TABLE, 0) if phase.spells else None
    return model, train(in_phase(model, batch_at, folder, phase, heads)).batches


def losses(folder: Path) -> list[float]:
    return [
        json.loads(line)["loss_nats"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("arm", ARMS)
def test_the_loss_falls(tmp_path: Path, arm: str) -> None:
    run(tmp_path, batches(), replace(PHASE, steps=60), arm=arm)
    assert losses(tmp_path)[0] > 3.5
    assert losses(tmp_path)[-1] < (3.0 if arm == "length" else 2.0), (
        "here all tokens are of one length: it tells nothing"
    )


def test_the_same_run_twice_differs_by_exactly_zero(tmp_path: Path) -> None:
    (first, digest), (second, again) = (
        run(tmp_path / "a", batches()),
        run(tmp_path / "b", batches()),
    )
    assert digest == again
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert all(
        torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_row_dropout_is_for_arms_with_character_vectors(tmp_path: Path) -> None:
    dropping = replace(PHASE, row_dropout=0.5)
    for arm in ("plain", "lstm"):
        run(tmp_path / arm / "all", batches(), arm=arm)
        model, _ = run(tmp_path / arm / "dropped", batches(), dropping, arm=arm)
        same = losses(tmp_path / arm / "all") == losses(tmp_path / arm / "dropped")
        assert same == (arm == "plain")
        # the phase after it may have none
        assert all(not embedding.row_dropout for embedding in attached(model))


@pytest.mark.parametrize("step", [1, 5, 8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("row_dropout", [0.0, 0.5])
def test_an_interrupted_run_ends_with_the_same_numbers(
    tmp_path: Path, step: int, number: int, row_dropout: float
) -> None:
    phase = replace(PHASE, row_dropout=row_dropout)
    whole, digest = run(tmp_path / "whole", batches(), phase)

    def interrupting(k: int) -> Batch:
        if k == step:
            os.kill(os.getpid(), number)
        return batches()(k)

    before = signal.getsignal(number)
    with raises(Interrupted, f"pretrain {step + 1} 12"):
        run(tmp_path / "parts", interrupting, phase)
    assert signal.getsignal(number) is before
    resumed, again = run(tmp_path / "parts", batches(), phase)
    assert again == digest
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert all(
        torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def rich_batches() -> BatchAt:
    """Text, and tokens for the spelling loss."""
    return with_spelling(batches(), ids_with_characters(TABLE), 16, "x", 0)


def test_an_interrupted_run_with_heads_ends_with_the_same_numbers(tmp_path: Path) -> None:
    phase = replace(PHASE, spelling_loss=0.3)
    whole, digest = run(tmp_path / "whole", rich_batches(), phase)

    def interrupting(k: int) -> Batch:
        if k == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return rich_batches()(k)

    with pytest.raises(Interrupted):
        run(tmp_path / "parts", interrupting, phase)
    resumed, again = run(tmp_path / "parts", rich_batches(), phase)
    assert again == digest
    rows = [
        [
            json.loads(line) | {"seconds": 0}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    assert "spelling_nats" in rows[0][0]
    assert all(
        torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


@pytest.mark.parametrize("arm", ["plain", "lstm"])
def test_a_spelling_warm_up_moves_what_letters_are_read_from_and_nothing_else(
    arm: str, tmp_path: Path
) -> None:
    phase = Phase(
        name="warmup_spelling",
        kind="spelling",
        title="the spelling warm-up",
        steps=60,
        batch_size=32,
        lr=3e-2,
        optimizer="adamw",
        warmup=2,
    )
    before = {
        name: value.detach().clone() for name, value in small_model(arm=arm).named_parameters()
    }
    model, _ = run(
        tmp_path, spelling_batches(ids_with_characters(TABLE), 32, "x", 0), phase, arm=arm
    )
    moved = {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved == (
        {"wte.weight"} if arm == "plain" else {name for name in before if ".encoder." in name}
    )
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]


def test_spelling_targets_are_the_letters_and_the_end() -> None:
    table = SpellingTable.from_bytes([b"the", b"x" * 12, None])
    alphabet = len(table.alphabet)
    the, long, special = spelling_targets(table, 10).tolist()
    assert the == [*(table.alphabet.index(ord(letter)) for letter in "the"), alphabet, *[-100] * 6]
    assert long == [table.alphabet.index(ord("x"))] * 10
    assert special == [-100] * 10


def test_the_heads_of_shuffled_letters_learn_these_letters() -> None:
    model = small_model(arm="shuffled")
    heads, encoder = heads_for(model, "wte", TABLE, 0), reader(model, "wte")
    assert torch.equal(heads.targets_VP, spelling_targets(encoder.spellings, 10))
    assert not torch.equal(heads.targets_VP, spelling_targets(TABLE, 10))


def test_reversed_answers_are_turned_around_and_teacherless_ones_written_at_once() -> None:
    model = small_model(3)
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8]]
    asked = GenerationSettings(
        max_new_tokens=6, stop=frozenset({7, *range(20, 30)}), dummy=0, context=24
    )
    told: list[int] = []
    forward, backward, at_once = (
        OBJECTIVES[name].answers(model, prompts, asked, told.append)
        for name in ("next_token", "reversed", "teacherless")
    )
    assert backward == [answer[::-1] for answer in forward]
    assert sum(told) == 9
    for prompt, answer in zip(prompts, at_once, strict=True):
        logits = model(torch.tensor([prompt + [0] * 5]))[0, len(prompt) - 1 :]
        tokens = logits.argmax(-1).tolist()
        assert (
            answer
            == tokens[
                : next((place for place, token in enumerate(tokens) if token in asked.stop), 6)
            ]
        )


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

    with raises(NotFinite, "pretrain nan 7 5"):
        train(in_phase(model, poisoned, tmp_path))
    for name, value in model.state_dict().items():
        if name != "ln_f.bias":
            assert torch.equal(value, seen[0][name]), name
    tensors, facts = read_tensors(tmp_path / "state.safetensors")
    assert facts["step"] == 5
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_parameters_of_another_model_are_refused_and_change_nothing() -> None:
    model, other = small_model(), small_model(arm="matched")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with raises(ValueError, "x.safetensors wte.encoder"):
        load_parameters(model, trained_parameters(other), Path("x.safetensors"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_files_are_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.arange(3)}, {"step": 1})
    tensors, facts = read_tensors(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert facts == {"step": 1}
    threads = [
        threading.Thread(target=write_atomically, args=(tmp_path / "y", "z" * 100_000))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.safetensors", "y"]
    path.write_bytes(path.read_bytes()[:-2])
    with raises(ValueError, "x.safetensors"):
        read_tensors(path)
    with raises(ValueError, "exist"):
        read_tensors(tmp_path / "nothing")
