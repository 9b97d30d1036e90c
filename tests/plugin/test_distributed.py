"""DDP and FSDP on two CPU processes take the same steps as one process."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import charembed
from charembed import AttachError
from tests import warm
from tests.conftest import ROOT
from tests.messages import raises, warns
from tests.plugin.hosts import (
    GEMMA3,
    GPT2,
    IDS,
    NANOGPT,
    VOCABULARY,
    Host,
    NanoGPT,
    char_embedding,
    logits_and_loss,
    logits_of,
)

CASES: list[Host] = [GPT2, GEMMA3, NANOGPT]  # all tied, one with padding and its own forward


def prepared(host: Host) -> nn.Module:
    """Build the same model in every process, without dropout."""
    model = host.attach(host(), init="normal").eval()
    char_embedding(model).train()
    return model


def take_steps(model: nn.Module, module: nn.Module, ids: torch.Tensor, steps: int = 3) -> None:
    """Train with SGD: its steps are proportional to gradients and so show a wrong scale."""
    optimizer = torch.optim.SGD(
        [parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.1
    )
    for _ in range(steps):
        optimizer.zero_grad()
        output = (
            model(ids, ids)
            if any(isinstance(part, NanoGPT) for part in model.modules())
            else model(ids, labels=ids)
        )
        (output[1] if isinstance(output, tuple) else output.loss).backward()
        optimizer.step()


def worker(out: Path) -> None:
    """Run one of two processes; each gets one row of the batch."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    dist.init_process_group("gloo")
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (2,))
    ids, found = IDS[rank : rank + 1], {}
    for host in CASES:
        for kind in ("ddp", "fsdp", "fsdp2"):
            model = prepared(host)
            if kind == "ddp":
                wrapped: nn.Module = nn.parallel.DistributedDataParallel(model)
                take_steps(wrapped, model, ids)
                state = model.state_dict()
            elif kind == "fsdp":
                wrapped = FullyShardedDataParallel(
                    model, use_orig_params=True, device_id=torch.device("cpu")
                )
                take_steps(wrapped, wrapped, ids)
                with FullyShardedDataParallel.summon_full_params(wrapped):
                    state = {name: value.clone() for name, value in model.state_dict().items()}
            else:
                wrapped = fully_shard(model, mesh=mesh)
                take_steps(wrapped, wrapped, ids)
                wrapped.eval()  # the table is made of gathered weights
                with torch.no_grad():
                    found[f"{host.name}/{kind}/logits"] = logits_of(wrapped).clone()
                state = get_model_state_dict(
                    wrapped, options=StateDictOptions(full_state_dict=True)
                )
            found |= {
                f"{host.name}/{kind}/{name}": value.detach().clone()
                for name, value in state.items()
            }
            if kind != "ddp":
                for refused in (
                    charembed.fold,
                    lambda model: charembed.save(model, out.parent / "letters"),
                ):
                    with raises(AttachError, "sharded"):
                        refused(wrapped)
    # A half-precision base with an encoder in float32: the two ways that the warning names.
    with warns(UserWarning, "torch.bfloat16 fully_shard auto_wrap_policy"):
        model = GPT2.attach(GPT2().bfloat16(), init="normal").eval()
    single, wrapped = copy.deepcopy(model), copy.deepcopy(model)
    own = char_embedding(wrapped).encoder
    take_steps(single, single, ids)
    fully_shard(char_embedding(model).encoder, mesh=mesh)
    fully_shard(model, mesh=mesh)
    wrapped = FullyShardedDataParallel(
        wrapped,
        use_orig_params=True,
        device_id=torch.device("cpu"),
        auto_wrap_policy=lambda module, recurse, nonwrapped_numel: recurse or module is own,
    )
    for sharded in (model, wrapped):
        take_steps(sharded, sharded, IDS[:1])  # the same rows in both processes
        if rank == 0:
            torch.testing.assert_close(logits_of(sharded.eval()), logits_of(single.eval()))
        else:
            logits_of(sharded.eval())
    with raises(AttachError, "FSDP"):
        GPT2.attach(fully_shard(GPT2(), mesh=mesh))
    with raises(AttachError, "DistributedDataParallel attach"):
        charembed.attach(
            nn.parallel.DistributedDataParallel(GPT2()), VOCABULARY, module="module.transformer.wte"
        )
    if rank == 0:
        save_file(found, out)
    dist.destroy_process_group()


def in_two_processes(worker: Callable[[Path], None], out: Path) -> None:
    """Call a function of a test module in two processes with the environment of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            f"import pathlib; from {worker.__module__} import {worker.__name__}; "
            f"{worker.__name__}(pathlib.Path({str(out)!r}))",
        ]
        processes.append(
            warm.Process(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-4000:]


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("distributed") / "states.safetensors"
    in_two_processes(worker, out)
    return load_file(out)


@pytest.mark.parametrize("host", CASES, ids=lambda host: host.name)
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fsdp2"])
def test_two_processes_take_the_steps_of_one(
    host: Host, kind: str, distributed: dict[str, torch.Tensor]
) -> None:
    model = prepared(host)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_steps(model, model, IDS)
    checked = 0
    for name, value in model.state_dict().items():
        found = distributed[f"{host.name}/{kind}/{name}"]
        moved = float((value - before[name]).abs().max())
        torch.testing.assert_close(
            found,
            value,
            rtol=1e-5,
            atol=max(1e-3 * moved, 1e-7),
            msg=lambda text, name=name: f"{name}: {text}",
        )
        checked += moved > 1e-5
    assert checked > len(charembed.parameters(model))
    if kind == "fsdp2":
        model.eval()
        torch.testing.assert_close(
            distributed[f"{host.name}/{kind}/logits"], logits_of(model), rtol=1e-4, atol=1e-5
        )
    assert logits_and_loss(model)[1].isfinite()
