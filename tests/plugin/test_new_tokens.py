"""add_tokens: all parts of the model change together, or none does."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import charembed
from charembed import new_tokens, progress
from charembed.encoder import seeded_rows
from charembed.encoders import pretrained as pretrained_lstm
from charembed.rows_from_spellings import RIDGE, readable_states, rows_from_spellings
from charembed.tokenizers import token_bytes
from tests.laboratory import pretrained

TEXT = "the strawberry and the raspberry stood by the gooseberry, strawberry by strawberry. " * 60
WORDS = ["blueberry", "cloudberry", "boysenberry"]


@pytest.fixture(params=["byte_level", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    alphabet = "abcdefghijklmnopqrstuvwxyzßABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
    return pretrained.train_tokenizer(TEXT + alphabet, request.param)


def attached(tokenizer: Any, rows: int, **changes: Any) -> Any:
    model = pretrained.llama(vocab_size=rows, **changes).eval()
    return charembed.attach(model, tokenizer, init="pretrained")


def by_hand(
    tokenizer: Any, table_VD: torch.Tensor, word: str, pieces: list[int], of_words: bool = False
) -> torch.Tensor:
    """Predict a new row: regression on the spelling plus half of the mean residual of its pieces.

    The regression uses all tokens, or only the words; the residuals are those of all tokens.
    """
    known = {token: text for token, text in enumerate(token_bytes(tokenizer)[:-3]) if text}
    words = {token: text for token, text in known.items() if re.fullmatch(rb" [a-zA-Z]{2,}", text)}
    guess = fitted(table_VD, known)
    beyond = [table_VD[piece].double().numpy() - guess(known[piece]) for piece in pieces]
    likely = fitted(table_VD, words if of_words else known)(f" {word}".encode())
    return torch.from_numpy(likely + np.mean(beyond, 0) / 2).float()


def fitted(table_VD: torch.Tensor, known: dict[int, bytes]) -> Callable[[bytes], Any]:
    """Fit the ridge regression with the ridge as additional rows of data that pull weights to zero.

    The states are computed one token at a time.
    """
    x, y = (
        np.stack([states(text) for text in known.values()]),
        table_VD[list(known)].double().numpy(),
    )
    pull = np.sqrt(RIDGE) * np.eye(x.shape[1])
    centred = (
        np.concatenate([x - x.mean(0), pull]),
        np.concatenate([y - y.mean(0), 0 * pull[:, :1] @ y[:1]]),
    )
    weights = np.linalg.lstsq(*centred, rcond=None)[0]
    return lambda text: y.mean(0) + (states(text) - x.mean(0)) @ weights


@cache
def states(text: bytes) -> Any:
    """Return the states of one token, computed with torch's own LSTM."""
    learnt = {name: tensor.float() for name, tensor in pretrained_lstm.tensors().items()}
    lstm = torch.nn.LSTM(pretrained_lstm.CHAR_DIM, pretrained_lstm.HIDDEN_SIZE)
    table = charembed.SpellingTable.from_bytes([text])
    lstm.load_state_dict({name: learnt[name] for name in lstm.state_dict()})
    chars = seeded_rows(table.alphabet, pretrained_lstm.CHAR_DIM, pretrained_lstm.CHARS_SEED)[
        table.chars_S.long()
    ]
    with torch.no_grad():
        state = lstm(chars)[0][-1]
        mapped = (
            learnt[f"{pretrained_lstm.STATES}.weight"] @ state
            + learnt[f"{pretrained_lstm.STATES}.bias"]
        )
    return mapped.double().numpy()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("spare", [0, 2, 40])
def test_new_words_get_rows_and_spellings_and_nothing_else_changes(
    tokenizer: Any, tie: bool, spare: int
) -> None:
    rows = len(tokenizer) + spare
    model = attached(tokenizer, rows, tie_word_embeddings=tie)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    pieces = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in WORDS]
    assert all(len(ids) > 1 for ids in pieces)
    old = {"in": embedding.weight.detach().clone(), "out": head.weight.detach().clone()}
    ids = charembed.add_tokens(model, tokenizer, WORDS)
    assert ids == list(range(len(tokenizer) - 3, len(tokenizer)))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert embedding.num_embeddings == model.config.vocab_size == max(rows, len(tokenizer))
    assert (head.weight is embedding.weight) == tie
    for token, word, before in zip(ids, WORDS, pieces, strict=True):
        for table, was in ((embedding.weight, old["in"]), (head.weight, old["out"])):
            torch.testing.assert_close(table[token], by_hand(tokenizer, was, word, before))
        assert "".join(embedding.spellings.spell(token)) == f" {word}"
        assert tokenizer(f"a {word} b", add_special_tokens=False)["input_ids"].count(token) == 1
    kept = min(len(tokenizer) - 3, rows)
    assert torch.equal(embedding.weight[:kept], old["in"][:kept])
    text = f"by the {WORDS[0]} and the {WORDS[2]} too"
    assert (
        tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]).split()
        == text.split()
    )
    assert model(torch.tensor([ids])).logits.isfinite().all()


