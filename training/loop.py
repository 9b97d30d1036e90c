"""The one training loop: pretraining and fine-tuning, any arm, one process or many."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from synthetic_tasks import stream

from .batches import BatchAt
from .files import read_tensors, write_atomically, write_tensors
from .optimizers import build_optimizers, lr_scale, set_lr

STATE = "state.safetensors"


class Interrupted(Exception):
    """Someone asked the run to stop; its state was saved first."""


class NotFinite(ValueError):
    """The loss is not a number; the weights were not touched."""


class Bar(NamedTuple):
    """Where a progress bar stands, and what is written before it."""

    label: str
    position: int


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What the loop has to know of a phase. `name` is "pretrain" or "finetune"; rates are peaks; `seed` is for dropout."""

    name: str
    steps: int
    lr: float
    char_lr: float
    seed: int
    optimizer: str = "muon"
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 50
    save_every: int = 200


def train(model: nn.Module, phase: Phase, batch_at: BatchAt, folder: Path, accelerator: Accelerator, bar: Bar | None = None) -> str:
    """Train a model in place for one phase, from where the folder's saved state says it is.

    Writes a row per step to `metrics.jsonl` and, every `save_every` steps, at the end, and when interrupted, everything
    needed to go on to `state.safetensors`. Returns the hash of all batches that were seen, from the first step.

    Raises Interrupted after Ctrl-C, once the state is saved, and NotFinite before a bad loss reaches the weights.
    """
    optimizers = build_optimizers(model, kind=phase.optimizer, lr=phase.lr, char_lr=phase.char_lr, weight_decay=phase.weight_decay)
    step, digest = _load_state(folder, phase, model, optimizers)
    saved = step
    wrapped, *prepared = accelerator.prepare(model, *optimizers)
    model.train()
    main = accelerator.is_main_process
    folder.mkdir(parents=True, exist_ok=True)
    if main:
        _cut_metrics(folder / "metrics.jsonl", phase.name, step)
    with open(folder / "metrics.jsonl", "a") if main else open(os.devnull, "w") as metrics, _interruptible() as interrupted:
        progress = progress_bar(bar if main else None, phase.name, phase.steps, step)
        while step < phase.steps:
            began = time.perf_counter()
            batch = batch_at(step)
            digest = batch.digest(digest)
            set_lr(optimizers, lr_scale(step, phase.steps, phase.warmup))
            torch.manual_seed(stream("dropout", phase.name, phase.seed, step, accelerator.process_index).getrandbits(32))
            mine = batch.rows(accelerator.process_index, accelerator.num_processes)
            loss = summed_loss(wrapped, *_on(accelerator.device, mine.ids_BT, mine.targets_BT, mine.keep_BT)) / batch.num_targets
            loss_nats = float(accelerator.reduce(loss.detach(), "sum"))
            if not math.isfinite(loss_nats):
                kept = f"the state of step {saved} is kept in {folder / STATE}" if saved else "nothing had been saved yet"
                raise NotFinite(
                    f"the {phase.name} loss is {loss_nats} at step {step}, so training stopped before the weights moved; {kept}: "
                    f"lower the learning rate or look at the batch."
                )
            accelerator.backward(loss * accelerator.num_processes)  # DDP averages over processes, the loss is a share of the sum
            accelerator.clip_grad_norm_(wrapped.parameters(), phase.clip)
            for optimizer in prepared:
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            row = {"phase": phase.name, "step": step, "kind": batch.kind, "loss_nats": loss_nats, "seconds": round(time.perf_counter() - began, 4)}
            metrics.write(json.dumps(row) + "\n")
            progress.update()
            progress.set_postfix_str(f"{batch.kind} loss {loss_nats:.3f}", refresh=False)
            stopping = accelerator.reduce(torch.tensor(float(bool(interrupted)), device=accelerator.device), "sum") > 0
            if stopping or step == phase.steps or step % phase.save_every == 0:
                saved = step
                if main:
                    metrics.flush()
                    _save_state(folder, phase, step, digest, model, optimizers)
            if stopping and step < phase.steps:
                progress.close()
                raise Interrupted(f"{phase.name} stopped after step {step} of {phase.steps}; its state is saved.")
        progress.close()
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    accelerator.free_memory()
    return digest


def progress_bar(bar: Bar | None, what: str, total: int, done: int = 0) -> Any:
    """A tqdm bar at its place, or a silent one."""
    label, position = bar or Bar("", 0)
    return tqdm(total=total, initial=done, desc=f"{label} {what}", position=position, disable=bar is None, leave=False)


def summed_loss(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, keep_BT: Tensor | None) -> Tensor:
    """Cross-entropy in nats, summed over the tokens that count; logits are computed for these alone."""
    logits = model(ids_BT, keep_BT)
    targets = targets_BT.flatten() if keep_BT is None else targets_BT[keep_BT]
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets, reduction="sum")


def _on(device: torch.device, *tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.to(device, non_blocking=True) for tensor in tensors]


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Everything training changes, by name; a tied weight once. What is derived (spelling tables) is rebuilt, not stored."""
    return dict(model.named_parameters())


@torch.no_grad()
def load_parameters(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put saved parameters into a model. Raises ValueError, before anything changes, when names or shapes differ."""
    own = trained_parameters(model)
    wrong = sorted(own.keys() ^ tensors.keys()) + [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if wrong:
        raise ValueError(f"{source} does not fit this model: {wrong[0]} differs (and {len(wrong) - 1} more); use the config it was saved with.")
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def _save_state(folder: Path, phase: Phase, step: int, digest: str, model: nn.Module, optimizers: list[Optimizer]) -> None:
    tensors = {f"model/{name}": value for name, value in trained_parameters(model).items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{index}/{key}": value for key, value in values.items()}
    write_tensors(folder / STATE, tensors, {"phase": phase.name, "step": step, "batches": digest})


def _load_state(folder: Path, phase: Phase, model: nn.Module, optimizers: list[Optimizer]) -> tuple[int, str]:
    """Continue a saved phase: (steps done, hash of the batches so far); (0, "") when this phase has not begun."""
    if not (folder / STATE).exists():
        return 0, ""
    tensors, facts = read_tensors(folder / STATE)
    if facts["phase"] != phase.name:
        return 0, ""
    load_parameters(model, {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}, folder / STATE)
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith(f"optimizer/{number}/"):
                index, key = name.split("/")[2:]
                saved["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(saved)
    return facts["step"], facts["batches"]


def _cut_metrics(path: Path, phase: str, step: int) -> None:
    """Forget the rows of this phase that lie after the saved state: they will be written again."""
    if path.exists():
        rows = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in rows if (row := json.loads(line))["phase"] != phase or row["step"] <= step]
        write_atomically(path, "".join(line + "\n" for line in kept))


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Ctrl-C and SIGTERM fill the list instead of breaking off in the middle of a step."""
    asked: list[bool] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
