"""Training tools: Trainer, accelerate, checkpointing, autocast, torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, cpu_offload
from accelerate.hooks import remove_hook_from_submodules
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import Trainer, TrainingArguments

import charembed
from charembed import AttachError, CharEmbedError
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GEMMA3,
    GPT2,
    HOSTS,
    IDS,
    NANOGPT,
    Host,
    V,
    char_embedding,
    in_transformers,
    logits_and_loss,
    logits_of,
)


def gradients(model: nn.Module) -> list[Tensor]:
    model.zero_grad()
    logits_and_loss(model)[1].backward()
    return [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


def assert_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            one, other, rtol=tolerance, atol=tolerance * max(1e-3, float(other.abs().max()))
        )


@pytest.fixture(autouse=True)
def _forget_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # a singleton, which would keep one test's precision for the next


def freeze_base(model: nn.Module) -> nn.Module:
    model.requires_grad_(False)
    for parameter in charembed.parameters(model):
        parameter.requires_grad_()
    return model


# Trainer


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        ids = torch.randint(1, V, (9,), generator=torch.Generator().manual_seed(i % 2))
        return {"input_ids": ids, "labels": ids}


def trained(
    model: Any, folder: Path, steps: int = 4, resume: str | None = None, **kwargs: Any
) -> list[float]:
    """Return the losses of a Trainer's steps."""
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        lr_scheduler_type="constant",
        **kwargs,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows())
    trainer.train(resume_from_checkpoint=resume)
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.filterwarnings("ignore")  # of the tools themselves
@pytest.mark.parametrize("host", [GPT2, GEMMA3], ids=lambda host: host.name)
def test_trainer_trains_the_encoder_and_resumes_to_the_same_numbers(
    host: Host, tmp_path: Path
) -> None:
    whole = host.attach(host())
    losses = trained(whole, tmp_path / "whole", steps=12)
    assert losses[-1] < losses[0]
    assert all(parameter.abs().sum() > 0 for parameter in charembed.parameters(whole))
    again = host.attach(host(), seed=3)
    assert (
        trained(
            again, tmp_path / "again", steps=12, resume=str(tmp_path / "whole" / "checkpoint-6")
        )[-6:]
        == losses[-6:]
    )
    assert torch.equal(logits_of(again.eval()), logits_of(whole.eval()))


@pytest.mark.filterwarnings("ignore")
def test_trainer_with_a_frozen_encoder_is_plain_training_to_the_last_bit(
    tmp_path: Path,
) -> None:
    plain, attached = GPT2(), GPT2.attach(GPT2())
    for parameter in charembed.parameters(attached):
        parameter.requires_grad_(False)
    assert trained(plain, tmp_path / "plain") == trained(attached, tmp_path / "attached")
    charembed.fold(attached)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            plain.state_dict().values(), attached.state_dict().values(), strict=True
        )
    )