def test_a_word_is_predicted_from_words_and_other_text_from_all_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    spellings = token_bytes(tokenizer)
    assert sum(bool(re.fullmatch(rb" [a-zA-Z]{2,}", text or b"")) for text in spellings) in range(
        5, 60
    )
    for few, text, of_words in (
        (5, "cloudberry", True),
        (5, "cloud7", False),
        (60, "cloudberry", False),
    ):
        monkeypatch.setattr("charembed.new_tokens._MIN_WORDS", few)
        grown, model = copy.deepcopy(tokenizer), attached(tokenizer, len(tokenizer))
        table = model.get_input_embeddings().weight.detach().clone()
        pieces = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        charembed.add_tokens(model, grown, [text, "x7y7", "z7w7"])
        row = model.get_input_embeddings().weight[-3]
        torch.testing.assert_close(row, by_hand(grown, table, text, pieces, of_words))


def test_the_encoder_treats_a_new_word_as_any_token(tokenizer: Any) -> None:
    model = attached(tokenizer, len(tokenizer))
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    encoder = model.get_input_embeddings().encoder
    vector = encoder(torch.tensor([token]))
    twin = copy.deepcopy(encoder)
    twin.update_spellings(
        charembed.SpellingTable.from_bytes([b" cloudberry"]).over(encoder.spellings.alphabet)
    )
    torch.testing.assert_close(vector, twin(torch.tensor([0])))


def test_words_that_are_tokens_keep_them_and_twice_is_once(tokenizer: Any) -> None:
    model = attached(tokenizer, len(tokenizer))
    (known,) = tokenizer(" strawberry", add_special_tokens=False)["input_ids"]
    size = len(tokenizer)
    ids = charembed.add_tokens(
        model, tokenizer, ["strawberry", "cloudberry", "cloudberry", " strawberry "]
    )
    assert ids == [known, size, size, known]
    assert charembed.add_tokens(model, tokenizer, ["cloudberry"]) == [size]
    assert len(tokenizer) == size + 1
    assert charembed.add_tokens(model, tokenizer, []) == []


def test_a_model_without_an_encoder_gets_the_same_rows(tokenizer: Any) -> None:
    model, twin = pretrained.llama(vocab_size=len(tokenizer)), copy.deepcopy(tokenizer)
    letters = charembed.attach(copy.deepcopy(model), twin, init="normal", seed=3)
    assert charembed.add_tokens(model, tokenizer, WORDS) == charembed.add_tokens(
        letters, twin, WORDS
    )
    assert torch.equal(model.get_input_embeddings().weight, letters.get_input_embeddings().weight)


@pytest.mark.parametrize("follows", [True, False])
def test_rows_are_predicted_if_they_follow_from_spellings(follows: bool) -> None:
    rng = random.Random(0)
    words = [
        bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 8))) for _ in range(4_100)
    ]
    states_VH = readable_states(words)
    torch.manual_seed(0)
    said_VD = states_VH @ torch.randn(states_VH.shape[1], 8)
    table_VD = said_VD if follows else said_VD[torch.randperm(len(words))]
    guess = rows_from_spellings(table_VD[:4_000], states_VH, torch.arange(4_000))
    wrong = guess(torch.arange(4_000, 4_100)) - said_VD[4_000:]
    unexplained = wrong.square().mean() / said_VD[4_000:].var()
    assert unexplained < 0.15 if follows else unexplained > 0.9


