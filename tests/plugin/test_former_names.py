"""Names of version 0.1: parts and inits that still work, and errors that name the new name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from charembed import AttachError, SpellingTable
from charembed.checkpoint import TENSORS
from tests.messages import warns
from tests.plugin.hosts import GPT2, TABLE, VOCABULARY, char_embedding


@pytest.mark.parametrize(("former", "new"), [("loud", "normal"), ("spelled", "pretrained")])
def test_a_former_init_is_the_new_one_to_the_byte(former: str, new: str, tmp_path: Path) -> None:
    with warns(DeprecationWarning, former, new, "0.3"):
        old = GPT2.attach(GPT2(), init=former)
    models = [old, GPT2.attach(GPT2(), init=new)]
    assert [char_embedding(model).encoder.init for model in models] == [new, new]
    for model, folder in zip(models, "ab", strict=True):
        charembed.save(model, tmp_path / folder)
    first, second = ((tmp_path / folder / TENSORS).read_bytes() for folder in "ab")
    assert first == second
    assert former.encode() in first  # so version 0.1 reads the file
    loaded = charembed.load(GPT2(), VOCABULARY, tmp_path / "a")
    assert char_embedding(loaded).encoder.config == char_embedding(models[0]).encoder.config


def test_the_warning_of_a_former_init_names_the_users_line() -> None:
    makers = (
        lambda: charembed.attach(GPT2(), VOCABULARY, init="loud"),
        lambda: charembed.LSTMEncoder(TABLE, 8, init="loud"),
    )
    for make in makers:
        with pytest.warns(DeprecationWarning, match="loud") as seen:
            make()
        assert [Path(one.filename).name for one in seen] == [Path(__file__).name]


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ("set_gain", "set_scale"),
        ("quieten", "project_to_low_fisher"),
        ("respell", "update_spellings"),
    ],
)
def test_a_former_function_names_the_new_one(former: str, new: str) -> None:
    with pytest.raises(AttributeError, match=rf"{former}.*{new}"):
        getattr(charembed, former)


def test_the_former_argument_names_the_new_one() -> None:
    former: dict[str, Any] = {"gain": 0.5}
    with pytest.raises(AttachError, match=r"gain.*scale"):
        charembed.attach(GPT2(), VOCABULARY, **former)


def test_an_encoder_of_ones_own_with_the_former_method_names_the_new_one() -> None:
    class Own(nn.Module):
        spellings: SpellingTable = TABLE

        def forward(self, ids_U: Tensor) -> Tensor:
            return torch.zeros(len(ids_U), GPT2().get_input_embeddings().embedding_dim)

    model = charembed.attach(GPT2(), None, encoder=Own())
    with pytest.raises(AttachError, match="Own without the method update_spellings"):
        charembed.update_spellings(model, VOCABULARY)
