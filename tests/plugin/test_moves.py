"""Copies, devices, state dicts, meta: an attached model works wherever its host does."""

from __future__ import annotations

import copy
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

import charembed
from charembed import LSTMEncoder, SpellingTable
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GPT2,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)


def test_a_pickled_model_computes_the_same_and_is_independent() -> None:
    """`spawn` pickles a model in this way."""
    model = GPT2.attach(GPT2(), init="normal").eval()
    with torch.no_grad():
        expected = logits_of(model)
        twin = copy.deepcopy(
            ForkingPickler.loads(ForkingPickler.dumps(model))
        )  # they share their memory
        assert torch.equal(logits_of(twin), expected)
        charembed.parameters(twin)[0].zero_()
        assert not torch.equal(logits_of(twin), expected)
        assert torch.equal(logits_of(model), expected)
        assert torch.equal(logits_of(charembed.fold(copy.deepcopy(twin))), logits_of(twin))


def test_a_deep_copy_is_independent(host: Host) -> None:
    model = host.attach(host(), init="normal").eval()
    with torch.no_grad():
        expected = logits_of(model)
        twin = copy.deepcopy(model)
        for parameter in charembed.parameters(twin):
            parameter.zero_()
        assert torch.equal(logits_of(model), expected)
        assert not torch.equal(logits_of(twin), expected)
        shared = {p.data_ptr() for p in model.parameters()} & {
            p.data_ptr() for p in twin.parameters()
        }
        assert not shared
        charembed.detach(twin)
        assert torch.equal(logits_of(twin), logits_of(charembed.detach(copy.deepcopy(model))))


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_state_dicts_go_to_the_plain_host_and_back(host: Host, tie: bool) -> None:
    model = host.attach(host(tie), init="normal").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    twin = host.attach(host(tie), seed=9).eval()
    assert twin.load_state_dict(model.state_dict(), strict=True) == ([], [])
    assert torch.equal(logits_of(model), logits_of(twin))

    plain = host(tie).eval()
    base = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(f"{host.path}.encoder.")
    }
    plain.load_state_dict(base, strict=True)
    expected = logits_of(charembed.detach(copy.deepcopy(model)))
    assert torch.equal(logits_of(plain), expected)

    before = [parameter.clone() for parameter in charembed.parameters(twin)]
    twin.load_state_dict(
        host(tie).state_dict(), strict=True
    )  # a plain checkpoint leaves the encoder as it is
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(charembed.parameters(twin), before, strict=True)
    )
    assert torch.equal(logits_of(charembed.detach(twin)), logits_of(host(tie).eval()))


def test_a_state_dict_with_half_an_encoder_is_refused() -> None:
    model = DECODER.attach(DECODER())
    half = {name: value for name, value in model.state_dict().items() if "projection" not in name}
    with raises(RuntimeError, "wte.encoder.projection.weight"):
        model.load_state_dict(half, strict=True)


def test_half_and_to_move_everything(host: Host) -> None:
    model = host.attach(host(), init="normal").eval()
    expected = logits_of(model)
    for dtype in (torch.bfloat16, torch.float16):
        moved = copy.deepcopy(model).to(dtype)
        assert {p.dtype for p in moved.parameters()} == {dtype}
        assert logits_of(moved).dtype == dtype
        torch.testing.assert_close(logits_of(moved).float(), expected, rtol=0.1, atol=0.1)
    assert torch.equal(logits_of(copy.deepcopy(model).double().float()), expected)


def test_the_encoder_keeps_float32_where_the_host_has_half_precision() -> None:
    model = GPT2.attach(GPT2().bfloat16(), init="normal")
    assert {p.dtype for p in charembed.parameters(model)} == {torch.float32}
    logits_and_loss(model)[1].backward()
    assert logits_of(model).dtype == torch.bfloat16
    assert {p.grad.dtype for p in charembed.parameters(model)} == {torch.float32}


def test_built_on_meta_and_materialised_the_spellings_are_right(host: Host) -> None:
    """The memory is filled with garbage first, as `to_empty` may leave it."""
    with torch.device("meta"):
        model = host.build(True)
        host.attach(model, init="normal")
    assert all(p.is_meta for p in model.parameters())
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(77)
    char_embedding(model).encoder.reset_parameters()
    real = host.attach(host(), init="normal")
    ids = torch.arange(V)
    assert torch.equal(char_embedding(model).encoder(ids), char_embedding(real).encoder(ids))
    if not list(host().buffers()):
        model.load_state_dict(host().state_dict())
        assert torch.equal(logits_of(model.eval()), logits_of(real.eval()))


def test_a_default_device_does_not_reach_the_spellings() -> None:
    with torch.device("meta"):
        table = SpellingTable.from_bytes(VOCABULARY)
        tree = LSTMEncoder(table, 4).token_chars
    assert {
        tensor.device.type
        for tensor in (table.chars_S, table.lengths_V, table.starts_V, *tree.tensors())
    } == {"cpu"}
    assert table.fingerprint == TABLE.fingerprint
