"""disabled, freeze_base, counts, and the messages of errors and warnings."""

from __future__ import annotations

import gc
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import charembed
from charembed import AttachError, LSTMEncoder, SpellingError, SpellingTable
from tests.conftest import ROOT
from tests.messages import raises, warns
from tests.plugin.hosts import (
    DECODER,
    GPT2,
    IDS,
    TABLE,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)

# disabled


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_disabled_the_model_is_its_base_bit_for_bit(host: Host, training: bool) -> None:
    plain = host().train(training)
    model = host.attach(host(), init="normal").train(training)
    results = []
    for one in (plain, model):
        torch.manual_seed(7)
        with charembed.disabled(one):
            logits, loss = logits_and_loss(one)
            loss.backward()
        results.append((logits, loss))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    gradients = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        theirs = gradients[name].grad
        assert (parameter.grad is None) == (theirs is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, theirs), name
    assert all(parameter.grad is None for parameter in charembed.parameters(model))


def test_the_vectors_are_back_after_the_block_also_after_an_exception() -> None:
    model, plain = GPT2.attach(GPT2(), init="normal").eval(), GPT2().eval()
    with torch.no_grad():
        attached, base = logits_of(model), logits_of(plain)
        with charembed.disabled(model):
            assert torch.equal(logits_of(model), base)
            with charembed.disabled(model):
                assert torch.equal(logits_of(model), base)
            assert torch.equal(logits_of(model), base)
        assert torch.equal(logits_of(model), attached)
        with pytest.raises(KeyError), charembed.disabled(model):
            raise KeyError
        assert torch.equal(logits_of(model), attached)
        with charembed.disabled(plain):
            assert torch.equal(logits_of(plain), base)


def test_fold_and_detach_work_while_disabled() -> None:
    """fold inside the block still writes the character vectors."""
    model = GPT2.attach(GPT2(), init="normal").eval()
    with torch.no_grad():
        attached = logits_of(model)
        with charembed.disabled(model):
            charembed.fold(model)
        assert torch.equal(logits_of(model), attached)
    assert not hasattr(GPT2.embedding(model), "base")


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_compiled_model_is_disabled_too(training: bool) -> None:
    model, plain = (
        DECODER.attach(DECODER(), init="normal").train(training),
        DECODER().train(training),
    )
    run = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        attached = run(IDS)
        with charembed.disabled(model):
            assert torch.equal(run(IDS), logits_of(plain))
        assert torch.equal(run(IDS), attached)


# freeze_base, counts, version


def test_freeze_base_trains_the_encoder_alone(host: Host) -> None:
    model = host.attach(host())
    assert charembed.freeze_base(model) is model
    own = set(map(id, charembed.parameters(model)))
    assert {id(p) for p in model.parameters() if p.requires_grad} == own
    assert [group["name"] for group in charembed.param_groups(model, lr=1.0)] == ["char"]
    logits_and_loss(model)[1].backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == own


def test_parameters_are_counted_once(host: Host) -> None:
    model = host.attach(host())
    letters = sum(p.numel() for p in charembed.parameters(model))
    every = sum(p.numel() for p in model.parameters())
    assert charembed.count_parameters(model) == (every, every, letters)
    assert charembed.count_parameters(charembed.freeze_base(model)) == (letters, every, letters)
    charembed.detach(model)
    assert charembed.count_parameters(model) == (0, every - letters, 0)


def test_the_version_is_the_packages() -> None:
    assert charembed.__version__ == importlib.metadata.version("charembed")


# Messages


def test_arguments_in_the_wrong_place_are_named() -> None:
    with raises(AttachError, "NoneType torch.nn.Module attach(model, tokenizer)"):
        charembed.attach(None, VOCABULARY)  # type: ignore[type-var]
    with raises(AttachError, "list torch.nn.Module swapped"):
        charembed.attach(VOCABULARY, GPT2())  # type: ignore[type-var]
    with raises(SpellingError, "GPT2LMHeadModel"):
        charembed.attach(GPT2(), GPT2())
    with raises(SpellingError, "NoneType"):
        charembed.attach(GPT2(), None)
    with raises(AttachError, "str torch.nn.Module"):
        charembed.load("letters", VOCABULARY, ROOT / "tests" / "data" / "format_1")  # type: ignore[type-var]


MODEL_FIRST: list[Callable[[Any], Any]] = [
    charembed.fold,
    charembed.detach,
    charembed.parameters,
    charembed.freeze_base,
    charembed.count_parameters,
    charembed.print_trainable_parameters,
    charembed.set_scale,
    charembed.warm_up,
    lambda model: charembed.param_groups(model, lr=1.0),
    lambda model: charembed.save(model, "letters"),
    lambda model: charembed.update_spellings(model, VOCABULARY),
    lambda model: charembed.project_to_low_fisher(model, IDS),
    lambda model: charembed.disabled(model).__enter__(),
    lambda model: charembed.peft_config(model, object()),
]


