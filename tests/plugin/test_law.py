"""The properties that the plugin has on every host, and broken plugins that must fail them."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import charembed
from charembed import ENCODERS, CharEmbedding
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GEMMA3,
    GPT2,
    HOSTS,
    IDS,
    SMALL,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)

ties = pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"]
)
Attach = Callable[[Host, nn.Module], nn.Module]


def attach(host: Host, model: nn.Module, **kwargs: Any) -> nn.Module:
    return host.attach(model, **kwargs)


def attach_normal(host: Host, model: nn.Module, **kwargs: Any) -> nn.Module:
    return host.attach(model, init="normal", **kwargs)


def fold(model: nn.Module) -> nn.Module:
    return charembed.fold(model)


# The properties, each as a function that a broken plugin fails.


def off_is_identical(
    host: Host, tie: bool, dtype: torch.dtype, training: bool, attach: Attach = attach
) -> None:
    plain = host(tie).to(dtype).train(training)
    other = attach(host, copy.deepcopy(plain))
    results = []
    for model in (plain, other):
        torch.manual_seed(7)  # dropout
        logits, loss = logits_and_loss(model)
        loss.backward()
        results.append((logits.detach(), loss.detach(), torch.get_rng_state()))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
    parameters = dict(other.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameters[name], parameter), name
        assert (parameters[name].grad is None) == (parameter.grad is None), name
        assert parameter.grad is None or torch.equal(parameters[name].grad, parameter.grad), name


def the_random_state_is_left_alone(host: Host, attach: Attach = attach) -> None:
    model = host()
    before = torch.get_rng_state()
    attach(host, model)
    assert torch.equal(before, torch.get_rng_state())


def the_embedding_keeps_its_weight_its_key_and_its_type(
    host: Host, tie: bool, attach: Attach = attach
) -> None:
    model = host(tie)
    keys, weight, modules = (
        list(model.state_dict()),
        host.embedding(model).weight,
        dict(model.named_modules()),
    )
    holders = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is weight
    ]
    attach(host, model)
    assert isinstance(host.embedding(model), CharEmbedding)
    assert isinstance(host.embedding(model), nn.Embedding)
    assert [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is weight
    ] == holders
    assert len(holders) == (2 if tie else 1)
    assert [
        key for key in model.state_dict() if not key.startswith(f"{host.path}.encoder.")
    ] == keys
    changed = {name for name, module in model.named_modules() if modules.get(name) is not module}
    assert all(name.startswith(f"{host.path}.encoder") for name in changed)


def detach_restores_the_original(host: Host, tie: bool, attach: Attach = attach) -> None:
    model = host(tie).eval()
    expected, original, modules = (
        logits_of(model),
        host.embedding(model),
        dict(model.named_modules()),
    )
    attach(host, model)
    assert charembed.detach(charembed.detach(model)) is model
    assert host.embedding(model) is original
    assert dict(model.named_modules()) == modules
    assert torch.equal(logits_of(model), expected)


def folding_computes_the_same_bits(
    host: Host,
    tie: bool,
    dtype: torch.dtype,
    fold: Callable[[nn.Module], nn.Module] = fold,
    attach: Attach = attach_normal,
) -> None:
    model = attach(host, host(tie).to(dtype)).eval()
    with_gradient = logits_of(model)
    with torch.no_grad():
        expected = logits_of(model)
    torch.testing.assert_close(
        with_gradient,
        expected,
        rtol=1e-6 if dtype is torch.float32 else 1e-2,
        atol=1e-6 if dtype is torch.float32 else 1e-2,
    )
    before = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if name != f"{host.path}.weight"
    }
    folded = fold(fold(model))
    assert torch.equal(logits_of(folded), expected)
    assert not any("charembed" in type(module).__module__ for module in folded.modules())
    assert sorted(folded.state_dict()) == sorted(host(tie).state_dict())
    for name, value in folded.state_dict().items():
        assert name == f"{host.path}.weight" or torch.equal(value, before[name]), name
    if host.hugging_face:
        assert folded.config.tie_word_embeddings is False


def refused_folding_changes_nothing(
    host: Host, fold: Callable[[nn.Module], nn.Module] = fold, attach: Attach = attach_normal
) -> None:
    model = attach(host, host())
    embedding = char_embedding(model)
    with torch.no_grad():
        embedding.weight[5, 0] = float("nan")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tied = getattr(getattr(model, "config", None), "tie_word_embeddings", None)
    with raises(ValueError, "5"):
        fold(model)
    assert char_embedding(model) is embedding
    assert getattr(getattr(model, "config", None), "tie_word_embeddings", None) is tied
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


@ties
@dtypes
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_off_is_identical(host: Host, tie: bool, dtype: torch.dtype, training: bool) -> None:
    off_is_identical(host, tie, dtype, training)


def test_attaching_leaves_the_random_state_alone(host: Host) -> None:
    the_random_state_is_left_alone(host)


@ties
def test_the_embedding_keeps_its_weight_its_key_and_its_type(host: Host, tie: bool) -> None:
    the_embedding_keeps_its_weight_its_key_and_its_type(host, tie)


@ties
def test_detach_restores_the_original(host: Host, tie: bool) -> None:
    detach_restores_the_original(host, tie)


@ties
@dtypes
def test_folding_computes_the_same_bits(host: Host, tie: bool, dtype: torch.dtype) -> None:
    folding_computes_the_same_bits(host, tie, dtype)


def test_refused_folding_changes_nothing(host: Host) -> None:
    refused_folding_changes_nothing(host)


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "lstm"])
def test_the_law_holds_for_every_other_encoder(host: Host, kind: str) -> None:
    """In float32 and tied; the tests above cover the default encoder."""
    zero, attached = (
        partial(attach, encoder=kind, **SMALL[kind]),
        partial(attach_normal, encoder=kind, **SMALL[kind]),
    )
    for training in (True, False):
        off_is_identical(host, True, torch.float32, training, zero)
    the_random_state_is_left_alone(host, attached)
    the_embedding_keeps_its_weight_its_key_and_its_type(host, True, attached)
    detach_restores_the_original(host, True, attached)
    folding_computes_the_same_bits(host, True, torch.float32, attach=attached)
    refused_folding_changes_nothing(host, attach=attached)


@ties
def test_every_trainable_parameter_is_in_exactly_one_group(host: Host, tie: bool) -> None:
    model = host.attach(host(tie))
    groups = charembed.param_groups(model, lr=1.0, char_lr=0.5, weight_decay=0.2)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    by_name = {group["name"]: group for group in groups}
    assert {id(p) for p in by_name["char"]["params"]} == {
        id(p) for p in charembed.parameters(model)
    }
    assert (
        by_name["char"]["lr"],
        by_name["char"]["weight_decay"],
        by_name["base"]["weight_decay"],
    ) == (
        0.5,
        0.0,
        0.2,
    )
    for parameter in charembed.parameters(model):
        parameter.requires_grad_(False)
    assert [group["name"] for group in charembed.param_groups(model, lr=1.0)] == [
        "base",
        "base_vectors",
    ]


def test_training_gradients_are_those_of_a_plain_table(host: Host) -> None:
    """Reference for the whole embedding: one table of token + character vectors, used by the host
    itself."""
    model = host.attach(host(False), init="normal").eval()  # no dropout
    for module in model.modules():
        if isinstance(module, CharEmbedding):
            module.train()
    embedding = char_embedding(model)
    logits_and_loss(model)[1].backward()
    ours = [parameter.grad.clone() for parameter in charembed.parameters(model)]
    table_VD = (embedding.weight.detach() + embedding.encoder(torch.arange(V))).requires_grad_()
    encoder = embedding.encoder
    charembed.detach(model)
    state = {f"{host.path}.weight": table_VD}
    output = torch.func.functional_call(
        model,
        state,
        (IDS, IDS) if host.name == "nanogpt" else (IDS,),
        {"labels": IDS} if host.hugging_face else {},
    )
    loss = (
        output.loss
        if host.hugging_face
        else output[1]
        if host.name == "nanogpt"
        else nn.functional.cross_entropy(output.float().flatten(0, 1), IDS.flatten())
    )
    theirs = torch.autograd.grad(loss, list(encoder.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


PLAIN_LOADER = """
import sys; sys.modules["charembed"] = None
import torch, transformers; from safetensors.torch import save_file
torch.set_num_threads(1)
found = {}
for name, kind, path in [line.split("|") for line in sys.stdin.read().split()]:
    model = getattr(transformers, kind).from_pretrained(path).eval()
    with torch.no_grad():
        found[name] = model(torch.tensor(IDS)).logits