@pytest.mark.filterwarnings("ignore")
def test_trainer_with_checkpointing_bf16_and_a_frozen_base(tmp_path: Path) -> None:
    model = freeze_base(GPT2.attach(GPT2()))
    before = copy.deepcopy(charembed.detach(copy.deepcopy(model)).state_dict())
    losses = trained(model, tmp_path, steps=12, gradient_checkpointing=True, bf16=True)
    assert losses[-1] < losses[0]
    charembed.detach(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# accelerate


@pytest.mark.filterwarnings("ignore")
def test_accelerate_takes_the_steps_of_a_bare_loop() -> None:
    results = []
    for accelerated in (True, False):
        model = GPT2.attach(GPT2()).eval()  # no dropout
        char_embedding(model).train()
        optimizer: Any = torch.optim.AdamW(charembed.param_groups(model, lr=1e-3, char_lr=1e-2))
        accelerator = Accelerator(cpu=True)
        wrapped, optimizer = (
            accelerator.prepare(model, optimizer) if accelerated else (model, optimizer)
        )
        for _ in range(3):
            loss = logits_and_loss(wrapped)[1]
            optimizer.zero_grad()
            if accelerated:
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
            else:
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        results.append(accelerator.unwrap_model(wrapped).state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


@pytest.mark.filterwarnings("ignore")
def test_an_offloaded_embedding_moves_in_one_piece(tmp_path: Path) -> None:
    model = GPT2.attach(GPT2(False), init="normal").eval()
    expected = logits_of(model).detach()
    with torch.no_grad():
        whole = cpu_offload(
            copy.deepcopy(model),
            execution_device=torch.device("cpu"),
            preload_module_classes=["CharEmbedding"],
        )
        assert torch.equal(logits_of(whole), expected)
        in_parts = cpu_offload(model, execution_device=torch.device("cpu"))
        with raises(CharEmbedError, "preload_module_classes=['CharEmbedding']") as raised:
            logits_of(in_parts)
        assert "reset_parameters" not in str(raised.value)  # it would overwrite trained weights
        assert "to_empty" not in str(raised.value)
        for refused in (lambda model: charembed.save(model, tmp_path), charembed.set_scale):
            with raises(AttachError, "accelerate.hooks.remove_hook_from_submodules(model)"):
                refused(in_parts)
        # the advice brings the trained weights back
        remove_hook_from_submodules(in_parts)
        assert torch.equal(logits_of(in_parts), expected)
        charembed.save(in_parts, tmp_path)


# Gradient checkpointing and autocast


@in_transformers
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not_reentrant"])
@pytest.mark.parametrize("frozen", [True, False], ids=["base_frozen", "all_trained"])
@pytest.mark.filterwarnings("ignore")
def test_gradient_checkpointing_changes_no_gradient(
    host: Host, reentrant: bool, frozen: bool
) -> None:
    model = host.attach(host(False), init="normal")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in (
        "attention_dropout",
        "attn_pdrop",
        "dropout",
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
    ):
        for module in model.modules():
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    model = freeze_base(model) if frozen else model
    expected = gradients(model.train())
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    assert_close(gradients(model), expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_off_is_identical_under_autocast(host: Host, training: bool) -> None:
    plain = host().train(training)
    attached = host.attach(copy.deepcopy(plain))
    results = []
    for model in (plain, attached):
        torch.manual_seed(7)
        with torch.autocast("cpu", torch.bfloat16):
            logits, loss = logits_and_loss(model)
        loss.backward()
        results.append(
            (
                logits,
                loss,
                *(
                    parameter.grad
                    for name, parameter in model.named_parameters()
                    if f"{host.path}.encoder." not in name
                ),
            )
        )
    assert all(
        (one is None and other is None) or torch.equal(one, other)
        for one, other in zip(*results, strict=True)
    )


def test_autocast_computes_the_encoders_products_in_half_precision() -> None:
    model = GPT2.attach(GPT2(), init="normal").eval()
    char_embedding(model).train()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = logits_and_loss(model)[1]
    loss.backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(
        (one - other).norm() < 0.05 * other.norm()
        for one, other in zip(found, expected, strict=True)
    )
    assert not torch.equal(found[0], expected[0])


# torch.compile: one whole graph, in evaluation and in training


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model: nn.Module, **kwargs: Any) -> Any:
    return torch.compile(
        lambda ids: logits_and_loss(model, ids)[1],
        **{"fullgraph": True, "backend": "aot_eager", **kwargs},
    )


# Compiling a host takes ten seconds: the default tests have a plain embedding and a scaled one.
COMPILED = [
    pytest.param(one, id=one.name, marks=() if one in (GPT2, GEMMA3) else pytest.mark.slow)
    for one in HOSTS
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("host", COMPILED)
def test_the_graph_stays_whole(host: Host) -> None:
    model = host.attach(host(), init="normal").eval()
    for training in (False, True):
        char_embedding(model).train(training)
        expected = gradients(model)
        model.zero_grad()
        compiled(model)(IDS).backward()
        assert_close(
            [parameter.grad for parameter in model.parameters() if parameter.grad is not None],
            expected,
        )
        model.zero_grad()
    with torch.no_grad():
        model.eval()
        assert torch.equal(compiled(model)(IDS), logits_and_loss(model)[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_model_follows_updates_modes_and_autocast() -> None:
    model = NANOGPT.attach(NANOGPT(), init="normal").eval()
    run = compiled(model)
    for training in (True, False):
        char_embedding(model).train(training)
        run(IDS).backward()
        with torch.no_grad():
            for _ in range(2):
                charembed.parameters(model)[1].add_(
                    0.05
                )  # an update that no call of train() announces
                torch.testing.assert_close(
                    run(IDS), logits_and_loss(model)[1], rtol=1e-6, atol=1e-6
                )
            with torch.autocast("cpu", torch.bfloat16):
                torch.testing.assert_close(
                    run(IDS), logits_and_loss(model)[1], rtol=1e-6, atol=1e-6
                )


@pytest.mark.slow  # test_graphs.py compiles every encoder by default
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
# Otherwise floats such as dropout's p are symbols whose names are hashes of attribute paths (mod
# 100), and the list of names that became constants outlives a compile: if two of them collide, dynamo
# compiles once more, in the plain model or in ours (findings/dynamo_attribute_names.sh).
@torch._dynamo.config.patch(specialize_float=True)
def test_other_batch_shapes_compile_no_more_graphs_than_the_plain_models(training: bool) -> None:
    graphs = []
    for model in (NANOGPT(), NANOGPT.attach(NANOGPT(), init="normal")):
        counter = CompileCounterWithBackend("aot_eager")
        run = compiled(model.eval(), backend=counter, dynamic=True)
        NANOGPT.embedding(model).train(training)
        for length in (9, 5, 7, 6):
            ids = IDS[:, :length].contiguous()
            loss = run(ids)
            loss.backward()
            torch.testing.assert_close(loss, logits_and_loss(model, ids)[1], rtol=1e-6, atol=1e-6)
        graphs.append(counter.frame_count)
        torch._dynamo.reset()
    assert graphs[0] == graphs[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("host", [DECODER, NANOGPT, GPT2, GEMMA3], ids=lambda host: host.name)
def test_inductor_compiles_it(host: Host) -> None:
    model = host.attach(host(), init="normal").eval()
    for training in (False, True):
        char_embedding(model).train(training)
        expected = gradients(model)
        model.zero_grad()
        compiled(model, backend="inductor")(IDS).backward()
        assert_close(
            [parameter.grad for parameter in model.parameters() if parameter.grad is not None],
            expected,
            1e-4,
        )
