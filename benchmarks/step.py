"""One whole training step (forward, backward, clipping, optimizers), with the character path and without. About two minutes.

    python -m benchmarks.step

The parent's own design, a packed LSTM at every position, runs beside it on the parent's configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, machine, show
from tests.reference import PackedTwin
from training.arms import build_arm
from training.batches import BatchAt
from training.config import CompareConfig, preset
from training.data import Data, prepare
from training.loop import summed_loss
from training.optimizers import build_optimizers


class PerPosition(nn.Module):
    """The parent's embedding: token + packed LSTM, at every position."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding, self.encoder = embedding, PackedTwin(embedding.encoder)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return nn.functional.embedding(ids_BT, self.embedding.weight) + self.encoder(ids_BT)


def step_of(model: nn.Module, config: CompareConfig, batch_at: BatchAt) -> Callable[[], None]:
    optimizers = build_optimizers(model, kind=config.optimizer, lr=1e-4, char_lr=1e-4, weight_decay=config.weight_decay)
    batches = [batch for k in range(30) if (batch := batch_at(k)).kind == batch_at(0).kind][:15]
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        (summed_loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT) / batch.num_targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def measure(title: str, config: CompareConfig, data: Data, batch_at: BatchAt, twin: bool, context: int) -> None:
    models = {arm: build_arm(config, arm, 0, data.table) for arm in ("plain", "matched", "lstm")}
    if twin:
        models["packed, per position"] = build_arm(config, "lstm", 0, data.table)
        models["packed, per position"].wte = PerPosition(models["packed, per position"].wte)
    for model in models.values():
        model.extend_context(context, torch.Generator().manual_seed(0))
    show(title, interleaved({name: step_of(model, config, batch_at) for name, model in models.items()}), "plain")


def main() -> None:
    print(machine())
    parent = preset("parent")
    data = prepare(parent, Path(".cache"))
    measure("parent's configuration, pretraining step (64 x 64)", parent, data, data.pretraining(parent, 0), True, 64)
    quick = preset("quick")
    data = prepare(quick, Path(".cache"))
    measure("quick preset, pretraining step (32 x 64)", quick, data, data.pretraining(quick, 0), True, 64)
    measure("quick preset, fine-tuning step (64 questions)", quick, data, data.finetuning(replace(quick, replay_share=0.0), 0), False, 64)


if __name__ == "__main__":
    main()