save_file(found, sys.argv[1])
"""


def test_folded_models_load_where_charembed_cannot_be_imported(tmp_path: Path) -> None:
    """In one fresh process, all tied, so loading would tie them again if it could."""
    expected, lines = {}, []
    for host in (host for host in HOSTS if host.hugging_face):
        model = host.attach(host(), init="normal").eval()
        with torch.no_grad():
            expected[host.name] = logits_of(model)
        charembed.fold(model).save_pretrained(tmp_path / host.name)
        lines.append(f"{host.name}|{type(model).__name__}|{tmp_path / host.name}")
    out = tmp_path / "logits.safetensors"
    script = PLAIN_LOADER.replace("IDS", str(IDS.tolist()))
    done = subprocess.run(
        [sys.executable, "-c", script, out],
        input="\n".join(lines),
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    found = load_file(out)
    assert found.keys() == expected.keys()
    for name, logits in expected.items():
        assert torch.equal(found[name], logits), name


# Negative controls: the same functions must fail when the plugin is broken.


def _scaled_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that skips the host's own forward."""

    @functools.cache
    def class_for(kind: Any) -> Any:
        return type("CharEmbedding", (CharEmbedding, kind), {"host_class": kind})

    monkeypatch.setattr("charembed.embedding._class_for", class_for)


