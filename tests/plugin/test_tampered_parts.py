"""A part whose manifest or tensors were changed and signed again is refused, or loads as it is."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import charembed
from charembed import CheckpointError, MismatchError
from charembed.checkpoint import TENSORS
from charembed.files import hash_tensors
from charembed.manifest import hash_manifest
from tests.messages import raises
from tests.plugin.hosts import GPT2, IDS, SMALL, TABLE, VOCABULARY, V, char_embedding, logits_of

Manifest = dict[str, Any]
KINDS: list[Any] = [
    "lstm",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cnn", "transformer", "bee")),
]
# One of every type of JSON, and values that are wrong in other ways.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**40,
    10**19,
    10**400,
    0.5,
    -0.0,
    1e40,
    float("nan"),
    float("inf"),
    "",
    "x",
    "lstm",
    "../..",
    "\udcff\x00",
    "a" * 100_000,
    [],
    [None],
    [True],
    [1],
    [1, 1],
    [-1],
    [0.5],
    ["a"],
    [10**30],
    [[1]],
    list(range(3000)),
    {},
    {"a": 1},
    {"": {}},
]


def deep(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def signed(folder: Path, tensors: dict[str, Tensor], manifest: Manifest) -> Path:
    """Write a part with hashes that fit its content."""
    manifest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    if isinstance(manifest.get("tensors_sha256"), str):
        manifest["tensors_sha256"] = hash_tensors(tensors)
    manifest["manifest_sha256"] = hash_manifest(manifest)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / TENSORS, metadata={"manifest": json.dumps(manifest)})
    return folder


class Part:
    """A saved part, and a base to load changed ones onto."""

    def __init__(self, folder: Path, kind: str) -> None:
        model = GPT2.attach(GPT2(), encoder=kind, init="normal", **SMALL[kind])
        charembed.set_scale(model, 0.5) if kind == "lstm" else None
        charembed.save(model, folder / "saved")
        file = folder / "saved" / TENSORS
        self.folder, self.tensors = folder, load_file(file)
        with safe_open(file, framework="pt") as opened:
            self.manifest: Manifest = json.loads(opened.metadata()["manifest"])
        self.base: Any = GPT2().eval()
        self.before = {name: value.clone() for name, value in self.base.state_dict().items()}
        self.modules = dict(self.base.named_modules())

    def loads(self, tensors: dict[str, Tensor] | None = None, **changes: Any) -> bool:
        """Load a changed part; return whether it was accepted. Only two errors are allowed."""
        part = signed(
            self.folder / "changed",
            self.tensors if tensors is None else tensors,
            copy.deepcopy(self.manifest) | changes,
        )
        random = torch.get_rng_state()
        try:
            charembed.load(self.base, VOCABULARY, part)
        except (CheckpointError, MismatchError) as error:
            accepted, message = False, str(error)
        else:
            accepted, message = True, ""
            with torch.no_grad():
                assert torch.isfinite(logits_of(self.base)).all()
            charembed.detach(self.base)
        assert len(message) < 1_000
        assert torch.equal(torch.get_rng_state(), random)
        assert dict(self.base.named_modules()) == self.modules
        assert type(GPT2.embedding(self.base)) is nn.Embedding
        for name, value in self.base.state_dict().items():
            assert torch.equal(value, self.before[name]), name
        return accepted


@pytest.fixture(scope="module", params=KINDS)
def part(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Part:
    return Part(tmp_path_factory.mktemp(request.param), request.param)


def test_the_untouched_part_loads(part: Part) -> None:
    assert part.loads()


# Keys whose value `load` does not use, or for which another valid value is no error.
FREE = {"charembed", "model", "module", "class", "manifest_sha256"}


def test_no_value_of_the_manifest_ends_in_another_error(part: Part) -> None:
    for key in part.manifest:
        for value in [*VALUES, deep(50), deep(900)]:
            accepted = part.loads(**{key: value})
            same = type(value) is type(part.manifest[key]) and value == part.manifest[key]
            if key not in FREE and accepted and not same:
                assert (key, type(value)) in {
                    ("loudness", type(None)),
                    ("loudness", int),
                    ("loudness", float),
                    ("tensors_sha256", str),  # signed again
                    ("format", int),  # format 1 has a subset of the keys
                } or (key == "config" and value == {}), (key, value)  # the defaults


def test_a_negative_factor_is_no_other_error(part: Part) -> None:
    for factor in (-1, -0.5, -(10**30)):
        assert not part.loads(loudness=factor)


def test_a_missing_key_is_no_other_error(part: Part) -> None:
    whole = part.manifest
    for key in whole:
        part.manifest = {name: value for name, value in whole.items() if name != key}
        try:
            free = {"charembed", "model", "base", "manifest_sha256"}
            if whole["loudness"] is None:
                free.add("loudness")
            assert part.loads() == (key in free), key
        finally:
            part.manifest = whole


def test_no_value_inside_the_manifest_ends_in_another_error(part: Part) -> None:
    for outer in ("config", "base"):
        for key in part.manifest[outer]:
            for value in [*VALUES, deep(50)]:
                changed = part.manifest[outer] | {key: value}
                accepted = part.loads(**{outer: changed})
                if accepted and outer == "config":
                    assert key in {"seed", "max_chars", "init", "heads"}, (key, value)
                    assert not isinstance(value, bool | float | list | dict), (key, value)
        for key in ("device", "spellings", "dim", "self", "", "x"):
            accepted = part.loads(**{outer: part.manifest[outer] | {key: 1}})
            assert accepted == (outer == "base"), key
    for size in (2**31, 10**9, 10**12, 10**18, 2**62, 2**63, 10**19):
        for key in part.manifest["config"]:
            part.loads(config=part.manifest["config"] | {key: size})
    for position in (0, 7):
        for value in VALUES:
            for outer, inner in (("base", "sample"), ("alphabet", None)):
                items = list(part.manifest[outer][inner] if inner else part.manifest[outer])
                if items[position] == value:
                    continue
                items[position] = value
                changed = part.manifest[outer] | {inner: items} if inner else items
                accepted = part.loads(**{outer: changed})
                assert not accepted or (isinstance(value, int | float) and inner), (outer, value)


FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DTYPES = [
    *FLOATS,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def test_no_tensor_of_another_dtype_ends_in_another_error(part: Part) -> None:
    for dtype in DTYPES:
        for name, tensor in part.tensors.items():
            assert part.loads(part.tensors | {name: tensor.to(dtype)}) == (dtype in FLOATS)
        changed = {name: tensor.to(dtype) for name, tensor in part.tensors.items()}
        assert part.loads(changed) == (dtype in FLOATS)


def test_no_tensor_of_another_shape_ends_in_another_error(part: Part) -> None:
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda tensor: tensor[None],
        lambda tensor: tensor.flatten()[:0],
        lambda tensor: tensor.flatten()[:-1].clone(),
        lambda tensor: tensor.flatten().repeat(2),
        lambda tensor: torch.zeros(()),
        lambda tensor: torch.zeros(0, 2**30),
    ]
    for name, tensor in part.tensors.items():
        for change in changes:
            changed = change(tensor)
            assert part.loads(part.tensors | {name: changed}) == (changed.shape == tensor.shape)
        for bad in (float("nan"), float("inf")):
            assert not part.loads(part.tensors | {name: torch.full_like(tensor, bad)})
        assert not part.loads({key: value for key, value in part.tensors.items() if key != name})
        assert not part.loads(part.tensors | {f"{name}x": tensor.clone()})
    assert not part.loads({})


def test_a_part_of_several_dtypes_works_on_a_half_precision_base(tmp_path: Path) -> None:
    part = Part(tmp_path, "lstm")
    for dtype in FLOATS:
        name = "projection.weight"
        folder = signed(
            tmp_path / "mixed", part.tensors | {name: part.tensors[name].to(dtype)}, part.manifest
        )
        model = charembed.load(GPT2().bfloat16().eval(), TABLE, folder, check_base=False)
        assert torch.isfinite(logits_of(model)).all()
        assert len({parameter.dtype for parameter in charembed.parameters(model)}) == 1


class Odd(nn.Module):
    """An encoder of the user's own, with buffers of several dtypes."""

    def __init__(self, spellings: Any, dim: int, *, size: int = 4) -> None:
        super().__init__()
        if size > 100:
            raise ZeroDivisionError("a class may raise anything")
        self.spellings, self.config = spellings, {"size": size}
        self.rows = nn.Parameter(torch.linspace(-1, 1, V * dim).view(V, dim))
        self.register_buffer("codes", torch.arange(V))
        self.register_buffer("mask", torch.ones(V, dtype=torch.bool))

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.rows[self.codes[ids_U]] * self.mask[ids_U, None]


