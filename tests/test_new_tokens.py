"""Words that become tokens: all that belongs to them changes together, or nothing does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import charembed
from charembed import AttachError, SpellingError
from tests import pretrained
from tests.hosts import NanoGPT

TEXT = "the strawberry and the raspberry stood by the gooseberry, strawberry by strawberry. " * 60
WORDS = ["blueberry", "cloudberry", "boysenberry"]


@pytest.fixture(params=["byte_level", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    alphabet = "abcdefghijklmnopqrstuvwxyzßABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
    return pretrained.train_tokenizer(TEXT + alphabet, request.param)


def lettered(tokenizer: Any, rows: int, **changes: Any) -> Any:
    model = pretrained.llama(vocab_size=rows, **changes).eval()
    return charembed.attach(model, tokenizer, init="spelled")


def state(model: Any, tokenizer: Any) -> tuple[Any, ...]:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return (
        tensors,
        len(tokenizer),
        model.config.vocab_size,
        model.get_input_embeddings().spellings.fingerprint,
    )


def assert_unchanged(model: Any, tokenizer: Any, before: tuple[Any, ...]) -> None:
    now = state(model, tokenizer)
    assert now[1:] == before[1:]
    assert now[0].keys() == before[0].keys()
    for name, tensor in before[0].items():
        assert torch.equal(now[0][name], tensor), name


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("spare", [0, 2, 40])
def test_new_words_have_their_pieces_rows_and_their_own_letters(
    tokenizer: Any, tie: bool, spare: int
) -> None:
    rows = len(tokenizer) + spare
    model = lettered(tokenizer, rows, tie_word_embeddings=tie)
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
        torch.testing.assert_close(embedding.weight[token], old["in"][before].mean(0))
        torch.testing.assert_close(head.weight[token], old["out"][before].mean(0))
        assert "".join(embedding.spellings.spell(token)) == f" {word}"
        assert tokenizer(f"a {word} b", add_special_tokens=False)["input_ids"].count(token) == 1
    kept = min(len(tokenizer) - 3, rows)
    assert torch.equal(embedding.weight[:kept], old["in"][:kept])
    text = f"by the {WORDS[0]} and the {WORDS[2]} too"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]).split() == text.split()
    assert model(torch.tensor([ids])).logits.isfinite().all()


def test_the_letters_of_a_new_word_are_those_the_encoder_gives_any_token(tokenizer: Any) -> None:
    model = lettered(tokenizer, len(tokenizer))
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    encoder = model.get_input_embeddings().encoder
    spelled = encoder(torch.tensor([token]))
    twin = copy.deepcopy(encoder)
    twin.respell(charembed.SpellingTable.from_bytes([b" cloudberry"]).over(encoder.spellings.alphabet))
    torch.testing.assert_close(spelled, twin(torch.tensor([0])))


def test_words_that_are_tokens_keep_them_and_twice_is_once(tokenizer: Any) -> None:
    model = lettered(tokenizer, len(tokenizer))
    (known,) = tokenizer(" strawberry", add_special_tokens=False)["input_ids"]
    size = len(tokenizer)
    ids = charembed.add_tokens(model, tokenizer, ["strawberry", "cloudberry", "cloudberry", " strawberry "])
    assert ids == [known, size, size, known]
    assert charembed.add_tokens(model, tokenizer, ["cloudberry"]) == [size]
    assert len(tokenizer) == size + 1
    assert charembed.add_tokens(model, tokenizer, []) == []


def test_a_model_without_letters_gets_the_means(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    pieces = tokenizer(" cloudberry", add_special_tokens=False)["input_ids"]
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    weight = model.get_input_embeddings().weight
    torch.testing.assert_close(weight[token], weight[pieces].mean(0))


def test_texts_can_be_added_without_a_space(tokenizer: Any) -> None:
    model = lettered(tokenizer, len(tokenizer))
    (token,) = charembed.add_tokens(model, tokenizer, ["Q#7"], space=False)
    assert "".join(model.get_input_embeddings().spellings.spell(token)) == "Q#7"


def test_a_half_precision_base_takes_new_words() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = charembed.attach(
        pretrained.llama(vocab_size=len(tokenizer)).bfloat16(), tokenizer, init="spelled"
    )
    (token,) = charembed.add_tokens(model, tokenizer, ["cloudberry"])
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model(torch.tensor([[token]])).logits.isfinite().all()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "the word '' has no letters"),
        ("  ", "the word '  ' has no letters"),
        (7, "the word 7 has no letters"),
        ("a<|end|>b", r"the word 'a<\|end\|>b' holds the special token '<\|end\|>'"),
        ("h\udcc3", "half a character"),
    ],
)
def test_what_is_no_word_is_said_and_nothing_changes(word: Any, message: str) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = lettered(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    with pytest.raises(SpellingError, match=message):
        charembed.add_tokens(model, tokenizer, ["cloudberry", word])
    assert_unchanged(model, tokenizer, before)


@pytest.mark.parametrize("spare", [0, 40])
@pytest.mark.parametrize("place", ["respell", "resize_token_embeddings"])
def test_an_interruption_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, spare: int, place: str
) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = lettered(tokenizer, len(tokenizer) + spare)
    before = state(model, tokenizer)
    owner: Any = type(model.get_input_embeddings()) if place == "respell" else type(model)
    genuine, calls = getattr(owner, place), []

    def interrupted(*args: Any, **options: Any) -> Any:
        result = genuine(*args, **options)
        calls.append(place)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, place, interrupted)
        if place == "resize_token_embeddings" and spare:
            charembed.add_tokens(model, tokenizer, ["cloudberry"])
            assert not calls, "there was room"
            return
        with pytest.raises(KeyboardInterrupt):
            charembed.add_tokens(model, tokenizer, ["cloudberry"])
    assert_unchanged(model, tokenizer, before)
    assert charembed.add_tokens(model, tokenizer, ["cloudberry"]) == [before[1]]


def test_a_model_that_cannot_be_resized_is_said() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    with pytest.raises(AttachError, match=r"NanoGPT has no resize_token_embeddings\(\): give its embedding"):
        charembed.add_tokens(NanoGPT(tie=True), tokenizer, ["cloudberry"])


@torch.no_grad()
def test_saved_loaded_and_folded_with_new_words(tokenizer: Any, tmp_path: Path) -> None:
    model = lettered(tokenizer, len(tokenizer))
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


def test_a_tokenizer_that_cannot_grow_or_is_another_models_is_said() -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    model = lettered(tokenizer, len(tokenizer))
    before = state(model, tokenizer)
    for other, words, message in (
        ([b"a", b"b"], ["cloudberry"], "the tokenizer is a list, which takes no new tokens"),
        (pretrained.train_tokenizer(TEXT + "zq " * 99), ["cloudberry"], "but the embedding has .* rows"),
        (tokenizer, "cloudberry", "the words are one text, 'cloudberry': pass a list"),
    ):
        with pytest.raises(SpellingError, match=message):
            charembed.add_tokens(model, other, words)
    assert_unchanged(model, tokenizer, before)
