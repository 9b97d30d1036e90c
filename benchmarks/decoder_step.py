"""Time a training step of the own decoder against its slow form and against nanoGPT's.

    python -m benchmarks.decoder_step              # all tables, five minutes of one core
    python -m benchmarks.decoder_step --only peer --rounds 7

The candidates of a table run in turn in one process with one thread. A value is the median CPU time
over the rounds, so that other work on the machine counts little. The slow form is the one that the
tests compare with (tests/laboratory/twins.py): padding is computed in every block, and the logits
of all positions exist at once. nanoGPT is its model.py in short, with the same optimizers. The peak
of memory is that of one step beyond the memory before it, each form in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import interleaved, machine, show
from tests.laboratory.twins import padded_loss, whole_divergence
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.config.presets import preset
from training.data.batches import Batch
from training.data.prepare import Data, prepare
from training.models.decoder import Decoder, DecoderConfig
from training.models.language_model import Mask
from training.run.build import build_arm, extend_context
from training.train.kinds import build_optimizers, phase_batches
from training.train.loss import divergence, summed_loss

Loss = Callable[[nn.Module, Tensor, Tensor, Mask], Tensor]
FORMS: dict[str, Loss] = {"slow": padded_loss, "fast": summed_loss}
# of a step on text whose loss is the divergence from a base model
DIVERGENCES = {"slow divergence": whole_divergence, "fast divergence": divergence}
TABLES = ("finetune", "pretrain", "peer", "divergence", "memory")
BATCHES = 12


class Block(nn.Module):
    """A block of nanoGPT: biases everywhere, and GELU."""

    def __init__(self, D: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.c_fc, self.c_out = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        heads = B, T, self.heads, D // self.heads
        q, k, v = (
            part.view(heads).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).split(D, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, D))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """karpathy/nanoGPT, model.py: the same operations in the same order, without dropout."""

    embedding = "wte"

    def __init__(self, V: int, T: int, D: int, heads: int, layers: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks = nn.ModuleList(Block(D, heads) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(D), nn.Linear(D, V, bias=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)
        self.wte.weight = self.lm_head.weight

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

    def inner_matrices(self) -> list[nn.Parameter]:
        return [each for each in self.blocks.parameters() if each.dim() == 2]


def nanogpt_loss(model: nn.Module, ids_BT: Tensor, targets_BT: Tensor, _: Mask) -> Tensor:
    loss: Tensor = model(ids_BT, targets_BT)
    return loss * targets_BT.numel()


def step_of(model: nn.Module, phase: Phase, batches: list[Batch], loss: Loss) -> Callable[[], None]:
    """A function that does the next update: forward, backward, clipping, optimizers."""
    optimizers = build_optimizers(model, replace(phase, lr=1e-4))  # type: ignore[arg-type]
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        (loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT) / batch.num_targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), phase.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def step_of_arm(
    config: CompareConfig, data: Data, phase: Phase, arm: str, form: str
) -> Callable[[], None]:
    model = build_arm(config, arm, 0, data.spellings)
    extend_context(model, phase, 0)
    loss = FORMS.get(form)
    if loss is None:
        base, between = build_arm(config, arm, 1, data.spellings).eval(), DIVERGENCES[form]

        def loss(model: nn.Module, ids_BT: Tensor, _: Tensor, __: Mask) -> Tensor:
            return between(model, base, ids_BT)

    return step_of(model, phase, batches_of(data, phase), loss)


def batches_of(data: Data, phase: Phase) -> list[Batch]:
    """Batches of the phase's own kind, without replayed text."""
    found = (phase_batches(data, phase, 0)(k) for k in range(3 * BATCHES))
    return [batch for batch in found if batch.kind == phase.kind][:BATCHES]


def forms(config: CompareConfig, data: Data, phase: Phase, rounds: int) -> None:
    """The slow and the fast form of a step, without characters and with them."""
    steps = {
        f"{arm}, {form}": step_of_arm(config, data, phase, arm, form)
        for arm in ("plain", "lstm")
        for form in FORMS
    }
    took = interleaved(steps, rounds, time.process_time)
    for part, base in (("lstm", "lstm, slow"), ("plain", "plain, slow"), ("fast", "plain, fast")):
        show(f"{phase.title}: {part}", {k: took[k] for k in took if part in k}, base)
    sizes = [(b.num_tokens, b.ids_BT.numel(), b.num_targets) for b in batches_of(data, phase)]
    read, padded, kept = (sum(each) // len(sizes) for each in zip(*sizes, strict=True))
    print(f"mean of a batch: {padded} positions with padding, {read} without, {kept} with a loss")


def peer(config: CompareConfig, data: Data, rounds: int) -> None:
    """A pretraining step of the decoder and one of nanoGPT, of the same shape, both tied."""
    phase, size = config.text, config.model
    V, T, D = config.data.vocab_size, phase.context, size.width
    ours = DecoderConfig(
        vocab_size=V, context=T, n_embd=D, n_head=size.heads, n_layer=size.layers, output="tokens"
    )
    batches = batches_of(data, phase)
    theirs = NanoGPT(V, T, D, size.heads, size.layers)
    steps = {
        "nanoGPT": step_of(theirs, phase, batches, nanogpt_loss),
        "decoder": step_of(Decoder(ours), phase, batches, summed_loss),
    }
    title = (
        f"pretraining step, {phase.batch_size} x {T}, width {D}, {size.layers} layers, {V} tokens"
    )
    show(title, interleaved(steps, rounds, time.process_time), "nanoGPT")


def divergences(config: CompareConfig, data: Data, rounds: int) -> None:
    """A step on text whose loss is the divergence from another model of the same shape."""
    steps = {form: step_of_arm(config, data, config.text, "plain", form) for form in DIVERGENCES}
    took = interleaved(steps, rounds, time.process_time)
    show("step on text with the divergence from a base", took, "slow divergence")


def peak_of_a_step(step: Callable[[], None]) -> float:
    """MiB of the process at its peak within a step, beyond those before it (Linux)."""

    def mebibytes(field: str) -> float:
        found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    step()  # makes gradients and the optimizers' states
    before = mebibytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    step()
    return mebibytes("VmHWM") - before


def memory() -> None:
    # every freed block goes back to the system at once, or an earlier step would hide a later one
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    for form in (*FORMS, *DIVERGENCES):
        command = [sys.executable, "-m", "benchmarks.decoder_step", "--peak", form]
        subprocess.run(command, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=TABLES, action="append", help="one table; repeatable")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--peak", choices=(*FORMS, *DIVERGENCES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = preset("quick")
    data = prepare(config, options.cache)
    if options.peak:
        step = step_of_arm(config, data, config.text, "lstm", options.peak)
        print(f"pretraining step, {options.peak}: {peak_of_a_step(step):.0f} MiB at the peak")
        return
    print(machine())
    for table in options.only or TABLES:
        if table == "peer":
            peer(config, data, options.rounds)
        elif table == "divergence":
            divergences(config, data, options.rounds)
        elif table == "memory":
            memory()
        else:
            forms(config, data, config.phase(table), options.rounds)


if __name__ == "__main__":
    main()
