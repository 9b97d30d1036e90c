"""The precision of a run for each machine."""

from __future__ import annotations

import platform

import pytest
import torch

from training.config.presets import PRESETS
from training.models import precision
from training.models.precision import resolve_precision


@pytest.mark.parametrize(
    ("gpu", "capabilities", "auto", "fast"),
    [
        (True, {"avx512_bf16": False}, "bf16", "bf16"),
        (False, {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "fp32", "fp32"),
        (False, {"avx2": True, "avx512_bf16": True, "amx_bf16": False}, "fp32", "bf16"),
        (False, {"neon": True}, "fp32", "fp32"),
        (True, {"avx512_bf16": True}, "bf16", "bf16"),
    ],
)
def test_a_machine_without_bf16_instructions_is_spared_bf16(
    gpu: bool, capabilities: dict[str, bool], auto: str, fast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(precision, "is_bf16_available", lambda ignore_tpu: gpu)
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", cpu=False) == auto
    assert resolve_precision("fast", cpu=False) == fast
    assert resolve_precision("auto", cpu=True) == "fp32"
    on_cpu = "bf16" if capabilities.get("avx512_bf16") else "fp32"
    assert resolve_precision("fast", cpu=True) == on_cpu
    assert (resolve_precision("bf16", cpu=False), resolve_precision("fp32", cpu=False)) == (
        "bf16",
        "fp32",
    )


def test_the_retrofit_asks_for_what_is_fast_here() -> None:
    assert PRESETS["smollm2"].precision == PRESETS["smollm2-full"].precision == "fast"
    told = {name for name in torch.cpu.get_capabilities() if name.endswith("bf16")}
    assert told >= {"amx_bf16", "avx512_bf16"} or platform.machine() != "x86_64", (
        "what is asked has a name"
    )
