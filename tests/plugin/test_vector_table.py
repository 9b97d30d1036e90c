"""The table of the evaluation path is never stale, and never built without need."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
import torch.multiprocessing  # teaches ForkingPickler tensors
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import charembed
import charembed.vector_table
from charembed import ENCODERS, CharEmbedding, SpellingTable
from tests.plugin.hosts import (
    DECODER,
    GPT2,
    IDS,
    NANOGPT,
    SMALL,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)

kinds = pytest.mark.parametrize("kind", ENCODERS)


def attached(kind: str = "lstm", tie: bool = True) -> nn.Module:
    """Return an attached model in evaluation mode with a table."""
    model = GPT2.attach(GPT2(tie), encoder=kind, init="normal", **SMALL[kind]).eval()
    with torch.no_grad():
        logits_of(model)
    return model


def vectors(embedding: CharEmbedding) -> Tensor:
    with torch.no_grad():
        found: Tensor = embedding(torch.arange(embedding.num_embeddings))
    return found


def assert_fresh(model: nn.Module, before: Tensor | None = None) -> None:
    """Assert that evaluation gives what `fold` writes, and that it differs from before."""
    embedding = char_embedding(model)
    looked_up = vectors(embedding)
    assert torch.equal(looked_up, embedding.table())
    assert before is None or not torch.equal(looked_up, before)
    with torch.no_grad():
        expected = logits_of(model)
    assert torch.equal(logits_of(charembed.fold(model)), expected)


# Changes of the character vectors


def an_in_place_write(model: nn.Module) -> None:
    with torch.no_grad():
        charembed.parameters(model)[0].add_(0.5)


def encoder_loss(model: nn.Module) -> Tensor:
    """Return a loss of the encoder alone, as the spelling loss, which bypasses the embedding."""
    char_VD: Tensor = char_embedding(model).encoder(torch.arange(V))
    return char_VD.square().sum()


def fused(model: nn.Module) -> torch.optim.Optimizer:
    """Take a step with a fused optimizer, which does not change the version of parameters."""
    return torch.optim.AdamW(charembed.parameters(model), lr=0.1, fused=True)


def a_fused_step(model: nn.Module) -> None:
    optimizer = fused(model)
    logits_and_loss(model)[1].backward()
    optimizer.step()
    optimizer.zero_grad()


def a_fused_step_after_an_evaluation(model: nn.Module) -> None:
    optimizer = fused(model)
    logits_and_loss(model)[1].backward()
    with torch.no_grad():
        logits_of(model)
    optimizer.step()
    optimizer.zero_grad()


def a_fused_step_of_the_encoder_alone(model: nn.Module) -> None:
    optimizer = fused(model)
    encoder_loss(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def a_fused_step_of_the_encoder_after_an_evaluation(model: nn.Module) -> None:
    optimizer = fused(model)
    char_embedding(model)._table.drop()  # so that the backward finds no table
    encoder_loss(model).backward()
    with torch.no_grad():
        logits_of(model)
    optimizer.step()
    optimizer.zero_grad()


def a_fused_step_of_a_frozen_encoder(model: nn.Module) -> None:
    model.requires_grad_(False)
    with torch.no_grad():
        logits_of(model)
    model.requires_grad_()
    a_fused_step_of_the_encoder_alone(model)


def a_second_fused_step(model: nn.Module) -> None:
    a_fused_step_of_the_encoder_alone(model)
    with torch.no_grad():
        logits_of(model)
    a_fused_step_of_the_encoder_alone(model)


def a_fused_step_with_zeroed_gradients(model: nn.Module) -> None:
    optimizer = fused(model)
    for _ in range(2):
        logits_and_loss(model)[1].backward()
        with torch.no_grad():
            logits_of(model)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def a_loaded_state(model: nn.Module) -> None:
    model.load_state_dict(GPT2.attach(GPT2(), init="normal", seed=5, **SMALL["lstm"]).state_dict())


def an_assigned_state(model: nn.Module) -> None:
    other = GPT2.attach(GPT2(), init="normal", seed=5, **SMALL["lstm"])
    model.load_state_dict(other.state_dict(), assign=True)


def a_reset(model: nn.Module) -> None:
    char_embedding(model).encoder.seed = 4
    char_embedding(model).encoder.reset_parameters()


def a_move(model: nn.Module) -> None:
    an_in_place_write(model.double())
    model.float()


@pytest.mark.parametrize(
    "change",
    [
        an_in_place_write,
        a_fused_step,
        a_fused_step_after_an_evaluation,
        a_fused_step_of_the_encoder_alone,
        a_fused_step_of_the_encoder_after_an_evaluation,
        a_fused_step_of_a_frozen_encoder,
        a_second_fused_step,
        a_fused_step_with_zeroed_gradients,
        a_loaded_state,
        an_assigned_state,
        a_reset,
        a_move,
    ],
)
def test_evaluation_follows(change: Callable[[nn.Module], None]) -> None:
    model = attached()
    before = vectors(char_embedding(model))
    change(model)
    assert_fresh(model, before)


@kinds
def test_evaluation_follows_a_fused_step_of_every_encoder(kind: str) -> None:
    for step in (a_fused_step, a_fused_step_of_the_encoder_alone):
        model = attached(kind)
        before = vectors(char_embedding(model))
        step(model)
        assert_fresh(model, before)


@kinds
def test_evaluation_follows_spellings_without_new_characters(kind: str) -> None:
    model = attached(kind)
    embedding, before = char_embedding(model), vectors(char_embedding(model))
    swapped = [VOCABULARY[257], *VOCABULARY[1:257], VOCABULARY[0], *VOCABULARY[258:]]
    unit = embedding.spellings.unit
    embedding.encoder.update_spellings(
        SpellingTable.from_bytes(swapped, unit).over(embedding.spellings.alphabet)
    )
    after = vectors(embedding)
    assert not torch.equal(after, before)
    embedding_weight = embedding.weight.detach()
    torch.testing.assert_close(after[257] - embedding_weight[257], before[0] - embedding_weight[0])
    assert_fresh(model, before)


def test_evaluation_follows_a_buffer() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ENCODERS["bag"](TABLE, 16, init="normal")
            self.register_buffer("gain", torch.ones(()))

        def forward(self, ids_U: Tensor) -> Tensor:
            return self.gain * self.inner(ids_U)

    model = charembed.attach(GPT2(), None, encoder=Scaled()).eval()
    before = vectors(char_embedding(model))
    char_embedding(model).encoder.gain.fill_(0.5)
    assert_fresh(model, before)


def test_evaluation_follows_a_resize() -> None:
    model = attached()
    model.resize_token_embeddings(V + 3, mean_resizing=False)
    assert len(vectors(char_embedding(model))) == V + 3
    assert_fresh(model)
    model = attached()
    model.resize_token_embeddings(100)
    assert torch.equal(vectors(char_embedding(model)), char_embedding(model).table())


@kinds
def test_an_averaged_model_evaluates_its_average(kind: str) -> None:
    model = attached(kind)
    averaged = AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    ).eval()
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.1, fused=True)
    for _ in range(3):
        before = vectors(char_embedding(averaged))
        logits_and_loss(model)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        looked_up = vectors(char_embedding(averaged))
        assert torch.equal(looked_up, char_embedding(averaged).table())
    assert not torch.equal(looked_up, before)
    assert not torch.equal(looked_up, vectors(char_embedding(model)))
    assert_fresh(averaged.module)


@pytest.mark.filterwarnings("ignore")  # of PEFT, about tied weights
@pytest.mark.parametrize("target", ["wte", "c_attn"])
def test_evaluation_follows_a_peft_merge(target: str) -> None:
    inner = {"fan_in_fan_out": True} if target == "c_attn" else {}
    torch.manual_seed(1)
    config = LoraConfig(target_modules=[target], r=2, init_lora_weights=False, **inner)
    wrapped: Any = get_peft_model(attached(tie=False), config).eval()
    with torch.no_grad():
        unmerged = logits_of(wrapped)
        before = vectors(char_embedding(wrapped))
        wrapped.merge_adapter()
        torch.testing.assert_close(logits_of(wrapped), unmerged, rtol=1e-4, atol=1e-5)
        assert torch.equal(vectors(char_embedding(wrapped)), before) == (target == "c_attn")
        wrapped.unmerge_adapter()
        torch.testing.assert_close(vectors(char_embedding(wrapped)), before, rtol=1e-5, atol=1e-6)
    assert_fresh(wrapped.merge_and_unload())


# No changes


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Record the encoder each time chunks of a table are computed."""
    found, chunk_reader = [], charembed.vector_table.chunk_reader

    def counting(encoder: nn.Module, like: Tensor) -> Any:
        found.append(encoder)
        return chunk_reader(encoder, like)

    monkeypatch.setattr(charembed.vector_table, "chunk_reader", counting)
    return found


