"""The training loop, for every phase, arm and model, in one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from charembed.spelling_loss import SpellingHeads
from synthetic_tasks import stream
from training.config.phase import Phase
from training.data.batches import Batch, BatchAt
from training.errors import Broke, Interrupted
from training.interrupts import Stop, deferred
from training.models.language_model import LanguageModel
from training.progress import Bars, no_bars

from .kinds import KINDS, build_optimizers, lr_scale, set_lr
from .lines import Record
from .state import STATE, Position, load_state, save_state

Measure = Callable[[int], list[dict[str, Any]]]  # from the number of steps done to rows


def unmeasured(step: int) -> list[dict[str, Any]]:
    """Measure nothing."""
    return []


class NotFinite(Broke):
    """The loss is NaN or infinite; the weights have not changed."""


@dataclass(kw_only=True)
class Training:
    """The training of one arm in one phase.

    Attributes:
        seed: of the arm, for dropout.
        position: the present position; at first, the end of the phase before.
        heads: of the spelling loss, if any phase of the run has it; saved in every phase, trained
            in the phases with a spelling loss.
        base: the model before training, if replayed text is distilled from it.
        measure: called after each step; returns rows for the learning curve, mostly none. It must
            leave the model and the random generators as they are.
    """

    model: LanguageModel
    phase: Phase
    batch_at: BatchAt
    folder: Path
    accelerator: Accelerator
    seed: int
    position: Position = field(default_factory=Position)
    heads: SpellingHeads | None = None
    base: LanguageModel | None = None
    measure: Measure = unmeasured
    save_every: int = 200
    saved: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)

    def __post_init__(self) -> None:
        fresh = Position()
        self.position = replace(
            self.position, phase=self.phase.name, step=0, batches="", tokens={},
            curve_bytes=fresh.curve_bytes, curve_sha256=fresh.curve_sha256,
        )  # fmt: skip

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules that are saved."""
        return {"model": self.model} | ({} if self.heads is None else {"heads": self.heads})

    @property
    def used_heads(self) -> SpellingHeads | None:
        return self.heads if self.phase.spells else None


def train(training: Training, bars: Bars = no_bars) -> Position:
    """Train a model in place for one phase, from the state in the folder if there is one.

    Appends a row for each step to `metrics.jsonl`, and the rows of its measurements to the file of
    the phase's curve. Saves the state to `state.safetensors` every `save_every` steps and on an
    interruption. Returns the position at the end of the phase.

    Raises Interrupted after Ctrl-C and a saved state, NotFinite before a bad loss changes weights.
    """
    t, phase, main = training, training.phase, training.accelerator.is_main_process
    # made before the state is loaded, which fills them
    t.optimizers = build_optimizers(t.model, phase, t.used_heads)
    t.position = load_state(t.folder / STATE, t.position, t.parts, t.optimizers)
    t.saved = t.position.step
    learner = KINDS[phase.kind].learner(t.model, t.used_heads, t.base)
    wrapped, *prepared = t.accelerator.prepare(learner, *t.optimizers)
    t.model.train()
    # other processes compute the same rows and write them nowhere
    with Record.open(t.folder, t.position, writes=main) as record, deferred() as stop:
        bar = (bars if main else no_bars)(phase.name, phase.steps, t.position.step)
        while t.position.step < phase.steps:
            began = time.perf_counter()
            row = take_step(t, wrapped, prepared)
            row["seconds"] = round(time.perf_counter() - began, 4)
            record.metrics.write(row)
            # after the seconds of the step; in all processes, so that none waits for another one
            for measured in t.measure(t.position.step):
                record.curve.write(measured)
            bar.update()
            # refresh=False: the bar draws at its own rate, not in each of thousands of steps
            bar.set_postfix_str(f"{row['kind']} loss {row['loss_nats']:.3f}", refresh=False)
            # after the rows: an interrupted step is complete in both files
            asked = stopping(t.accelerator, stop)
            done = t.position.step == phase.steps
            saving = asked or t.position.step % t.save_every == 0
            if main and (done or saving):
                # on the disk before the state that refers to these bytes
                t.position = record.sync(t.position)
            if saving and not done:
                t.saved = t.position.step
                if main:
                    save_state(t.folder / STATE, t.position, t.parts, t.optimizers)
            if asked and not done:
                bar.close()
                seen = f"{phase.name} stopped after step {t.saved} of {phase.steps}"
                raise Interrupted(f"{seen}; its state is saved.")
        bar.close()
    # the next phase wraps the model anew, with other optimizers
    t.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    t.accelerator.free_memory()
    return t.position


