"""In training, one id has one vector until the encoder changes, bit for bit, in whatever batch."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import charembed
import charembed.snapshot
from charembed import ENCODERS, CharEmbedding
from tests.plugin.hosts import (
    GEMMA3,
    IDS,
    NANOGPT,
    SMALL,
    TABLE,
    Host,
    V,
    char_embedding,
    hugging_face,
    logits_and_loss,
)

kinds = pytest.mark.parametrize("kind", ENCODERS)
ALL = torch.arange(V)
BATCHES = [IDS, IDS[0], IDS[1, :3], IDS[0, 2], ALL, ALL.flip(0)[:50], IDS.int()]


def embedding_of(kind: str = "lstm", **host: Any) -> CharEmbedding:
    torch.manual_seed(0)
    sizes = {"char_dim": 32, "hidden_size": 64} if kind in ("lstm", "gru") else SMALL[kind]
    return CharEmbedding.from_embedding(
        nn.Embedding(V, 48, **host), TABLE, kind, init="normal", **sizes
    )


def forgetful(embedding: CharEmbedding) -> CharEmbedding:
    """Return a copy that keeps no rows."""
    twin = copy.deepcopy(embedding)
    twin.encoder.deterministic = False
    return twin


def assert_one_vector_each(embedding: Any, **shape: Any) -> None:
    """Assert that the vector of an id is the same in all batches, the last of which has all ids."""
    found = [embedding(ids) for ids in BATCHES]
    whole = embedding(ALL)
    for ids, vectors in zip(BATCHES, found, strict=True):
        assert torch.equal(vectors, whole[ids.long()])


@kinds
@pytest.mark.parametrize("gradients", [True, False])
def test_one_id_has_one_vector_in_all_batches_of_a_step(kind: str, gradients: bool) -> None:
    embedding = embedding_of(kind)
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
    for _ in range(2):
        with torch.set_grad_enabled(gradients):
            assert_one_vector_each(embedding)
        embedding(IDS).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_without_the_kept_rows_the_vectors_differ() -> None:
    """The fault that the kept rows mend exists at these sizes."""
    twin = forgetful(embedding_of())
    whole = twin(ALL)
    assert any(not torch.equal(twin(ids), whole[ids.long()]) for ids in BATCHES)


def test_an_evaluation_with_gradients_has_one_vector_for_each_id() -> None:
    assert_one_vector_each(embedding_of().eval())


@pytest.mark.parametrize("host", [NANOGPT, GEMMA3], ids=lambda host: host.name)
def test_hosts_with_their_own_forward_and_padding(host: Host) -> None:
    model = host.attach(host(), init="normal", **SMALL["lstm"])
    assert_one_vector_each(char_embedding(model))


@kinds
def test_training_with_one_forward_a_step_is_the_same_training(kind: str) -> None:
    embedding = embedding_of(kind)
    twin = forgetful(embedding)
    generator = torch.Generator().manual_seed(2)
    batches = torch.randint(V, (12, 3, 7), generator=generator)
    for each in (embedding, twin):
        optimizer = torch.optim.AdamW(each.parameters(), lr=1e-2, fused=True)
        # a learning rate of 0 changes nothing, and yet a new step begins
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step > 3)
        for ids in batches:
            each(ids).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    for mine, theirs in zip(embedding.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("padding", [None, 97])
def test_the_gradient_is_that_of_each_forward(padding: int | None) -> None:
    embedding = embedding_of(padding_idx=padding)
    twin = forgetful(embedding)
    for each in (embedding, twin):
        for ids in BATCHES[:5]:  # accumulated
            each(ids).sin().sum().backward()
    for (name, mine), (_, theirs) in zip(
        embedding.named_parameters(), twin.named_parameters(), strict=True
    ):
        atol = 1e-5 * float(theirs.grad.abs().max())
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=atol, msg=name)


def test_vectors_stay_while_gradients_accumulate() -> None:
    embedding = embedding_of()
    first = embedding(IDS[0])
    first.square().sum().backward()
    whole = embedding(ALL)
    assert torch.equal(whole[IDS[0]], first)
    whole.sum().backward()
    assert torch.equal(embedding(IDS[0, :2]), first[:2])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["cpu", "elsewhere"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_by_hand_through_data_are_seen(
    elsewhere: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the gradient shows that a step may follow: no optimizer, no new version."""
    if elsewhere:
        monkeypatch.setattr(charembed.snapshot, "_sample", lambda *_, **__: None)
    embedding = embedding_of().to(dtype)
    twin = forgetful(embedding)
    for each in (embedding, twin):
        for _ in range(4):
            each(IDS).square().mean().backward()
            for parameter in each.parameters():
                parameter.data -= 0.01 * parameter.grad
                parameter.grad = None
    for mine, theirs in zip(embedding.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant: bool) -> None:
    embedding = embedding_of()
    twin = forgetful(embedding)
    losses = []
    for each in (embedding, twin):
        start = torch.zeros((), requires_grad=True)

        def part(start: Tensor, ids: Tensor, each: CharEmbedding = each) -> Tensor:
            return (each(ids) + start).sin()

        loss = torch.zeros(())
        for ids in BATCHES[:5]:
            loss = loss + checkpoint(part, start, ids, use_reentrant=reentrant).sum()
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(*losses)
    for mine, theirs in zip(embedding.parameters(), twin.parameters(), strict=True):
        atol = 1e-5 * float(theirs.grad.abs().max())
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=atol)


