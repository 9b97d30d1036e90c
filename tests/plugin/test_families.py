"""A family that plain transformers folds, saves and loads keeps every weight, tied or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import charembed
from tests.messages import warns
from tests.plugin.families import (
    aligned,
    answer,
    build,
    classes,
    hide_progress_bars,
    moved,
    ties_more_than_its_head,
)
from tests.plugin.hosts import VOCABULARY

SOME = [
    "AlbertForMaskedLM",
    "BertForMaskedLM",
    "BigBirdForMaskedLM",
    "DebertaV2ForMaskedLM",
    "ElectraForMaskedLM",
    "MPNetForMaskedLM",
    "MobileBertForMaskedLM",
    "RobertaForMaskedLM",
    "BartForConditionalGeneration",
    "BlenderbotForConditionalGeneration",
    "EncoderDecoderModel",
    "MarianMTModel",
    "MBartForConditionalGeneration",
    "PegasusForConditionalGeneration",
    "T5ForConditionalGeneration",
    "UMT5ForConditionalGeneration",
    "SwitchTransformersForConditionalGeneration",
    "ZambaForCausalLM",
    "Zamba2ForCausalLM",
]
# These cannot be built, run or attached to without more than ids of text, or their configs are of
# no small size.
BEYOND = {
    "IBertForMaskedLM",
    "FlavaForPreTraining",
    "BlipForConditionalGeneration",
    "UdopForConditionalGeneration",
}


def others() -> list[str]:
    """Return all families but SOME that tie more than their head."""
    names = {name for name, made in classes().items() if ties_more_than_its_head(made)}
    return sorted(names - {*SOME, *BEYOND})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "other" in metafunc.fixturenames:
        # `classes` imports hundreds of modules, 10 CPU seconds: only if slow tests are selected
        left_out = "not slow" in metafunc.config.option.markexpr
        metafunc.parametrize("other", ["all"] if left_out else others())


def keeps_everything(name: str, folder: Path) -> None:
    hide_progress_bars()
    model = build(name)
    moved(model)
    charembed.attach(model, VOCABULARY, init="normal", char_dim=4, hidden_size=4)
    expected = answer(model)
    charembed.fold(model)
    assert torch.equal(answer(model), expected)
    model.save_pretrained(folder)
    again = aligned(type(model).from_pretrained(folder).eval())
    theirs = dict(again.named_parameters(remove_duplicate=False))
    for key, parameter in model.named_parameters(remove_duplicate=False):
        assert torch.equal(theirs[key], parameter), key
    assert torch.equal(answer(again), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOME)
def test_a_family_keeps_every_weight(name: str, tmp_path: Path) -> None:
    keeps_everything(name, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_other_families_that_tie_more_than_their_head_do_too(
    other: str, tmp_path: Path
) -> None:
    keeps_everything(other, tmp_path)


def test_a_model_whose_forward_uses_the_flag_keeps_it() -> None:
    hide_progress_bars()
    model = charembed.attach(
        build("UMT5ForConditionalGeneration"), VOCABULARY, init="normal", char_dim=4, hidden_size=4
    )
    with warns(UserWarning, "UMT5ForConditionalGeneration"):
        charembed.fold(model)
    assert model.config.tie_word_embeddings is True
    assert model.lm_head.weight is not model.shared.weight
