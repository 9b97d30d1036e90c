"""Models whose embeddings share one weight (T5, BART): the encoder applies to all of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

import charembed
from charembed import CharEmbedding
from tests.plugin.hosts import IDS, VOCABULARY, V
from tests.plugin.test_transformers import _without_progress_bars as _without_progress_bars
from tests.plugin.test_transformers import assert_same, replicate, state, trained


def t5(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=V,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        eos_token_id=None,
        **kwargs,
    )
    return T5ForConditionalGeneration(config)


def bart(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    sizes = {
        f"{side}_{what}": n
        for side in ("encoder", "decoder")
        for what, n in (("layers", 1), ("ffn_dim", 32), ("attention_heads", 2))
    }
    special = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
        "forced_eos_token_id": None,
        "decoder_start_token_id": 1,
    }
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=V,
            d_model=16,
            max_position_embeddings=64,
            scale_embedding=True,
            **sizes,
            **special,
            **kwargs,
        )
    )


both = pytest.mark.parametrize("build", [t5, bart])


def run(model: Any) -> Any:
    torch.manual_seed(7)
    return model(input_ids=IDS, labels=IDS.flip(1))


@both
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_all_embeddings_that_share_a_weight_get_the_encoder(build: Any, training: bool) -> None:
    plain = build().train(training)
    model = charembed.attach(copy.deepcopy(plain), VOCABULARY)
    embeddings = [part for part in model.modules() if isinstance(part, CharEmbedding)]
    assert len(embeddings) == 3
    assert (
        len({id(part.encoder) for part in embeddings})
        == len({id(part.weight) for part in embeddings})
        == 1
    )
    names = [
        name
        for name, _ in model.named_parameters(remove_duplicate=False)
        if name.endswith("chars.weight")
    ]
    assert names == [name for name in model.state_dict() if name.endswith("chars.weight")]
    assert len(names) == 1
    results = []
    for one in (plain, model):
        out = run(one)
        out.loss.backward()
        results.append(out)
    assert torch.equal(results[0].logits, results[1].logits)
    gradients = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, gradients[name].grad), name
    assert all(parameter.grad is not None for parameter in charembed.parameters(model))
    assert [type(part) for part in charembed.detach(model).modules()] == [
        type(part) for part in plain.modules()
    ]


@both
def test_shared_embeddings_train_fold_save_and_load(build: Any, tmp_path: Path) -> None:
    model = charembed.attach(build(), VOCABULARY, char_dim=8, hidden_size=8).eval()
    groups = charembed.param_groups(model, lr=1e-2)
    members = [id(p) for group in groups for p in group["params"]]
    assert len(members) == len(set(members)) == len(list(model.parameters()))
    assert len(charembed.parameters(model)) == 7
    optimizer, losses = torch.optim.AdamW(groups), []
    for _ in range(5):
        loss = run(model).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]

    with torch.no_grad():
        expected = run(model).logits
        twin = charembed.attach(build(), VOCABULARY, char_dim=8, hidden_size=8, seed=3).eval()
        assert twin.load_state_dict(model.state_dict(), strict=True) == ([], [])
        assert torch.equal(run(twin).logits, expected)
        base = {
            name: value
            for name, value in model.state_dict().items()
            if ".encoder." not in name or name in build().state_dict()
        }
        plain = build()
        plain.load_state_dict(base, strict=True)

        charembed.save(model, tmp_path / "letters")
        again = charembed.load(plain.eval(), VOCABULARY, tmp_path / "letters")
        assert torch.equal(run(again).logits, expected)
        greedy = model.generate(IDS, max_new_tokens=4, do_sample=False)
        beams = model.generate(IDS, max_new_tokens=4, num_beams=2, do_sample=False)

        charembed.fold(model)
        assert torch.equal(run(model).logits, expected)
        assert torch.equal(model.generate(IDS, max_new_tokens=4, do_sample=False), greedy)
        assert torch.equal(
            model.generate(IDS, max_new_tokens=4, num_beams=2, do_sample=False), beams
        )
        assert model.lm_head.weight is not model.get_input_embeddings().weight
        model.save_pretrained(tmp_path / "plain")
        reloaded = type(model).from_pretrained(tmp_path / "plain").eval()
        assert torch.equal(run(reloaded).logits, expected)


@both
def test_replicas_of_shared_embeddings_compute_the_same(build: Any) -> None:
    model = charembed.attach(build(), VOCABULARY, init="normal").eval()
    parts = [part for part in model.modules() if isinstance(part, CharEmbedding)]
    network = nn.ModuleList(parts)
    expected = [part(IDS) for part in parts]
    for copied, vectors in zip(replicate(network), expected, strict=True):
        torch.testing.assert_close(copied(IDS), vectors, rtol=1e-5, atol=1e-6)


class AttachedT5(T5ForConditionalGeneration):
    def __init__(self, config: Any) -> None:
        super().__init__(config)  # from_pretrained ties the embeddings later
        charembed.attach(self, VOCABULARY, init="normal")


@pytest.mark.filterwarnings("ignore")
def test_shared_embeddings_go_through_save_pretrained_too(tmp_path: Path) -> None:
    """As a checkpoint of Trainer, and for a class that attaches itself."""
    model: Any = trained(charembed.attach(t5(), VOCABULARY, init="normal")).eval()
    model.save_pretrained(tmp_path)
    again: Any = AttachedT5.from_pretrained(tmp_path).eval()
    assert_same(state(again), state(model))
    torch.testing.assert_close(run(again).logits, run(model).logits)


@both
def test_shared_embeddings_are_copied_resized_and_updated_together(build: Any) -> None:
    model = charembed.attach(build(), VOCABULARY, init="normal").eval()
    with torch.no_grad():
        expected = run(model).logits
        twin = copy.deepcopy(model)
        assert torch.equal(run(twin).logits, expected)
        charembed.parameters(twin)[0].mul_(2)
        assert not torch.equal(run(twin).logits, expected)
        assert torch.equal(run(model).logits, expected)
        model.resize_token_embeddings(V + 1, mean_resizing=False)
        charembed.update_spellings(model, [*VOCABULARY, "ж".encode()])
        new = torch.tensor([[V, 5]])
        before = model(input_ids=new, labels=new).logits
        assert torch.equal(charembed.fold(model)(input_ids=new, labels=new).logits, before)


@both
def test_words_without_a_row_are_read_by_all_embeddings(build: Any) -> None:
    model = charembed.attach(build(), VOCABULARY, init="normal", row_dropout=0.25).train()
    found = [module for module in model.modules() if isinstance(module, CharEmbedding)]
    assert {embedding.row_dropout for embedding in found} == {0.25}
    inputs, labels = torch.tensor([[1, V, 2, V + 1]]), torch.tensor([[1, 2, -100, 3]])
    for one in found:
        with one.whole_words([b"aba", b"bab"]):
            decoded = torch.tensor([[1, V + 1, 2, 3]])
            model(input_ids=inputs, decoder_input_ids=decoded, labels=labels).loss.backward()
        assert {embedding.num_words for embedding in found} == {0}