def test_a_frozen_models_table_is_built_once_while_another_trains(built: list[nn.Module]) -> None:
    frozen = GPT2.attach(GPT2(), init="normal", **SMALL["lstm"]).requires_grad_(False)
    other = GPT2.attach(GPT2(), init="normal", **SMALL["lstm"])
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3, fused=True)
    answers = []
    for step in range(100):
        logits_and_loss(other.train())[1].backward()
        optimizer.step()
        optimizer.zero_grad()
        frozen.train()
        answers.append(logits_of(frozen.eval()))
        if step % 10 == 0:
            with torch.no_grad():
                logits_of(other.eval())
    assert built.count(char_embedding(frozen).encoder) == 1
    assert built.count(char_embedding(other).encoder) == 10
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_switching_modes_builds_nothing(built: list[nn.Module]) -> None:
    model = attached()
    for _ in range(5):
        model.train()
        model.eval()
        with torch.no_grad():
            logits_of(model)
        with torch.inference_mode():
            logits_of(model)
    assert len(built) == 1


def test_gradients_that_are_left_build_nothing(built: list[nn.Module]) -> None:
    model = attached()
    logits_and_loss(model)[1].backward()
    with torch.no_grad():
        for _ in range(3):
            logits_of(model)
        model.zero_grad()
        for _ in range(3):
            logits_of(model)
    assert len(built) == 2  # before the backward and after it


