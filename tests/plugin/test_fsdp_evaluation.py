"""Two FSDP processes evaluate the weights after each step, each with ids of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from tests import warm
from tests.conftest import ROOT

KINDS = ["fsdp1", "fsdp1 original", "fsdp1 encoder", "fsdp2", "fsdp2 encoder"]
WORDS = [bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676 % 26]) for i in range(4_500)]


def attached() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(len(WORDS), 16), nn.Linear(16, 8))
    return charembed.attach(
        model, WORDS, module="0", init="normal", scale=None, char_dim=4, hidden_size=6
    )


def sharded(model: Any, kind: str) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    if kind.startswith("fsdp1"):
        return FullyShardedDataParallel(
            model,
            use_orig_params=kind == "fsdp1 original",
            auto_wrap_policy=ModuleWrapPolicy({type(model[0].encoder)})
            if kind == "fsdp1 encoder"
            else None,
            device_id=torch.device("cpu"),
        )
    mesh = init_device_mesh("cpu", (2,))
    if kind == "fsdp2 encoder":
        fully_shard(model[0].encoder, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole_state(model: Any, kind: str) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FullyShardedDataParallel

    if kind.startswith("fsdp2"):
        return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))  # type: ignore[return-value]
    with FullyShardedDataParallel.summon_full_params(model):
        return {
            name.replace("_fsdp_wrapped_module.", ""): value.detach().clone()
            for name, value in model.named_parameters()
        }


def worker() -> None:
    """Run one of two processes."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, twin = dist.get_rank(), attached().eval()
    for kind in KINDS:
        model = sharded(attached(), kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        generator = torch.Generator().manual_seed(rank)
        before: Tensor | None = None
        for step in range(4):
            # in evaluation mode the gradients must come as well
            model.train(step < 2)
            ids = torch.randint(len(WORDS), (5,), generator=generator)
            model(ids).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            # a different number of chunks in each process
            some = torch.randint(len(WORDS), (1 + 60 * rank,), generator=generator)
            with torch.no_grad():
                found = model(some)
                state = whole_state(model, kind)
                if rank == 0 or not kind.startswith("fsdp2"):
                    twin.load_state_dict(state)
                    assert torch.allclose(found, twin(some), atol=1e-6), (kind, step)
                    rows = twin[0].encoder(torch.arange(30))
                    assert before is None or not torch.allclose(rows, before, atol=1e-7), (
                        kind,
                        step,
                    )
                    before = rows
                again = model(some)
            assert torch.equal(found, again)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_evaluate_their_weights_after_each_step() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        warm.Process(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                "from tests.plugin.test_fsdp_evaluation import worker; worker()",
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-4000:]
