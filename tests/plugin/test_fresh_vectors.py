"""Evaluation uses the vectors of the present weights, however they were written or exchanged."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel

import charembed
import charembed.snapshot
import charembed.vector_table
from charembed import ENCODERS, CharEmbedding, CharEmbedError, SpellingTable
from tests.messages import raises
from tests.plugin.hosts import GPT2, NANOGPT, SMALL, V, char_embedding, logits_and_loss, logits_of
from tests.plugin.test_waits import Waits

kinds = pytest.mark.parametrize("kind", ENCODERS)
Weights = dict[str, Tensor]


def attached(kind: str = "lstm") -> nn.Module:
    """Return an attached model in evaluation mode whose table is complete."""
    model = NANOGPT.attach(NANOGPT(), encoder=kind, init="normal", **SMALL[kind]).eval()
    assert torch.equal(vectors(model), char_embedding(model).table())
    return model


@torch.no_grad()
def vectors(model: nn.Module) -> Tensor:
    embedding = char_embedding(model)
    found: Tensor = embedding(torch.arange(embedding.num_embeddings))
    return found


def assert_fresh(model: nn.Module, before: Tensor | None = None) -> Tensor:
    """Assert that evaluation looks up the vectors of the present weights, and return them."""
    found = vectors(model)
    assert torch.equal(found, char_embedding(copy.deepcopy(model)).table())
    assert before is None or not torch.equal(found, before)
    return found


def of_encoder(model: nn.Module) -> Iterator[nn.Parameter]:
    return char_embedding(model).encoder.parameters()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables act as on a device whose values cannot be read without a wait."""
    monkeypatch.setattr(charembed.snapshot, "_sample", lambda *_, **__: None)
    monkeypatch.setattr(charembed.vector_table._Kept, "_readable", lambda *_: False)


# Exchanged weights


def by_data(model: nn.Module, weights: Weights) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = weights[name]


def by_assigning(model: nn.Module, weights: Weights) -> None:
    model.load_state_dict(model.state_dict() | weights, assign=True)


def by_swapping_tensors(model: nn.Module, weights: Weights) -> None:
    for name, parameter in model.named_parameters():
        torch.utils.swap_tensors(parameter, nn.Parameter(weights[name], requires_grad=False))


def by_new_parameters(model: nn.Module, weights: Weights) -> None:
    for path, part in model.named_modules():
        for name in part._parameters:
            if f"{path}.{name}" in weights:
                setattr(part, name, nn.Parameter(weights[f"{path}.{name}"], requires_grad=False))


def by_one_vector(model: nn.Module, weights: Weights) -> None:
    named = dict(model.named_parameters())
    vector_to_parameters(parameters_to_vector(weights[name] for name in named), named.values())


EXCHANGES = [by_data, by_assigning, by_swapping_tensors, by_new_parameters, by_one_vector]


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "elsewhere"])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_each_candidate_of_a_soup_is_evaluated_with_its_own_vectors(
    exchange: Callable[[nn.Module, Weights], None], on_cpu: bool, request: pytest.FixtureRequest
) -> None:
    """Memory of a candidate that was rejected is given to the next one."""
    if not on_cpu:
        request.getfixturevalue("elsewhere")
    model = attached("bag").requires_grad_(False)
    start = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    wrong = 0
    for number in range(30):
        candidate = {name: value * (1 + number / 30) for name, value in start.items()}
        exchange(model, candidate)
        found = vectors(model)
        wrong += not torch.equal(found, char_embedding(model).table())
        exchange(model, {name: value.clone() for name, value in start.items()})
        del candidate
    assert wrong == 0


@kinds
def test_functional_call_evaluates_the_weights_that_it_gets(kind: str) -> None:
    model = attached(kind).requires_grad_(False)
    start = {name: value.clone() for name, value in model.named_parameters()}
    ids = torch.arange(20)[None]
    for number in range(20):
        weights = {name: value * (1 + number / 20) for name, value in start.items()}
        found = functional_call(model, weights, (ids,))[0]
        twin = copy.deepcopy(model)
        twin.load_state_dict(weights, strict=False)
        assert torch.equal(found, logits_of(twin, ids))
        assert torch.equal(logits_of(model, ids), logits_of(copy.deepcopy(model), ids))


