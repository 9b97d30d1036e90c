"""The arithmetic of training: fp32, or bf16 if the machine multiplies it in hardware."""

from __future__ import annotations

import torch
from accelerate.utils import is_bf16_available


def resolve_precision(precision: str, cpu: bool) -> str:
    """Resolve a config's `precision` to "bf16" or "fp32" on this machine.

    "auto" is bf16 on a GPU that supports it and fp32 elsewhere; "fast" is bf16 also on a CPU with
    bf16 instructions; "bf16" and "fp32" stay as they are.
    """
    if precision not in ("auto", "fast"):
        return precision
    wanted = precision == "fast" or (torch.cuda.is_available() and not cpu)
    return "bf16" if wanted and has_fast_bf16(cpu) else "fp32"


def has_fast_bf16(cpu: bool) -> bool:
    """Whether the GPU, or the CPU if there is none or `cpu` is set, has instructions for bf16.

    A CPU without them emulates bf16, several times slower than fp32.
    """
    if torch.cuda.is_available() and not cpu:
        return bool(is_bf16_available(ignore_tpu=True))
    # avx512_bf16, amx_bf16 and their like
    return any(yes for name, yes in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
