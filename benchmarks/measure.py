"""Comparable times: one process, one thread, the candidates in turn, medians."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import torch
from rich.console import Console
from rich.table import Table

from training.run.identity import cpu_name

torch.set_num_threads(1)


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return median seconds of each candidate; in turn, so that a slow moment meets all.

    `clock` may be time.process_time on a machine that does other work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for candidate in candidates.values():
        candidate()
    for _ in range(rounds):
        for name, candidate in candidates.items():
            began = clock()
            candidate()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, seconds: Mapping[str, float], base: str, *, faster: bool = False) -> None:
    """Print milliseconds and ratios to `base`, or speed-ups relative to `faster`."""
    table = Table(title=title)
    for heading in ("", "ms", f"times faster than {base}" if faster else f"of {base}"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, value in seconds.items():
        ratio = seconds[base] / value if faster else value / seconds[base]
        table.add_row(name, f"{1000 * value:.2f}", f"{ratio:.3f}")
    Console().print(table)


def machine() -> str:
    return f"{cpu_name()}, {platform.system()}, torch {torch.__version__}, {torch.get_num_threads()} thread"
