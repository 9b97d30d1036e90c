"""Two gloo processes on the CPU, joined by DDP or by FSDP2.

accelerate has FSDP2 on accelerators alone, so here it is told that it has one: the code of its
`prepare` is then the one that runs on GPUs. A second way shards with `fully_shard` directly.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests import warm
from tests.conftest import ROOT
from training.models.blocks import blocks_of
from training.run.processes import use_autocast

WAYS = ["ddp", "fsdp2", "fully_shard"]
PATIENCE = 600


class Direct(Accelerator):
    """An Accelerator that shards without accelerate's code."""

    def prepare(self, *given: Any, **_: Any) -> Any:
        learner, *optimizers = given
        names = {parameter: name for name, parameter in learner.named_parameters()}
        mesh = init_device_mesh("cpu", (self.num_processes,))
        for block in blocks_of(learner.model) if hasattr(learner, "model") else []:
            fully_shard(block, mesh=mesh)
        fully_shard(learner, mesh=mesh)
        sharded = dict(learner.named_parameters())
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [sharded[names[each]] for each in group["params"]]
        return learner, *optimizers


def joined(way: str, precision: str = "no") -> Accelerator:
    """Return the Accelerator of one of two processes: "ddp", "fsdp2" or "fully_shard"."""
    AcceleratorState._reset_state(reset_partial_state=True)
    kind = Direct if way == "fully_shard" else Accelerator
    return forged(kind(cpu=True, mixed_precision=precision), way)


def forged(accelerator: Accelerator, way: str) -> Accelerator:
    """Let accelerate take the path of a GPU."""
    assert accelerator.num_processes == 2
    if way != "ddp":
        accelerator.state.distributed_type = DistributedType.FSDP
        # every new AcceleratorState, as of a prepared optimizer, copies this one
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap",
            cpu_ram_efficient_loading=False, reshard_after_forward=True,
        )  # fmt: skip
        use_autocast(accelerator)
        AcceleratorState()
        assert accelerator.is_fsdp2
    return accelerator


def forged_again(accelerator_of: Callable[..., Accelerator], *given: Any) -> Accelerator:
    """Return a forged Accelerator of the next arm in the same process."""
    # the state of the arm before would name FSDP before the product has looked
    AcceleratorState._reset_state()
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
    return forged(accelerator_of(*given), "fsdp2")


def environments() -> list[dict[str, str]]:
    """Return the environments of two processes, as torchrun sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}
    return [
        os.environ | shared | threads | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        for rank in range(2)
    ]


def start(command: Sequence[Any]) -> list[Any]:
    """Start a command of Python (without the interpreter) as two processes."""
    return [
        warm.Process(
            [sys.executable, *command], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for environment in environments()
    ]  # fmt: skip


def calling(worker: Callable[..., None], *arguments: Any) -> list[Any]:
    """Start two processes that call a function of a test module."""
    given = ", ".join(repr(str(each)) for each in arguments)
    name = worker.__name__
    return start(["-c", f"from {worker.__module__} import {name}; {name}({given})"])


def end(processes: Sequence[Any]) -> tuple[list[int], list[str]]:
    """Return the exit statuses and the standard errors."""
    errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    return [process.returncode for process in processes], errors


def well(processes: Sequence[Any]) -> None:
    statuses, errors = end(processes)
    assert statuses == [0, 0], "\n".join(errors)[-6000:]


def rank() -> int:
    return torch.distributed.get_rank()


def folder_of(out: Path, way: str) -> Path:
    return out / way
