"""The rivals: the same batches with other rows, and the fairness of the comparison with them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from synthetic_tasks.word_tasks.word_task import word_and_arguments
from tests.laboratory.runs import TINY
from tests.messages import raises
from training import compare
from training.ask.eval_sets import make_eval_sets
from training.config.config import CompareConfig
from training.config.flags import changed, parse
from training.data.batches import pad_examples
from training.data.prepare import Data
from training.data.rivals import (
    RIVALS,
    SpelledTokens,
    data_of,
    pairs_of,
    phases_of,
    rows_of,
    share_split,
    split_at_random,
)
from training.errors import BadInput
from training.intervals import read_rows
from training.models.arms import ARMS
from training.run.identity import identity
from training.run.run import Run
from training.train.kinds import phase_batches

ROWS = ("pretrain", "finetune")


def with_values(data: Data, **values: object) -> Data:
    return replace(data, config=changed(data.config, **values))


def test_every_rival_is_an_arm_without_an_encoder() -> None:
    assert set(RIVALS) == {name for name, arm in ARMS.items() if arm.role == "rival"}
    assert not any(ARMS[name].build(None) for name in RIVALS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("arm", ["spelling_data", "stochastok", "spelling_loss"])
def test_a_rival_changes_rows_of_the_batches_that_all_arms_share(
    data: Data, arm: str, name: str
) -> None:
    data = with_values(data, spelling_share=0.5, spelling_text_share=0.5, split_rate=0.5)
    (phase,) = (each for each in phases_of(arm, data.config) if each.name == name)
    plain = phase_batches(data, data.config.phase(name), 3)
    rival, again = (phase_batches(data, phase, 3, arm) for _ in range(2))
    for k in (0, 1, 7):
        assert torch.equal(rival(k).ids_BT, again(k).ids_BT), "a function of (seed, k)"
        assert rival(k).digest("") == plain(k).digest("")
        assert len(rival(k).ids_BT) == len(plain(k).ids_BT)
    same_rows = torch.equal(rival(1).ids_BT, plain(1).ids_BT)
    assert same_rows == (arm == "spelling_loss")
    assert (rival(0).spelled_N is None) == (arm != "spelling_loss")


@pytest.mark.parametrize("arm", ["spelling_data", "stochastok"])
def test_a_spelling_loss_of_all_arms_is_one_of_rivals_too(data: Data, arm: str) -> None:
    data = with_values(data, spelling_loss=0.3)
    for phase in phases_of(arm, data.config):
        if phase.name in ROWS:
            plain, rival = (phase_batches(data, phase, 3, one)(1) for one in ("plain", arm))
            assert torch.equal(plain.spelled_N, rival.spelled_N)  # type: ignore[arg-type]
            # a run compares these at its end, and must not fail there
            assert rival.digest("") == plain.digest("")


def test_rows_of_a_batch_are_those_that_were_padded(data: Data) -> None:
    phase = data.config.phase("finetune")
    examples = [
        data.questions(phase.context).arrange(*data.questions(phase.context).item("x", i))
        for i in range(6)
    ]
    batch = pad_examples(examples)
    again = pad_examples(rows_of(batch))
    assert torch.equal(again.targets_BT, batch.targets_BT)
    assert torch.equal(again.keep_BT, batch.keep_BT)  # type: ignore[arg-type]
    # the end mark of the answer is only a target
    assert [row.inputs for row in rows_of(batch)] == [each.inputs[:-1] for each in examples]


def test_spelling_data_spells_the_whole_vocabulary_also_held_out_tokens(data: Data) -> None:
    tokens = SpelledTokens.of(data)
    assert data.held_out_ids
    assert data.held_out_ids <= set(tokens.ids)
    prompt, answer = tokens.draw(random.Random(0))
    token = prompt[len(tokens.before)]
    text = (data.tokenizer.spellings[token] or b"").decode().strip()
    assert data.tokenizer.decode(answer) == f" {' '.join(text)}\n"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_spelling_data_is_that_of_the_questions(data: Data, share: float) -> None:
    data = with_values(data, spelling_share=share)
    phase, spell = data.config.phase("finetune"), data.tokenizer.encode("spell")
    batch_at = phase_batches(data, phase, 0, "spelling_data")
    rows = [
        row.inputs
        for k in range(60)
        if (batch := batch_at(k)).kind == "question"
        for row in rows_of(batch)
    ]
    spelled = [row for row in rows if row[: len(spell)] == spell]
    # 432 rows: four standard deviations are 0.1
    assert abs(len(spelled) / len(rows) - share) < 0.1


def test_text_of_spellings_has_whole_rows(data: Data) -> None:
    data = with_values(data, spelling_text_share=1.0)
    batch = phase_batches(data, data.config.phase("pretrain"), 0, "spelling_data")(0)
    assert torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    assert data.tokenizer.decode(batch.ids_BT[0].tolist()).startswith("spell")


def test_random_splits_keep_the_text_and_never_show_a_held_out_token(data: Data) -> None:
    data = with_values(data, split_rate=2.0)
    phase, tokenizer = data.config.phase("finetune"), data.tokenizer
    split, plain = (phase_batches(data, phase, 0, arm) for arm in ("stochastok", "plain"))
    text = next(k for k in range(60) if plain(k).kind == "text")
    for k in (0, 1, 2):
        for ours, theirs in zip(rows_of(split(k)), rows_of(plain(k)), strict=True):
            assert tokenizer.decode(ours.inputs) == tokenizer.decode(theirs.inputs)
            assert ours.targets[ours.first :] == theirs.targets[theirs.first :]
            assert len(ours.inputs) >= len(theirs.inputs)
            assert data.held_out_ids.isdisjoint(ours.inputs)
    whole = tokenizer.decode(plain(text).ids_BT[0].tolist())
    assert whole.startswith(tokenizer.decode(split(text).ids_BT[0].tolist())[:-8])


def test_a_token_splits_into_two_tokens_of_the_vocabulary(data: Data) -> None:
    pairs, spellings = pairs_of(data.tokenizer), data.tokenizer.spellings
    assert all(
        (spellings[one] or b"") + (spellings[two] or b"") == spellings[token]
        for token, cuts in pairs.items()
        for one, two in cuts
    )
    single = [token for token, spelling in enumerate(spellings) if len(spelling or b"") == 1]
    assert not pairs.keys() & set(single)
    ids = data.tokenizer.encode(" the people of the states")
    assert split_at_random(ids, pairs, 0.0, random.Random(0)) == ids
    assert len(split_at_random(ids, pairs, 3.0, random.Random(0))) > len(ids)


def test_the_share_of_split_words_rises_with_the_rate_and_differs_from_it(data: Data) -> None:
    shares = [share_split(with_values(data, split_rate=rate), 500) for rate in (0.0, 0.3, 3.0)]
    assert shares[0] == 0 < shares[1] < shares[2] < 1


def test_words_without_tokens_do_not_end_a_finished_training(data: Data) -> None:
    class Dropping:
        """A tokenizer that drops some words, as BERT's drops control characters."""

        def __getattr__(self, name: str) -> object:
            return getattr(data.tokenizer, name)

        def encode_word(self, word: str) -> list[int]:
            if word.startswith("t"):
                raise BadInput(f"no token for {word!r}")
            return data.tokenizer.encode_word(word)

    dropping: Any = Dropping()
    assert 0 < share_split(replace(with_values(data, split_rate=0.3), tokenizer=dropping), 500) < 1


