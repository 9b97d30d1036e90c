"""The one training loop: any phase, any arm, any model, one process or many."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from synthetic_tasks import stream

from .batches import Batch, BatchAt
from .config import Phase
from .errors import Broke, Interrupted
from .interrupts import interruptible
from .learner import Learner, SpellingLearner
from .models import LanguageModel
from .optimizers import build_optimizers, lr_scale, set_lr
from .spelling_loss import SpellingHeads
from .state import STATE, cut_metrics, load_state, save_state


class NotFinite(Broke):
    """The loss is not a number; the weights were not touched."""


class Bar(NamedTuple):
    """Where a progress bar stands, and what is written before it."""

    label: str
    position: int


@dataclass(kw_only=True)
class Training:
    """One arm in one phase: what a step needs to know.

    Attributes:
        seed: of the arm, for dropout.
        heads: of the spelling loss, where any phase of the run has one; saved in every phase, trained where
            it is used.
    """

    model: LanguageModel
    phase: Phase
    batch_at: BatchAt
    folder: Path
    accelerator: Accelerator
    seed: int
    heads: SpellingHeads | None = None
    save_every: int = 200
    step: int = 0
    digest: str = ""
    saved: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What is saved."""
        return {"model": self.model} | ({} if self.heads is None else {"heads": self.heads})

    @property
    def used_heads(self) -> SpellingHeads | None:
        return self.heads if self.phase.spells else None


def train(training: Training, bar: Bar | None = None) -> str:
    """Train a model in place for one phase, from where the folder's saved state says it is.

    Writes a row per step to `metrics.jsonl` and, every `save_every` steps, at the end, and when interrupted,
    everything needed to go on to `state.safetensors`. Returns the hash of all batches that were seen, from
    the first step.

    Raises Interrupted after Ctrl-C, once the state is saved, and NotFinite before a bad loss reaches the
    weights.
    """
    t, phase, main = training, training.phase, training.accelerator.is_main_process
    t.optimizers = build_optimizers(t.model, phase, t.used_heads)
    t.step, t.digest = load_state(t.folder, phase.name, t.parts, t.optimizers)
    t.saved = t.step
    wrapped, *prepared = t.accelerator.prepare(_learner(t), *t.optimizers)
    t.model.train()
    t.folder.mkdir(parents=True, exist_ok=True)
    if main:
        cut_metrics(t.folder / "metrics.jsonl", phase.name, t.step)
    with (
        open(t.folder / "metrics.jsonl", "a") if main else open(os.devnull, "w") as metrics,
        interruptible() as interrupted,
    ):
        progress = progress_bar(bar if main else None, phase.name, phase.steps, t.step)
        while t.step < phase.steps:
            began = time.perf_counter()
            row = take_step(t, wrapped, prepared)
            metrics.write(json.dumps(row | {"seconds": round(time.perf_counter() - began, 4)}) + "\n")
            progress.update()
            progress.set_postfix_str(f"{row['kind']} loss {row['loss_nats']:.3f}", refresh=False)
            asked = torch.tensor(float(bool(interrupted)), device=t.accelerator.device)
            stopping = t.accelerator.reduce(asked, "sum") > 0
            if stopping or t.step == phase.steps or t.step % t.save_every == 0:
                t.saved = t.step
                if main:
                    metrics.flush()
                    save_state(t.folder, phase.name, t.step, t.digest, t.parts, t.optimizers)
            if stopping and t.step < phase.steps:
                progress.close()
                raise Interrupted(
                    f"{phase.name} stopped after step {t.step} of {phase.steps}; its state is saved."
                )
        progress.close()
    t.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    t.accelerator.free_memory()
    return t.digest


def take_step(t: Training, wrapped: nn.Module, prepared: list[Any]) -> dict[str, Any]:
    """One batch, one update.

    Returns the step's row of metrics. Raises NotFinite before a bad loss reaches the weights.
    """
    phase, accelerator = t.phase, t.accelerator
    batch = t.batch_at(t.step)
    t.digest = batch.digest(t.digest)
    set_lr(t.optimizers, lr_scale(t.step, phase.steps, phase.warmup, phase.schedule))
    chance = stream("dropout", phase.name, t.seed, t.step, accelerator.process_index)
    torch.manual_seed(chance.getrandbits(32))
    losses = _losses(t, wrapped, batch)
    loss = sum(losses[1:], losses[0])
    nats = accelerator.reduce(torch.stack([part.detach() for part in losses]), "sum").tolist()
    if not all(map(math.isfinite, nats)):
        state = f"the state of step {t.saved} is kept in {t.folder / STATE}"
        kept = state if t.saved else "nothing had been saved yet"
        raise NotFinite(
            f"the {phase.name} loss is {sum(nats)} at step {t.step}, so training stopped before the weights "
            f"moved; {kept}: "
            f"lower the learning rate or look at the batch."
        )
    # DDP averages over processes, and this loss is a share of the sum
    accelerator.backward(loss * accelerator.num_processes)
    if phase.clip:
        accelerator.clip_grad_norm_(wrapped.parameters(), phase.clip)
    for optimizer in prepared:
        optimizer.step()
        optimizer.zero_grad()
    t.step += 1
    row = {"phase": phase.name, "step": t.step, "kind": batch.kind, "loss_nats": nats[0]}
    return row | ({"spelling_nats": nats[1] / phase.spelling_loss} if len(nats) > 1 else {})


def _losses(t: Training, wrapped: nn.Module, batch: Batch) -> list[Tensor]:
    """This process's share of the batch's loss and, where there is one, of the weighted spelling loss."""
    mine = batch.rows(t.accelerator.process_index, t.accelerator.num_processes)
    device = t.accelerator.device
    tensors = [None if tensor is None else tensor.to(device, non_blocking=True) for tensor in mine.tensors]
    nats, spelling_nats = wrapped(*tensors)
    if t.used_heads is None or batch.spelled_N is None:
        return [nats / batch.num_targets]
    spelling = spelling_nats / t.used_heads.num_targets(batch.spelled_N)
    if batch.kind == "spelling":
        return [spelling]
    return [nats / batch.num_targets, t.phase.spelling_loss * spelling]


def _learner(t: Training) -> nn.Module:
    if t.phase.kind != "spelling":
        return Learner(t.model, t.used_heads)
    assert t.heads is not None
    return SpellingLearner(t.model, t.heads)


def progress_bar(bar: Bar | None, what: str, total: int, done: int = 0) -> Any:
    """A tqdm bar at its place, or a silent one."""
    label, position = bar or Bar("", 0)
    return tqdm(
        total=total, initial=done, desc=f"{label} {what}", position=position, disable=bar is None, leave=False
    )