def stopping(accelerator: Accelerator, stop: Stop) -> bool:
    """Whether any process of the run was signalled to stop; all processes must call it together."""
    # a process alone at the reduction of a later step would wait forever
    asked = torch.tensor(float(stop.asked), device=accelerator.device)
    return bool(accelerator.reduce(asked, "sum") > 0)


def take_step(t: Training, wrapped: nn.Module, prepared: list[Any]) -> dict[str, Any]:
    """Do one batch and one update.

    Returns the step's row of metrics. Raises NotFinite before a bad loss changes the weights.
    """
    phase, accelerator = t.phase, t.accelerator
    step = t.position.step
    batch = t.batch_at(step)
    # of the whole batch, so that it is equal for any number of processes
    digest = batch.digest(t.position.batches)
    set_lr(t.optimizers, lr_scale(step, phase.steps, phase.warmup, phase.schedule))
    # seeded in each step, so that a resumed run drops out the same units
    chance = stream("dropout", phase.name, t.seed, step, accelerator.process_index)
    torch.manual_seed(chance.getrandbits(32))
    losses = _losses(t, wrapped, batch)
    # 1.0 in a phase of text, where replay_weight has its default
    weight = phase.replay_weight if batch.kind == "text" else 1.0
    loss = weight * sum(losses[1:], losses[0])
    # summed over processes: each has a part of the batch's rows
    nats = accelerator.reduce(torch.stack([part.detach() for part in losses]), "sum").tolist()
    if not all(map(math.isfinite, nats)):
        state = f"the state of step {t.saved} is kept in {t.folder / STATE}"
        kept = state if t.saved else "nothing had been saved yet"
        raise NotFinite(
            f"the {phase.name} loss is {sum(nats)} at step {step}, so training stopped before the "
            f"weights changed; {kept}: lower the learning rate or look at the batch."
        )
    # DDP averages gradients over processes, and each process has a part of the summed loss
    accelerator.backward(loss * accelerator.num_processes)
    # a weighted gradient is clipped at the weighted norm, as if the weight came after the clipping
    if weight * phase.clip:
        accelerator.clip_grad_norm_(wrapped.parameters(), weight * phase.clip)
    for optimizer in prepared:
        optimizer.step()
        optimizer.zero_grad()
    tokens = t.position.tokens
    if tokens is not None:  # else the count of earlier steps is unknown
        tokens = {**tokens, batch.kind: tokens.get(batch.kind, 0) + batch.num_tokens}
    t.position = replace(t.position, step=step + 1, batches=digest, tokens=tokens)
    row = {"phase": phase.name, "step": step + 1, "kind": batch.kind, "loss_nats": nats[0]}
    return row | ({"spelling_nats": nats[1] / phase.spelling_loss} if len(nats) > 1 else {})


def _losses(t: Training, wrapped: nn.Module, batch: Batch) -> list[Tensor]:
    """This process's part of the batch's loss and of the weighted spelling loss, if any."""
    mine = batch.rows(t.accelerator.process_index, t.accelerator.num_processes)
    device = t.accelerator.device
    nats, spelling_nats = wrapped(
        *(None if each is None else each.to(device, non_blocking=True) for each in mine.tensors)
    )
    if t.used_heads is None or batch.spelled_N is None:
        return [nats / batch.num_targets]
    spelling = spelling_nats / t.used_heads.num_targets(batch.spelled_N)
    if batch.kind == "spelling":
        return [spelling]
    return [nats / batch.num_targets, t.phase.spelling_loss * spelling]
