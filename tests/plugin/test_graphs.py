"""Whole graphs of attached models: torch.compile and torch.export, for every encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import charembed
from charembed import ENCODERS, SpellingTable, compiled_recurrence
from tests import warm
from tests.conftest import ROOT
from tests.plugin.hosts import IDS, NANOGPT, SMALL, char_embedding, logits_and_loss, logits_of

kinds = pytest.mark.parametrize("kind", ENCODERS)
pytestmark = pytest.mark.filterwarnings("ignore")  # a warning of the compiler about itself


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(model: nn.Module) -> list[Tensor]:
    found = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    model.zero_grad()
    return found


@kinds
def test_every_encoder_compiles_to_one_graph(kind: str) -> None:
    model = NANOGPT.attach(
        NANOGPT(), encoder=kind, init="normal", **SMALL[kind]
    ).eval()  # no dropout
    char_embedding(model).train()
    run = torch.compile(
        lambda ids: logits_and_loss(model, ids), fullgraph=True, backend="aot_eager"
    )
    losses, found = [], []
    for forward in (run, lambda ids: logits_and_loss(model, ids)):
        loss = forward(IDS)[1]
        loss.backward()
        losses.append(loss.detach())
        found.append(gradients(model))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    with torch.no_grad():
        model.eval()
        compiled = run(IDS)[0]
        assert torch.equal(compiled, logits_of(model))
        assert torch.equal(compiled, logits_of(charembed.fold(model)))


@kinds
def test_a_compiled_model_follows_a_fused_step_after_an_evaluation(kind: str) -> None:
    """Evaluate between backward pass and step, when the version of no parameter will change."""
    model = NANOGPT.attach(NANOGPT(), encoder=kind, init="normal", **SMALL[kind]).eval()
    run = torch.compile(
        lambda ids: logits_and_loss(model, ids), fullgraph=True, backend="aot_eager"
    )
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.1, fused=True)
    with torch.no_grad():
        before = run(IDS)[0]
    loss = run(IDS)[1]
    with torch.no_grad():
        assert torch.equal(run(IDS)[0], before)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        after = run(IDS)[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, logits_of(charembed.fold(model)))


LOADER = """
import sys, torch, charembed
from safetensors.torch import save_file
from tests.plugin.hosts import GPT2, IDS, NANOGPT, logits_of
torch.set_num_threads(1)
others = [host.attach(host(), init="normal", seed=9).eval() for host in (GPT2, NANOGPT)]
with torch.no_grad():
    for other in others:
        logits_of(other)
    found = {}
    for path in sys.argv[2:]:
        run = torch.export.load(path).module()
        found[path] = run(IDS)
    save_file(found, sys.argv[1])
