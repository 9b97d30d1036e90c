"""fold keeps the outputs of any model, or refuses and changes nothing."""

from __future__ import annotations

import copy
import functools
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from transformers import BigBirdConfig, BigBirdForMaskedLM, DebertaConfig, DebertaForMaskedLM

import charembed
from charembed import AttachError, CharEmbedding, CharEmbedError
from charembed.errors import CharEmbedError as Refused
from tests.messages import raises
from tests.plugin.hosts import (
    DECODER,
    GEMMA3,
    GPT2,
    IDS,
    NANOGPT,
    SIZES,
    TABLE,
    VOCABULARY,
    V,
    char_embedding,
    logits_of,
)
from tests.plugin.test_shared_embeddings import bart, run, t5

# Models whose head uses the table of the embedding


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wte, self.norm = nn.Embedding(V, 16), nn.LayerNorm(16)

    def forward(self, ids: Tensor) -> Any:
        return self.head(self.norm(self.wte(ids)))

    def head(self, h: Tensor) -> Any:
        raise NotImplementedError


class Product(Body):
    def head(self, h: Tensor) -> Tensor:
        return h @ self.wte.weight.T


class Linear(Body):
    def head(self, h: Tensor) -> Tensor:
        return nn.functional.linear(h, self.wte.weight)


class Shared(Body):
    """As in Megatron: a property of the model gives the weight of both."""

    @property
    def shared_weight(self) -> Tensor:
        return self.wte.weight

    def head(self, h: Tensor) -> Tensor:
        return torch.einsum("btd,vd->btv", h, self.shared_weight)


class Lambda(Body):
    """As in x-transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.to_logits = lambda h: h @ self.wte.weight.t()

    def head(self, h: Tensor) -> Tensor:
        return self.to_logits(h)


class TiedLinear:
    """As in torchtune: no module, so that the weight has one name."""

    def __init__(self, tied_module: nn.Embedding) -> None:
        self.tied_module = tied_module

    def __call__(self, h: Tensor) -> Tensor:
        return nn.functional.linear(h, self.tied_module.weight)


class Tied(Body):
    def __init__(self) -> None:
        super().__init__()
        self.output = TiedLinear(self.wte)

    def head(self, h: Tensor) -> Tensor:
        return self.output(h)


class Head(nn.Module):
    """A module that gets the embedding as an argument, as DeBERTa's head does."""

    def forward(self, h: Tensor, embedding: nn.Embedding) -> Tensor:
        return h @ embedding.weight.T


class Passed(Body):
    def __init__(self) -> None:
        super().__init__()
        self.lm_head = Head()

    def head(self, h: Tensor) -> Tensor:
        return self.lm_head(h, self.wte)


class Hidden(Body):
    """The weight in a plain list: in memory folding keeps the outputs, but not in a state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [self.wte.weight]

    def head(self, h: Tensor) -> Tensor:
        return h @ self.weights[0].T


class Closure(Body):
    def __init__(self) -> None:
        super().__init__()
        weight = self.wte.weight
        self.to_logits = lambda h: h @ weight.T

    def head(self, h: Tensor) -> Tensor:
        return self.to_logits(h)


class Attribute(Body):
    """The weight as an attribute, which torch registers as a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.head_weight = self.wte.weight

    def head(self, h: Tensor) -> Tensor:
        return h @ self.head_weight.T


class Listed(Body):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([self.wte.weight])

    def head(self, h: Tensor) -> Tensor:
        return h @ self.weights[0].T


def attached(made: Callable[[], nn.Module], **arguments: Any) -> Any:
    options = {"init": "normal", "char_dim": 4, "hidden_size": 4, **arguments}
    return charembed.attach(made(), VOCABULARY, module="wte", **options)


