"""Saved parts: their base, encoders that other tools changed, old files, and the hub."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

import charembed
from charembed import AttachError, CharEmbedError, CheckpointError, MismatchError
from charembed.checkpoint import TENSORS
from tests.conftest import ROOT
from tests.messages import raises
from tests.plugin.hosts import (
    GEMMA3,
    GPT2,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)
from tests.plugin.reference import PackedTwin

OLD = ROOT / "tests" / "data" / "format_1"


def moved(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(1.1).add_(0.01)
    return model.eval()


# The base that it was trained with


def other_base() -> nn.Module:
    """Return a base with one changed value in the token table."""
    model = GPT2()
    with torch.no_grad():
        GPT2.embedding(model).weight[77, 3] += 0.5
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    charembed.save(moved(GPT2.attach(GPT2(), init="normal")), tmp_path / "letters")
    return tmp_path / "letters"


def test_another_base_is_refused_and_changes_nothing(saved: Path) -> None:
    model = other_base()
    expected = logits_of(model.eval())
    with raises(MismatchError, "SHA-256 check_base=False"):
        charembed.load(model, VOCABULARY, saved)
    assert type(GPT2.embedding(model)) is nn.Embedding
    assert torch.equal(logits_of(model), expected)


def test_check_base_false_loads_it_on_another_base(saved: Path) -> None:
    model = charembed.load(other_base(), VOCABULARY, saved, check_base=False)
    ours, theirs = char_embedding(model), char_embedding(charembed.load(GPT2(), VOCABULARY, saved))
    assert torch.equal(ours.encoder(torch.arange(V)), theirs.encoder(torch.arange(V)))


@pytest.mark.parametrize("before", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("now", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_same_base_in_another_dtype_is_known_again(
    before: torch.dtype, now: torch.dtype, tmp_path: Path
) -> None:
    charembed.save(GPT2.attach(GPT2().to(before)), tmp_path)
    charembed.load(GPT2().to(now), VOCABULARY, tmp_path)
    if before != now:
        torch.manual_seed(1)
        with raises(MismatchError, "base check_base=False"):
            charembed.load(GPT2.build(True).to(now), VOCABULARY, tmp_path)


def test_an_encoder_trained_alone_is_loaded_on_the_fresh_base(tmp_path: Path) -> None:
    model = charembed.freeze_base(GPT2.attach(GPT2())).eval()
    optimizer = torch.optim.AdamW(charembed.param_groups(model, lr=1e-2))
    for _ in range(3):
        logits_and_loss(model)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    charembed.save(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(
            logits_of(charembed.load(GPT2(), VOCABULARY, tmp_path).eval()), logits_of(model)
        )


def test_a_base_without_values_yet_is_not_compared(saved: Path) -> None:
    with torch.device("meta"):
        model = GPT2.build(True)
    charembed.load(model, VOCABULARY, saved)


# NaN and infinity


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_part_that_is_not_finite_is_neither_saved_nor_loaded(value: float, saved: Path) -> None:
    model = moved(GPT2.attach(GPT2()))
    before = (saved / TENSORS).read_bytes()
    with torch.no_grad():
        charembed.parameters(model)[1][0, 0] = value
    with raises(CharEmbedError, "lstm.weight_ih_l0 finite"):
        charembed.save(model, saved)
    assert (saved / TENSORS).read_bytes() == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "isfinite", lambda tensor: torch.ones((), dtype=torch.bool))
        charembed.save(model, saved)
    with raises(CheckpointError, "lstm.weight_ih_l0 finite"):
        charembed.load(GPT2(), VOCABULARY, saved)


# Old files


def test_files_of_format_1_still_load_bit_equal() -> None:
    assert {path.name for path in OLD.iterdir()} == {TENSORS, "char_embedding.json"}
    model = charembed.load(GPT2(), VOCABULARY, OLD).eval()
    encoder = char_embedding(model).encoder
    tensors = load_file(OLD / TENSORS)
    assert tensors.keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, tensors[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(
        encoder(torch.arange(V)),
        PackedTwin(encoder)(torch.arange(V)[None])[0],
        rtol=1e-5,
        atol=1e-6,
    )
    saved = json.loads((OLD / "char_embedding.json").read_text())["config"]
    assert saved["init"] == "loud"  # the former name of "normal"
    assert encoder.config == {**saved, "init": "normal"}


def test_an_old_file_is_saved_anew_with_its_base(tmp_path: Path) -> None:
    model = charembed.load(GPT2(), VOCABULARY, OLD).eval()
    charembed.save(model, tmp_path)
    assert torch.equal(
        logits_of(charembed.load(GPT2(), VOCABULARY, tmp_path).eval()), logits_of(model)
    )
    with raises(MismatchError, "base check_base=False"):
        charembed.load(other_base(), VOCABULARY, tmp_path)


# What other tools do to an encoder


LORA: dict[str, Any] = {"r": 2, "lora_alpha": 4, "init_lora_weights": False}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", list(charembed.ENCODERS))
def test_lora_on_all_linear_layers_passes_the_encoder_by(encoder: str, tmp_path: Path) -> None:
    model = get_peft_model(
        GPT2.attach(GPT2(), encoder=encoder, init="normal"),
        LoraConfig(target_modules="all-linear", fan_in_fan_out=True, **LORA),
    )
    assert not any("lora_" in name for name, _ in model.named_modules() if ".encoder." in name)
    charembed.save(moved(model), tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path)
    ids = torch.arange(V)
    with torch.no_grad():
        assert torch.equal(
            char_embedding(again).encoder.eval()(ids), char_embedding(model).encoder(ids)
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "encoder", sorted(charembed.ENCODERS.keys() - {"bee"})
)  # it has no projection
def test_lora_on_a_part_of_an_encoder_is_refused_by_peft_or_at_saving(
    encoder: str, tmp_path: Path
) -> None:
    model = GPT2.attach(GPT2(), encoder=encoder)
    with pytest.raises((ValueError, AttachError), match=r"supported|LoRA"):
        charembed.save(
            get_peft_model(model, LoraConfig(target_modules=["projection"], **LORA)), tmp_path
        )
    assert list(tmp_path.iterdir()) == []


class Own(nn.Module):
    """A registered encoder with an ordinary linear layer, which LoRA finds."""

    def __init__(self, spellings: charembed.SpellingTable, dim: int, *, width: int = 4) -> None:
        super().__init__()
        self.spellings, self.config = spellings, {"width": width}
        self.hidden, self.out = nn.Linear(1, width), nn.Linear(width, dim)

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(self.spellings.lengths_V[ids_U].float()[:, None])))

    def update_spellings(self, spellings: charembed.SpellingTable) -> None:
        self.spellings = spellings


@pytest.mark.filterwarnings("ignore")
def test_lora_inside_an_encoder_of_ones_own_is_saved_after_merging(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(charembed.ENCODERS, "own", Own)
    model = get_peft_model(
        GPT2.attach(GPT2(), encoder="own"), LoraConfig(target_modules="all-linear", **LORA)
    ).eval()
    with raises(AttachError, "hidden. merge_and_unload"):
        charembed.save(model, tmp_path)
    merged = model.merge_and_unload()
    charembed.save(merged, tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path)
    ids = torch.arange(V)
    assert torch.equal(char_embedding(again).encoder(ids), char_embedding(merged).encoder(ids))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("host", [GPT2, GEMMA3], ids=lambda host: host.name)
def test_an_encoder_that_peft_saves_whole(host: Host, tmp_path: Path) -> None:
    target = "c_attn" if host is GPT2 else "q_proj"
    config = LoraConfig(
        target_modules=[target], fan_in_fan_out=host is GPT2, modules_to_save=["encoder"], **LORA
    )
    model = get_peft_model(host.attach(host(), init="normal"), config)
    optimizer = torch.optim.AdamW(charembed.param_groups(model, lr=1e-2))
    for _ in range(2):
        logits_and_loss(model.train())[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        expected = logits_of(model)
        charembed.save(model, tmp_path / "letters")
        model.save_pretrained(tmp_path / "adapter")
        first = PeftModel.from_pretrained(
            host.attach(host(), init="normal"), tmp_path / "adapter"
        ).eval()
        assert torch.equal(logits_of(first), expected)
        second = charembed.load(host(), VOCABULARY, tmp_path / "letters")
        ids = torch.arange(V)
        assert torch.equal(char_embedding(second).encoder(ids), char_embedding(model).encoder(ids))
        with model.disable_adapter():
            assert not torch.equal(logits_of(model), expected)
        assert torch.equal(logits_of(model), expected)
        merged = model.merge_and_unload()
        charembed.save(merged, tmp_path / "merged")
        assert (tmp_path / "merged" / TENSORS).read_bytes() != b""
        folded = logits_of(charembed.fold(merged))
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantization_passes_the_encoder_by(tmp_path: Path) -> None:
    model = moved(GPT2.attach(GPT2(), init="normal"))
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    charembed.save(quantized, tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path)
    ids = torch.arange(V)
    assert torch.equal(char_embedding(again).encoder(ids), char_embedding(model).encoder(ids))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("registered", [True, False])
def test_a_quantized_encoder_is_refused(
    registered: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if registered:
        monkeypatch.setitem(charembed.ENCODERS, "own", Own)
    model = charembed.attach(
        GPT2(), None, encoder=Own(charembed.SpellingTable.from_bytes(VOCABULARY), 16)
    )
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with raises(AttachError, "quantized fold"):
        charembed.save(quantized, tmp_path)
    assert list(tmp_path.iterdir()) == []


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake hub whose repositories are folders."""
    root = tmp_path / "hub"

    def create_repo(self: Any, repository: str, *, exist_ok: bool = False, **_: Any) -> None:
        assert exist_ok
        (root / repository).mkdir(parents=True, exist_ok=True)

    def upload_folder(self: Any, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert (root / repo_id).is_dir()
        for file in Path(folder_path).iterdir():
            (root / repo_id / file.name).write_bytes(file.read_bytes())

    def hf_hub_download(repository: str, file: str) -> str:
        assert (root / repository / file).is_file()
        return str(root / repository / file)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return root


def test_a_part_goes_to_the_hub_and_comes_back(hub: Path) -> None:
    model = moved(GPT2.attach(GPT2(), init="normal"))
    for _ in range(2):  # the second time the repository exists
        charembed.save(model, "hf:owner/letters")
    assert [file.name for file in (hub / "owner" / "letters").iterdir()] == [TENSORS]
    again = charembed.load(GPT2(), VOCABULARY, "hf:owner/letters").eval()
    assert torch.equal(logits_of(again), logits_of(model))


def test_nothing_that_is_refused_reaches_the_hub(hub: Path) -> None:
    with raises(AttachError, "one"):
        charembed.save(GPT2(), "hf:owner/letters")
    assert not hub.exists()


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: charembed.save(GPT2.attach(GPT2()), "hf:owner/name"),
        lambda: charembed.load(GPT2(), VOCABULARY, "hf:owner/name"),
    ):
        with raises(CharEmbedError, "hf: pip install huggingface_hub"):
            call()


# A fresh process


SPAWN = """
import sys, torch, torch.multiprocessing as mp
from tests.plugin.hosts import GPT2, logits_of
torch.set_num_threads(1)

def child(model, queue):
    torch.set_num_threads(1)
    with torch.no_grad():
        queue.put(logits_of(model).tolist())

if __name__ == "__main__":
    model = GPT2.attach(GPT2(), init="normal").eval()
    with torch.no_grad():
        expected = logits_of(model).tolist()
    context = mp.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(model, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    print(found == expected)
"""


@pytest.mark.slow  # for the imports of two processes
def test_a_spawned_process_gets_the_encoder_too(tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWN)
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_saving_does_not_change_or_warn(host: Host, tmp_path: Path) -> None:
    model: Any = host.attach(host(), init="normal")
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charembed.save(model, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