def test_a_spelled_prompt_asks_the_same_questions_with_the_letters(data: Data) -> None:
    spelled = data_of("spelled_prompt", data)
    ours, theirs = make_eval_sets(spelled, 0), make_eval_sets(data, 0)
    for one, other in zip(ours, theirs, strict=True):
        for item, plain in zip(one.items, other.items, strict=True):
            assert (item.key, item.answer) == (plain.key, plain.answer)
            letters = " ".join(word_and_arguments(item)[0])
            assert item.prompt == plain.prompt.removesuffix(":") + f" {letters}:"
    questions = [each.questions(64).item("finetune", 0, 5)[0] for each in (spelled, data)]
    assert questions[0].key == questions[1].key


def test_identities_depend_on_the_values_of_the_own_arm_alone(tiny: CompareConfig) -> None:
    def of(arm: str, **values: object) -> str:
        return identity(changed(tiny, arms=tuple(ARMS), **values), 0, arm, {})

    for name, value, owner in (
        ("spelling_share", 0.9, "spelling_data"),
        ("split_rate", 0.9, "stochastok"),
        ("spelling_weight", 0.9, "spelling_loss"),
        ("lr_factors", "lstm=2", "lstm"),
    ):
        changes = [arm for arm in ARMS if of(arm, **{name: value}) != of(arm)]
        assert changes == [owner]
    assert of("plain", first_seed=7, seeds=3) == of("plain")