def _random(host: Host, model: nn.Module) -> nn.Module:
    torch.rand(1)
    return host.attach(model)


def _copied(host: Host, model: nn.Module) -> nn.Module:
    host.embedding(model).weight = nn.Parameter(host.embedding(model).weight.detach().clone())
    return host.attach(model)


class _Wrapper(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, ids: Tensor) -> Any:
        return self.embedding(ids)


def _wrapped(host: Host, model: nn.Module) -> nn.Module:
    parent, _, name = host.path.rpartition(".")
    host.attach(model)
    setattr(model.get_submodule(parent), name, _Wrapper(host.embedding(model)))
    return model


def _fold_into_the_shared_weight(model: nn.Module) -> nn.Module:
    for embedding in (
        [char_embedding(model)]
        if any(isinstance(part, CharEmbedding) for part in model.modules())
        else []
    ):
        embedding.weight.data = embedding.table()
    return charembed.detach(model)


@pytest.mark.parametrize("host", [DECODER, GPT2], ids=lambda host: host.name)
def test_broken_plugins_fail_the_law(host: Host) -> None:
    for broken in (attach_normal, _copied, _wrapped):
        with pytest.raises((AssertionError, KeyError)):
            off_is_identical(host, True, torch.float32, True, broken)
    with pytest.raises(AssertionError):
        the_random_state_is_left_alone(host, _random)
    for broken in (_copied, _wrapped):
        with pytest.raises(AssertionError):
            the_embedding_keeps_its_weight_its_key_and_its_type(host, True, broken)
    with pytest.raises(AssertionError):
        detach_restores_the_original(host, True, _wrapped)
    for wrong in (charembed.detach, _fold_into_the_shared_weight):
        with pytest.raises(AssertionError):
            folding_computes_the_same_bits(host, True, torch.float32, wrong)
        with pytest.raises(BaseException, match="DID NOT RAISE"):
            refused_folding_changes_nothing(host, wrong)


def test_a_look_up_that_forgets_the_hosts_forward_fails_the_law(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _scaled_away(monkeypatch)
    with pytest.raises((AssertionError, charembed.CharEmbedError)):  # fold compares outputs too
        folding_computes_the_same_bits(GEMMA3, True, torch.float32)
    folding_computes_the_same_bits(GPT2, True, torch.float32)
