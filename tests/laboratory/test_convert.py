"""A weight file in the parent project's format, with its shapes and one attention head a module."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charembed import SpellingTable
from examples.parent import ask as ask_parent
from examples.parent.convert import converted, main
from tests.messages import raises, says
from tests.plugin.reference import PackedTwin
from training.config.presets import preset
from training.files import read_tensors
from training.models.language_model import LanguageModel
from training.run.build import build_arm
from training.train.state import load_parameters

TOKENS = [c.encode() for c in string.printable[:99]] + [
    (a + b).encode() for a in string.ascii_letters for b in string.ascii_letters
][:413]
ALPHABET = [*sorted(map(ord, string.printable[:99])), ord("§")]  # the last one stands in no token


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


class Head(nn.Module):
    def __init__(self, width: int, size: int, context: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (linear(width, size, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(context, context)))

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v, T = self.query(x_BTD), self.key(x_BTD), self.value(x_BTD), x_BTD.shape[1]
        scores_BTT = (q @ k.transpose(1, 2) * k.shape[-1] ** -0.5).masked_fill(
            self.tril[:T, :T] == 0, -torch.inf
        )
        return scores_BTT.softmax(-1) @ v


class Block(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, width // 4, context) for _ in range(4))
        self.out, self.up, self.down = (
            linear(width, width),
            linear(width, 4 * width),
            linear(4 * width, width),
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.out(
            torch.cat([head(self.norm1(x_BTD)) for head in self.heads], dim=-1)
        )
        return x_BTD + self.down(F.relu(self.up(self.norm2(x_BTD))))


class Parent(nn.Module):
    """The parent project's model in outline, with `letters` or the second table."""

    def __init__(self, letters: bool, width: int = 128, context: int = 64) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(512, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Block(width, context) for _ in range(3)))
        self.last_norm, self.output = nn.LayerNorm(width), linear(width, 512)
        self.extra = nn.Embedding(100, 128) if letters else nn.Embedding(512, 252)
        if letters:
            self.recurrent = nn.LSTM(128, 128, batch_first=True)
        self.to_model = linear(128 if letters else 252, width)

    def forward(self, ids_BT: Tensor, added_BTD: Tensor) -> Tensor:
        x_BTD = self.tokens(ids_BT) + added_BTD + self.positions(torch.arange(ids_BT.shape[1]))
        return self.output(self.last_norm(self.layers(x_BTD)))


def file_of(letters: bool, folder: Path) -> tuple[Parent, Path]:
    torch.manual_seed(0)
    parent = Parent(letters)
    torch.save(parent.state_dict(), folder / "his.pt")
    return parent, folder / "his.pt"


def arm(name: str) -> LanguageModel:
    return build_arm(
        preset("parent"), name, 0, SpellingTable.from_bytes(TOKENS, alphabet=ALPHABET)
    ).eval()


@pytest.mark.parametrize("name", ["lstm", "matched"])
@torch.no_grad()
def test_a_converted_file_computes_what_the_parent_computed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent, path = file_of(name == "lstm", tmp_path)
    assert main([str(path), "--out", str(tmp_path / "ours")]) == 0
    says(capsys.readouterr().out, f"{name} 895,104 512 128 64")
    tensors, facts = read_tensors(tmp_path / "ours" / "model.safetensors")
    model = arm(name)
    load_parameters(model, tensors, path)
    assert facts["arm"] == name
    ids_BT = torch.randint(512, (4, 64))
    encoder = model.get_submodule("wte.encoder")
    extra = (
        PackedTwin(encoder) if name == "lstm" else lambda ids: parent.to_model(parent.extra(ids))
    )
    added_BTD = extra(ids_BT)
    torch.testing.assert_close(model(ids_BT), parent(ids_BT, added_BTD), rtol=1e-4, atol=1e-5)


def test_what_is_not_told_for_sure_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = Parent(True).state_dict()
    for change, message in (
        ({"positions.weight": None}, "0"),
        ({"layers.1.heads.2.key.weight": None}, "1 128"),
        (
            {"layers.0.more.weight": torch.ones(3), "layers.0.more.bias": torch.ones(3)},
            "0 3",
        ),
        (
            {"spare.weight": torch.ones(7, 7), "spare.bias": torch.ones(7)},
            "2",
        ),
        ({"odd.gain": torch.ones(7)}, "odd"),
    ):
        changed = {
            name: tensor for name, tensor in {**state, **change}.items() if tensor is not None
        }
        with raises(ValueError, message):
            converted(changed)
    torch.save(Parent(True), tmp_path / "whole.pt")
    (tmp_path / "empty.pt").touch()
    for path, message in (
        (tmp_path / "empty.pt", "EOFError"),
        (tmp_path / "whole.pt", "tensors"),
        (tmp_path / "nothing.pt", "file"),
    ):
        assert main([str(path), "--out", str(tmp_path / "ours")]) == 2
        says(capsys.readouterr().err, message)
    assert not (tmp_path / "ours").exists()
    torch.save(state, tmp_path / "state.pt")
    assert main([str(tmp_path / "state.pt"), "--out", str(tmp_path / "empty.pt" / "ours")]) == 2
    says(capsys.readouterr().err, "empty.pt")
    tokens = ["--tokens", str(tmp_path / "tokens.json")]
    (tmp_path / "tokens.json").write_bytes(b"\xff")
    for flags, message in (
        (tokens, "tokens.json UTF-8 0 0xff"),
        (["--tokens", str(tmp_path)], "directory"),
        ([*tokens, "--questions", "0"], "--questions 0 1"),
    ):
        assert ask_parent.main([str(tmp_path / "state.pt"), *flags]) == 2
        says(capsys.readouterr().err, message)
    others = [token.decode().replace("e", "☃") for token in TOKENS]
    (tmp_path / "tokens.json").write_text(json.dumps(others))
    assert ask_parent.main([str(tmp_path / "state.pt"), *tokens]) == 2
    says(capsys.readouterr().err, "tokens e")
    (tmp_path / "tokens.json").write_text("[")
    assert ask_parent.main([str(tmp_path / "state.pt"), *tokens]) == 2
    says(capsys.readouterr().err, "JSON")


@pytest.mark.parametrize("name", ["lstm", "matched"])
def test_a_parents_file_is_asked_the_questions(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = file_of(name == "lstm", tmp_path)
    (tmp_path / "tokens.json").write_text(json.dumps([token.decode() for token in TOKENS]))
    flags = [str(path), "--tokens", str(tmp_path / "tokens.json"), "--questions", "4"]
    assert ask_parent.main(flags) == 0
    shown = capsys.readouterr().out
    says(shown, f"{name} 512")
    for task in ("reverse", "count", "index", "swap"):
        assert re.search(rf"{task}: 0\.00 \(0\.00 to 0\.\d\d\), n = [1-4], majority", shown)
    (tmp_path / "tokens.json").write_text(json.dumps(["a", "b"]))
    assert ask_parent.main(flags) == 2
    says(capsys.readouterr().err, "512 2")
    (tmp_path / "tokens.json").write_text("{}")
    assert ask_parent.main(flags) == 2
    says(capsys.readouterr().err, "list")
