"""A training step against its slow twins: packed rows, and the loss in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.laboratory.pretrained import LLAMA, ROWS, gemma2, gpt2, llama
from tests.laboratory.twins import padded_loss
from training.models import chunked_loss, packed_attention
from training.models.chunked_loss import Head, cross_entropy, divergence, rows_at_once
from training.models.decoder import Decoder, DecoderConfig
from training.models.huggingface import HuggingFace
from training.models.language_model import Mask
from training.train.loss import summed_loss

SMALL = DecoderConfig(vocab_size=50, context=24, n_layer=2, n_head=2, n_embd=16, init_std=0.3)
Loss = Callable[[nn.Module, Tensor, Tensor, Mask], Tensor]
Found = dict[str, Tensor]


def gradients(loss: Loss, model: nn.Module, *batch: Any, seed: int = 0) -> Found:
    """The loss and the gradient of each parameter, zeros if it has none."""
    model.zero_grad()
    torch.manual_seed(seed)
    nats = loss(model, *batch)
    nats.backward()  # type: ignore[no-untyped-call]
    of = model.named_parameters()
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in of}
    return {**found, "loss": nats.detach()}


def assert_same(found: Found, expected: Found, **bounds: float) -> None:
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        close = torch.allclose(found[name], right, **bounds)
        assert close, f"{name} differs by {float((found[name] - right).abs().max())}"


def rows_of(lengths: list[tuple[int, int]], columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of (prompt, answer) tokens; the answer has the loss."""
    draw = torch.Generator().manual_seed(0)
    ids_BT, targets_BT = torch.randint(50, (2, len(lengths), columns), generator=draw)
    places = torch.arange(columns)
    prompts, answers = (torch.tensor(each)[:, None] for each in zip(*lengths, strict=True))
    return ids_BT, targets_BT, (places >= prompts) & (places < prompts + answers)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5),
    st.integers(18, 20),
)
def test_questions_of_any_lengths_have_the_loss_and_gradients_of_padded_ones(
    lengths: list[tuple[int, int]], columns: int
) -> None:
    torch.manual_seed(0)
    model, batch = Decoder(SMALL).double(), rows_of(lengths, columns)
    expected = gradients(padded_loss, model, *batch)
    assert_same(gradients(summed_loss, model, *batch), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
def test_any_positions_may_be_kept(kept: list[list[bool]]) -> None:
    torch.manual_seed(0)
    model, keep_BT = Decoder(SMALL).double(), torch.tensor(kept)
    batch = *torch.randint(50, (2, *keep_BT.shape)), keep_BT
    expected = gradients(padded_loss, model, *batch)
    assert_same(gradients(summed_loss, model, *batch), expected, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(model(batch[0], keep_BT), model(batch[0])[keep_BT])


def test_dropout_drops_the_units_that_it_drops_in_padded_rows() -> None:
    torch.manual_seed(0)
    model = Decoder(replace(SMALL, dropout=0.3)).double()
    batch = rows_of([(3, 4), (9, 2), (1, 1), (5, 0)], 12)
    expected = gradients(padded_loss, model, *batch, seed=5)
    assert_same(gradients(summed_loss, model, *batch, seed=5), expected, rtol=1e-9, atol=1e-12)
    other = gradients(summed_loss, model, *batch, seed=6)
    assert not torch.equal(other["loss"], expected["loss"])


def test_text_has_the_loss_and_the_gradients_of_all_logits_at_once() -> None:
    torch.manual_seed(0)
    for output in ("own", "tokens"):
        model = Decoder(replace(SMALL, output=output)).double()
        batch = *torch.randint(50, (2, 3, 20)), None
        expected = gradients(padded_loss, model, *batch)
        assert_same(gradients(summed_loss, model, *batch), expected, rtol=1e-9, atol=1e-12)


class Shapes(TorchDispatchMode):
    """Records the shape of every new tensor, and of the inputs of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[torch.Size] = []
        self.multiplied: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.made += [each.shape for each in (out,) if isinstance(each, Tensor)]
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.multiplied += [each.shape for each in args if each.dim() == 2]
        return out


def test_padding_is_in_no_matrix_product_and_the_last_block_reads_answers_alone() -> None:
    batch = rows_of([(17, 2), (3, 2), (2, 2)], 19)
    with Shapes() as seen:
        summed_loss(Decoder(SMALL), *batch).backward()
    rows = {shape[0] for shape in seen.multiplied if shape[1] in (16, 48, 64)} - {16, 32, 48, 64}
    assert rows == {19 + 5 + 4, 6, 50}, "real positions, answers, the vocabulary"
    mlp = [shape for shape in seen.multiplied if shape[1] == 64 and shape[0] in (28, 6)]
    assert {shape[0] for shape in mlp} == {28, 6}


def test_there_are_never_the_logits_of_all_positions() -> None:
    model = Decoder(replace(SMALL, vocab_size=3000, context=64))
    ids_BT, targets_BT = torch.randint(3000, (2, 9, 64))
    rows = rows_at_once(16, 3000)
    assert 3 * rows < 9 * 64
    with Shapes() as seen:
        summed_loss(model, ids_BT, targets_BT, None).backward()
    assert max(math.prod(shape) for shape in seen.made) == rows * 3000
    with torch.no_grad(), Shapes() as seen:
        summed_loss(model, ids_BT, targets_BT, None)
    assert max(math.prod(shape) for shape in seen.made) == rows * 3000


@contextmanager
def chunks_of(monkeypatch: pytest.MonkeyPatch, rows: int) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(chunked_loss, "rows_at_once", lambda width, vocabulary: rows)
        yield


def loss_and_slopes(loss: Callable[..., Tensor], *inputs: Tensor | None) -> list[Tensor]:
    leaves = [
        None if each is None else each.detach().clone().requires_grad_(each.requires_grad)
        for each in inputs
    ]
    nats = loss(*leaves)
    (0.3 * nats).backward()  # type: ignore[no-untyped-call]
    return [nats.detach(), *(x.grad for x in leaves if x is not None and x.grad is not None)]


def at_once(vectors: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = F.linear(vectors, weight, bias)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), targets, reduction="sum")


@pytest.mark.parametrize("rows", [1, 4, 11, 12])
@pytest.mark.parametrize(
    "trained", ["vectors weight bias", "vectors weight", "vectors", "weight", "weight bias"]
)
def test_chunks_have_the_loss_and_the_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, rows: int, trained: str
) -> None:
    torch.manual_seed(0)
    shapes = {"vectors": (11, 6), "weight": (9, 6), "bias": (9,)}
    inputs: list[Tensor | None] = [
        torch.randn(shape, dtype=torch.float64, requires_grad=name in trained)
        for name, shape in shapes.items()
    ]
    if "bias" not in trained:
        inputs[2] = None
    targets_N = torch.randint(9, (11,))
    expected = loss_and_slopes(at_once, *inputs, targets_N)
    with chunks_of(monkeypatch, rows):
        found = loss_and_slopes(cross_entropy, *inputs, targets_N)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def divergence_at_once(
    vectors: Tensor, weight: Tensor, bias: Tensor | None, base_NV: Tensor
) -> Tensor:
    logs_NV, base_NV = (
        each.log_softmax(1) for each in (F.linear(vectors, weight, bias), base_NV.detach())
    )
    return (base_NV.exp() * (base_NV - logs_NV)).sum()


@pytest.mark.parametrize("rows", [1, 4, 12])
@pytest.mark.parametrize("trained", ["vectors weight bias", "vectors", "weight bias"])
@pytest.mark.parametrize("linear", [True, False])
def test_chunks_have_the_divergence_and_the_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, rows: int, trained: str, linear: bool
) -> None:
    torch.manual_seed(0)
    shapes = {"vectors": (11, 6), "weight": (9, 6), "bias": (9,)}
    inputs: list[Tensor | None] = [
        torch.randn(shape, dtype=torch.float64, requires_grad=name in trained)
        for name, shape in shapes.items()
    ]
    if "bias" not in trained:
        inputs[2] = None
    # a base of another width; its gradient is not asked for
    layer = torch.randn(11, 4).double(), torch.randn(9, 4).double().requires_grad_(), None
    base = Head(*layer) if linear else F.linear(*layer).detach()
    expected = loss_and_slopes(divergence_at_once, *inputs, F.linear(*layer))
    with chunks_of(monkeypatch, rows):
        found = loss_and_slopes(lambda *own: divergence(Head(*own), base), *inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    assert layer[1].grad is None


def test_a_divergence_without_a_linear_head_is_the_same() -> None:
    torch.manual_seed(0)
    head, base = (Head(torch.randn(5, 4), torch.randn(7, 4), torch.randn(7)) for _ in range(2))
    logits_NV = F.linear(*head)
    for own in (head, logits_NV):
        for other in (base, F.linear(*base)):
            torch.testing.assert_close(
                divergence(own, other), divergence_at_once(*head, F.linear(*base))
            )


def test_the_logits_of_a_divergence_do_not_exist_together() -> None:
    models = [
        Decoder(DecoderConfig(vocab_size=3000, context=64, n_layer=1, n_head=2, n_embd=16))
        for _ in range(2)
    ]
    ids_BT = torch.randint(3000, (9, 64))
    with Shapes() as seen:
        models[0](ids_BT, base=models[1]).backward()
    assert max(math.prod(shape) for shape in seen.made) == rows_at_once(16, 3000) * 3000


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_a_sure_model_has_an_exact_loss(size: float) -> None:
    vectors_ND, targets_N = size * torch.eye(4, 3), torch.tensor([0, 1, 1, 2])
    weight_VD = torch.eye(3).requires_grad_()
    found = loss_and_slopes(cross_entropy, vectors_ND, weight_VD, None, targets_N)
    expected = loss_and_slopes(at_once, vectors_ND, weight_VD, None, targets_N)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_loss_that_is_no_number_stays_one() -> None:
    vectors_ND = torch.full((2, 3), math.inf)
    nats = cross_entropy(vectors_ND, torch.ones(4, 3), None, torch.tensor([0, 1]))
    assert not math.isfinite(float(nats))


def test_no_position_at_all_has_no_loss_and_zero_gradients() -> None:
    weight_VD = torch.randn(5, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    nats, slope = loss_and_slopes(cross_entropy, torch.zeros(0, 3), weight_VD, None, none)
    assert float(nats) == 0
    assert not slope.any()


def test_products_in_bf16_are_added_up_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vectors_ND, weight_VD = torch.randn(64, 16), torch.randn(40, 16)
    bias_V, targets_N = torch.randn(40), torch.randint(40, (64,))
    inputs = *(each.requires_grad_() for each in (vectors_ND, weight_VD, bias_V)), targets_N

    def in_bf16(*given_: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(*given_)

    exact = loss_and_slopes(at_once, *inputs)
    whole = loss_and_slopes(in_bf16, *inputs)
    assert not torch.equal(whole[0], exact[0]), "the products are in bf16"
    with chunks_of(monkeypatch, 1):
        rows = loss_and_slopes(in_bf16, *inputs)
    for one, other, right in zip(rows, whole, exact, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(other, right, rtol=0.03, atol=0.03 * float(right.abs().max()))
        # 64 roundings of a sum to bf16 would differ by more
        torch.testing.assert_close(one, other, rtol=0.01, atol=5e-3 * float(right.abs().max()))


MODELS: dict[str, Callable[[], Any]] = {"llama": llama, "gpt2": gpt2}


def usual_loss(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Mask) -> Tensor:
    assert isinstance(model, HuggingFace)
    logits = model.model(input_ids=ids_BT).logits
    keep_BT = torch.ones_like(ids_BT, dtype=torch.bool) if keep_BT is None else keep_BT
    return F.cross_entropy(logits[keep_BT], targets_BT[keep_BT], reduction="sum")


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("text", [True, False])
def test_a_model_of_transformers_has_its_own_loss(
    monkeypatch: pytest.MonkeyPatch, family: str, text: bool
) -> None:
    torch.manual_seed(0)
    model = HuggingFace(MODELS[family]().double()).eval()
    assert model.linear_head
    ids_BT, targets_BT, keep_BT = rows_of([(3, 4), (9, 2), (1, 1), (5, 0)], 12)
    batch = ids_BT, targets_BT, None if text else keep_BT
    expected = gradients(usual_loss, model, *batch)
    with chunks_of(monkeypatch, 3), Shapes() as seen:
        found = gradients(summed_loss, model, *batch)
    # transformers makes its masks and norms in fp32
    assert_same(found, expected, rtol=1e-4, atol=1e-5)
    vocabulary = len(model.model.get_output_embeddings().weight)
    made = [shape for shape in seen.made if shape[-1:] == (vocabulary,)]
    positions = {math.prod(shape[:-1]) for shape in made} - {32}  # the transposed weight
    assert max(positions) == 3


def loss_by_hand(model: HuggingFace) -> tuple[Tensor, Tensor]:
    batch = *torch.randint(ROWS, (2, 3, 8)), None
    return summed_loss(model, *batch), usual_loss(model, *batch)


def test_a_scale_or_a_cap_of_logits_is_kept() -> None:
    class Scaled(type(llama())):  # type: ignore[misc]
        def forward(self, *args: Any, **others: Any) -> Any:
            out = super().forward(*args, **others)
            out.logits = out.logits * 3
            return out

    class DropsOut(type(llama())):  # type: ignore[misc]
        def forward(self, input_ids: Any, logits_to_keep: Any = 0, **others: Any) -> Any:
            out = super().forward(input_ids, logits_to_keep=logits_to_keep, **others)
            out.logits = F.dropout(out.logits, 0.5, self.training)
            return out

    for host in (gemma2(), Scaled(llama().config), DropsOut(llama().config).eval()):
        model = HuggingFace(host)
        assert not model.linear_head
        torch.testing.assert_close(*loss_by_hand(model.eval()))


def test_the_trial_of_the_head_moves_no_random_numbers_and_no_mode() -> None:
    host = gpt2().eval()  # with dropout in training mode
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    model = HuggingFace(host)
    assert torch.equal(torch.rand(4), expected)
    assert model.linear_head
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("columns", [6, 14])
def test_packed_rows_keep_a_sliding_window(columns: int) -> None:
    config = transformers.MistralConfig(**LLAMA, sliding_window=6, head_dim=16)
    model = HuggingFace(transformers.MistralForCausalLM(config)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)  # or far tokens would hardly matter
    ids_BT = torch.randint(ROWS, (3, columns))
    keep_BT = torch.arange(columns) >= columns - 3
    keep_BT = keep_BT & torch.tensor([[True], [True], [False]])
    with torch.no_grad():
        expected = model.model(ids_BT).logits[keep_BT]
        torch.testing.assert_close(model(ids_BT, keep_BT), expected, rtol=1e-4, atol=1e-4)
    with Shapes() as seen:
        loss = summed_loss(model, ids_BT, ids_BT, keep_BT)
    targets_N = ids_BT[keep_BT]
    torch.testing.assert_close(loss, F.cross_entropy(expected, targets_N, reduction="sum"))
    packed = torch.Size([1, 2 * columns, 32]) in seen.made
    assert packed == (columns <= 6), "rows within the window are packed"


def question_model(kind: str = "llama") -> HuggingFace:
    torch.manual_seed(0)
    host = llama().double() if kind == "llama" else gpt2()
    for parameter in host.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)  # or other tokens would hardly matter
    return HuggingFace(host).eval()


def in_both_ways(model: HuggingFace, *batch: Any, **others: Any) -> tuple[Found, Found]:
    """The gradients with attention on the padded block, and with a mask over the long row."""
    assert model.blocks
    found = gradients(summed_loss, model, *batch, **others)
    model.blocks = False
    expected = gradients(summed_loss, model, *batch, **others)
    model.blocks = True
    return found, expected


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=7),
    st.sampled_from([0, packed_attention.LONGEST]),
)
def test_attention_within_rows_has_the_gradients_of_padded_rows(
    lengths: list[tuple[int, int]], longest: int
) -> None:
    model, batch = question_model(), rows_of(lengths, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_attention, "LONGEST", longest)  # 0: torch's kernel
        found, expected = in_both_ways(model, *batch)
    # transformers makes its norms in fp32
    assert_same(found, expected, rtol=1e-5, atol=1e-5)
    assert_same(found, gradients(usual_loss, model, *batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("longest", [0, packed_attention.LONGEST])
def test_no_score_is_made_between_questions(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    monkeypatch.setattr(packed_attention, "LONGEST", longest)
    model = question_model()
    largest = {}
    for rows in (32, 64):
        with Shapes() as seen:
            summed_loss(model, *rows_of([(5, 2), (9, 13)] * (rows // 2), 24)).backward()
        positions = rows // 2 * (7 + 22)
        assert not [shape for shape in seen.made if list(shape).count(positions) > 1]
        largest[rows] = max(math.prod(shape) for shape in seen.made)
    assert largest[64] <= 2 * largest[32]


def test_one_long_question_among_short_ones_keeps_the_mask_of_the_long_row() -> None:
    model, batch = question_model(), rows_of([(20, 20)] + [(1, 1)] * 30, 40)
    found, expected = in_both_ways(model, *batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_evaluation_has_the_bits_of_the_mask_of_the_long_row() -> None:
    model, (ids_BT, _, keep_BT) = question_model(), rows_of([(3, 4), (9, 2), (1, 1)], 12)
    with torch.no_grad():
        found = model(ids_BT, keep_BT)
        model.blocks = False
        assert torch.equal(found, model(ids_BT, keep_BT))


def test_dropout_of_attention_drops_the_units_of_the_long_row() -> None:
    model = question_model("gpt2").train()
    found, expected = in_both_ways(model, *rows_of([(3, 4), (9, 2), (1, 1)], 12), seed=3)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_attention_within_rows_is_computed_again_under_gradient_checkpointing() -> None:
    model, batch = question_model(), rows_of([(3, 4), (9, 2), (1, 1)], 12)
    expected = gradients(summed_loss, model, *batch)
    model.train().checkpoint_gradients()
    found = gradients(summed_loss, model, *batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_bf16_errs_within_rows_no_more_than_in_the_long_row() -> None:
    model = question_model().float()
    batch = rows_of([(5, 2), (9, 13), (4, 20)] * 4, 24)
    right = gradients(summed_loss, model, *batch)

    def in_bf16(*given_: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return summed_loss(*given_)

    errors = {}
    for model.blocks in (True, False):
        found = gradients(in_bf16, model, *batch)
        apart = {name: float((found[name] - right[name]).norm()) for name in right}
        errors[model.blocks] = math.hypot(*apart.values())
    assert errors[True] < 1.2 * errors[False]


def test_attention_that_is_not_sdpa_keeps_the_mask_of_the_long_row() -> None:
    sinks = transformers.GptOssConfig(
        **LLAMA | {"tie_word_embeddings": False}, head_dim=16, num_local_experts=2,
        num_experts_per_tok=1, sliding_window=64,
    )  # fmt: skip
    eager = llama()
    eager.set_attn_implementation("eager")
    for host in (eager, transformers.GptOssForCausalLM(sinks)):
        model = HuggingFace(host).eval()
        assert not model.blocks
        batch = rows_of([(3, 4), (9, 2), (1, 1)], 12)
        expected = gradients(usual_loss, model, *batch)
        assert_same(gradients(summed_loss, model, *batch), expected, rtol=1e-3, atol=1e-4)


def test_rows_longer_than_the_best_few_of_a_sparse_attention_are_not_packed() -> None:
    torch.manual_seed(0)
    config = transformers.DeepseekV32Config(
        **LLAMA | {"num_key_value_heads": 2}, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=12, n_routed_experts=4, n_group=1, topk_group=1,
        num_experts_per_tok=2, moe_intermediate_size=16, index_topk=8, index_n_heads=2,
        index_head_dim=16,
    )  # fmt: skip
    model = HuggingFace(transformers.DeepseekV32ForCausalLM(config)).eval()
    assert model.packs
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    batch = rows_of([(3, 17), (3, 4), (9, 2)], 20)
    found = summed_loss(model, *batch)
    torch.testing.assert_close(found, usual_loss(model, *batch))


def test_a_head_replaced_after_loading_is_used() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = HuggingFace(llama()).eval()
    head = model.model.get_output_embeddings()
    doubled = Doubled(head.in_features, head.out_features, bias=False)
    doubled.weight = head.weight
    model.model.set_output_embeddings(doubled)
    assert model.linear_head
    torch.testing.assert_close(*loss_by_hand(model))