def picture(model: nn.Module) -> list[Any]:
    """Return all that a refused fold must keep: classes, objects, values, flags, hooks, states."""
    parts = list(model.modules())
    return [
        [(type(part), id(part), part.training) for part in parts],
        [(name, id(value)) for part in parts for name, value in sorted(vars(part).items())],
        [
            (name, id(value))
            for part in parts
            for held in (part._parameters, part._buffers, part._modules, part._forward_hooks)
            for name, value in held.items()
        ],
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state(),
        random.getstate(),
        numpy.random.get_state()[1].tolist(),
    ]


def assert_same_picture(one: list[Any], other: list[Any]) -> None:
    for ours, theirs in zip(one, other, strict=True):
        if isinstance(ours, dict):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
        elif isinstance(ours, Tensor):
            assert torch.equal(ours, theirs)
        else:
            assert ours == theirs


def refuses(model: nn.Module, *parts: str, error: type = CharEmbedError, **arguments: Any) -> None:
    before = picture(model)
    with raises(error, *parts):
        charembed.fold(model, **arguments)
    assert_same_picture(picture(model), before)


reading = pytest.mark.parametrize(
    "made", [Product, Linear, Shared, Lambda, Tied, Passed, Hidden, Closure]
)


@reading
@pytest.mark.parametrize("training", [True, False])
def test_a_head_that_reads_the_weight_is_named(made: Any, training: bool) -> None:
    model = attached(made).train(training)
    name = "lm_head Head" if made is Passed else made.__name__
    refuses(model, name, "weight")
    model.eval()
    with torch.no_grad():
        expected = model(IDS)
    refuses(model, name)
    with torch.no_grad():
        assert torch.equal(model(IDS), expected)
    # the way out: a head with a weight of its own, or the base again
    charembed.detach(model)
    assert not any(isinstance(part, CharEmbedding) for part in model.modules())


@pytest.mark.parametrize("made", [Attribute, Listed])
def test_a_head_that_holds_the_weight_as_a_parameter_keeps_it(made: Any) -> None:
    model = attached(made).eval()
    with torch.no_grad():
        expected = model(IDS)
        charembed.fold(model, check=IDS)
        assert torch.equal(model(IDS), expected)
        again = made()
        holder, name = (again, "head_weight") if made is Attribute else (again.weights, "0")
        holder._parameters[name] = nn.Parameter(torch.empty(V, 16))
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval()(IDS), expected)


def test_without_character_vectors_any_head_may_be_folded() -> None:
    """Vectors of zero change no value, so the outputs cannot differ."""
    model = attached(Product, init="zero").eval()
    with torch.no_grad():
        expected = model(IDS)
        assert torch.equal(charembed.fold(model)(IDS), expected)


def test_debertas_own_head_is_refused() -> None:
    """With legacy=False its head multiplies with the embedding's weight."""
    config = DebertaConfig(**{**SIZES, "max_position_embeddings": 64}, pad_token_id=0)
    for legacy in (True, False):
        config.legacy = legacy
        torch.manual_seed(0)
        model: Any = charembed.attach(DebertaForMaskedLM(config), VOCABULARY, init="normal").eval()
        with torch.no_grad():
            expected = model(IDS).logits
        if legacy:
            assert torch.equal(charembed.fold(model)(IDS).logits, expected)
        else:
            refuses(model, "lm_head weight")


@pytest.mark.parametrize("tie", [True, False])
def test_x_transformers(tie: bool) -> None:
    x_transformers = pytest.importorskip("x_transformers")
    torch.manual_seed(0)
    model = x_transformers.TransformerWrapper(
        num_tokens=V,
        max_seq_len=32,
        tie_embedding=tie,
        attn_layers=x_transformers.Decoder(dim=16, depth=1, heads=2, attn_dim_head=8),
    )
    charembed.attach(model, VOCABULARY, module="token_emb.emb", init="normal").eval()
    if tie:
        refuses(model, "TransformerWrapper weight")
        # the head of a deep copy reads the weight of the original
        copied = copy.deepcopy(model)
        refuses(copied, "weight parameter")
        refuses(x_transformers.AutoregressiveWrapper(model), "weight")
    else:
        with torch.no_grad():
            expected = model(IDS)
            assert torch.equal(charembed.fold(model, check=IDS)(IDS), expected)


