"""Embedding classes with a forward of their own: its arguments, special ids, norms, shifted ids."""

from __future__ import annotations

import copy
import inspect
import pickle  # noqa: TID251 - of objects that the test itself made
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charembed
from charembed import AttachError, CharEmbedding
from tests.messages import raises
from tests.plugin.families import aligned, build, hide_progress_bars
from tests.plugin.hosts import IDS, VOCABULARY, V, char_embedding

D = 8


class Keyword(nn.Embedding):
    """Another name of the first argument, as in transformers."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) * 3.0


class Direct(nn.Embedding):
    """Calls the function itself."""

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx) * scale


class Named(nn.Embedding):
    """Calls the base class by its name, and the function with keywords."""

    def forward(self, input: Tensor, twice: bool = False) -> Tensor:
        if twice:
            return 2 * F.embedding(weight=self.weight, input=input)
        return nn.Embedding.forward(self, input)


class Indexed(nn.Embedding):
    """Looks its rows up by indexing."""

    def forward(self, input: Tensor) -> Tensor:
        return self.weight[input]


class Selected(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return self.weight.index_select(0, input.flatten()).view(*input.shape, -1)


class EndOfImage(nn.Embedding):
    """T5Gemma2's: one id has a parameter of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eoi = nn.Parameter(torch.linspace(-1, 1, self.embedding_dim))
        self.register_buffer("scale", torch.tensor(4.0), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        vectors = super().forward(input_ids) * self.scale.to(self.weight.dtype)
        vectors[input_ids == 256] = self.eoi.to(vectors.dtype)
        return vectors


class LearnedZero(nn.Embedding):
    """A learned vector for id 0, chosen by torch.where, after a direct look-up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zero = nn.Parameter(torch.ones(self.embedding_dim))

    def forward(self, input: Tensor) -> Tensor:
        return torch.where((input == 0)[..., None], self.zero, F.embedding(input, self.weight))


class ScaledAbove(nn.Embedding):
    """Ids from 100 on are scaled."""

    def forward(self, input: Tensor) -> Tensor:
        rows = super().forward(input)
        return torch.where((input >= 100)[..., None], rows * 0.5, rows)


class Clamped(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.clamp(max=200))


class Shifted(nn.Embedding):
    """As OPT's positions: the table has two more rows than ids."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward((input - 2) % self.num_embeddings)


class Positional(nn.Embedding):
    """Rows depend on their place in the sequence, and the batch must have two axes."""

    def forward(self, input: Tensor) -> Tensor:
        _, T = input.shape
        places = torch.arange(T, device=input.device, dtype=self.weight.dtype)[:, None]
        return super().forward(input) * (1 + places) + places


class Transposed(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).transpose(0, 1)


class Biased(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1.0


class Dropping(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(super().forward(input), 0.5, self.training)


class Normed(nn.Embedding):
    """As Inkling's and MuseSpark's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm = nn.LayerNorm(self.embedding_dim)

    def forward(self, input: Tensor) -> Tensor:
        return self.norm(super().forward(input))


class Unembeds(nn.Embedding):
    """MPT's: the second argument makes it the head."""

    def forward(self, input: Tensor, unembed: bool = False) -> Tensor:
        return F.linear(input, self.weight) if unembed else super().forward(input)


CLASSES = [
    nn.Embedding,
    Keyword,
    Direct,
    Named,
    Indexed,
    Selected,
    EndOfImage,
    LearnedZero,
    ScaledAbove,
    Clamped,
    Shifted,
    Positional,
    Transposed,
    Biased,
    Dropping,
    Normed,
    Unembeds,
]
every = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
SPECIAL = IDS.clone()
SPECIAL[0, 0], SPECIAL[1, 0] = 0, 256


class Model(nn.Module):
    """An embedding and one layer."""

    def __init__(self, kind: Any, call: Callable[..., Tensor] | None = None, **kwargs: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wte = kind(V, D, **kwargs)
        self.layer = nn.Linear(D, 3)
        self.call = call or (lambda wte, ids: wte(ids))

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.call(self.wte, ids))


def attached(model: nn.Module, **kwargs: Any) -> nn.Module:
    return charembed.attach(
        model, VOCABULARY, module="wte", char_dim=6, hidden_size=8, **{"init": "normal"} | kwargs
    )


def outputs(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outputs, and the gradients of the base."""
    model.zero_grad()
    torch.manual_seed(5)
    out = model(SPECIAL)
    out.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if ".encoder." not in name}
    return out.detach(), gradients


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("padding_idx", [None, 3])
def test_off_is_identical(kind: Any, training: bool, padding_idx: int | None) -> None:
    plain = Model(kind, padding_idx=padding_idx).train(training)
    state = torch.get_rng_state()
    zero = attached(copy.deepcopy(plain), init="zero")
    assert torch.equal(torch.get_rng_state(), state)
    disabled = attached(copy.deepcopy(plain))
    (out, gradients), (ours, theirs) = outputs(plain), outputs(zero)
    assert torch.equal(out, ours)
    with charembed.disabled(disabled):
        again, third = outputs(disabled)
    assert torch.equal(out, again)
    for name, gradient in gradients.items():
        assert torch.equal(theirs[name], gradient), name
        assert torch.equal(third[name], gradient), name


@every
def test_evaluation_training_and_fold_agree(kind: Any) -> None:
    model = attached(Model(kind)).eval()
    own = {name: p.clone() for name, p in model.wte.named_parameters() if "encoder" not in name}
    with_gradient = model(SPECIAL).detach()
    with torch.no_grad():
        expected = model(SPECIAL)
        assert not torch.equal(expected, charembed.detach(copy.deepcopy(model))(SPECIAL))
    torch.testing.assert_close(with_gradient, expected, rtol=1e-5, atol=1e-5)
    reloaded = Model(kind).eval()
    folded = charembed.fold(model)
    assert type(folded.wte) is kind
    reloaded.load_state_dict(folded.state_dict())
    with torch.no_grad():
        assert torch.equal(folded(SPECIAL), expected)
        assert torch.equal(reloaded(SPECIAL), expected)
    for name, parameter in folded.wte.named_parameters():
        assert name == "weight" or torch.equal(parameter, own[name])


@every
def test_training_is_that_of_a_plain_table(kind: Any) -> None:
    model = attached(Model(kind)).eval()
    rows = model.wte.weight.detach() + model.wte.encoder(torch.arange(V))
    plain = Model(kind).eval()
    plain.layer.load_state_dict(model.layer.state_dict())
    expected = torch.func.functional_call(plain, {"wte.weight": rows}, (SPECIAL,))
    out = model(SPECIAL)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(each.square().sum(), charembed.parameters(model))
        for each in (out, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in (Keyword, Direct) else pytest.param(kind, marks=pytest.mark.slow)
        for kind in CLASSES
        if kind is not Dropping
    ],
)
def test_graphs_hold_the_hosts_forward(kind: Any) -> None:
    whole = kind is not EndOfImage  # an assignment by a mask is no part of a graph on any host
    for training in (True, False):
        model = attached(Model(kind)).train(training)
        with torch.set_grad_enabled(training):
            expected = model(SPECIAL).detach()
            run = torch.compile(model, backend="aot_eager", fullgraph=whole)
            torch.testing.assert_close(run(SPECIAL).detach(), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        if whole:
            exported = torch.export.export(model, (SPECIAL,)).module()
            torch.testing.assert_close(exported(SPECIAL), expected, rtol=1e-5, atol=1e-5)
        traced = torch.jit.trace(model, (SPECIAL,))
        torch.testing.assert_close(traced(SPECIAL), expected, rtol=1e-5, atol=1e-5)


@every
def test_copies_and_other_weights(kind: Any) -> None:
    model = attached(Model(kind)).eval()
    for copied in (copy.deepcopy(model.wte), pickle.loads(pickle.dumps(model.wte))):
        assert torch.equal(copied(SPECIAL), model.wte(SPECIAL))
    weights = {"wte.weight": torch.ones(V, D)}
    out = torch.func.functional_call(model, weights, (SPECIAL,))
    with torch.no_grad():
        model.wte.weight.fill_(1.0)
    assert torch.equal(out, model(SPECIAL))
    assert type(charembed.detach(model).wte) is kind


def test_the_signature_is_the_hosts() -> None:
    for kind in CLASSES:
        ours = attached(Model(kind)).wte.forward
        names = [list(inspect.signature(f).parameters) for f in (ours, kind(2, 2).forward)]
        assert names[0] == names[1], kind


CALLS: dict[str, tuple[Any, Callable[..., Tensor]]] = {
    "input=": (nn.Embedding, lambda wte, ids: wte(input=ids)),
    "input_ids=": (Keyword, lambda wte, ids: wte(input_ids=ids)),
    "default": (Direct, lambda wte, ids: wte(ids, 2.0)),
    "scale": (Direct, lambda wte, ids: wte(ids, 5.0)),
    "scale=": (Direct, lambda wte, ids: wte(scale=5.0, x=ids)),
    "twice": (Named, lambda wte, ids: wte(ids, twice=True)),
    "embeds": (Unembeds, lambda wte, ids: wte(ids, False)),
}


@pytest.mark.parametrize(("kind", "call"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_further_arguments_reach_the_host(kind: Any, call: Any, training: bool) -> None:
    plain = Model(kind, call).train(training)
    expected = outputs(plain)
    zero = outputs(attached(copy.deepcopy(plain), init="zero"))
    assert torch.equal(zero[0], expected[0])
    assert all(torch.equal(zero[1][name], value) for name, value in expected[1].items())
    model = attached(plain)
    with torch.no_grad():
        ours = model(SPECIAL)
        assert not torch.equal(ours, expected[0])
        torch.testing.assert_close(charembed.fold(model)(SPECIAL), ours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_head_in_the_embedding_reads_the_plain_weight(training: bool) -> None:
    model = attached(Model(Unembeds)).train(training)
    hidden = torch.randn(2, 3, D)
    expected = hidden @ model.wte.weight.T
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(model.wte(hidden, True), expected)
        torch.testing.assert_close(model.wte(input=hidden, unembed=True), expected)
    with pytest.raises(TypeError):
        model.wte(hidden, True, 3)


class Mean(nn.Embedding):
    """Reads all rows."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) - self.weight.mean(0)


class OneHot(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return F.one_hot(input, self.num_embeddings).to(self.weight.dtype) @ self.weight


class Noisy(nn.Embedding):
    """Reads all rows in training alone."""

    def forward(self, input: Tensor) -> Tensor:
        rows = super().forward(input)
        return rows + self.weight.std() * torch.rand_like(rows) if self.training else rows


class NeedsMore(nn.Embedding):
    def forward(self, input: Tensor, places: Tensor) -> Tensor:
        return super().forward(input) + places


@pytest.mark.parametrize("kind", [Mean, OneHot, Noisy, NeedsMore], ids=lambda kind: kind.__name__)
def test_a_forward_that_reads_more_than_rows_is_refused(kind: Any) -> None:
    model = Model(kind).eval()
    before, state = copy.deepcopy(vars(model.wte)["_parameters"]), torch.get_rng_state()
    with raises(AttachError, f"{kind.__name__}.forward"):
        attached(model)
    assert type(model.wte) is kind
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.wte.weight, before["weight"])


def test_the_trial_is_cheap_and_changes_nothing() -> None:
    class Counting(nn.Embedding):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.register_buffer("calls", torch.zeros(()))
            self.register_forward_hook(lambda *_: seen.append(1))

        def forward(self, input: Tensor) -> Tensor:
            self.calls += input.numel()
            return super().forward(input)

    seen: list[int] = []
    model = nn.ModuleDict({"wte": Counting(V, D)})
    attached(model)
    assert seen == []
    assert model["wte"].calls == 0
    model["wte"](IDS)
    assert model["wte"].calls == IDS.numel()


def test_one_check_of_the_rows_for_attach_and_fold() -> None:
    for sizes in ((V + 2, D), (V - 1, D), (V, D + 1)):
        model = Model(nn.Embedding)
        model.wte.weight = nn.Parameter(torch.zeros(sizes))
        with raises(AttachError, f"({sizes[0]}, {sizes[1]}) num_embeddings {V} embedding_dim"):
            attached(model)
        assert type(model.wte) is nn.Embedding
        model = attached(Model(nn.Embedding))
        model.wte.weight = nn.Parameter(torch.zeros(sizes))
        with raises(AttachError, f"({sizes[0]}, {sizes[1]}) num_embeddings {V} embedding_dim"):
            charembed.fold(model)


def test_an_attribute_named_encoder_is_not_overwritten() -> None:
    class Own(nn.Embedding):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.encoder = nn.Linear(2, 2)

    with raises(AttachError, "Own encoder"):
        attached(Model(Own))
    model = attached(Model(nn.Embedding))
    with raises(AttachError, "embedding.release()"):
        CharEmbedding.from_embedding(char_embedding(model), None)  # type: ignore[arg-type]


# Classes of transformers


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["T5Gemma2ForConditionalGeneration", "InklingForCausalLM"])
def test_embedding_classes_of_transformers(name: str, tmp_path: Path) -> None:
    hide_progress_bars()
    model = build(name)

    def ends_images_with_id_7(model: nn.Module) -> None:
        for part in model.modules():
            if hasattr(part, "eoi_embedding"):
                part.eoi_token_index = 7

    ids = IDS.clamp(min=4)
    ids[0, 0], ids[1, 3] = 7, 7
    named: dict[str, Any] = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        named["decoder_input_ids"] = ids.flip(1)
    ends_images_with_id_7(model)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "eoi_embedding" in path or "embed_norm" in path:
                parameter.copy_(torch.linspace(-1, 1, len(parameter)))
        expected = model(**named).logits
        zero = charembed.attach(copy.deepcopy(model), VOCABULARY)
        assert torch.equal(zero(**named).logits, expected)
        charembed.attach(model, VOCABULARY, init="normal", char_dim=4, hidden_size=4)
        attached = model(**named).logits
        assert not torch.equal(attached, expected)
    torch.testing.assert_close(model(**named).logits, attached)
    charembed.fold(model).save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    ends_images_with_id_7(again)
    with torch.no_grad():
        assert torch.equal(model(**named).logits, attached)
        assert torch.equal(aligned(again)(**named).logits, attached)
