"""Whole graphs of attached models: torch.compile and torch.export, for every encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import charembed
from charembed import ENCODERS
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
