"""Training words as one token each, for arms with an encoder; and words added after the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from charembed import SpellingTable
from tests.laboratory.runs import finish, losses
from tests.messages import raises
from training.ask.added_tokens import MEAN, SPELLED, ask_about_words, grow, new_words
from training.config.flags import changed
from training.data.prepare import Data
from training.errors import BadInput
from training.models.arms import ARMS
from training.run.build import build_arm, whole_words, with_spellings
from training.train.kinds import phase_batches
from training.train.loss import summed_loss

ENCODERS = [name for name, arm in ARMS.items() if arm.role == "encoder"]


def asked(data: Data, arm: str, share: float) -> tuple[Any, Any, Any]:
    """A model of an arm, the data with whole words inside its block, and the words' spellings."""
    phase = replace(data.config.phase("finetune"), whole_words=share)
    model = build_arm(data.config, arm, 0, data.spellings)
    embedding: Any = model.get_submodule(model.embedding)
    with whole_words(model, data, phase, arm, 0) as found:
        spelled = embedding.spellings.to_bytes() if found.whole else []
    return found, phase, spelled


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_share_of_the_questions_has_its_word_as_one_token(data: Data, share: float) -> None:
    found, phase, spelled = asked(data, "lstm", share)
    plain, whole = phase_batches(data, phase, 3), phase_batches(found, phase, 3)
    V, joined, several = data.config.data.vocab_size, 0, 0
    for k in range(12):
        before, after = plain(k), whole(k)
        assert after.digest("") == before.digest(""), "the same questions"
        assert torch.equal(after.ids_BT, whole(k).ids_BT), "a function of (seed, k)"
        if before.kind != "question":
            continue
        for one, other in zip(before.ids_BT.tolist(), after.ids_BT.tolist(), strict=True):
            words = [token for token in other if token >= V]
            joined += len(words)
            several += 1  # with 512 tokens a word of one token is rare
            if words:
                (word,) = words
                place = other.index(word)
                assert other[:place] == one[:place]
                text = b"".join(data.tokenizer.spellings[token] or b"" for token in one)
                assert spelled[word] in text
        targets = after.targets_BT[after.keep_BT]
        assert torch.equal(targets, before.targets_BT[before.keep_BT]), "the answers are the same"
        assert int(targets.max()) < V
    assert joined / several == pytest.approx(share, abs=0.25 if share < 1 else 0.1)


def test_no_held_out_word_is_among_them(data: Data) -> None:
    found, _, _ = asked(data, "lstm", 1.0)
    assert data.splits is not None
    assert set(found.whole.ids) <= set(data.splits["seen"])
    assert all(len(data.tokenizer.encode_word(word)) > 1 for word in found.whole.ids)


@pytest.mark.parametrize("arm", [*ENCODERS, "shuffled"])
def test_arms_that_read_characters_get_whole_words(data: Data, arm: str) -> None:
    assert asked(data, arm, 0.5)[0].whole is not None


@pytest.mark.parametrize("arm", ["plain", "matched", "length", "random", "spelling_data"])
def test_arms_that_read_none_keep_the_pieces(data: Data, arm: str) -> None:
    assert asked(data, arm, 0.5)[0] is data


def test_shuffled_words_have_the_letters_of_other_words(data: Data) -> None:
    (found, _, true), (_, _, false) = asked(data, "lstm", 1.0), asked(data, "shuffled", 1.0)
    V = data.config.data.vocab_size
    assert sorted(true[V:]) == sorted(false[V:])
    moved = sum(one != other for one, other in zip(true[V:], false[V:], strict=True))
    assert moved > 0.99 * len(found.whole.ids)


@pytest.mark.parametrize("arm", ["plain", "matched", "random", "shuffled", "lstm", "bee"])
@pytest.mark.parametrize("way", [MEAN, SPELLED])
def test_every_arm_can_be_asked_about_added_words(data: Data, arm: str, way: str) -> None:
    model = build_arm(data.config, arm, 0, data.spellings).eval()
    words, V = new_words(data, 5), data.config.data.vocab_size
    before = model(torch.arange(V)[None, :8])
    embedding: Any = model.get_submodule(model.embedding)
    grow(model, data, words, way, arm)
    torch.testing.assert_close(model(torch.arange(V)[None, :8]), before)
    vectors = embedding(torch.arange(V, V + 5))
    assert len(vectors.unique(dim=0)) == 5
    if arm == "matched" and way == MEAN:
        pieces = data.tokenizer.encode_word(words[0])
        torch.testing.assert_close(vectors[0], embedding(torch.tensor(pieces)).mean(0))
    again = build_arm(data.config, arm, 0, data.spellings).eval()
    assert ask_about_words(again, data, arm, 0, words, way, 3).rows


@pytest.mark.parametrize("output", ["own", "tokens", "vectors"])
def test_every_output_layer_trains_with_whole_words(data: Data, output: str) -> None:
    config = changed(data.config, output=output)
    phase = replace(config.phase("finetune"), whole_words=1.0)
    model = build_arm(config, "lstm", 0, data.spellings).train()
    with whole_words(model, data, phase, "lstm", 0) as found:
        batch = next(
            batch for batch in map(phase_batches(found, phase, 3), range(9)) if batch.shared
        )
        assert int(batch.ids_BT.max()) >= config.data.vocab_size
        summed_loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT).backward()
        expected = model.eval()(batch.shared.ids_BT)
    torch.testing.assert_close(model(batch.shared.ids_BT), expected)


class Bare(nn.Module):
    """An encoder of one's own that keeps no spellings."""

    def __init__(self, spellings: SpellingTable, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(spellings.num_tokens, dim)

    def forward(self, ids_U: Tensor) -> Tensor:
        vectors_UD: Tensor = self.table(ids_U)
        return vectors_UD


def test_an_encoder_without_spellings_is_refused_before_any_step(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = replace(ARMS["lstm"], build=lambda parts: Bare(parts.spellings, parts.dim))
    monkeypatch.setitem(ARMS, "bare", arm)
    config = changed(data.config, whole_words=0.5)
    model = build_arm(config, "bare", 0, data.spellings)
    with raises(BadInput, "bare --whole-words update_spellings"):
        with_spellings(model, config, "bare")
    assert with_spellings(model, data.config, "bare") is model


@pytest.mark.slow
def test_a_run_with_whole_words_is_compared_and_goes_on(cache: Path, tmp_path: Path) -> None:
    flags = ["--whole-words", "0.5", "--row-dropout", "0.3", "--arms", "plain,shuffled,lstm"]
    finish(*flags, "--out", tmp_path / "run", "--cache", cache)
    finish("--arms", "plain,shuffled,lstm", "--out", tmp_path / "none", "--cache", cache)
    with_words, without = (
        {row[:3]: row for row in losses(tmp_path / one)} for one in ("run", "none")
    )
    assert with_words != without


def test_the_share_is_of_fine_tuning_alone(data: Data) -> None:
    config = changed(data.config, whole_words=0.5)
    assert config.phase("finetune").whole_words == 0.5
    assert [phase.whole_words for phase in config.phases if phase.name != "finetune"] == [0.0, 0.0]
