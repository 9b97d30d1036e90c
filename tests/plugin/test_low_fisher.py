"""Projection of the character vectors onto low-Fisher directions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from charembed import AttachError
from charembed.low_fisher import sensitivity
from charembed.scale import SCALE
from tests.laboratory import pretrained
from tests.messages import raises
from tests.plugin.test_pretrained import spread

TEXT = (
    "the straw berry and the strawberry stood by the blue berry, and the raspberry by both. " * 60
)
IDS = torch.randint(0, 250, (6, 16), generator=torch.Generator().manual_seed(0))


class Blind(nn.Module):
    """A language model that uses only the first half of its embedding's columns."""

    def __init__(self, rows: int, width: int = 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.wte = nn.Embedding(rows, width, _weight=torch.randn(rows, width, generator=generator))
        self.head = nn.Linear(width // 2, rows, bias=False)
        with torch.no_grad():
            self.head.weight.normal_(generator=generator)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte

    def forward(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.wte(ids)
        return self.head(embedded[..., : embedded.shape[-1] // 2])


def tokens(rows: int) -> list[bytes]:
    return [f" {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{i}".encode() for i in range(rows)]


def char_table(model: Any) -> Tensor:
    embedding = model.get_input_embeddings()
    with torch.no_grad():
        return embedding.table() - embedding.weight.detach()


def test_vectors_move_to_columns_that_the_model_ignores() -> None:
    model = charembed.attach(Blind(300), tokens(300), init="pretrained")
    assert charembed.project_to_low_fisher(model, IDS, share=0.5) is model
    added = char_table(model)
    assert float(added[:, :16].abs().max()) < 1e-4 * float(added[:, 16:].abs().max())
    assert spread(added) == pytest.approx(SCALE * spread(model.wte.weight), rel=1e-3)
    with charembed.disabled(model):
        base = model(IDS)
    torch.testing.assert_close(model(IDS), base, rtol=1e-3, atol=1e-3)


def test_the_directions_are_the_eigenvectors_of_the_gradients_seen_one_by_one() -> None:
    model = pretrained.llama().eval()
    embedding = model.get_input_embeddings()
    values, directions = sensitivity(model, embedding, IDS)
    slow = torch.zeros(32, 32, dtype=torch.float64)
    for row in IDS:
        embedded = embedding(row[None]).detach().requires_grad_()
        logits = model(inputs_embeds=embedded).logits[0, :-1]
        nn.functional.cross_entropy(logits, row[1:], reduction="sum").backward()
        slow += embedded.grad[0].double().T @ embedded.grad[0].double()
    torch.testing.assert_close(
        directions @ values.diag() @ directions.T, slow, rtol=1e-4, atol=1e-6
    )
    assert (values[1:] >= values[:-1]).all()


def test_nothing_else_of_the_model_moves_and_no_gradient_is_left() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = charembed.attach(
        pretrained.llama(vocab_size=len(tokenizer)), tokenizer, init="pretrained"
    ).train()
    model.model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"][:, :400].view(4, 100) % len(tokenizer)
    charembed.project_to_low_fisher(model, ids, share=0.25)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [part.training for part in model.modules()]
    assert all(parameter.grad is None for parameter in model.parameters())
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert {name.rpartition("encoder.")[2] for name in changed} == {
        "projection.weight", "projection.bias", "loudness"
    }  # fmt: skip
    assert torch.linalg.matrix_rank(char_table(model).double(), rtol=1e-5) == 8


def test_all_directions_are_no_change_and_half_precision_is_taken() -> None:
    model = charembed.attach(Blind(300), tokens(300), init="pretrained")
    before = char_table(model)
    torch.testing.assert_close(
        char_table(charembed.project_to_low_fisher(model, IDS, share=1)),
        before,
        rtol=1e-3,
        atol=1e-4,
    )
    half = charembed.attach(Blind(300).bfloat16(), tokens(300), init="pretrained")
    assert (
        charembed.project_to_low_fisher(half, IDS).wte.encoder.projection.weight.dtype
        == torch.float32
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, "share 0 1"),
        ({"share": 1.5}, "share 1.5"),
        ({"share": "some"}, "share some"),
        ({"scale": -1.0}, "-1.0"),
        ({"ids_BT": IDS.tolist()}, "ids_BT list tensor"),
        (
            {"ids_BT": IDS[:1]},
            "ids_BT (1, 16) 32",
        ),
        ({"ids_BT": IDS.flatten()}, "ids_BT (96,)"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(
    options: dict[str, Any], message: str
) -> None:
    model = charembed.attach(Blind(300), tokens(300), init="pretrained")
    before = char_table(model)
    with raises(AttachError, message):
        charembed.project_to_low_fisher(model, **({"ids_BT": IDS} | options))
    assert torch.equal(char_table(model), before)


def test_no_encoder_no_projection_and_no_logits_are_errors() -> None:
    with raises(AttachError, "CharEmbedding"):
        charembed.project_to_low_fisher(Blind(300), IDS)
    with raises(AttachError, "BeeEncoder projection"):
        charembed.project_to_low_fisher(
            charembed.attach(Blind(300), tokens(300), encoder="bee"), IDS
        )
    model = charembed.attach(Blind(300), tokens(300), init="pretrained")
    before = char_table(model)
    model.head.weight.data[3] = torch.nan
    with raises(AttachError, "loss finite"):
        charembed.project_to_low_fisher(model, IDS)
    assert torch.equal(char_table(model), before)
    model.forward = lambda ids: {"hidden": model.wte(ids)}
    with raises(AttachError, "dict logits"):
        charembed.project_to_low_fisher(model, IDS)