@pytest.mark.parametrize("call", MODEL_FIRST)
@pytest.mark.parametrize("model", [None, "gpt2", GPT2])
def test_what_is_no_model_is_named(call: Callable[[Any], Any], model: Any) -> None:
    with raises(AttachError, type(model).__name__, "torch.nn.Module"):
        call(model)


def test_arguments_without_effect_are_refused() -> None:
    encoder = LSTMEncoder(TABLE, 16)
    model = GPT2()
    for arguments, named in (
        ({"init": "normal"}, "init"),
        ({"char_dim": 4, "seed": 1}, "char_dim, seed"),
    ):
        with raises(AttachError, f"LSTMEncoder {named}"):
            charembed.attach(model, None, encoder=encoder, **arguments)
    with raises(SpellingError, "str"):
        charembed.attach(model, "not a tokenizer", encoder=encoder)
    with raises(SpellingError, "None"):
        charembed.attach(model, [None, *VOCABULARY[1:]], encoder=encoder)
    with raises(AttachError, "bag hidden_size char_dim"):
        charembed.attach(model, VOCABULARY, encoder="bag", hidden_size=4)
    with raises(AttachError, "lstn lstm gru"):
        charembed.attach(model, VOCABULARY, encoder="lstn")
    with raises(AttachError, "encoder None"):
        charembed.attach(model, VOCABULARY, encoder=None)  # type: ignore[arg-type]
    assert type(GPT2.embedding(model)) is nn.Embedding


@pytest.mark.parametrize(("wrong", "message"), [((15, TABLE), "15"), ((16, TABLE.first(9)), "9")])
def test_an_encoder_that_does_not_fit_is_refused(wrong: Any, message: str) -> None:
    model = GPT2()
    with raises(AttachError, message):
        charembed.attach(model, None, encoder=LSTMEncoder(wrong[1], wrong[0]))
    assert type(GPT2.embedding(model)) is nn.Embedding


def test_a_tokenizer_that_leaves_most_rows_without_characters_warns() -> None:
    with warns(UserWarning, "227 260"):
        charembed.attach(GPT2(), VOCABULARY[:33])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charembed.attach(GPT2(), VOCABULARY[:200])


NO_NUMBERS: list[Any] = ["x", "3", None, float("nan"), float("inf"), -1, -0.5, True, [1], {}, 1j]
NO_INTS: list[Any] = [*NO_NUMBERS, 0.5, 2.0]
HUGE: list[Any] = [10**30, 10**400, -(10**30)]


def attached(**arguments: Any) -> nn.Module:
    return charembed.attach(GPT2(), VOCABULARY, **{"init": "normal"} | arguments)


# Each argument: a call with it, and values that are no value for it.
WRONG: dict[str, tuple[Any, list[Any]]] = {
    "seed": (lambda seed: attached(seed=seed), [v for v in NO_INTS if v != -1] + HUGE),
    "char_dim": (lambda char_dim: attached(char_dim=char_dim), [*NO_INTS, 0]),
    "hidden_size": (
        lambda hidden_size: attached(hidden_size=hidden_size),
        [value for value in NO_INTS if value is not None] + [0],
    ),
    "max_chars": (lambda max_chars: attached(encoder="bag", max_chars=max_chars), [*NO_INTS, 0]),
    "filters": (lambda filters: attached(encoder="cnn", filters=filters), [*NO_INTS, 0]),
    "widths": (
        lambda widths: attached(encoder="cnn", widths=widths),
        ["x", None, 1, 0.5, (0,), ("x",), (True,), ()],
    ),
    "heads": (lambda heads: attached(encoder="transformer", heads=heads), [*NO_INTS, 0]),
    "layers": (lambda layers: attached(encoder="transformer", layers=layers), [*NO_INTS, 0]),
    "scale": (lambda scale: charembed.set_scale(attached(), scale), [*NO_NUMBERS, *HUGE[1:]]),
    "scale in attach": (
        lambda scale: attached(scale=scale),
        [value for value in NO_NUMBERS if value is not None] + HUGE[1:],
    ),
    "lr": (lambda lr: charembed.param_groups(attached(), lr=lr), [*NO_NUMBERS, *HUGE[1:]]),
    "char_lr": (
        lambda char_lr: charembed.param_groups(attached(), lr=1.0, char_lr=char_lr),
        [value for value in NO_NUMBERS if value is not None] + HUGE[1:],
    ),
    "weight_decay": (
        lambda decay: charembed.param_groups(attached(), lr=1.0, weight_decay=decay),
        [*NO_NUMBERS, *HUGE[1:]],
    ),
    "steps": (lambda steps: charembed.warm_up(attached(), steps=steps), [*NO_INTS, 0]),
    "tokens": (lambda tokens: charembed.warm_up(attached(), tokens=tokens), [*NO_INTS, 0]),
    "lr of warm_up": (lambda lr: charembed.warm_up(attached(), lr=lr), [*NO_NUMBERS, 0, *HUGE[1:]]),
    "seed of warm_up": (
        lambda seed: charembed.warm_up(attached(), seed=seed, steps=1),
        [v for v in NO_INTS if v != -1] + HUGE,
    ),
    "scale of warm_up": (
        lambda scale: charembed.warm_up(attached(), scale=scale, steps=1),
        [value for value in NO_NUMBERS if value is not None] + HUGE[1:],
    ),
    "share": (
        lambda share: charembed.project_to_low_fisher(attached(), IDS, share=share),
        [*NO_NUMBERS, 0, 1.01, *HUGE],
    ),
    "scale of project_to_low_fisher": (
        lambda scale: charembed.project_to_low_fisher(attached(), IDS, scale=scale),
        [value for value in NO_NUMBERS if value is not None] + HUGE[1:],
    ),
    "factor": (
        lambda factor: LSTMEncoder(TABLE, 16).set_output_scale(factor),
        [*NO_NUMBERS, *HUGE[1:]],
    ),
    "dim": (lambda dim: charembed.SpellingHeads(TABLE, dim, 0), [*NO_INTS, 0]),
    "places": (lambda places: charembed.SpellingHeads(TABLE, 4, 0, places), NO_INTS),
    "from_end": (lambda end: charembed.SpellingHeads(TABLE, 4, 0, from_end=end), NO_INTS),
    "num_tokens": (
        lambda number: SpellingTable.from_tokenizer(VOCABULARY, number),
        [value for value in NO_INTS if value is not None] + [0],
    ),
    "token_id": (lambda token_id: TABLE.spell(token_id), [v for v in NO_INTS if v is not True]),
    "token_id of spell": (
        lambda token_id: charembed.spell(VOCABULARY, token_id),
        [value for value in NO_INTS if value is not True],
    ),
}