def test_a_transposed_view_of_the_same_memory_is_another_weight() -> None:
    model = attached("lstm").requires_grad_(False)
    weight = char_embedding(model).encoder.projection.weight
    square = torch.randn(16, 8)[:8]
    with torch.no_grad():
        weight[:8].copy_(square)
    before = vectors(model)
    weight.data = weight.data.as_strided(weight.shape, (1, 2))
    assert_fresh(model, before)


def test_memory_of_former_weights_is_freed_at_the_next_look_up() -> None:
    model = attached("bag")
    parameter = char_embedding(model).encoder.chars.weight
    former = parameter.data.untyped_storage()
    parameter.data = parameter.data * 2
    held = former._use_count() if hasattr(former, "_use_count") else None
    vectors(model)
    assert held is None or former._use_count() < held


# Writes that change no version


def copy_all(model: nn.Module) -> None:
    for parameter in of_encoder(model):
        parameter.data.copy_(parameter.data * 1.01)


def lerp(model: nn.Module) -> None:
    for parameter in of_encoder(model):
        parameter.data.lerp_(torch.ones_like(parameter), 0.01)


def prune(model: nn.Module) -> None:
    for parameter in of_encoder(model):
        parameter.data[parameter.abs() < parameter.abs().median()] = 0


def a_step_by_hand(model: nn.Module) -> None:
    logits_and_loss(model)[1].backward()
    for parameter in model.parameters():
        parameter.data -= 0.1 * parameter.grad
        parameter.grad = None


