"""Time a whole training step (forward, backward, clipping, optimizers), with characters and without.

Takes two minutes.

    python -m benchmarks.step

The parent project's design, a packed LSTM at every position, runs beside it on the same configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, machine, show
from tests.plugin.reference import PackedTwin
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.config.presets import preset
from training.data.batches import BatchAt
from training.data.prepare import Data, prepare
from training.models.language_model import LanguageModel
from training.run.build import build_arm
from training.train.kinds import build_optimizers, phase_batches
from training.train.loss import summed_loss


class PerPosition(nn.Module):
    """Embed as the parent project does: token plus packed LSTM, at every position."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding, self.encoder = embedding, PackedTwin(embedding.encoder)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return nn.functional.embedding(ids_BT, self.embedding.weight) + self.encoder(ids_BT)


def step_of(model: LanguageModel, phase: Phase, batch_at: BatchAt) -> Callable[[], None]:
    optimizers = build_optimizers(model, replace(phase, lr=1e-4))
    batches = [batch for k in range(30) if (batch := batch_at(k)).kind == phase.kind][:15]
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        (
            summed_loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT) / batch.num_targets
        ).backward()
        if phase.clip:
            nn.utils.clip_grad_norm_(model.parameters(), phase.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def measure(title: str, config: CompareConfig, data: Data, phase: Phase, twin: bool) -> None:
    models = {
        arm: build_arm(config, arm, 0, data.spellings) for arm in ("plain", "matched", "lstm")
    }
    if twin:
        models["packed, per position"] = build_arm(config, "lstm", 0, data.spellings)
        models["packed, per position"].wte = PerPosition(models["packed, per position"].wte)
    for model in models.values():
        model.extend_context(phase.context, torch.Generator().manual_seed(0))
    batch_at = phase_batches(data, phase, 0)
    show(
        title,
        interleaved({name: step_of(model, phase, batch_at) for name, model in models.items()}),
        "plain",
    )


def main() -> None:
    print(machine())
    parent = preset("parent")
    data = prepare(parent, Path(".cache"))
    measure("parent's configuration, pretraining step (64 x 64)", parent, data, parent.text, True)
    quick = preset("quick")
    data = prepare(quick, Path(".cache"))
    measure("quick preset, pretraining step (32 x 64)", quick, data, quick.text, True)
    measure(
        "quick preset, fine-tuning step (64 questions)", quick, data, quick.phase("finetune"), False
    )


if __name__ == "__main__":
    main()