# check=


def test_check_compares_hooks_too() -> None:
    """The automatic check runs few hooks; the outputs for `check` are those of the whole model."""
    model = attached(Attribute).eval()
    added = functools.partial(getattr, model.wte, "weight")  # not in the hook's own code
    model.norm.register_forward_hook(lambda part, args, out: out + added()[:1])
    refuses(model, "outputs", check=IDS)
    refuses(model, "outputs", check={"ids": IDS})


@dataclass
class Output:
    logits: Tensor
    extra: Any = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: (None, [logits]),
        lambda logits: {"logits": logits, "name": "x"},
        lambda logits: OrderedDict(deep={"er": (logits,)}),
        lambda logits: Output(logits),
    ],
)
def test_outputs_of_any_structure_are_compared(wrap: Callable[[Tensor], Any]) -> None:
    class Wrapped(Product):
        def forward(self, ids: Tensor) -> Any:
            return wrap(super().forward(ids))

    refuses(attached(Wrapped), "Wrapped weight")
    refuses(attached(Wrapped), "outputs", check=IDS)


@pytest.mark.parametrize("build", [t5, bart])
def test_models_with_an_encoder_and_a_decoder_are_checked(build: Any) -> None:
    model = charembed.attach(build(), VOCABULARY, init="normal", char_dim=4, hidden_size=4).eval()
    with torch.no_grad():
        expected = run(model).logits
    copied = copy.deepcopy(model)
    charembed.fold(copied, check=IDS)
    charembed.fold(model, check={"input_ids": IDS, "labels": IDS.flip(1)})
    for folded in (copied, model):
        with torch.no_grad():
            assert torch.equal(run(folded).logits, expected)


@pytest.mark.parametrize("host", [GPT2, GEMMA3, NANOGPT, DECODER], ids=lambda host: host.name)
def test_check_accepts_a_right_fold_in_training_mode(host: Any) -> None:
    model = host.attach(host(), init="normal").train()
    modes = {path: part.training for path, part in model.named_modules()}
    state = torch.get_rng_state()
    charembed.fold(model, check=IDS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training == modes[path] for path, part in model.named_modules())


def test_check_of_another_kind_is_refused() -> None:
    model = attached(Attribute)
    refuses(model, "check str", check="ids")
    refuses(model, "check list", check=[1, 2])

    class Choice(Attribute):
        def forward(self, ids: Tensor) -> Any:
            return super().forward(ids).argmax(-1)

    refuses(attached(Choice), "check", check=IDS)
    with torch.no_grad():
        assert charembed.fold(attached(Choice))(IDS).shape == IDS.shape


# The automatic check leaves no trace