def test_an_encoder_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(charembed.ENCODERS, "odd", Odd)
    monkeypatch.setitem(SMALL, "odd", {})
    monkeypatch.setattr(GPT2.__class__, "attach", lambda self, model, **kwargs: own(model))

    def own(model: nn.Module) -> nn.Module:
        return charembed.attach(model, TABLE, encoder="odd")

    part = Part(tmp_path, "odd")
    assert part.loads()
    assert part.loads(config={"size": 5})
    assert not part.loads(loudness=1.0)
    for value in VALUES:
        part.loads(config={"size": value})
        part.loads(config=value)
    for name, tensor in part.tensors.items():
        for dtype in DTYPES:
            fits = dtype in FLOATS if name == "rows" else dtype is tensor.dtype
            assert part.loads(part.tensors | {name: tensor.to(dtype)}) == fits, (name, dtype)


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"format": ' + "9" * 5000 + "}", '{"a":' * 5000, "nul", "[]", '"format"'],
    ids=["nested", "digits", "objects", "word", "list", "text"],
)
def test_a_manifest_that_is_no_object(text: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / TENSORS, metadata={"manifest": text})
    model = GPT2()
    with raises(CheckpointError, TENSORS):
        charembed.load(model, TABLE, tmp_path)
    assert type(GPT2.embedding(model)) is nn.Embedding


def test_headers_that_are_damaged(tmp_path: Path) -> None:
    part = Part(tmp_path, "lstm")
    raw = (tmp_path / "saved" / TENSORS).read_bytes()
    for damaged in (
        b"",
        raw[:6],
        raw[: len(raw) // 2],
        struct.pack("<Q", 2**62) + raw[8:],
        bytes(1000),
        raw + b"x",
    ):
        (tmp_path / TENSORS).write_bytes(damaged)
        with raises(CheckpointError, TENSORS):
            charembed.load(part.base, VOCABULARY, tmp_path)
    (tmp_path / TENSORS).unlink()
    (tmp_path / TENSORS).mkdir()
    with raises(CheckpointError, TENSORS):
        charembed.load(part.base, VOCABULARY, tmp_path)
    assert IDS.numel()
    assert not hasattr(GPT2.embedding(part.base), "encoder")
    assert char_embedding(charembed.load(part.base, VOCABULARY, tmp_path / "saved"))