@pytest.mark.parametrize("argument", WRONG)
def test_numbers_that_are_none_are_named(argument: str) -> None:
    call, values = WRONG[argument]
    for value in values:
        with pytest.raises(charembed.CharEmbedError) as raised:
            call(value)
        assert argument.split()[0] in str(raised.value)
        assert repr(value) in str(raised.value) or isinstance(value, tuple)
        assert "must be" in str(raised.value)


def test_other_kinds_of_numbers_are_accepted() -> None:
    attached(seed=-1, scale=numpy.float32(0.5))
    lr: Any = torch.tensor(0.1)
    groups = charembed.param_groups(attached(), lr=lr, weight_decay=0)
    assert [group["lr"] for group in groups] == [lr] * 3
    assert [group["lr"] for group in charembed.param_groups(attached(), lr=0)] == [0, 0, 0]
    for token_id in (torch.tensor(256), numpy.int64(256)):
        assert TABLE.spell(token_id) == ["t", "h", "e"]  # type: ignore[arg-type]


# An optimizer built before attaching


def test_an_optimizer_that_was_built_before_is_named() -> None:
    model = GPT2()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):  # also when it has stepped
        with warns(UserWarning, "AdamW"):
            charembed.attach(model, VOCABULARY)
        logits_and_loss(charembed.detach(model))[1].backward()
        optimizer.step()


def test_other_optimizers_are_not() -> None:
    model, other = GPT2(), GPT2()
    optimizer = torch.optim.AdamW(other.parameters())
    logits_and_loss(other)[1].backward()
    optimizer.step()
    encoder = LSTMEncoder(TABLE, 16)
    holds_the_letters_too = torch.optim.AdamW([*model.parameters(), *encoder.parameters()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charembed.attach(model, None, encoder=encoder)
    assert holds_the_letters_too.param_groups


def test_an_optimizer_that_is_gone_is_not_named() -> None:
    gc.disable()
    try:
        model = GPT2()
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        logits_and_loss(model)[1].backward()
        optimizer.step()
        scheduler.step()
        del optimizer, scheduler
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            charembed.attach(model, VOCABULARY)
    finally:
        gc.enable()


# FSDP with parameters of two dtypes


def test_a_distributed_run_with_two_dtypes_warns_of_fsdp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")  # as torchrun sets it
    with warns(UserWarning, "FSDP torch.bfloat16 fully_shard model.to(torch.bfloat16) DDP"):
        model = GPT2.attach(GPT2().bfloat16())
    assert {p.dtype for p in model.to(torch.bfloat16).parameters()} == {torch.bfloat16}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GPT2.attach(GPT2())
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        GPT2.attach(GPT2().bfloat16())


# Loops over parameters


def test_hooks_and_sparse_gradients_and_padding_go_together() -> None:
    host = nn.Embedding(V, 8, padding_idx=3, sparse=True)
    seen: list[Any] = []
    host.register_forward_hook(lambda *_: seen.append(1))
    model = charembed.attach(nn.Sequential(host), VOCABULARY, module="0", init="normal")
    model(torch.tensor([[3, 5, 5]])).sum().backward()
    assert host.weight.grad.is_sparse
    assert seen == [1]
    assert char_embedding(model) is host
    assert len(charembed.parameters(model)) == 7