def test_an_arm_has_its_own_learning_rates(tiny: CompareConfig) -> None:
    config = changed(tiny, arms=("plain", "lstm"), lr_factors="lstm=0.5")
    assert [p.lr for p in phases_of("plain", config)] == [p.lr for p in tiny.phases]
    assert [p.lr for p in phases_of("lstm", config)] == [p.lr / 2 for p in tiny.phases]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"lr_factors": "matched=0.5"}, "lr_factors matched plain, lstm"),
        ({"lr_factors": "lstm"}, "lr_factors 'lstm' matched=0.5,lstm=2"),
        ({"lr_factors": "lstm=0"}, "lr_factors 'lstm=0' above 0"),
        ({"lr_factors": "lstm=nan"}, "lr_factors 'lstm=nan' above 0"),
        ({"spelling_share": 1.5}, "spelling_share 1.5 0 to 1"),
        ({"split_rate": -1}, "split_rate -1 0 to 10"),
        ({"arms": ("plain", "spelling_loss"), "spelling_loss": 0.3}, "spelling_loss"),
        ({"arms": ("plain", "spelled_prompt"), "tasks": ("counting:3x8",)}, "spelled_prompt words"),
        ({"whole_words": 0.5, "tasks": ("counting:3x8",)}, "whole_words words"),
        ({"lr_factors": "lstm=2,lstm=3"}, "lr_factors lstm twice"),
    ],
)
def test_values_that_cannot_work_are_refused(
    tiny: CompareConfig, values: dict[str, object], seen: str
) -> None:
    with raises(ValueError, seen):
        changed(tiny, **values)


def test_every_flag_of_a_rival_reaches_the_config() -> None:
    flags = "--spelling-share 0.4 --spelling-text-share 0.1 --split-rate 0.2 --spelling-weight 0.5"
    config, _ = parse([*flags.split(), "--lr-factors", "lstm=2", "--first-seed", "5"], None)
    values = config.spelling_share, config.spelling_text_share, config.split_rate
    assert (*values, config.spelling_weight) == (0.4, 0.1, 0.2, 0.5)
    assert (config.lr_factor("lstm"), list(config.seed_range)) == (2.0, [5])


def test_rivals_are_trained_and_evaluated_beside_the_other_arms(
    cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arms = ["plain", "lstm", *RIVALS]
    flags = ["--arms", ",".join(arms), "--questions", "2", "--first-seed", "3", "--jobs", "1"]
    assert compare.main([*TINY, *flags, "--out", str(out), "--cache", str(cache)]) == 0
    rows = read_rows(out / "results.json")
    read = {row.arm: row.value for row in rows if row.metric == "prompt_tokens"}
    assert read["spelled_prompt"] > read["plain"] == read["lstm"] == read["spelling_data"]
    assert [row.arm for row in rows if row.metric == "words_split"] == ["stochastok"]
    run = Run.open(out, cache)
    assert {arm.seed for arm in run.arms()} == {3}
    assert run.arm("spelled_prompt").data.letters_in_prompts
    assert not run.arm("plain").data.letters_in_prompts
