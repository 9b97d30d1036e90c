"""Which arithmetic a machine is fast in."""

from __future__ import annotations

import torch
from accelerate.utils import is_bf16_available


def resolve_precision(precision: str, cpu: bool) -> str:
    """The arithmetic that will be used, "bf16" or "fp32".

    "auto" is bf16 on a GPU that has it and fp32 elsewhere; "fast" is bf16 on a CPU that multiplies it, too.
    """
    on_gpu = torch.cuda.is_available() and not cpu
    if precision == "auto":
        return "bf16" if on_gpu and is_bf16_available(ignore_tpu=True) else "fp32"
    if precision == "fast":
        return "bf16" if has_fast_bf16(cpu) else "fp32"
    return precision


def has_fast_bf16(cpu: bool) -> bool:
    """Does the GPU, or where there is none (or `cpu` says so) the CPU, have instructions that multiply bf16?

    A CPU without them computes it all the same, several times slower than fp32.
    """
    if torch.cuda.is_available() and not cpu:
        return bool(is_bf16_available(ignore_tpu=True))
    return any(
        there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16")
    )