class Stateful(Attribute):
    """A model that counts, caches and draws random numbers in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen, self.caches = 0, [], {}
        self.register_buffer("cache", torch.zeros(4, 16))
        self.mask = torch.zeros(3)
        self.counts = torch.zeros(2)

    def forward(self, ids: Tensor) -> Any:
        self.calls += 1
        self.seen.append(ids)
        self.caches[len(self.seen)] = ids
        self.last = ids
        noise = torch.rand(1) + random.random() + float(numpy.random.rand())
        self.cache += 1
        self.mask = self.mask + 1
        self.counts.data += 1
        return super().forward(ids) + self.cache.sum() + self.mask.sum() + noise


@pytest.mark.parametrize("check", [None, IDS], ids=["automatic", "ids"])
def test_a_run_changes_nothing_but_the_embedding(check: Tensor | None) -> None:
    model, calls = attached(Stateful).train(), []
    model.norm.eval()
    model.norm.register_forward_hook(lambda *_: calls.append(1))
    model.norm.register_forward_pre_hook(lambda *_: calls.append(2))
    keys = {*vars(model)}
    before = picture(model)
    with torch.random.fork_rng():
        charembed.fold(model, check=check)
    assert model.calls == 0
    assert model.seen == []
    assert model.caches == {}
    assert keys - {*vars(model)} == {"_charembed_marks"}
    assert {*vars(model)} < keys
    assert model.cache.count_nonzero() == 0
    assert model.mask.count_nonzero() == 0
    assert model.counts.count_nonzero() == 0
    assert model.training
    assert not model.norm.training
    assert len(model.norm._forward_hooks) == len(model.norm._forward_pre_hooks) == 1
    assert calls == ([] if check is None else [2, 1, 2, 1])
    for ours, theirs in zip(before[4:], picture(model)[4:], strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def test_a_model_that_changes_its_layers_in_a_run_is_put_back() -> None:
    """BigBird exchanges its attention for another kind, with a warning, if the input is short."""
    sizes = {**SIZES, "max_position_embeddings": 1024, "block_size": 8, "num_random_blocks": 1}
    config = BigBirdConfig(**{**sizes, "pad_token_id": 0, "attention_type": "block_sparse"})
    torch.manual_seed(0)
    model: Any = charembed.attach(BigBirdForMaskedLM(config), VOCABULARY, init="normal").eval()
    long = IDS.flatten()[:16].repeat(1, 10).clamp(min=1)
    with torch.no_grad():
        numpy.random.seed(0)
        expected = model(long).logits
        parts = [type(part) for part in charembed.detach(copy.deepcopy(model)).modules()]
        charembed.fold(model)
        assert [type(part) for part in model.modules()] == parts
        numpy.random.seed(0)
        assert torch.equal(model(long).logits, expected)


class NeedsPixels(Product):
    def forward(self, ids: Tensor, pixels: list[Tensor]) -> Tensor:
        h = self.norm(self.wte(ids) + pixels[0])
        return h @ self.wte.weight.T


class NeedsPixelsToo(Shared):
    def forward(self, ids: Tensor, pixels: list[Tensor]) -> Tensor:
        return self.last(self.norm(self.wte(ids) + pixels[0]))

    def last(self, h: Tensor) -> Tensor:
        return self.head(h)


class NeedsPixelsLambda(Lambda):
    def forward(self, ids: Tensor, pixels: list[Tensor]) -> Tensor:
        return self.head(self.norm(self.wte(ids) + pixels[0]))


class NeedsPixelsSuper(Product):
    def forward(self, ids: Tensor, pixels: list[Tensor]) -> Tensor:
        return super().forward(ids) + pixels[0]


class Loss(Product):
    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(super().forward(ids).flatten(0, 1), targets.flatten())


class NeedsPixelsUntied(NeedsPixels):
    def __init__(self) -> None:
        super().__init__()
        self.lm_head = nn.Linear(16, V)

    def forward(self, ids: Tensor, pixels: list[Tensor]) -> Tensor:
        return self.lm_head(self.norm(self.wte(ids).to(self.wte.weight.dtype) + pixels[0]))


def test_a_model_that_needs_more_than_ids_is_judged_by_its_code() -> None:
    inputs = {"ids": IDS, "pixels": [torch.ones(1)]}
    refuses(attached(NeedsPixels), "NeedsPixels weight check=")
    refuses(attached(NeedsPixels), "outputs", check=inputs)
    refuses(attached(NeedsPixelsToo), "NeedsPixelsToo weight check=")
    refuses(attached(NeedsPixelsLambda), "NeedsPixelsLambda weight check=")
    refuses(attached(NeedsPixelsSuper), "NeedsPixelsSuper weight check=")
    refuses(attached(Loss), "outputs Loss weight")
    with torch.no_grad():
        model = attached(NeedsPixelsUntied).eval()
        expected = model(**inputs)
        assert torch.equal(charembed.fold(model)(**inputs), expected)
    # vectors of zero change nothing, and then `check` accepts the head
    charembed.fold(attached(NeedsPixels, init="zero"), check=inputs)


class NeedsMask(Body):
    """A head whose code does not name the embedding and its weight together."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        embedding = self.wte
        return self.norm(embedding(ids) * mask[..., None]) @ embedding.weight.T