"""


def test_an_exported_model_answers_by_itself_in_any_process(tmp_path: Path) -> None:
    """Its outputs are the original's, also if another attached model is alive in the process."""
    expected, out = {}, tmp_path / "logits.safetensors"
    for kind in ENCODERS:
        model = NANOGPT.attach(NANOGPT(), encoder=kind, init="normal", seed=3, **SMALL[kind]).eval()
        with torch.no_grad():
            exported = torch.export.export(Logits(model), (IDS,))
            torch.export.save(exported, tmp_path / f"{kind}.pt2")
            expected[str(tmp_path / f"{kind}.pt2")] = logits_of(model)
            expected[kind] = logits_of(charembed.detach(model))
    command = [sys.executable, "-W", "ignore", "-c", LOADER, out]
    done = warm.run([*command, *(path for path in expected if "/" in path)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = load_file(out)
    assert len(found) == len(ENCODERS)
    for path, logits in found.items():
        torch.testing.assert_close(logits, expected[path], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(
            logits, expected[Path(path).stem], rtol=1e-3, atol=1e-3
        )  # without an encoder


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return logits_of(self.model, ids)


# The tape that a compiled forward pass keeps for its backward pass


def encoder_of(kind: str, projection: nn.Module | None = None) -> Any:
    words = [b"the", b"then", None, b"there", b"a", b"", b"b"]
    encoder = ENCODERS[kind](SpellingTable.from_bytes(words), 8, init="normal", **SMALL[kind])
    if projection is not None:
        encoder.projection = projection
    return encoder


def compiled(encoder: nn.Module) -> Any:
    return torch.compile(lambda ids: encoder(ids), fullgraph=True, backend="aot_eager")


REPEATED = torch.tensor([3, 1, 2, 3, 0, 5, 3, 9])
recurrent = pytest.mark.parametrize("kind", ["lstm", "gru"])


def eager_gradients(encoder: nn.Module, ids: Tensor) -> list[Tensor]:
    distinct, which = torch.unique(ids, return_inverse=True)
    encoder(distinct)[which].square().sum().backward()
    return gradients(encoder)


@recurrent
def test_a_compiled_backward_pass_uses_the_tape_of_its_forward_pass(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(kind)
    run, expected = compiled(encoder), eager_gradients(encoder, REPEATED)
    calls, forward = [], compiled_recurrence.forward
    monkeypatch.setattr(
        compiled_recurrence, "forward", lambda *args: calls.append(1) or forward(*args)
    )
    compiled_recurrence._passed.clear()
    loss = run(REPEATED).square().sum()
    assert (len(calls), len(compiled_recurrence._passed)) == (1, 1)
    loss.backward()
    assert (len(calls), len(compiled_recurrence._passed)) == (1, 0)
    for ours, theirs in zip(gradients(encoder), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@recurrent
def test_compiled_gradients_are_right_without_the_tape_and_in_any_order(kind: str) -> None:
    encoder = encoder_of(kind)
    run, batches = compiled(encoder), [REPEATED.roll(i) for i in range(4)]
    expected = [eager_gradients(encoder, ids) for ids in batches]
    losses = [run(ids).square().sum() for ids in batches]  # more forward passes than tapes are kept
    assert len(compiled_recurrence._passed) <= 2
    for loss, wanted in [*zip(losses, expected, strict=True)][::-1]:
        loss.backward()
        for ours, theirs in zip(gradients(encoder), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@recurrent
@torch.no_grad()
def test_a_compiled_forward_pass_without_gradients_keeps_no_tape(kind: str) -> None:
    encoder = encoder_of(kind)
    compiled_recurrence._passed.clear()
    torch.testing.assert_close(compiled(encoder)(REPEATED), encoder(REPEATED), rtol=1e-6, atol=1e-6)
    assert not compiled_recurrence._passed


def test_a_compiled_encoder_with_another_projection_equals_the_eager_one() -> None:
    encoder = encoder_of(
        "lstm", nn.Sequential(nn.Linear(SMALL["lstm"]["hidden_size"], 8), nn.Tanh())
    )
    expected = eager_gradients(encoder, REPEATED)
    vectors = compiled(encoder)(REPEATED)
    assert torch.equal(vectors[[2, 5, 7]], torch.zeros(3, 8))
    vectors.square().sum().backward()
    for ours, theirs in zip(gradients(encoder), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@recurrent
def test_compiled_autocast_gives_the_eager_dtype_and_stays_close(kind: str) -> None:
    encoder = encoder_of(kind)
    with torch.autocast("cpu", torch.bfloat16):
        eager, ours = encoder(REPEATED), compiled(encoder)(REPEATED)
    assert ours.dtype == eager.dtype == torch.bfloat16
    torch.testing.assert_close(ours, eager, rtol=1e-2, atol=1e-2)
    ours.float().square().sum().backward()
    found = gradients(encoder)
    eager.float().square().sum().backward()
    for mine, theirs in zip(found, gradients(encoder), strict=True):
        assert (mine - theirs).norm() < 0.05 * theirs.norm()