def test_autocast_has_its_own_vectors() -> None:
    embedding = embedding_of()
    outside = embedding(IDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_one_vector_each(embedding)
        assert not torch.equal(embedding(IDS), outside)
    torch.testing.assert_close(embedding(IDS), outside)


def test_forwards_with_and_without_autocast_may_alternate() -> None:
    embedding = embedding_of()
    plain, cast = [], []
    for ids in [*BATCHES, ALL]:
        plain.append(embedding(ids))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast.append(embedding(ids))
    for found in (plain, cast):
        for ids, vectors in zip(BATCHES, found, strict=False):
            assert torch.equal(vectors, found[-1][ids.long()])


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.drop = nn.Parameter(torch.randn(V, 16)), nn.Dropout(0.5)

    def forward(self, ids_U: Tensor) -> Tensor:
        found: Tensor = self.drop(self.rows[ids_U])
        return found


class DroppingLSTM(ENCODERS["lstm"]):  # type: ignore[misc]
    """It inherits `deterministic`, but its dropout is a module, which is found."""

    def build(self, *sizes: Any, **named: Any) -> None:
        super().build(*sizes, **named)
        self.drop = nn.Dropout(0.5)

    def read(self, ids_U: Tensor) -> Tensor:
        found: Tensor = self.drop(super().read(ids_U))
        return found


@pytest.mark.parametrize("kind", [Dropping, DroppingLSTM])
def test_an_encoder_with_dropout_draws_anew(kind: Any) -> None:
    torch.manual_seed(0)
    encoder = kind() if kind is Dropping else kind(TABLE, 16, init="normal", **SMALL["lstm"])
    model = charembed.attach(NANOGPT(), None, module="transformer.wte", encoder=encoder)
    embedding = char_embedding(model)
    assert not torch.equal(embedding(IDS), embedding(IDS))
    embedding.eval()
    assert torch.equal(embedding(IDS), embedding(IDS))


def test_new_spellings_or_weights_forget_the_vectors() -> None:
    embedding = embedding_of()
    before = embedding(IDS).detach()
    with torch.no_grad():
        embedding.encoder.projection.bias.add_(1)
    after = embedding(IDS).detach()
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, forgetful(embedding)(IDS).detach(), rtol=0, atol=0)


def test_many_forwards_need_the_memory_of_the_distinct_ids() -> None:
    embedding = embedding_of()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(60):
            embedding(torch.randint(V, (40,), generator=generator))
    gc.collect()
    kept = [thing for thing in gc.get_objects() if type(thing).__name__ == "_Rows"]
    kept = [rows for rows in kept if rows._place_V is not None and len(rows._place_V) == V]
    assert max(len(rows._rows_ND) for rows in kept) <= 2 * (V + 40)


def test_an_image_token_is_found_among_input_vectors() -> None:
    """LLaVA compares `inputs_embeds` with the vector of the image token."""
    transformers = pytest.importorskip("transformers")
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = hugging_face("Llama", "ForCausalLM", True).config
    image = 257
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=image,
            image_seq_length=4,
            vision_feature_layer=-1,
        )
    )
    charembed.attach(model, TABLE, init="normal")
    ids = torch.tensor([[5, image, image, image, image, 256, 258]])
    pixels = torch.randn(1, 3, 8, 8)
    for train in (True, False):
        model.train(train)
        by_ids = model(input_ids=ids, pixel_values=pixels, labels=ids)
        vectors = model.get_input_embeddings()(ids)
        by_vectors = model(inputs_embeds=vectors, pixel_values=pixels, labels=ids)
        assert torch.equal(by_ids.logits, by_vectors.logits)
        by_vectors.loss.backward()


def test_a_model_trains_the_same_when_it_is_asked_for_vectors_in_between() -> None:
    model = NANOGPT.attach(NANOGPT(), init="normal", **SMALL["lstm"]).eval()
    char_embedding(model).train()
    first = logits_and_loss(model)[0]
    char_embedding(model)(ALL)
    assert torch.equal(logits_and_loss(model)[0], first)
