"""What matters when a pretrained model gets its letters: each choice in a run of its own, on equal batches.

    python -m benchmarks.retrofit --steps 75                     # all, four minutes of a core each
    python -m benchmarks.retrofit --only plain,spelled,gain-1.4

The model, questions and rates are those of `--preset smollm2` (or --preset, --model), without replay.
Printed: the loss on answers, as means of 25 steps; the loss on held-out text (the corpus's own, and the other
one) before the first step (the price of the letters) and after the last; and what is trained. A lead, not a
result: one seed, few steps, no exam.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import charembed
from benchmarks.measure import machine  # first: it pins the threads
from charembed import LSTMEncoder, SpellingTable
from charembed.gain import GAIN, scale_letters
from training.config import CompareConfig
from training.data import prepare
from training.errors import BadInput, exit_status
from training.evaluate import text_loss
from training.huggingface import HuggingFace
from training.learner import summed_loss
from training.optimizers import lr_scale, set_lr
from training.packaged_model import packaged_folder, unpack
from training.presets import preset

Build = Callable[[Any, SpellingTable], Any]  # a causal model of transformers and its spellings -> the same


class Gated(nn.Module):
    """Letters behind a factor that begins at zero and is learnt."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.gate = encoder, nn.Parameter(torch.zeros(1))

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.gate * self.encoder(ids_U)


class Joined(nn.Module):
    """Token and letters side by side, projected to the model's width: at first the sum of both."""

    def __init__(self, host: nn.Embedding, encoder: nn.Module) -> None:
        super().__init__()
        self.host, self.encoder = host, encoder
        width = host.embedding_dim
        self.project = nn.Linear(2 * width, width, bias=False)
        with torch.no_grad():
            self.project.weight.copy_(torch.cat([torch.eye(width), torch.eye(width)], 1))

    @property
    def weight(self) -> Tensor:
        return self.host.weight

    def forward(self, ids_BT: Tensor) -> Tensor:
        ids_U, where = torch.unique(ids_BT, return_inverse=True)
        joined: Tensor = self.project(torch.cat([self.host(ids_BT), self.encoder(ids_U)[where]], -1))
        return joined


def spelled(gain: float = GAIN, **options: Any) -> Build:
    return lambda model, table: charembed.attach(
        model, table, **({"init": "spelled", "gain": gain} | options)
    )


def warmed_up(hidden: int) -> Build:
    def build(model: Any, table: SpellingTable) -> Any:
        charembed.attach(model, table, init="loud", hidden_size=hidden)
        began = time.perf_counter()
        charembed.warm_up(model, gain=GAIN)
        print(f"warm-up of {hidden} wide: {time.perf_counter() - began:.0f} seconds", flush=True)
        return model

    return build


def gated(model: Any, table: SpellingTable) -> Any:
    host = model.get_input_embeddings()
    encoder = LSTMEncoder(table, host.embedding_dim, init="spelled")
    scale_letters(encoder, host.weight, GAIN)
    return charembed.attach(model, None, encoder=Gated(encoder))


def joined(model: Any, table: SpellingTable) -> Any:
    host = model.get_input_embeddings()
    encoder = LSTMEncoder(table, host.embedding_dim, init="spelled")
    scale_letters(encoder, host.weight, GAIN)
    model.set_input_embeddings(Joined(host, encoder))
    return model


def letters_alone(model: Any, table: SpellingTable) -> Any:
    return charembed.freeze_base(spelled()(model, table))


def first_blocks(number: int) -> Build:
    def build(model: Any, table: SpellingTable) -> Any:
        charembed.freeze_base(spelled()(model, table))
        for block in model.model.layers[:number]:
            block.requires_grad_(True)
        return model

    return build


def lora(model: Any, table: SpellingTable) -> Any:
    import peft

    spelled()(model, table)
    options = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    peft.get_peft_model(model, peft.LoraConfig(**options))  # in place; what it returns is a wrapper
    for parameter in charembed.parameters(model):
        parameter.requires_grad_(True)
    return model


VARIANTS: dict[str, Build] = {
    "plain": lambda model, table: model,
    "spelled": spelled(),
    "gain-0": spelled(0.0),
    "gain-0.35": spelled(GAIN / 2),
    "gain-1.4": spelled(2 * GAIN),
    "gate": gated,
    "joined": joined,
    "loud": spelled(init="loud", hidden_size=256),
    "warm-up-256": warmed_up(256),
    "warm-up-128": warmed_up(128),
    "zero": lambda model, table: charembed.attach(model, table, hidden_size=256),
    "letters-alone": letters_alone,
    "lora": lora,
    "first-10-blocks": first_blocks(10),
}


def run(name: str, config: CompareConfig, data: Any, steps: int) -> tuple[list[float], list[float], int]:
    """Losses of the steps, the losses on each text before and after, and how many parameters were trained."""
    learner = HuggingFace.load(config.model.model, config.context)
    VARIANTS[name](learner.model, data.spellings)
    phase = replace(config.phase("finetune"), replay_share=0.0)
    batch_at = data.batches(config, phase, 0)

    def reads() -> list[float]:
        texts = data.held_out_texts.values()
        return [text_loss(learner, text.ids, 32, config.text.context)[0] for text in texts]

    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    letters = {id(p) for key, p in learner.named_parameters() if ".encoder." in key or "lora_" in key}
    rates = ((False, phase.lr), (True, phase.lr * phase.char_lr_factor))
    groups = [
        {"params": [p for p in trained if (id(p) in letters) == own], "peak_lr": rate} for own, rate in rates
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], betas=(0.9, phase.beta2), weight_decay=0.0, fused=True
    )
    before, losses = reads(), list[float]()
    learner.train()
    for step in range(steps):
        set_lr([optimizer], lr_scale(step, phase.steps, phase.warmup, phase.schedule))
        batch = batch_at(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = summed_loss(learner, batch.ids_BT, batch.targets_BT, batch.keep_BT) / batch.num_targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, phase.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, before + reads(), sum(parameter.numel() for parameter in trained)


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(VARIANTS), help="with commas between")
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--preset", default="smollm2")
    parser.add_argument("--model")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in VARIANTS]:
        raise BadInput(f"there is no variant {unknown[0]!r}: choose from {', '.join(VARIANTS)}.")
    config = preset(options.preset)
    model = packaged_folder(options.model or config.model.model, options.cache)
    config = replace(config, model=replace(config.model, model=model))
    unpack(model)
    data = prepare(config, options.cache)
    print(machine())
    ends = range(25, options.steps + 1, 25)
    texts = [f"{text} {when}" for when in ("before", "after") for text in data.held_out_texts]
    table = Table("", *(f"to {end}" for end in ends), *texts, "trained")
    for name in names:
        losses, read, trained = run(name, config, data, options.steps)
        means = [f"{sum(losses[end - 25 : end]) / 25:.3f}" for end in ends]
        line = [name, *means, *(f"{loss:.3f}" for loss in read), f"{trained:,}"]
        table.add_row(*line)
        print(*line, flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
