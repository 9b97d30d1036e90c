"""Muon for weights that FSDP2 shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Muon

from .dtensors import is_sharded


class WholeMuon(Muon):
    """torch's Muon, which sees whole matrices also if they are sharded.

    Muon orthogonalizes a matrix by products in bf16. On sharded matrices torch would add parts of
    these products, each rounded to bf16, so the updates would depend on the number of processes.
    Here each gradient and its momentum are gathered, one matrix at a time, and every process makes
    the same update of its own rows. Without sharding it is torch's Muon.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        groups, step = self.param_groups, cast(Any, super().step)
        if not any(is_sharded(matrix) for group in groups for matrix in group["params"]):
            return step(closure)
        assert closure is None, "the loop has no closure"
        try:
            for group in groups:
                for matrix in group["params"]:
                    self.param_groups = [{**group, "params": [matrix]}]
                    with self._whole(matrix):
                        step()
        finally:
            self.param_groups = groups

    @contextmanager
    def _whole(self, matrix: Any) -> Iterator[None]:
        """Gather gradient and momentum of a matrix; then keep this process's rows of the latter."""
        if matrix.grad is None or not is_sharded(matrix):
            yield
            return
        state = self.state[matrix]
        matrix.grad = _gathered(matrix.grad)
        if "momentum_buffer" in state:
            state["momentum_buffer"] = _gathered(state["momentum_buffer"])
        yield
        matrix.grad = None
        state["momentum_buffer"] = state["momentum_buffer"].redistribute(
            matrix.device_mesh, matrix.placements
        )


def _gathered(tensor: Any) -> Tensor:
    from torch.distributed.tensor import Replicate

    found: Tensor = tensor.redistribute(tensor.device_mesh, [Replicate()] * tensor.device_mesh.ndim)
    return found
