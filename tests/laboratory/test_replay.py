"""Replay: text between the questions, to keep the model's predictions of text."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from tests.laboratory.pretrained import ROWS, llama, save, train_tokenizer
from tests.laboratory.runs import finish, losses, numbers, start
from tests.laboratory.test_faults import some_steps, wait_until
from tests.laboratory.test_training import in_phase, small_model
from tests.messages import raises
from training.config.config import CompareConfig
from training.config.flags import changed, parse
from training.config.phase import Phase
from training.data.batches import Batch, text_batches
from training.data.corpus import load_corpus
from training.data.prepare import prepare
from training.data.replay import ROWS as ROWS_WRITTEN
from training.data.replay import TOKENS, base_samples, with_other_tokens
from training.errors import BadInput, Damaged
from training.files import read_tensors, write_tensors
from training.models.huggingface import HuggingFace
from training.run.machine import memory_needed, size_of
from training.run.run import Run
from training.train.kinds import phase_batches
from training.train.loop import take_step
from training.train.loss import Learner, divergence

SAME = ["--steps", "0", "--replay-share", "0.5", "--replay-target", "base", "--precision", "fp32"]
OWN = ["--replay-text", "base", "--replay-weight", "3"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(load_corpus("sotu").train[:1_000_000])
    return save(tmp_path_factory.mktemp("pretrained") / "llama", llama(), tokenizer)


def text_steps(out: Path) -> list[float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row["loss_nats"] for row in rows if row["kind"] == "text"]


def another() -> HuggingFace:
    torch.manual_seed(1)
    return HuggingFace(llama())


def test_the_divergence_is_what_the_definition_says() -> None:
    model, base = another(), HuggingFace(llama())
    ids_BT = torch.randint(ROWS, (2, 7))
    with torch.no_grad():
        for head in (model.model.lm_head, base.model.lm_head):
            head.weight.mul_(20)  # far from even
        expected = 0.0
        for said_V, truth_V in zip(
            model(ids_BT).flatten(0, 1), base(ids_BT).flatten(0, 1), strict=True
        ):
            p_V = F.softmax(truth_V.double(), -1)
            expected += float((p_V * (p_V / F.softmax(said_V.double(), -1)).log()).sum())
        assert float(divergence(model, base, ids_BT)) == pytest.approx(expected, rel=1e-4)
        assert float(divergence(base, base, ids_BT)) == 0


def test_the_base_is_no_part_of_what_is_trained() -> None:
    model, base = another(), HuggingFace(llama()).eval()
    learner = Learner(model, None, base)
    ids_BT = torch.randint(ROWS, (2, 7))
    learner(ids_BT, ids_BT, None, None)[0].backward()
    assert all(parameter.grad is None for parameter in base.parameters())
    assert {id(p) for p in learner.parameters()} == {id(p) for p in model.parameters()}
    keep_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    with torch.no_grad():
        question, _ = learner(ids_BT, ids_BT, keep_BT, None)
        expected = F.cross_entropy(model(ids_BT).flatten(0, 1), ids_BT.flatten(), reduction="sum")
    assert float(question) == pytest.approx(float(expected), rel=1e-5)


def test_a_model_that_does_not_move_says_what_the_base_says(
    pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    flags = ["--model", pretrained, *SAME, "--arms", "plain,lstm", "--finetune-lr", "0"]
    finish(*flags, "--out", tmp_path / "run", "--cache", cache)
    plain, letters = text_steps(tmp_path / "run")[:5], text_steps(tmp_path / "run")[5:]
    assert plain == [0.0] * 5
    assert min(letters) > 1e-6, "the base has no letters"
    assert "distil the pretrained model" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow  # test_faults.py interrupts runs without a base by default
def test_interrupted_it_goes_on_with_the_same_base(
    pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    flags: list[Any] = [
        "--model",
        pretrained,
        *SAME,
        *OWN,
        "--arms",
        "lstm",
        "--finetune-steps",
        "24",
    ]
    finish(*flags, "--out", tmp_path / "whole", "--cache", cache)
    with safe_open(
        next((tmp_path / "whole").glob("seed*/lstm/finetune.safetensors")), "pt"
    ) as saved:
        assert sum("embed_tokens.weight" in name for name in saved.keys()) == 1  # noqa: SIM118  # not a dict
    out = tmp_path / "stopped"
    flags += ["--save-every", "5", "--out", out, "--cache", cache]
    process = start(*flags)
    wait_until(lambda: some_steps(out), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode != 0, "it was too quick to be stopped"
    finish(*flags, "--resume")
    assert numbers(out) == numbers(tmp_path / "whole")
    assert losses(out) == losses(tmp_path / "whole")


def test_every_second_row_has_other_tokens_and_the_rest_is_the_text() -> None:
    text, others = text_batches(torch.arange(100), 6, 40, "text"), torch.arange(1000, 1100)
    replay = with_other_tokens(text, others, "replay", 0)
    for k in range(3):
        before, after = text(k), replay(k)
        assert torch.equal(after.ids_BT[::2], before.ids_BT[::2])
        assert torch.equal(after.targets_BT, before.targets_BT)
        replaced = after.ids_BT[1::2] != before.ids_BT[1::2]
        assert 0.3 < float(replaced.float().mean()) < 0.7
        assert int(after.ids_BT[1::2][replaced].min()) >= 1000
        assert torch.equal(after.ids_BT, replay(k).ids_BT)
    assert not torch.equal(replay(0).ids_BT, replay(1).ids_BT)


def test_the_base_needs_room_and_a_pretrained_model(tiny: CompareConfig, pretrained: Path) -> None:
    with raises(BadInput, "replay_target base"):
        changed(tiny, replay_target="base")
    with raises(BadInput, "replay_text base corpus"):
        changed(tiny, replay_text="base")
    with raises(BadInput, "replay_text both corpus"):
        changed(tiny, replay_text="both")
    with raises(BadInput, "replay_target nonsense"):
        changed(tiny, replay_target="nonsense")
    with raises(BadInput, "replay_weight -1"):
        changed(tiny, replay_weight=-1.0)
    config, _ = parse(
        ["--preset", "smollm2", "--model", str(pretrained), "--replay-target", "text"], None
    )
    size = size_of(config)
    more = memory_needed(changed(config, replay_target="base"), size, 2) - memory_needed(
        config, size, 2
    )
    assert more == 2 * 4 * size.parameters


def test_the_base_draws_text_from_its_own_distribution(tmp_path: Path) -> None:
    model = llama(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.mul_(25)  # sure of some tokens, and not of one alone
    first_L = torch.arange(5, 500)
    folder = str(save(tmp_path / "sure", model, None))
    written = base_samples(folder, first_L, tmp_path / "cache")
    ids_BT = written.long().view(ROWS_WRITTEN, TOKENS)
    assert set(ids_BT[:, 0].tolist()) <= set(first_L.tolist())
    assert len(set(ids_BT[:, 0].tolist())) > 100
    with torch.no_grad():
        said_BTV = model(ids_BT[:, :-1]).logits.float().log_softmax(-1)
    said_BTV[:, :, 0] = -torch.inf  # its end of the text, which must not come early
    said_BTV = said_BTV.log_softmax(-1)
    entropy = -(said_BTV.exp() * said_BTV.clamp(min=-1e4)).sum(-1)
    nats = -said_BTV.gather(-1, ids_BT[:, 1:, None]).squeeze(-1)
    assert 0.5 < float(entropy.mean()) < 5.5, "neither one choice nor all"
    assert float(nats.mean()) == pytest.approx(float(entropy.mean()), abs=0.05)  # 6 standard errors


def test_what_the_base_wrote_is_kept_and_belongs_to_its_weights(tmp_path: Path) -> None:
    first_L, cache = torch.arange(5, 500), tmp_path / "cache"
    folder = save(tmp_path / "one", llama(max_position_embeddings=20), None)
    before = torch.random.get_rng_state()
    written = base_samples(str(folder), first_L, cache)
    assert torch.equal(torch.random.get_rng_state(), before), (
        "no other numbers are drawn than without it"
    )
    assert written.shape == (ROWS_WRITTEN * 20,), "as much as the model reads"
    (file,) = cache.iterdir()
    made = file.stat().st_mtime_ns
    assert torch.equal(base_samples(str(folder), first_L, cache), written)
    assert file.stat().st_mtime_ns == made
    file.unlink()
    assert torch.equal(base_samples(str(folder), first_L, cache), written), (
        "made again, it is the same"
    )
    other = llama(max_position_embeddings=20)
    with torch.no_grad():
        other.model.norm.weight.mul_(2)
    base_samples(str(save(tmp_path / "two", other, None)), first_L, cache)
    assert len(list(cache.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:-8])
    with raises(Damaged, "delete"):
        base_samples(str(folder), first_L, cache)


def test_a_run_keeps_the_text_that_it_replays(
    pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    """Another machine or an empty cache may sample other text from the same model."""
    out, elsewhere = tmp_path / "run", tmp_path / "cache"
    elsewhere.mkdir()
    for path in cache.glob("text-*"):
        shutil.copy(path, elsewhere)
    flags: list[Any] = [
        "--model",
        pretrained,
        *SAME,
        *OWN,
        "--arms",
        "lstm",
        "--out",
        out,
        "--cache",
        elsewhere,
    ]
    finish(*flags)
    before = Run.open(out, elsewhere).data
    (drawn,) = elsewhere.glob("base-text-*")
    tensors, facts = read_tensors(drawn)
    write_tensors(drawn, {"written": tensors["written"].flip(0)}, facts)
    data = Run.open(out, elsewhere).data
    assert torch.equal(data.base_ids, before.base_ids)
    assert data.facts != prepare(data.config, elsewhere).facts
    made = (out / "results.json").read_bytes()
    finish(*flags, "--resume")
    assert (out / "results.json").read_bytes() == made


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_a_step_with_text_counts_as_much_as_it_is_told(tmp_path: Path, clip: float) -> None:
    ids = torch.arange(1000) * 7 % 50

    def moved(weight: float, kind: str) -> torch.Tensor:
        """Return the change of the weights by one SGD step, which is the gradient."""
        phase = Phase(
            name="finetune",
            kind="question",
            title="",
            clip=clip,
            warmup=0,
            replay_share=0.5,
            replay_weight=weight,
        )
        batch = replace(text_batches(ids, 4, 8, 0)(0), kind=kind)
        model = small_model()
        training = in_phase(model, lambda k: batch, tmp_path, phase)
        before = parameters_to_vector(model.parameters()).detach()
        take_step(training, Learner(model, None), [torch.optim.SGD(model.parameters(), lr=1.0)])
        return parameters_to_vector(model.parameters()).detach() - before

    once = moved(1, "text")
    torch.testing.assert_close(moved(3, "text"), 3 * once, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved(3, "question"), once, rtol=1e-3, atol=1e-6)
    if clip:
        assert float(once.norm()) == pytest.approx(clip, rel=1e-2)


def test_a_run_replays_what_the_base_wrote(pretrained: Path, cache: Path) -> None:
    flags = [
        "--other-corpus",
        "none",
        "--model",
        str(pretrained),
        *SAME,
        *OWN,
    ]  # the preset's is a package
    config, _ = parse(["--preset", "smollm2", *flags], None)
    data = prepare(config, cache)

    def batch_at(k: int, replay_text: str) -> Batch:
        told = changed(config, replay_text=replay_text)
        return phase_batches(replace(data, config=told), told.phase("finetune"), 0)(k)

    for unused in ({"replay_share": 0.0}, {"finetune_steps": 0}):
        assert not len(prepare(changed(config, **unused), cache).base_ids), "written for nothing"
    batch = batch_at(1, "base")
    assert batch.kind == "text"
    windows = data.base_ids.unfold(0, config.text.context, 1)
    assert all((windows == row).all(1).any() for row in batch.ids_BT)
    torch.testing.assert_close(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    for k, replay_text in ((1, "corpus"), (3, "base"), (5, "corpus")):
        assert torch.equal(batch_at(k, "both").ids_BT, batch_at(k, replay_text).ids_BT)
        assert torch.equal(batch_at(k, "both").targets_BT, batch_at(k, replay_text).targets_BT)
    assert data.facts["base_text_sha256"] != prepare(
        changed(config, replay_text="corpus"), cache
    ).facts.get("base_text_sha256")
