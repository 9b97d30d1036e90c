"""An encoder of the user's own that follows the protocol without being a subclass."""

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
from charembed import ENCODERS, AttachError, MismatchError, SpellingTable
from tests import warm
from tests.conftest import ROOT
from tests.messages import raises
from tests.plugin.hosts import (
    GPT2,
    IDS,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    char_vector,
    logits_of,
)


class Mine(nn.Module):
    """An encoder of the first and last character and the length, without code of charembed."""

    def __init__(
        self, spellings: SpellingTable, dim: int, *, width: int = 4, strength: float = 0.0
    ) -> None:
        super().__init__()
        self.width, self.strength = width, strength
        self.first, self.last = (
            nn.Embedding(spellings.num_chars, width),
            nn.Embedding(spellings.num_chars, width),
        )
        self.out = nn.Linear(2 * width, dim, bias=False)
        self.register_buffer("scale", torch.tensor(strength))
        self.read(spellings)

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.width, "strength": self.strength}

    def reset_parameters(self) -> None:
        for part in (self.first, self.last, self.out):
            part.reset_parameters()
        self.scale.fill_(self.strength)

    def read(self, spellings: SpellingTable) -> None:
        self.spellings = spellings
        chars_VC, lengths_V = spellings.chars_VC.long(), spellings.lengths_V.long()
        self.real_V, self.first_V = lengths_V > 0, chars_VC[:, 0]
        self.last_V = chars_VC.gather(1, (lengths_V - 1).clamp(min=0)[:, None]).squeeze(1)

    def update_spellings(self, spellings: SpellingTable) -> None:
        for part in (self.first, self.last):
            grown = nn.Embedding(spellings.num_chars, self.width)
            with torch.no_grad():
                grown.weight[: part.num_embeddings] = part.weight
            part.weight, part.num_embeddings = grown.weight, spellings.num_chars
        self.read(spellings)

    def forward(self, ids_U: Tensor) -> Tensor:
        known_U = ids_U < len(self.real_V)
        ids_U = ids_U.clamp(max=len(self.real_V) - 1)
        x_UE = torch.cat([self.first(self.first_V[ids_U]), self.last(self.last_V[ids_U])], dim=1)
        return torch.where((known_U & self.real_V[ids_U])[:, None], self.scale * self.out(x_UE), 0)


@pytest.fixture
def registered() -> Iterator[None]:
    ENCODERS["mine"] = Mine
    yield
    del ENCODERS["mine"]


def trained(host: Host = GPT2) -> nn.Module:
    model = host.attach(host(), encoder="mine", width=3, strength=0.5).eval()
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.add_(0.1)
    return model


@pytest.mark.usefixtures("registered")
def test_it_is_attached_by_name_zero_at_first_and_folded(host: Host) -> None:
    plain = host().eval()
    model = host.attach(host(), encoder="mine", width=3).eval()
    encoder = char_embedding(model).encoder
    assert (type(encoder), encoder.first.weight.shape[1]) == (Mine, 3)
    with torch.no_grad():
        assert torch.equal(logits_of(model), logits_of(plain))
        encoder.scale.fill_(0.5)
        expected = logits_of(model)
        assert not torch.equal(expected, logits_of(plain))
        assert torch.equal(logits_of(charembed.fold(model)), expected)


@pytest.mark.usefixtures("registered")
def test_attaching_it_moves_no_random_state() -> None:
    model = GPT2()
    before = torch.get_rng_state()
    GPT2.attach(model, encoder="mine")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("registered")
def test_an_argument_that_it_does_not_take_is_refused() -> None:
    with raises(AttachError, "mine char_dim"):
        GPT2.attach(GPT2(), encoder="mine", char_dim=4)


@pytest.mark.usefixtures("registered")
def test_its_spellings_are_updated() -> None:
    model = trained()
    old = char_vector(char_embedding(model), 256)
    with torch.no_grad():
        logits_of(model)  # makes the table
    model.resize_token_embeddings(V + 2, mean_resizing=False)
    charembed.update_spellings(model, [*VOCABULARY, b"the", "жук".encode()])
    embedding = char_embedding(model)
    assert torch.equal(char_vector(embedding, V), old)
    assert char_vector(embedding, V + 1).abs().sum() > 0
    with torch.no_grad():
        ids = torch.tensor([[V, V + 1, 256]])
        looked_up = embedding(ids)
        letters = looked_up[0] - embedding.weight[ids[0]]
        torch.testing.assert_close(letters[0], letters[2], rtol=1e-5, atol=1e-6)
        expected = logits_of(model, ids)
    assert torch.equal(logits_of(charembed.fold(model), ids), expected)


@pytest.mark.usefixtures("registered")
def test_it_is_saved_and_loaded_and_needs_its_name(tmp_path: Path) -> None:
    model = trained()
    expected = logits_of(model)
    charembed.save(model, tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path).eval()
    assert char_embedding(again).encoder.config == {"width": 3, "strength": 0.5}
    assert torch.equal(logits_of(again), expected)

    del ENCODERS["mine"]
    try:
        base = GPT2()
        with raises(MismatchError, "Mine charembed.ENCODERS['mine']"):
            charembed.load(base, VOCABULARY, tmp_path)
        assert type(base.transformer.wte) is nn.Embedding
        handed_over = charembed.load(
            GPT2(), VOCABULARY, tmp_path, encoder=Mine(TABLE, 16, width=3, strength=0.5)
        )
        assert torch.equal(logits_of(handed_over.eval()), logits_of(model))
        with raises(AttachError, "mine lstm module"):
            GPT2.attach(base, encoder="mine")
    finally:
        ENCODERS["mine"] = Mine


LOADER = """
import sys, torch, charembed
from safetensors.torch import save_file
from tests.plugin.hosts import GPT2, IDS, VOCABULARY, logits_of
torch.set_num_threads(1)
try:
    charembed.load(GPT2(), VOCABULARY, sys.argv[1])
except charembed.MismatchError as error:
    assert "charembed.ENCODERS['mine']" in str(error)
else:
    raise SystemExit("loaded without its class")
from tests.plugin.test_own_encoder import Mine
charembed.ENCODERS["mine"] = Mine
model = charembed.load(GPT2(), VOCABULARY, sys.argv[1]).eval()
with torch.no_grad():
    save_file({"logits": logits_of(model)}, sys.argv[2])
"""


@pytest.mark.usefixtures("registered")
def test_a_fresh_process_that_registers_it_loads_the_same_bits(tmp_path: Path) -> None:
    model, out = trained(), tmp_path / "logits.safetensors"
    charembed.save(model, tmp_path / "letters")
    command = [sys.executable, "-W", "ignore", "-c", LOADER, tmp_path / "letters", out]
    done = warm.run(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert torch.equal(load_file(out)["logits"], logits_of(model, IDS))
