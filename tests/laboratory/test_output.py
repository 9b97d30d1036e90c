"""The output layer of the decoder with the vectors of the input: token table plus characters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charembed
from tests.laboratory.test_steps import assert_same, gradients, rows_of
from tests.laboratory.test_training import TABLE
from training.config.flags import changed
from training.config.presets import preset
from training.models.arms import num_parameters, num_parameters_after_fold
from training.models.decoder import Decoder
from training.models.language_model import Mask
from training.run.build import build_arm
from training.train.loss import summed_loss


def model_of(arm: str, output: str) -> Decoder:
    sizes = {"vocab_size": 50, "context": 24, "width": 16, "heads": 2, "layers": 2}
    model = build_arm(changed(preset("tiny"), output=output, **sizes), arm, 0, TABLE)
    assert isinstance(model, Decoder)
    return model


def whole_table(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Mask) -> Tensor:
    """The loss with the table of token and character vectors, computed once, in input and output."""
    assert isinstance(model, Decoder)
    assert keep_BT is not None
    char_VD = model.wte.encoder(torch.arange(50)).double()
    vectors_VD = model.wte.weight + char_VD
    x_BTD = vectors_VD[ids_BT] + model.wpe(torch.arange(ids_BT.shape[1]))
    for block in model.blocks:
        x_BTD, _ = block(x_BTD, None)
    logits_NV = model.ln_f(x_BTD[keep_BT]) @ vectors_VD.t() + model.lm_head.bias
    return F.cross_entropy(logits_NV, targets_BT[keep_BT], reduction="sum")


@pytest.mark.parametrize("arm", ["lstm", "bag", "matched"])
def test_gradients_flow_through_input_and_output(arm: str) -> None:
    torch.manual_seed(0)
    model = model_of(arm, "vectors").double()
    batch = rows_of([(3, 4), (9, 2), (1, 1)], 12)
    expected = gradients(whole_table, model, *batch)
    assert_same(gradients(summed_loss, model, *batch), expected, rtol=1e-9, atol=1e-12)
    # a token that is in no row and no target is pushed down by the softmax, characters included
    unseen = sorted(set(range(50)) - set(torch.cat(batch[:2]).flatten().tolist()))[0]
    assert expected["wte.weight"][unseen].any()


@pytest.mark.parametrize("arm", ["plain", "lstm", "shuffled"])
def test_folding_leaves_a_plain_decoder_with_one_table(arm: str) -> None:
    model = model_of(arm, "vectors").eval()
    ids_BT = torch.randint(50, (3, 20))
    with torch.no_grad():
        before = model(ids_BT)
        counted = num_parameters_after_fold(model)
        folded = charembed.fold(model)
        assert type(folded.wte) is nn.Embedding
        assert torch.allclose(folded(ids_BT), before, atol=1e-6)
    assert counted == num_parameters(folded) == num_parameters(model_of("plain", "tokens"))


def test_the_untouched_model_is_the_same_with_tokens_and_with_vectors() -> None:
    tokens, vectors = (model_of("plain", output) for output in ("tokens", "vectors"))
    batch = rows_of([(3, 4), (9, 2), (1, 1)], 12)
    first, second = (gradients(summed_loss, model, *batch) for model in (tokens, vectors))
    second = {name: second[name] for name in first}
    assert_same(second, first, rtol=1e-5, atol=1e-7)


def test_answers_with_a_cache_are_those_without() -> None:
    model = model_of("lstm", "vectors").eval()
    ids_BT = torch.randint(50, (2, 9))
    cache = model.new_cache()
    with torch.no_grad():
        parts = [model(ids_BT[:, :5], cache=cache), model(ids_BT[:, 5:], cache=cache)]
        assert torch.allclose(torch.cat(parts, dim=1), model(ids_BT), atol=1e-5)