class NeedsStart(Body):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(64, 16)
        self.out = Getter(lambda: self.wte.weight)

    def forward(self, ids: Tensor, start: int) -> Tensor:
        places = torch.arange(start, start + ids.shape[1])
        return self.out(self.norm(self.wte(ids) + self.places(places)))


class Getter(nn.Module):
    def __init__(self, get: Callable[[], Tensor]) -> None:
        super().__init__()
        self.get = get

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.get().T


class NeedsMaskUntied(Attribute):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        return super().forward(ids) * mask[..., None]


def test_a_model_runs_with_guessed_values_of_other_arguments() -> None:
    """A mask or a first position; the outputs must be equal for any of their values."""
    refuses(attached(NeedsMask), "outputs NeedsMask weight")
    refuses(attached(NeedsStart), "outputs out Getter weight")
    with torch.no_grad():
        model, mask = attached(NeedsMaskUntied).eval(), torch.rand(IDS.shape)
        expected = model(IDS, mask)
        assert torch.equal(charembed.fold(model)(IDS, mask), expected)


@pytest.mark.parametrize("on", ["norm", "", "wte"], ids=["norm", "model", "wte"])
def test_a_hook_that_reads_the_weight_is_noticed(on: str) -> None:
    model = attached(Attribute).eval()
    model.get_submodule(on).register_forward_hook(
        lambda part, args, out: out + model.wte.weight.sum()
    )
    refuses(model, "outputs weight")
    model = attached(Attribute).eval()
    model.norm.register_forward_pre_hook(
        functools.partial(lambda add, part, args: (args[0] + model.wte.weight[:1],), 1)
    )
    refuses(model, "outputs weight")


def test_ids_that_another_table_lacks_are_not_looked_up() -> None:
    """On a GPU they would end the process."""

    class Two(Attribute):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Embedding(2, 16)

        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids.clamp(max=1)) + self.first(ids).sum()

    charembed.fold(attached(Two))


def test_an_embedding_alone_and_models_in_a_sequence_fold() -> None:
    embedding = charembed.CharEmbedding.from_embedding(nn.Embedding(V, 8), TABLE, init="normal")
    models = (embedding, attached(Attribute), nn.Sequential(attached(Attribute), nn.Identity()))
    for model in models:
        with torch.no_grad():
            expected = model.eval()(IDS)
            assert torch.equal(charembed.fold(model)(IDS), expected)
    with torch.inference_mode():
        expected = (model := attached(Attribute).eval())(IDS)
        assert torch.equal(charembed.fold(model, check=IDS)(IDS), expected)


def test_half_precision_and_compiled_models_fold() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        model = GPT2.attach(GPT2(False).to(dtype), init="normal").eval()
        with torch.no_grad():
            expected = logits_of(model)
            assert torch.equal(logits_of(charembed.fold(model)), expected)
    compiled: Any = torch.compile(attached(Product), backend="eager")
    refuses(compiled, "Product weight")
    refuses(compiled, "outputs", check=IDS)


def test_an_interrupted_check_changes_nothing() -> None:
    class Interrupted(Attribute):
        def forward(self, ids: Tensor) -> Tensor:
            if not isinstance(self.wte, CharEmbedding):
                raise KeyboardInterrupt
            return super().forward(ids)

    refuses(attached(Interrupted), error=KeyboardInterrupt)


# fold refuses wherever attach would


def pruned(embedding: nn.Embedding) -> None:
    prune.l1_unstructured(embedding, "weight", 0.2)


def patched(embedding: Any) -> None:
    inner = embedding.forward
    embedding.forward = lambda ids: 2 * inner(ids)


def capped(embedding: nn.Embedding) -> None:
    embedding.max_norm = 1.0


def integers(embedding: nn.Embedding) -> None:
    embedding.weight = nn.Parameter(torch.zeros(V, 16, dtype=torch.int8), requires_grad=False)


