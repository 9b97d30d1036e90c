"""The arms: their shared weights, their inputs, and the updates of their parameters."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import charembed
from charembed import ENCODERS, SpellingTable
from tests.conftest import ROOT
from tests.laboratory.test_training import PHASE, small_model
from tests.messages import raises, says
from training.config.flags import changed
from training.config.presets import preset
from training.models.arms import (
    ARMS,
    Parts,
    arm_names,
    import_path,
    in_unit,
    is_added,
    num_parameters,
    num_parameters_after_fold,
)
from training.run.build import assert_paired, build_arm
from training.train.kinds import build_optimizers


def test_the_parents_models_have_895104_parameters_each(cache: Path) -> None:
    config = preset("parent")
    printable = [character.encode() for character in string.printable]
    merges = [(a + b).encode() for a in string.ascii_letters for b in string.ascii_letters][:412]
    table = SpellingTable.from_bytes(printable + merges)
    models = {arm: build_arm(config, arm, 0, table) for arm in ("matched", "lstm")}
    assert {arm: num_parameters(model) for arm, model in models.items()} == {
        "matched": 895_104,
        "lstm": 895_104,
    }
    assert models["matched"].get_parameter("wte.encoder.table.weight").shape == (512, 252)


def test_arms_begin_alike_and_a_difference_is_caught() -> None:
    models = {arm: small_model(5, arm=arm) for arm in ARMS}
    assert_paired(models.items())
    with torch.no_grad():
        models["lstm"].get_parameter("blocks.0.ln_1.weight")[0] += 1e-6
    with raises(AssertionError, "blocks.0.ln_1.weight"):
        assert_paired(models.items())


def test_matched_has_about_as_many_parameters() -> None:
    table = SpellingTable.from_bytes(
        [bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676]) for i in range(4096)]
    )
    sizes = {
        arm: num_parameters(build_arm(preset("quick"), arm, 0, table))
        for arm in ("matched", "lstm")
    }
    assert abs(sizes["matched"] / sizes["lstm"] - 1) < 0.005


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("tie", [False, True])
def test_parameters_after_folding_are_counted_without_folding(arm: str, tie: bool) -> None:
    model = small_model(arm=arm)
    if tie:
        model.get_submodule("lm_head").weight = model.get_submodule("wte").weight
    counted = num_parameters_after_fold(model)
    assert counted == num_parameters(charembed.fold(model))


@pytest.mark.parametrize(
    ("arm", "alike"),
    [("length", [b"th", b"of"]), ("first", [b" tea", b"to"]), ("first", [b"tea", b"to"])],
)
def test_controls_see_what_they_say_and_no_more(arm: str, alike: list[bytes]) -> None:
    table = SpellingTable.from_bytes([*alike, b"xylophone", None])
    config = changed(preset("tiny"), vocab_size=4, context=24)
    encoder = build_arm(config, arm, 0, table).get_submodule("wte.encoder")
    one, two, other, special = encoder(torch.arange(4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert special.count_nonzero() == 0


def test_the_random_control_learns_its_projection_alone() -> None:
    encoder = small_model(arm="random").get_submodule("wte.encoder")
    assert {name for name, _ in encoder.named_parameters()} == {
        "projection.weight",
        "projection.bias",
    }
    assert len(encoder(torch.arange(50)).unique(dim=0)) == 50


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("decay", ["inner", "all"])
def test_every_parameter_has_one_optimizer(kind: str, decay: str) -> None:
    model = small_model()
    optimizers = build_optimizers(
        model,
        replace(PHASE, optimizer=kind, lr=1.0, char_lr_factor=0.5, weight_decay=0.1, decay=decay),
    )
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(
        id(p) for p in model.parameters()
    )
    assert {group["name"]: group["lr"] for group in groups}["char"] == 0.5
    decayed = {group["name"]: group["weight_decay"] for group in groups if group["weight_decay"]}
    assert decayed == dict.fromkeys(
        ["inner"] if decay == "inner" else ["inner", "base", "base_vectors", "char"], 0.1
    )


def test_spellings_in_bytes_are_those_of_the_tokens() -> None:
    tokens = [b"caf\xc3\xa9", b"\xc3", b"\xf0\x9f\x8d", None, b" a"]
    ours = in_unit(SpellingTable.from_bytes(tokens), "byte")
    assert ours.fingerprint == SpellingTable.from_bytes(tokens, "byte").fingerprint


VOWELS = """
import sys

