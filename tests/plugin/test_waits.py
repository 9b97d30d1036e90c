"""Waits for the GPU: none in a lookup, two in a training forward, for tokens of any length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import charembed
from charembed import ENCODERS
from charembed.prefixes import PrefixTree
from tests.plugin.hosts import GPT2, IDS, SMALL, TABLE, V, char_embedding

kinds = pytest.mark.parametrize("kind", ENCODERS)

WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "item",
}
WAITS |= {"equal", "masked_select", "is_nonzero", "_assert_async", "bincount"}
WAITS |= {
    "lift_fresh",
    "_pin_memory",
    "_copy_from",
}  # a tensor made of Python numbers goes to the device


class Waits(TorchDispatchMode):
    """Count operators that make a GPU's caller wait; the count works on the CPU too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.methods = _Methods(self.found)

    def __enter__(self) -> Any:
        self.methods.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.methods.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        devices = {t.device for t in (*args, result) if isinstance(t, Tensor)}
        if name in WAITS or (name in ("_to_copy", "copy_") and len(devices) > 1):
            self.found.append(name)
        return result


class _Methods(TorchFunctionMode):
    """`tolist` and similar methods copy memory without an operator, so they are counted here."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "tolist":
            self.found.append("tolist")
        return func(*args, **(kwargs or {}))


@kinds
@torch.no_grad()
def test_a_lookup_does_not_wait(kind: str) -> None:
    embedding = char_embedding(
        GPT2.attach(GPT2(tie=True), encoder=kind, init="normal", **SMALL[kind]).eval()
    )
    embedding(IDS)  # builds the table
    with Waits() as waits:
        embedding(IDS)
    assert waits.found == []


@torch.no_grad()
def test_the_count_of_waits_sees_them() -> None:
    with Waits() as waits:
        ids = torch.unique(IDS)
        ids.tolist()
        int(ids[0])
        torch.tensor([1, 2])
        torch.equal(ids, ids)
    assert waits.found == ["_unique2", "tolist", "_local_scalar_dense", "lift_fresh", "equal"]


@kinds
def test_a_training_forward_waits_as_often_for_long_tokens_as_for_short_ones(kind: str) -> None:
    counts = {}
    for longest in (5, 50):
        words = [bytes([97 + i % 26]) * (1 + i % longest) for i in range(longest)]
        sizes = SMALL[kind] if "max_chars" not in SMALL[kind] else {**SMALL[kind], "max_chars": 60}
        model = nn.Sequential(nn.Embedding(longest, 16))
        charembed.attach(model, words, module="0", encoder=kind, init="normal", **sizes)
        model(torch.arange(longest))
        with Waits() as waits:
            model(torch.arange(longest))
        counts[longest] = waits.found
    recurrent = ["_local_scalar_dense", "tolist"] if kind in ("lstm", "gru") else []
    assert counts[5] == counts[50] == ["_unique2", *recurrent]


def test_a_plan_waits_twice() -> None:
    tree = PrefixTree.from_spellings(TABLE)
    with Waits() as waits:
        tree.plan(torch.arange(V))
    assert waits.found == ["_local_scalar_dense", "tolist"]