def test_a_large_vocabulary_is_fitted_on_some_of_its_tokens(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_tokens, "_MAX_FITTED", 50)
    model, seen = attached(tokenizer, len(tokenizer)), list[tuple[int, int]]()
    old = model.get_input_embeddings().weight.detach().clone()
    pieces = tokenizer(" cloudberry", add_special_tokens=False)["input_ids"]
    known = {token: text for token, text in enumerate(token_bytes(tokenizer)) if text}
    some = [list(known)[k * len(known) // 50] for k in range(50)]
    guess = fitted(old, {token: known[token] for token in some})
    (token,) = charembed.add_tokens(
        model, tokenizer, ["cloudberry"], progress=lambda *numbers: seen.append(numbers)
    )
    beyond = [old[piece].double().numpy() - guess(known[piece]) for piece in pieces]
    expected = torch.from_numpy(guess(b" cloudberry") + np.mean(beyond, 0) / 2).float()
    torch.testing.assert_close(model.get_input_embeddings().weight[token], expected)
    done, total = seen[-1]
    assert done == total < len(known)


def test_a_bar_is_drawn_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY", -1)
    for terminal in (False, True):
        monkeypatch.setattr(progress, "terminal", lambda terminal=terminal: terminal)
        with progress.bar("Reading") as advance:
            advance(1, 4)
        drawn = capsys.readouterr().err
        assert ("Reading" in drawn and "25%" in drawn) == terminal == bool(drawn)


def test_the_default_device_makes_no_difference(tokenizer: Any) -> None:
    models = [attached(tokenizer, len(tokenizer) + 3) for _ in range(2)]
    (token,) = charembed.add_tokens(models[0], copy.deepcopy(tokenizer), ["cloudberry"])
    with torch.device("meta"):
        assert charembed.add_tokens(models[1], tokenizer, ["cloudberry"]) == [token]
    rows = [model.get_input_embeddings().weight[token] for model in models]
    assert torch.equal(*rows)


def test_texts_can_be_added_without_a_space(tokenizer: Any) -> None:
    model = attached(tokenizer, len(tokenizer))
    (token,) = charembed.add_tokens(model, tokenizer, ["Q#7"], space=False)
    assert "".join(model.get_input_embeddings().spellings.spell(token)) == "Q#7"


def test_a_half_precision_base_takes_new_words() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = charembed.attach(
        pretrained.llama(vocab_size=len(tokenizer)).bfloat16(), tokenizer, init="pretrained"
    )
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model(torch.tensor([[token]])).logits.isfinite().all()


def test_a_word_without_pieces_becomes_a_token(tokenizer: Any) -> None:
    model = attached(tokenizer, len(tokenizer))
    ids = charembed.add_tokens(model, tokenizer, ["жж", "юю"])
    assert len(set(ids)) == 2
    assert tokenizer("a юю b", add_special_tokens=False)["input_ids"].count(ids[1]) == 1
    assert model.get_input_embeddings().weight[ids].isfinite().all()


def test_old_tokens_keep_their_spellings(tokenizer: Any) -> None:
    table = charembed.SpellingTable.from_tokenizer(tokenizer).shuffled(
        torch.Generator().manual_seed(0)
    )
    model = charembed.attach(pretrained.llama(vocab_size=len(tokenizer)), table, init="pretrained")
    dealt = model.get_input_embeddings().spellings.to_bytes()
    charembed.add_tokens(model, tokenizer, ["жук"])
    now = model.get_input_embeddings().spellings.to_bytes()
    assert now == [*dealt, " жук".encode()]


def prepending() -> Any:
    """A tokenizer that inserts a space before a text, as Llama 2's does, without added tokens."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    core.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core)


def test_a_word_is_found_if_the_tokenizer_inserts_a_space_before_a_text() -> None:
    tokenizer = prepending()
    model, size = attached(tokenizer, len(tokenizer)), len(tokenizer)
    known = tokenizer.convert_tokens_to_ids("▁strawberry")
    assert charembed.add_tokens(model, tokenizer, ["strawberry"]) == [known]
    assert len(tokenizer) == size
    table = model.get_input_embeddings().weight.detach().clone()
    pieces = tokenizer("cloudberry", add_special_tokens=False)["input_ids"]
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    spellings = {i: text for i, text in enumerate(token_bytes(tokenizer)[:size]) if text}
    guess = fitted(table, spellings)
    beyond = [table[piece].double().numpy() - guess(spellings[piece]) for piece in pieces]
    expected = torch.from_numpy(guess(b" cloudberry") + np.mean(beyond, 0) / 2).float()
    torch.testing.assert_close(model.get_input_embeddings().weight[token], expected)


def test_a_tokenizer_without_added_tokens_finds_new_ones() -> None:
    tokenizer = prepending()
    assert not tokenizer.added_tokens_decoder
    model = attached(tokenizer, len(tokenizer))
    (token,) = charembed.add_tokens(model, tokenizer, ["blueberry"])
    assert tokenizer("the blueberry")["input_ids"].count(token) == 1
    row = model.get_input_embeddings().weight[token].clone()
    assert charembed.add_tokens(model, tokenizer, ["blueberry"]) == [token]
    assert torch.equal(model.get_input_embeddings().weight[token], row)


def test_after_inference_mode_and_with_old_gradients_it_trains_on(tokenizer: Any) -> None:
    model = attached(tokenizer, len(tokenizer), tie_word_embeddings=False)
    model(torch.tensor([[5, 6]])).logits.sum().backward()
    with torch.inference_mode():
        ids = torch.tensor([charembed.add_tokens(model, tokenizer, ["cloudberry"]) * 2])
    optimizer = torch.optim.AdamW(model.parameters())
    model(ids.clone()).logits.sum().backward()
    optimizer.step()
    assert model(ids.clone()).logits.isfinite().all()


@torch.no_grad()
def test_saved_loaded_and_folded_with_new_words(tokenizer: Any, tmp_path: Path) -> None:
    model = attached(tokenizer, len(tokenizer))
    ids = torch.tensor([charembed.add_tokens(model, tokenizer, WORDS)])
    expected = model(ids).logits
    charembed.save(model, tmp_path / "letters")
    charembed.detach(model).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")

    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    assert again.convert_tokens_to_ids([f" {word}" for word in WORDS]) == ids[0].tolist()
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    loaded = charembed.load(base, again, tmp_path / "letters")
    assert torch.equal(loaded(ids).logits, expected)

    charembed.fold(loaded).save_pretrained(tmp_path / "plain")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    assert torch.equal(plain(ids).logits, expected)
