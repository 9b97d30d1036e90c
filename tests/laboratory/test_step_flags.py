"""A step in parts, compiled, in bf16 or with checkpoints: the same batches and nearly the same losses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch._inductor.exc import CppCompileError

import charembed
from charembed.spelling_loss import ids_with_characters
from tests.laboratory.pretrained import LLAMA, gemma2, llama, save, train_tokenizer
from tests.laboratory.runs import TINY
from tests.laboratory.test_training import PHASE, TABLE, batches, losses, small_model
from tests.messages import raises, says
from training import compare
from training.config.flags import changed, parse
from training.config.phase import Phase
from training.config.presets import preset
from training.data.batches import BatchAt, pad_examples, with_spelling
from training.errors import BadInput, Interrupted
from training.interrupts import listening
from training.models import blocks
from training.models.arms import ARMS
from training.models.blocks import blocks_of
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel
from training.models.objectives import Example
from training.run.begun import command_of
from training.run.machine import Machine
from training.run.processes import check_processes
from training.train.loop import Training, train
from training.train.loss import heads_for

TEXT = replace(PHASE, steps=6)
QUESTIONS = replace(TEXT, name="finetune", kind="question", title="fine-tuning")


@pytest.fixture(autouse=True)
def _forget_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision


def questions(k: int) -> Any:
    """Return rows of different lengths with a loss at their ends alone."""
    rows = []
    for row in range(5):
        ids = [(7 * k + 3 * row + place) % 49 for place in range(6 + row)]
        rows.append(Example(ids, [*ids[1:], 49], 3))
    return pad_examples(rows)


def trained(
    folder: Path,
    model: LanguageModel,
    batch_at: BatchAt,
    phase: Phase = TEXT,
    precision: str = "no",
    **how: Any,
) -> list[float]:
    """Train a model in place; return its losses."""
    heads = heads_for(model, model.embedding, TABLE, 0) if phase.spells else None
    train(
        Training(
            model=model, phase=phase, batch_at=batch_at, folder=folder, seed=0, heads=heads,
            accelerator=Accelerator(cpu=True, mixed_precision=precision), **how,
        )
    )  # fmt: skip
    return losses(folder)


def lettered(host: Any) -> HuggingFace:
    """Wrap a Hugging Face model and attach an LSTM of a few cells to it."""
    model = HuggingFace(host)
    table = charembed.SpellingTable.from_bytes(
        [bytes([97 + i % 26, 97 + i // 26]) for i in range(host.config.vocab_size)]
    )
    return charembed.attach(
        model, table, module=model.embedding, char_dim=4, hidden_size=6, init="normal"
    )


def weights(model: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("parts", [2, 3, 4, 100])
@pytest.mark.parametrize("kind", ["text", "questions", "spelling", "dropped rows"])
def test_a_step_in_parts_is_the_same_step(kind: str, parts: int, tmp_path: Path) -> None:
    phase, batch_at = TEXT, batches()
    if kind == "questions":
        phase, batch_at = QUESTIONS, questions
    if kind == "spelling":
        phase = replace(TEXT, spelling_loss=0.3)
        batch_at = with_spelling(batches(), ids_with_characters(TABLE), 16, "x", 0)
    if kind == "dropped rows":
        phase = replace(TEXT, row_dropout=0.5)
    whole, split = small_model(), small_model()
    expected = trained(tmp_path / "whole", whole, batch_at, phase)
    found = trained(tmp_path / "parts", split, batch_at, phase, accumulate=parts)
    assert found == pytest.approx(expected, rel=1e-5)
    for one, other in zip(weights(whole), weights(split), strict=True):
        # Muon multiplies in bf16, so a last digit of a gradient becomes the third of a step
        torch.testing.assert_close(one, other, rtol=0, atol=0.05 * TEXT.steps * TEXT.lr)


def test_parts_need_less_memory_at_once(tmp_path: Path) -> None:
    def watched(rows: list[int]) -> LanguageModel:
        model = small_model(arm="plain")
        model.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
        return model

    seen: list[int] = []
    trained(tmp_path, watched(seen), questions, QUESTIONS, accumulate=3)
    assert max(seen) == 2, "of 5 rows"
    assert len(seen) == 3 * QUESTIONS.steps


@pytest.mark.parametrize("make", [llama, gemma2], ids=["llama", "gemma2"])
@pytest.mark.parametrize("arithmetic", ["no", "bf16"])
def test_checkpoints_change_no_number(make: Any, arithmetic: str, tmp_path: Path) -> None:
    plain, again = lettered(make()), lettered(make())
    again.checkpoint_gradients()
    calls = [0, 0]
    for number, model in enumerate((plain, again)):
        layer = blocks_of(model)[0]
        module: Any = layer.get_submodule("mlp")

        def count(*_: Any, number: int = number) -> None:
            calls[number] += 1

        module.register_forward_pre_hook(count)
    phase = replace(QUESTIONS, steps=3)
    expected = trained(tmp_path / "plain", plain, questions, phase, arithmetic)
    assert trained(tmp_path / "again", again, questions, phase, arithmetic) == expected
    assert all(torch.equal(p, q) for p, q in zip(weights(plain), weights(again), strict=True))
    assert calls == [3, 6], "each block is computed twice"


def test_what_has_no_checkpoints_says_so() -> None:
    with raises(BadInput, "Decoder --gradient-checkpointing --accumulate"):
        small_model().checkpoint_gradients()
    host = llama()
    host.supports_gradient_checkpointing = False
    with raises(BadInput, "LlamaForCausalLM --gradient-checkpointing"):
        HuggingFace(host).checkpoint_gradients()


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_in_bf16(arm: str, tmp_path: Path) -> None:
    batch_at = with_spelling(batches(), ids_with_characters(TABLE), 16, "x", 0)
    phase = replace(TEXT, spelling_loss=0.3)
    expected = trained(tmp_path / "fp32", small_model(arm=arm), batch_at, phase)
    AcceleratorState._reset_state(reset_partial_state=True)
    model = small_model(arm=arm)
    found = trained(tmp_path / "bf16", model, batch_at, phase, "bf16")
    assert found == pytest.approx(expected, rel=0.02)
    assert found != expected, "it did compute in bf16"
    assert {weight.dtype for weight in weights(model)} == {torch.float32}, "weights stay fp32"


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "opt", "mamba", "bloom"])
def test_every_family_trains_in_bf16_and_in_parts(model_type: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}
    if model_type == "llama":
        sizes |= {name: LLAMA[name] for name in ("num_attention_heads", "num_key_value_heads")}
    if model_type in ("gpt_neox", "opt"):
        sizes |= {"num_attention_heads": 2, "intermediate_size": 32, "ffn_dim": 32}
        sizes |= {"word_embed_proj_dim": 16} if model_type == "opt" else {}
    if model_type in ("gpt2", "bloom"):
        sizes |= {"n_head": 2, "pad_token_id": 0}
    no_dropout = {"dropout": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    config = transformers.AutoConfig.for_model(
        model_type, **sizes, **no_dropout, bos_token_id=0, eos_token_id=0
    )

    def fresh() -> HuggingFace:
        torch.manual_seed(0)
        return lettered(transformers.AutoModelForCausalLM.from_config(config))

    phase = replace(QUESTIONS, steps=3, optimizer="adamw", lr=1e-3)
    expected = trained(tmp_path / "fp32", fresh(), questions, phase)
    split = trained(tmp_path / "split", fresh(), questions, phase, accumulate=2)
    assert split == pytest.approx(expected, rel=1e-4)
    AcceleratorState._reset_state(reset_partial_state=True)
    found = trained(tmp_path / "bf16", fresh(), questions, phase, "bf16")
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("arm", ["plain", "lstm", "cnn", "transformer"])
def test_the_blocks_are_those_of_the_model_and_not_of_the_encoder(arm: str) -> None:
    model = small_model(arm=arm)
    assert blocks_of(model) == list(model.get_submodule("blocks"))
    assert [type(block).__name__ for block in blocks_of(lettered(llama()))] == [
        "LlamaDecoderLayer"
    ] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own imports
@pytest.mark.parametrize("model", ["decoder", "llama"])
def test_compiled_blocks_give_nearly_the_same_losses(model: str, tmp_path: Path) -> None:
    def fresh() -> LanguageModel:
        return small_model() if model == "decoder" else lettered(llama())

    expected = trained(tmp_path / "plain", fresh(), questions, QUESTIONS)
    fast = fresh()
    names = list(fast.state_dict())
    found = trained(tmp_path / "fast", fast, questions, QUESTIONS, compile=True)
    assert found == pytest.approx(expected, rel=1e-4)
    assert list(fast.state_dict()) == names
    assert not any("forward" in vars(block) for block in blocks_of(fast)), "it is undone"
    if model == "llama":
        both = fresh()
        both.checkpoint_gradients()
        with_both = trained(tmp_path / "both", both, questions, QUESTIONS, compile=True)
        assert with_both == pytest.approx(expected, rel=1e-4)


def test_compiled_blocks_evaluate_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation mode the compiled forward is not called."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled code in evaluation mode")

    monkeypatch.setattr(blocks.torch, "compile", lambda forward: never)
    model = small_model().eval()
    ids = torch.arange(12).view(2, 6)
    expected = model(ids)
    with blocks.compiled(blocks_of(model)):
        assert torch.equal(model(ids), expected)
        with raises(AssertionError):
            model.train()(ids)
    assert torch.equal(model.train()(ids), expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--accumulate", "0"], "--accumulate 0 1"),
        (["--accumulate", "5"], "pretrain 4 5 --accumulate"),
        (["--accumulate", "5", "--batch-size", "8", "--finetune-batch-size", "3"], "finetune 3 5"),
        (["--gradient-checkpointing"], "--gradient-checkpointing decoder --accumulate"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_any_work(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache"
    assert compare.main([*TINY, *flags, "--out", str(out), "--cache", str(cache)]) == 2
    errors = capsys.readouterr().err
    says(errors, message)
    assert errors.count("\n") == 1, errors
    assert not out.exists()
    assert not cache.exists()


@pytest.mark.parametrize("signalled", [True, False])
def test_a_ctrl_c_that_also_ends_the_compiler_is_a_stopped_run(
    signalled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(function: Any) -> Any:
        def compiles(*args: Any) -> Any:
            if signalled:
                os.kill(os.getpid(), signal.SIGINT)
            raise CppCompileError(["g++", "-O3"], "killed")

        return compiles

    monkeypatch.setattr(blocks.torch, "compile", ends)
    kind = Interrupted if signalled else CppCompileError
    with listening(), pytest.raises(kind) as raised:
        trained(tmp_path, small_model(), batches(), compile=True)
    if signalled:
        says(raised.value, f"step 0 {TEXT.steps}")


def test_a_machine_without_a_compiler_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand a long report")

    monkeypatch.setattr(blocks.torch, "compile", broken)
    out = tmp_path / "run"
    flags = ["--compile", "--out", str(out), "--cache", str(tmp_path / "cache")]
    assert compare.main([*TINY, *flags]) == 2
    errors = capsys.readouterr().err
    says(errors, "--compile compiler")
    assert errors.count("\n") == 1, errors
    assert not out.exists()


def test_a_pretrained_model_without_checkpoints_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer("the quick brown fox jumps over the lazy dog " * 50)
    model = save(tmp_path / "model", llama(vocab_size=len(tokenizer)), tokenizer)
    kind = transformers.LlamaForCausalLM
    monkeypatch.setattr(kind, "supports_gradient_checkpointing", False)
    out = tmp_path / "run"
    flags = ["--model", str(model), "--gradient-checkpointing", "--out", str(out)]
    assert compare.main([*TINY, *flags, "--cache", str(tmp_path / "cache")]) == 2
    says(capsys.readouterr().err, "LlamaForCausalLM --gradient-checkpointing")
    assert not out.exists()


def test_the_way_of_a_step_is_recorded_and_in_the_command(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [*TINY, "--out", str(out), "--cache", str(cache), "--measures", "0"]
    assert compare.main([*flags, "--accumulate", "2", "--jobs", "1"]) == 0
    from training.run.folder import read_facts

    facts = read_facts(out)
    assert facts["machine"]["accumulate"] == 2
    assert "compile" not in facts["machine"]
    assert command_of(facts).endswith("--accumulate 2")
    done = out / "seed0" / "lstm" / "done.json"
    done.unlink()
    assert compare.main([*flags, "--jobs", "1", "--resume"]) == 2, "other digits"


def test_a_machine_gives_its_flags_to_the_process_of_an_arm(tmp_path: Path) -> None:
    _, options = parse([*TINY, "--accumulate", "2", "--compile", "--gradient-checkpointing"], None)
    machine = Machine.of(options)
    assert (machine.accumulate, machine.compile, machine.gradient_checkpointing) == (2, True, True)
    for flag in ("--accumulate 2", "--compile", "--gradient-checkpointing"):
        assert flag in " ".join(machine.flags)


def test_a_replayed_batch_of_few_rows_gets_fewer_parts() -> None:
    config = changed(preset("tiny"), batch_size=2, finetune_batch_size=8, steps=0)
    machine = Machine(cache=Path("unused"), cpu=True, accumulate=4)
    check_processes(config, machine)  # replayed text has 2 rows, and then 2 parts