import torch
from charembed import ENCODERS
from charembed.encoders import BagEncoder
from torch import Tensor


class Vowels(BagEncoder):
    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.token_chars.of(ids_U)
        vowels = [self.spellings.alphabet.index(ord(vowel)) for vowel in "aeiou"]
        chars_UCE = self.chars.weight[chars_UC]
        seen_UC = real_UC & torch.isin(chars_UC, torch.tensor(vowels))
        return self.projection((chars_UCE * seen_UC[..., None]).sum(1))


ENCODERS["vowels"] = Vowels
from training.compare import main

sys.exit(main(sys.argv[1:]))
"""


def test_an_added_encoder_is_an_arm_without_a_second_edit(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "vowels.py").write_text(VOWELS)
    flags = [
        "--preset",
        "tiny",
        "--arms",
        "plain,vowels",
        "--questions",
        "2",
        "--jobs",
        "2",
        "--cpu",
    ]
    command = [sys.executable, str(tmp_path / "vowels.py"), *flags, "--quiet"]
    out = tmp_path / "run"
    done = subprocess.run(
        [*command, "--out", str(out), "--cache", str(cache)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    says(done.stderr, "vowels --jobs")  # a process of its own would not have the arm
    page = (out / "report.html").read_text()
    assert "the characters of each token, encoded by vowels" in page
    assert ARMS.get("vowels") is None, "it was added in that process alone"


@pytest.mark.slow
def test_an_encoder_of_a_module_is_an_arm_in_processes_of_its_own(
    cache: Path, tmp_path: Path
) -> None:
    definition, rest = VOWELS.split('ENCODERS["vowels"]')
    (tmp_path / "my_encoders.py").write_text(definition)
    script = f'import my_encoders\nfrom charembed import ENCODERS\nENCODERS["vowels"]{rest}'
    script = script.replace("= Vowels", "= my_encoders.Vowels").replace(
        "import my", "import sys, my", 1
    )
    (tmp_path / "script.py").write_text(script)
    flags = "--preset tiny --arms plain,vowels --questions 2 --cpu --quiet"
    for jobs in ("1", "2"):
        places = ["--jobs", jobs, "--out", str(tmp_path / jobs), "--cache", str(cache)]
        done = subprocess.run(
            [sys.executable, str(tmp_path / "script.py"), *flags.split(), *places],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    one, two = (
        load_file(tmp_path / jobs / "seed0" / "vowels" / "finetune.safetensors") for jobs in "12"
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_replaced_encoder_is_the_one_that_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(ENCODERS["lstm"]):  # type: ignore[misc]
        pass

    monkeypatch.setitem(ENCODERS, "lstm", Mine)
    monkeypatch.setitem(ENCODERS, "gru", Mine)
    table = SpellingTable.from_bytes([b"ab", b"ba", None])
    parts = Parts(spellings=table, dim=4, char_dim=4, hidden_size=4, init="normal", seed=0)
    for name in ("lstm", "gru", "shuffled"):
        assert type(ARMS[name].build(parts)) is Mine
    assert [name for name in arm_names() if is_added(name)] == [
        "matched",
        "shuffled",
        "lstm",
        "gru",
        "again",
    ]
    assert not import_path("lstm")  # local to this function


@pytest.mark.parametrize("name", ["first", "plain", "shuffled"])
def test_an_encoder_with_the_name_of_another_arm_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, name, ENCODERS["bag"])
    with raises(ValueError, f"{name} charembed.ENCODERS name"):
        changed(preset("tiny"), arms=("lstm", name))


def test_an_added_encoder_takes_the_sizes_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "wide", lambda spellings, dim, char_dim: nn.Linear(char_dim, dim))
    config = changed(preset("tiny"), arms=("plain", "wide"))
    assert {name: ARMS[name].colour for name in arm_names()}["wide"].startswith("#")
    table = SpellingTable.from_bytes([b"ab", None])
    made = ARMS["wide"].build(
        Parts(
            spellings=table,
            dim=4,
            char_dim=config.model.char_dim,
            hidden_size=8,
            init="normal",
            seed=0,
        )
    )
    assert made is not None
    assert made.get_parameter("weight").shape == (4, 16)
    with raises(ValueError, "arms narrow wide"):
        changed(preset("tiny"), arms=("plain", "narrow"))