def plain_tensor(embedding: Any) -> None:
    weight = embedding.weight.detach()
    del embedding.weight
    embedding.weight = weight


def normed(embedding: nn.Embedding) -> None:
    parametrizations.weight_norm(embedding)


def spectral(embedding: nn.Embedding) -> None:
    parametrizations.spectral_norm(embedding)


def fewer(embedding: nn.Embedding) -> None:
    embedding.weight = nn.Parameter(torch.zeros(V - 3, 16))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (pruned, "prune.remove"),
        (normed, "remove_parametrizations"),
        (spectral, "remove_parametrizations"),
        (patched, "forward"),
        (capped, "max_norm=1.0"),
        (integers, "torch.int8"),
        (plain_tensor, "weight parameter"),
        (fewer, f"{V - 3} {V}"),
    ],
)
def test_an_embedding_that_attach_would_refuse_is_not_folded(
    change: Callable[[Any], None], parts: str
) -> None:
    model = attached(Attribute) if change is not fewer else attached(NeedsPixelsUntied)
    change(model.wte)
    refuses(model, parts, error=AttachError)


@pytest.mark.parametrize("change", [normed, spectral, patched])
def test_detach_refuses_if_another_tool_has_changed_the_embedding(change: Any) -> None:
    model = attached(Attribute)
    change(model.wte)
    before = picture(model)
    with raises(AttachError):
        charembed.detach(model)
    assert_same_picture(picture(model), before)


def test_after_the_change_is_undone_fold_works() -> None:
    model = attached(Attribute).eval()
    prune.l1_unstructured(model.wte, "weight", 0.2)
    prune.remove(model.wte, "weight")
    parametrizations.weight_norm(model.wte)
    nn.utils.parametrize.remove_parametrizations(model.wte, "weight")
    with torch.no_grad():
        expected = model(IDS)
        assert torch.equal(charembed.fold(model)(IDS), expected)


def test_a_pruned_embedding_can_be_detached() -> None:
    model = attached(Attribute, init="zero").eval()
    pruned(model.wte)
    with torch.no_grad():
        expected = model(IDS)
        assert torch.equal(charembed.detach(model)(IDS), expected)


def test_hooks_on_the_embedding_stay() -> None:
    model = attached(Attribute).eval()
    model.wte.register_forward_hook(lambda part, args, out: 2 * out)
    with torch.no_grad():
        expected = model(IDS)
        assert torch.equal(charembed.fold(model, check=IDS)(IDS), expected)


# The mark


def replaced(model: Any) -> Any:
    model.set_input_embeddings(nn.Embedding(V, 16))
    return model


def using(model: Any) -> list[Callable[[], Any]]:
    return [
        lambda: charembed.fold(model),
        lambda: charembed.detach(model),
        lambda: charembed.save(model, "nowhere"),
        lambda: charembed.parameters(model),
        lambda: charembed.disabled(model).__enter__(),
        lambda: charembed.update_spellings(model, VOCABULARY),
        lambda: charembed.set_scale(model),
        lambda: charembed.freeze_base(model),
    ]


@pytest.mark.parametrize(
    "derive",
    [
        lambda model: model,
        copy.deepcopy,
        lambda model: ForkingPickler.loads(ForkingPickler.dumps(model)),
        nn.DataParallel,
        partial(torch.compile, backend="eager"),
    ],
    ids=["itself", "deepcopy", "pickle", "DataParallel", "compile"],
)
def test_a_replaced_embedding_is_noticed(derive: Callable[[Any], Any], tmp_path: Path) -> None:
    model = GPT2.attach(GPT2(False), init="normal")
    assert "charembed" not in str(model.config)
    assert not any("mark" in key for key in model.state_dict())
    assert "mark" not in repr(model)
    old = model.get_input_embeddings()
    derived = derive(replaced(copy.deepcopy(model)))
    for use in using(derived):
        with raises(AttachError, "transformer.wte Embedding attach"):
            use()
    derived = derive(model)
    model.set_input_embeddings(nn.Embedding(V, 16))
    model.set_input_embeddings(old)  # back again
    charembed.save(derived, tmp_path)
    charembed.fold(charembed.fold(derived))
    assert not any("_charembed_marks" in vars(part) for part in derived.modules())