def a_mean_with_another(model: nn.Module) -> None:
    other = NANOGPT.attach(NANOGPT(), init="normal", seed=3, **SMALL["lstm"])
    for mine, theirs in zip(of_encoder(model), of_encoder(other), strict=True):
        mine.data.mul_(0.5).add_(theirs.data, alpha=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("write", [copy_all, lerp, prune, a_step_by_hand, a_mean_with_another])
def test_a_write_through_data_is_seen(write: Callable[[nn.Module], None], dtype: Any) -> None:
    model = attached().to(dtype)
    before = vectors(model)
    write(model)
    assert_fresh(model, before)


@pytest.mark.parametrize("kind", ["lstm", "bee", "bag", "cnn"])
def test_a_row_of_a_character_is_seen(kind: str) -> None:
    model = attached(kind)
    for row in range(len(char_embedding(model).encoder.chars.weight)):
        before = vectors(model)
        char_embedding(model).encoder.chars.weight.data[row] += 1
        letters = char_embedding(model).spellings.chars_S.tolist()
        if row in letters:
            assert_fresh(model, before)


@pytest.mark.parametrize("kind", ["bee", "bag"])
def test_an_average_that_moves_a_few_characters_is_seen(kind: str) -> None:
    """Training changes the rows of the characters that occur; those of all others stay."""
    model = attached(kind)
    average = copy.deepcopy(model).requires_grad_(False)
    chars = char_embedding(model).encoder.chars.weight
    for parameter in of_encoder(model):
        parameter.requires_grad_(parameter is chars)
    optimizer = torch.optim.AdamW([chars], lr=0.1, weight_decay=0)
    ids = (char_embedding(model).spellings.lengths_V == 1).nonzero()[:2].T
    for _ in range(3):
        char_embedding(model)(ids).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        before = vectors(average)  # between the step and the average
        for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
            ours.data.lerp_(theirs.data, 0.1)
        assert_fresh(average, before)


class Scaled(nn.Module):
    """An encoder of the user's own with a plain number, which counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.scale, self.calls = nn.Embedding(V, 16), 1.0, 0

    def forward(self, ids_U: Tensor) -> Tensor:
        self.calls += 1
        return self.rows(ids_U) * self.scale


def test_hooks_and_plain_attributes_of_the_encoder_count() -> None:
    model = attached()
    encoder: Any = char_embedding(model).encoder
    changes: list[Callable[[], Any]] = [
        lambda: encoder.register_forward_hook(lambda part, args, out: 3 * out),
        lambda: encoder.projection.register_forward_pre_hook(lambda part, args: (-args[0],)),
        lambda: encoder.projection._forward_pre_hooks.clear(),
        lambda: setattr(
            encoder, "forward", lambda ids_U: 2 * type(encoder).forward(encoder, ids_U)
        ),
    ]
    for change in changes:
        before = vectors(model)
        change()
        model.eval()
        found = vectors(model)
        assert torch.equal(found, char_embedding(model).table())
        assert not torch.equal(found, before)


def test_an_encoder_that_counts_its_calls_is_not_read_again() -> None:
    model: Any = charembed.attach(NANOGPT(), None, module=NANOGPT.path, encoder=Scaled()).eval()
    before, encoder = vectors(model), char_embedding(model).encoder
    calls = encoder.calls
    model.eval()
    vectors(model)
    assert encoder.calls == calls
    encoder.scale = 2.0
    model.eval()
    assert not torch.equal(vectors(model), before)
    assert torch.equal(vectors(model), char_embedding(model).table())


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("event", ["eval", "train", "step", "gradient", "hand"])
def test_elsewhere_a_write_through_data_is_seen_at_an_event(event: str) -> None:
    model = attached()
    before = vectors(model)
    if event == "hand":
        a_step_by_hand(model)
    elif event == "gradient":
        char_embedding(model).encoder(torch.arange(V)).square().sum().backward()
        vectors(model)
        copy_all(model)
    else:
        copy_all(model)
    if event == "train":
        model.train().eval()
    elif event == "eval":
        model.eval()
    elif event == "step":  # of another model's optimizer: any step of the process counts
        other = nn.Parameter(torch.zeros(2))
        other.grad = torch.ones(2)
        torch.optim.SGD([other], lr=0.1).step()
    assert_fresh(model, before)


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "elsewhere"])
def test_one_value_that_is_written_through_data_is_seen_after_eval(
    on_cpu: bool, request: pytest.FixtureRequest
) -> None:
    if not on_cpu:
        request.getfixturevalue("elsewhere")
    model = attached()
    before = vectors(model)
    char_embedding(model).encoder.chars.weight.data[101, 3] += 1
    model.eval()
    assert_fresh(model, before)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("fused", [True, False])
def test_elsewhere_a_step_is_seen_whose_gradients_are_gone(fused: bool) -> None:
    model = attached()
    optimizer = torch.optim.AdamW(charembed.parameters(model), lr=0.1, fused=fused)
    for _ in range(3):
        before = vectors(model)
        char_embedding(model).encoder(torch.arange(V)).square().sum().backward()
        with torch.no_grad():
            logits_of(model)
        optimizer.step()
        optimizer.zero_grad()
        assert_fresh(model, before)


@kinds
@pytest.mark.usefixtures("elsewhere")
@torch.no_grad()
def test_elsewhere_a_look_up_does_not_wait(kind: str) -> None:
    model = attached(kind)
    ids = torch.arange(V)
    char_embedding(model)(ids)
    with Waits() as waits:
        char_embedding(model)(ids)
        char_embedding(model)(ids[:3])
    assert waits.found == []


def test_ema_libraries_that_write_through_data() -> None:
    ema_pytorch, torch_ema = (pytest.importorskip(name) for name in ("ema_pytorch", "torch_ema"))
    model = attached()
    own = ema_pytorch.EMA(model, beta=0.9, update_after_step=0, update_every=1)
    shadow = torch_ema.ExponentialMovingAverage(model.parameters(), 0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(4):
        logits_and_loss(model.train())[1].backward()
        optimizer.step()
        optimizer.zero_grad()
        own.update()
        shadow.update()
        own.ema_model.eval()
        assert_fresh(own.ema_model)
        raw = assert_fresh(model.eval())
        with shadow.average_parameters():
            assert_fresh(model, raw)
        assert torch.equal(vectors(model), raw)
    own.copy_params_from_model_to_ema()
    assert torch.equal(assert_fresh(own.ema_model), raw)


def test_an_average_that_is_put_back_by_data() -> None:
    model = attached()
    averaged = AveragedModel(model)
    for _ in range(3):
        copy_all(model)
        averaged.update_parameters(model)
        assert_fresh(averaged.module)
        for mine, mean in zip(model.parameters(), averaged.parameters(), strict=True):
            mine.data, mean.data = mean.data, mine.data
        assert_fresh(model)
        assert_fresh(averaged.module)


# Tensors that are no parameters


class Computed(nn.Module):
    """An encoder with tensors as plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = torch.randn(V, 16)
        self.gain: Tensor | None = None

    def forward(self, ids_U: Tensor) -> Tensor:
        found = self.rows[ids_U]
        return found if self.gain is None else found * self.gain


def test_tensors_that_are_plain_attributes_count() -> None:
    model = charembed.attach(NANOGPT(), None, module="transformer.wte", encoder=Computed()).eval()
    encoder: Any = char_embedding(model).encoder
    before = vectors(model)
    encoder.rows.mul_(2)
    before = assert_fresh(model, before)
    encoder.rows = torch.randn(V, 16)
    before = assert_fresh(model, before)
    encoder.extra = torch.ones(3)
    assert torch.equal(assert_fresh(model), before)
    encoder.gain = torch.full((), 0.5)
    before = assert_fresh(model, before)
    encoder.gain.fill_(0.25)
    assert_fresh(model, before)
    encoder.rows.requires_grad_()
    assert char_embedding(model)(torch.arange(3)).requires_grad


@pytest.mark.filterwarnings("ignore")  # the former weight_norm is deprecated
@pytest.mark.parametrize("norm", [weight_norm, nn.utils.weight_norm, nn.utils.spectral_norm])
def test_normed_weights_of_an_encoder(norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = attached()
    encoder = char_embedding(model).encoder
    norm(encoder.projection)
    found = assert_fresh(model)
    built, chunk_reader = [], charembed.vector_table.chunk_reader

    def counting(*arguments: Any) -> Any:
        built.append(arguments)
        return chunk_reader(*arguments)

    monkeypatch.setattr(charembed.vector_table, "chunk_reader", counting)
    for _ in range(3):
        assert torch.equal(vectors(model), found)
    assert built == []  # the weight is computed anew at each forward, and yet nothing has changed
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    logits_and_loss(model.train())[1].backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()
    vectors(model)
    assert_fresh(model, found)


# Modules that are exchanged


def test_an_exchanged_part_of_the_encoder_is_seen() -> None:
    model = attached()
    encoder = char_embedding(model).encoder
    before = vectors(model)
    projection = copy.deepcopy(encoder.projection)
    with torch.no_grad():
        projection.bias.add_(1)
    encoder.projection = projection
    before = assert_fresh(model, before)
    encoder.set_output_scale(0.5)
    assert_fresh(model, before)


def test_conversion_that_swaps_tensors() -> None:
    model = attached()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        before = vectors(model)
        model.double()
        after = assert_fresh(model)
        assert after.dtype == torch.float64
        torch.testing.assert_close(after.float(), before, rtol=1e-4, atol=1e-5)
        model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
        assert_fresh(model, after)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


# torch.func and derivatives


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # of torch.func.jvp
@pytest.mark.parametrize("kind", ["bag", "cnn"])
def test_transforms_of_evaluation_follow_their_weights(kind: str) -> None:
    model = attached(kind).requires_grad_(False)
    embedding = char_embedding(model)
    ids = torch.arange(5)
    weights = dict(embedding.named_parameters())

    def total(weights: Weights) -> Tensor:
        return functional_call(embedding, weights, (ids,)).square().sum()

    forward = torch.func.jvp(total, (weights,), (weights,))[1]
    gradients = torch.func.grad(total)(weights)
    backward = sum((gradients[name] * weights[name]).sum() for name in weights)
    torch.testing.assert_close(forward, backward, rtol=1e-3, atol=1e-3)
    assert gradients["encoder.chars.weight"].abs().sum() > 0
    twin = copy.deepcopy(embedding)
    with torch.no_grad():
        twin.encoder.chars.weight.mul_(2)
    stacked = stack_module_state([embedding, twin])[0]
    both = vmap(lambda weights: functional_call(embedding, weights, (ids,)))(stacked)
    with torch.no_grad():
        torch.testing.assert_close(both[0], embedding(ids), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both[1], twin(ids), rtol=1e-4, atol=1e-5)
        assert torch.equal(vmap(embedding)(ids[:, None])[:, 0], embedding(ids))


# Chunks


WORDS = [bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676 % 26]) for i in range(9_000)]
LARGE = SpellingTable.from_bytes([*WORDS, None])


