"""The training loop, for every phase, arm and model, in one process or several."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from charembed.embedding import char_embeddings
from charembed.spelling_loss import SpellingHeads
from synthetic_tasks import stream
from training.config.phase import Phase
from training.data.batches import Batch, BatchAt
from training.errors import Broke, Interrupted
from training.interrupts import Stop, deferred
from training.models.blocks import blocks_of, compiled, of_compiler, ways_of
from training.models.language_model import LanguageModel
from training.progress import Bars, no_bars

from .kinds import KINDS, build_optimizers, lr_scale, set_lr
from .lines import Record
from .shards import gather, load, save
from .state import Position

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
        measured: the steps at which `measure` reads the model; None: at each.
        accumulate: parts of a batch that are computed one after the other, 1 or more.
        compile: compile the blocks of the model.
        trained: the modules that are trained: `parts`, or copies of them that FSDP2 shards.
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
    measured: Collection[int] | None = None
    save_every: int = 200
    accumulate: int = 1
    compile: bool = False
    saved: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)
    trained: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        fresh = Position()
        self.position = replace(
            self.position, phase=self.phase.name, step=0, batches="", tokens={},
            curve_bytes=fresh.curve_bytes, curve_sha256=fresh.curve_sha256,
        )  # fmt: skip
        self.trained = self.parts

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules that are saved at the end of the phase."""
        return {"model": self.model} | ({} if self.heads is None else {"heads": self.heads})

    @property
    def used_heads(self) -> SpellingHeads | None:
        heads = self.trained.get("heads")
        return heads if self.phase.spells and isinstance(heads, SpellingHeads) else None


def train(training: Training, bars: Bars = no_bars) -> Position:
    """Train a model in place for one phase, from the state in the folder if there is one.

    Appends a row for each step to `metrics.jsonl`, and the rows of its measurements to the file of
    the phase's curve. Saves the state to `state.safetensors` every `save_every` steps and on an
    interruption; a training that FSDP2 shards saves to the folder `shards`. Returns the position at
    the end of the phase.

    Raises Interrupted after Ctrl-C and a saved state, NotFinite before a bad loss changes weights.
    """
    with _whole_aside(training):
        return _train(training, bars)


def _prepared(t: Training) -> tuple[nn.Module, list[Any], list[nn.Module]]:
    """Let accelerate wrap what is trained, and load the state. Return the blocks, too."""
    model: Any = t.trained["model"]
    # made before the state is loaded, which fills them
    t.optimizers = build_optimizers(model, t.phase, t.used_heads)
    learner: Any = KINDS[t.phase.kind].learner(model, t.used_heads, t.base)
    # FSDP2 shards block by block; accelerate looks for their classes here
    inside = set(learner.modules())
    blocks = [block for block in blocks_of(model) if block in inside]
    learner._no_split_modules = sorted({type(block).__name__ for block in blocks})
    if t.accelerator.is_fsdp2:
        # accelerate would keep those of the phase before, which may have other ones or none
        names = learner._no_split_modules
        t.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = names
    wrapped, *prepared = t.accelerator.prepare(learner, *t.optimizers)
    if t.accelerator.is_fsdp2:
        _gather_in_all_ways(blocks)
    # after FSDP2 has exchanged the parameters of the optimizers
    t.position = load(t.folder, t.position, t.trained, t.optimizers)
    t.saved = t.position.step
    model.train()
    return wrapped, prepared, blocks


@contextmanager
def _compiling(t: Training, stop: Stop) -> Iterator[None]:
    """Raise Interrupted if a terminal's Ctrl-C has also ended the compiler that torch started."""
    try:
        yield
    except Exception as error:
        if not (t.compile and stop.asked and of_compiler(error)):
            raise
        seen = f"{t.phase.name} stopped while torch compiled it"
        raise Interrupted(
            f"{seen}; its last saved step is {t.saved} of {t.phase.steps}.",
            others_tell=not t.accelerator.is_main_process,
        ) from None