def test_a_copy_notices_what_is_replaced_in_it_alone() -> None:
    model = GPT2.attach(GPT2(False), init="normal")
    copied = replaced(copy.deepcopy(model))
    charembed.fold(model)
    with raises(AttachError, "transformer.wte"):
        charembed.fold(copied)
    # attached again, it is an ordinary model
    charembed.detach(GPT2.attach(copied))
    assert charembed.parameters(charembed.fold(copied)) == []


def test_a_removed_embedding_is_noticed() -> None:
    model = attached(NeedsPixelsUntied)
    del model.wte
    with raises(AttachError, "wte"):
        charembed.fold(model)


def test_a_part_that_was_folded_by_itself_is_not_missed() -> None:
    model = GPT2.attach(GPT2(False), init="normal")
    charembed.fold(model.transformer)
    charembed.fold(model)
    charembed.detach(model)


def test_a_model_without_a_mark_stays_a_no_op() -> None:
    model = GPT2(False)
    before = picture(model)
    assert charembed.fold(charembed.detach(charembed.fold(model))) is model
    assert charembed.parameters(model) == []
    assert_same_picture(picture(model), before)


@pytest.mark.parametrize("build", [t5, bart])
def test_shared_embeddings_that_were_replaced_are_noticed(build: Any) -> None:
    model = charembed.attach(build(), VOCABULARY)
    model.set_input_embeddings(nn.Embedding(V, 16))
    with raises(AttachError, "shared"):
        charembed.fold(model)


def test_resized_and_wrapped_embeddings_are_not_missed(tmp_path: Path) -> None:
    model = GPT2.attach(GPT2(False), init="normal").eval()
    model.resize_token_embeddings(V + 4, mean_resizing=False)
    charembed.update_spellings(model, VOCABULARY)
    charembed.save(model, tmp_path)
    wte = model.transformer.wte
    model.transformer.wte = nn.Sequential(wte, nn.Identity())
    with torch.no_grad():
        expected = model(IDS).logits
        assert torch.equal(charembed.fold(model)(IDS).logits, expected)


def test_refusals_are_charembeds_own_errors() -> None:
    assert issubclass(AttachError, Refused)
    assert isinstance(char_embedding(GPT2.attach(GPT2())), CharEmbedding)


def test_a_tied_head_is_found_by_its_memory(tmp_path: Path) -> None:
    """load_state_dict(assign=True) gives a tied head a parameter of its own with the same memory."""
    model: Any = GPT2.attach(GPT2(True), init="normal").eval()
    state = model.state_dict()
    model.load_state_dict(state, assign=True)
    head, table = model.lm_head.weight, model.transformer.wte.weight
    assert head is not table
    assert head.data_ptr() == table.data_ptr()
    with torch.no_grad():
        expected = model(IDS).logits
        charembed.fold(model).save_pretrained(tmp_path)
        assert torch.equal(model(IDS).logits, expected)
        assert not model.config.tie_word_embeddings
        assert torch.equal(type(model).from_pretrained(tmp_path)(IDS).logits, expected)


@pytest.mark.parametrize(
    ("check", "seen"),
    [
        (torch.rand(1, 3), "float32"),
        (torch.zeros(1, 0, dtype=torch.long), "(1, 0)"),
        ({"idds": IDS}, "input_ids"),
        ({}, "check"),
    ],
)
def test_inputs_that_cannot_be_compared_are_refused(check: Any, seen: str) -> None:
    model = GPT2.attach(GPT2(), init="normal")
    with raises(CharEmbedError, seen):
        charembed.fold(model, check=check)
    assert isinstance(char_embedding(model), CharEmbedding)