def large(kind: str = "bag") -> CharEmbedding:
    torch.manual_seed(0)
    host = nn.Embedding(len(WORDS) + 1, 16)
    return CharEmbedding.from_embedding(host, LARGE, kind, init="normal", **SMALL[kind]).eval()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of ids of each chunk that is computed."""
    found: list[int] = []
    forwards = {kind: kind.forward for kind in {*ENCODERS.values()}}
    for kind, forward in forwards.items():

        def counting(self: Any, ids_U: Tensor, forward: Any = forward) -> Tensor:
            found.append(len(ids_U))
            return forward(self, ids_U)

        monkeypatch.setattr(kind, "forward", counting)
    return found


@torch.no_grad()
def test_only_the_chunks_of_the_ids_are_computed(read: list[int]) -> None:
    embedding = large()
    embedding(torch.tensor([[5, 17]]))
    assert 0 < sum(read) <= 2 * 1_024
    read.clear()
    embedding(torch.tensor([5, 17, 17]))
    embedding(torch.tensor(5))
    assert read == []
    embedding(torch.arange(9_001))
    assert sum(read) < 9_001
    read.clear()
    embedding(torch.arange(9_001))
    assert read == []


@kinds
@torch.no_grad()
def test_a_part_of_the_table_equals_the_folded_rows(kind: str) -> None:
    embedding = large(kind)
    some = torch.randint(9_001, (40, 3), generator=torch.Generator().manual_seed(1))
    looked_up = [embedding(ids) for ids in (some[0], some[:2], some, some[3, 0], some[:0])]
    table = embedding.table()
    for ids, found in zip((some[0], some[:2], some, some[3, 0], some[:0]), looked_up, strict=True):
        assert torch.equal(found, table[ids])
    assert torch.equal(embedding(some.int()), table[some])


@torch.no_grad()
def test_an_id_outside_a_table_that_is_not_complete_is_refused() -> None:
    for ids in (torch.tensor([3, 9_001]), torch.tensor([-1, 4]), torch.arange(8_000, 9_002)):
        with raises(CharEmbedError, str(int(ids[(ids < 0) | (ids > 9_000)][0])) + " 9001"):
            large()(ids)


@torch.no_grad()
def test_a_table_made_in_inference_mode_is_filled_outside_of_it() -> None:
    embedding = large()
    with torch.inference_mode():
        embedding(torch.tensor([1]))
    found = embedding(torch.arange(9_001))
    with torch.inference_mode():
        assert torch.equal(embedding(torch.arange(9_001)), found)
    assert torch.equal(found, embedding.table())


def test_threads_fill_one_table_together() -> None:
    embedding = large()
    with torch.no_grad():
        table = embedding.table()
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        try:
            with torch.no_grad():
                for _ in range(40):
                    ids = torch.randint(9_001, (4,), generator=generator)
                    if not torch.equal(embedding(ids), table[ids]):
                        wrong.append(ids)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        embedding._table.drop()
    assert wrong == []


def test_a_compiled_look_up_fills_the_chunks() -> None:
    torch._dynamo.reset()
    embedding = large()
    run = torch.compile(embedding, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for ids in (torch.tensor([3, 4]), torch.tensor([7_000, 5]), torch.tensor([8, 9_000])):
            assert torch.equal(run(ids), embedding.table()[ids])


@pytest.mark.filterwarnings("ignore")  # of torch.jit, deprecated, and of its tracer
def test_tracing_reads_no_ids() -> None:
    embedding = large()
    with torch.no_grad():
        traced = torch.jit.trace(embedding, torch.tensor([3, 4]), check_trace=False)
        other = torch.tensor([7_000, 8_999])
        assert torch.equal(traced(other), embedding.table()[other])


def test_gpt2_evaluates_the_state_it_loads_while_gradients_are_left() -> None:
    model = GPT2.attach(GPT2(), init="normal", **SMALL["lstm"])
    logits_and_loss(model)[1].backward()
    with torch.no_grad():
        before = vectors(model.eval())
        for parameter in of_encoder(model):
            parameter.data.mul_(2)
    assert_fresh(model, before)