def _train(t: Training, bars: Bars) -> Position:
    phase, main = t.phase, t.accelerator.is_main_process
    wrapped, prepared, blocks = _prepared(t)
    fast = compiled(blocks) if t.compile else nullcontext()
    # other processes compute the same rows and write them nowhere
    with fast, Record.open(t.folder, t.position, writes=main) as record, deferred() as stop:
        bar = (bars if main else no_bars)(phase.name, phase.steps, t.position.step)
        while t.position.step < phase.steps:
            began = time.perf_counter()
            with _compiling(t, stop):
                row = take_step(t, wrapped, prepared)
            row["seconds"] = round(time.perf_counter() - began, 4)
            record.metrics.write(row)
            # after the seconds of the step; in all processes, so that none waits for another one
            for measured in _measured(t):
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
                save(t.folder, t.position, t.trained, t.optimizers, t.accelerator)
                t.saved = t.position.step
            if asked and not done:
                bar.close()
                seen = f"{phase.name} stopped after step {t.saved} of {phase.steps}"
                raise Interrupted(f"{seen}; its state is saved.", others_tell=not main)
        bar.close()
    for embedding in char_embeddings(t.trained["model"]):
        embedding.row_dropout = 0.0
    # the next phase wraps the model anew, with other optimizers
    if not t.accelerator.is_fsdp2:
        t.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    t.accelerator.free_memory()
    return t.position


@contextmanager
def _whole_aside(t: Training) -> Iterator[None]:
    """Let FSDP2 train copies of the model and its heads, and set these to the trained weights.

    FSDP2 shards a model in place, and all that is done between two phases needs a whole one. The
    whole model waits in main memory.
    """
    if not t.accelerator.is_fsdp2:
        yield
        return
    # the base is whole in each process, and no copy of it is needed
    t.trained = {part: copy.deepcopy(module) for part, module in t.parts.items()}
    t.model.to("cpu")
    yield
    gather(t.trained, t.parts)
    t.trained = t.parts
    t.model.to(t.accelerator.device)


def _gather_in_all_ways(blocks: list[nn.Module]) -> None:
    """Let each method that computes a block gather its weights; FSDP2 knows `forward` alone."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    for block in blocks:
        for name in ways_of(block):
            if name != "forward":
                register_fsdp_forward_method(block, name)


@contextmanager
def _whole(t: Training) -> Iterator[None]:
    """Give the whole model the present weights, for an evaluation in the `with` block."""
    gather(t.trained, t.parts)
    t.model.to(t.accelerator.device)
    yield
    t.model.to("cpu")


def _measured(t: Training) -> list[dict[str, Any]]:
    """The rows of the learning curve at this step."""
    step = t.position.step
    if t.trained == t.parts or (t.measured is not None and step not in t.measured):
        return t.measure(step)
    with _whole(t):
        return t.measure(step)


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
    if phase.row_dropout:
        # equal in all processes and for all parts of the batch
        rows = stream("row dropout", phase.name, t.seed, step).getrandbits(32)
        for embedding in char_embeddings(t.trained["model"]):
            # replay keeps what the rows mean in text
            embedding.row_dropout = phase.row_dropout if batch.kind == phase.kind else 0.0
            embedding.row_dropout_seed = rows
    # 1.0 in a phase of text, where replay_weight has its default
    weight = phase.replay_weight if batch.kind == "text" else 1.0
    nats = _add_gradients(t, wrapped, batch, weight)
    if not all(map(math.isfinite, nats)):
        state = f"the state of step {t.saved} is kept in {t.folder}"
        kept = state if t.saved else "nothing had been saved yet"
        raise NotFinite(
            f"the {phase.name} loss is {sum(nats)} at step {step}, so training stopped before the "
            f"weights changed; {kept}: lower the learning rate or look at the batch."
        )
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


def _add_gradients(t: Training, wrapped: nn.Module, batch: Batch, weight: float) -> list[float]:
    """Add the gradients of a batch, times `weight`; return the losses of the whole batch."""
    accelerator = t.accelerator
    mine = batch.rows(accelerator.process_index, accelerator.num_processes)
    # equal in all processes, whose shares may differ by a row
    parts = min(t.accumulate, max(1, batch.shares // accelerator.num_processes))
    sums = []
    for number in range(parts):
        part = mine.rows(number, parts)
        # the gradients of all parts are exchanged once, with the last one
        last = number + 1 == parts
        with nullcontext() if last else accelerator.no_sync(wrapped):
            # FSDP2 is prepared without accelerate's autocast around the forward
            with accelerator.autocast() if accelerator.is_fsdp2 else nullcontext():
                losses = _losses(t, wrapped, batch, part)
            loss = weight * sum(losses[1:], losses[0])
            # DDP averages gradients over processes, and each has a part of the summed loss
            accelerator.backward(loss * accelerator.num_processes)
        sums.append(torch.stack([each.detach() for each in losses]))
    # summed over parts, then over processes
    total: Tensor = accelerator.reduce(sum(sums[1:], sums[0]), "sum")
    return total.tolist()


def _losses(t: Training, wrapped: nn.Module, batch: Batch, mine: Batch) -> list[Tensor]:
    """The loss of some rows of a batch and the weighted spelling loss, if any.

    Both are divided by the targets of the whole batch, so that the losses of its parts add up.
    """
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