def test_a_model_leaves_nothing_behind_on_its_encoder() -> None:
    """The hooks on the parameters do not keep the table alive and do not accumulate."""
    model = attached()
    encoder, parameter = char_embedding(model).encoder, charembed.parameters(model)[0]
    for _ in range(3):
        an_in_place_write(model)
        with torch.no_grad():
            logits_of(model)
    assert len(parameter._backward_hooks or {}) == 1
    charembed.detach(model)
    encoder(torch.arange(V)).sum().backward()
    assert parameter.grad is not None


def test_a_shared_model_is_sent_to_other_processes_without_a_warning() -> None:
    ForkingPickler.dumps(attached())


# Threads


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let the threads switch at every line."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("host", [DECODER, NANOGPT], ids=lambda host: host.name)
def test_threads_get_the_same_answers_while_modes_are_switched_and_tables_dropped(
    host: Host,
) -> None:
    model = host.attach(host(), init="normal", **SMALL["lstm"]).eval()
    embedding = char_embedding(model)
    with torch.no_grad():
        in_evaluation = embedding(IDS)
        in_training = embedding.train()(
            IDS
        )  # training encodes distinct tokens alone: the last bits may differ
        embedding.eval()
    answers: list[Tensor] = []
    errors: list[BaseException] = []
    start = threading.Barrier(9)

    def ask() -> None:
        start.wait()
        try:
            with torch.no_grad():
                for _ in range(300):
                    answers.append(embedding(IDS))
        except BaseException as error:
            errors.append(error)

    for switch in (model.eval, lambda: model.train().eval(), embedding._table.drop):
        embedding._table.drop()
        answers.clear()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        start.wait()
        while any(thread.is_alive() for thread in threads):
            switch()
        assert not errors, errors[0]
        assert len(answers) == 8 * 300
        allowed = (in_evaluation, in_training)[: 2 if switch.__name__ == "<lambda>" else 1]
        assert all(any(torch.equal(answer, one) for one in allowed) for answer in answers)
