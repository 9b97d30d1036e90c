"""Compare choices for adding character vectors to a pretrained model: one run each, equal batches.

    python -m benchmarks.retrofit --finetune-steps 150   # all, seven minutes of a core each
    python -m benchmarks.retrofit --only plain,spelled --finetune-steps 150 \\
        --replay-share 0.3 --scale 0.35

--only names entries of VARIANTS below. Of the laboratory's flags, those about data, model and
evaluation apply, and of --finetune-... the steps, batch size, context, rates, beta2, clip, schedule,
warm-up and replay. The rest is fixed: `--preset smollm2`, AdamW without weight decay.

The output gives the loss on answers as means of 25 steps with questions, the loss on held-out text
(the corpus's own and the other one) before the first step, which is the cost of adding the vectors,
and after the last step, and the trained parameters. This is a lead, not a result: one seed, few steps,
no evaluation.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import parametrize

import charembed
from benchmarks.measure import machine
from charembed import LSTMEncoder, SpellingTable
from charembed.embedding import char_embedding_of
from charembed.recurrence import last_states
from charembed.rows_from_spellings import readable_states, rows_from_spellings
from charembed.scale import scale_vectors
from charembed.spelling_loss import ids_with_characters
from training.ask.run_evaluation import text_loss
from training.config.config import CompareConfig
from training.config.flags import parse
from training.data.prepare import prepare
from training.errors import BadInput, exit_status
from training.models.huggingface import HuggingFace
from training.models.precision import resolve_precision
from training.models.smollm2 import unpack
from training.run.build import settle
from training.train.kinds import lr_scale, phase_batches, set_lr
from training.train.loss import Learner

Build = Callable[
    [Any, SpellingTable, float], Any
]  # model of transformers, spellings, scale -> the model


class Gated(nn.Module):
    """Multiply the character vectors by a learnt factor that begins at zero."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.gate = encoder, nn.Parameter(torch.zeros(1))

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.gate * self.encoder(ids_U)


class Joined(nn.Module):
    """Project token and character vector, side by side, to the model width; first the sum."""

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
        joined: Tensor = self.project(
            torch.cat([self.host(ids_BT), self.encoder(ids_U)[where]], -1)
        )
        return joined


class Onto(nn.Module):
    """Express columns as coefficients of orthonormal directions (D, K)."""

    def __init__(self, directions_DK: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions_DK", directions_DK)

    def forward(self, columns: Tensor) -> Tensor:
        directions_DK: Tensor = self.get_buffer("directions_DK")
        return directions_DK @ (directions_DK.T @ columns)


@torch.no_grad()
def hold(model: Any) -> None:
    """Keep the character vectors in their present directions during training."""
    projection: Any = char_embedding_of(model).encoder.get_submodule("projection")
    rank = int(torch.linalg.matrix_rank(projection.weight, rtol=1e-4))
    onto = Onto(torch.linalg.svd(projection.weight)[0][:, :rank])
    parametrize.register_parametrization(projection, "weight", onto)
    parametrize.register_parametrization(projection, "bias", onto)


def spelled(model: Any, table: SpellingTable, gain: float) -> Any:
    return charembed.attach(model, table, init="pretrained", scale=gain)


def warmed_up(hidden: int) -> Build:
    def build(model: Any, table: SpellingTable, gain: float) -> Any:
        charembed.attach(model, table, init="normal", hidden_size=hidden)
        began = time.perf_counter()
        charembed.warm_up(model, scale=gain)
        print(f"warm-up of {hidden} wide: {time.perf_counter() - began:.0f} seconds", flush=True)
        return model

    return build


def spelled_encoder(host: nn.Embedding, table: SpellingTable, gain: float) -> LSTMEncoder:
    encoder = LSTMEncoder(table, host.embedding_dim, init="pretrained")
    scale_vectors(encoder, host.weight, gain)
    return encoder


def gated(model: Any, table: SpellingTable, gain: float) -> Any:
    encoder = spelled_encoder(model.get_input_embeddings(), table, gain)
    return charembed.attach(model, None, encoder=Gated(encoder))


def joined(model: Any, table: SpellingTable, gain: float) -> Any:
    host = model.get_input_embeddings()
    model.set_input_embeddings(Joined(host, spelled_encoder(host, table, gain)))
    return model


def letters_alone(model: Any, table: SpellingTable, gain: float) -> Any:
    return charembed.freeze_base(spelled(model, table, gain))


def frozen_letters(model: Any, table: SpellingTable, gain: float) -> Any:
    for parameter in charembed.parameters(spelled(model, table, gain)):
        parameter.requires_grad_(False)
    return model


def frozen_table(model: Any, table: SpellingTable, gain: float) -> Any:
    spelled(model, table, gain).get_input_embeddings().weight.requires_grad_(False)
    return model


def first_blocks(number: int) -> Build:
    def build(model: Any, table: SpellingTable, gain: float) -> Any:
        letters_alone(model, table, gain)
        for block in model.model.layers[:number]:
            block.requires_grad_(True)
        return model

    return build


def lora(model: Any, table: SpellingTable, gain: float) -> Any:
    import peft

    spelled(model, table, gain)
    options = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    peft.get_peft_model(
        model, peft.LoraConfig(**options)
    )  # works in place; the return value is a wrapper
    for parameter in charembed.parameters(model):
        parameter.requires_grad_(True)
    return model


def loud(model: Any, table: SpellingTable, gain: float) -> Any:
    return charembed.attach(model, table, init="normal", hidden_size=256, scale=gain)


@torch.no_grad()
def amplify(model: Any, data: Any) -> None:
    """Double the part of the token rows that follows from their spelling."""
    embedding: Any = char_embedding_of(model)
    encoder, ids_L = embedding.encoder, ids_with_characters(data.spellings)
    pieces = [*data.tokenizer.spellings, *[None] * len(embedding.weight)][: len(embedding.weight)]
    said_LD = rows_from_spellings(embedding.weight, readable_states(pieces), ids_L)(ids_L)
    states_LH = last_states(encoder.cell, encoder.weights(), encoder.token_chars.plan(ids_L))
    with_one = torch.cat([states_LH, torch.ones(len(ids_L), 1)], 1)
    fitted = torch.linalg.lstsq(
        with_one.double(), (said_LD - said_LD.mean(0)).double()
    ).solution.float()
    encoder.projection.weight.add_(fitted[:-1].T / encoder.output_scale)
    encoder.projection.bias.add_(fitted[-1] / encoder.output_scale)


VARIANTS: dict[str, Build] = {
    "plain": lambda model, table, gain: model,
    "spelled": spelled,
    "amplified": spelled,  # with the spelling part of the rows doubled, see `run`
    "held": spelled,  # in its low-Fisher directions, see `run`
    "silent": lambda model, table, gain: spelled(model, table, 0.0),
    "gate": gated,
    "joined": joined,
    "loud": loud,
    "warm-up-256": warmed_up(256),
    "warm-up-128": warmed_up(128),
    "zero": lambda model, table, gain: charembed.attach(model, table, hidden_size=256),
    "frozen-letters": frozen_letters,
    "frozen-table": frozen_table,  # and the head tied to it
    "letters-alone": letters_alone,
    "lora": lora,
    "first-10-blocks": first_blocks(10),
}


AS_BUILT = {"plain", "silent", "zero", "gate", "joined"}  # no projection, no other scale


def run(name: str, config: CompareConfig, data: Any) -> tuple[list[float], list[float], int]:
    """Return losses of the steps, losses on each text before and after, trained parameters."""
    model = HuggingFace.load(config.model.model, config.context)
    VARIANTS[name](model.model, data.spellings, config.model.scale)
    if name not in AS_BUILT:
        settle(model, data)
    if name == "held":
        hold(model.model)
    if name == "amplified":
        amplify(model.model, data)
    phase = config.phase("finetune")
    faithful = phase.replay_target == "base"
    base = HuggingFace.load(config.model.model, config.context).eval() if faithful else None
    learner = Learner(model, None, base)
    batch_at = phase_batches(data, phase, 0)

    def reads() -> list[float]:
        texts = data.held_out_texts.values()
        return [text_loss(model, text.ids, 32, config.text.context)[0] for text in texts]

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    letters = {id(p) for key, p in model.named_parameters() if ".encoder." in key or "lora_" in key}
    rates = ((False, phase.lr), (True, phase.lr * phase.char_lr_factor))
    groups = [
        {"params": [p for p in trained if (id(p) in letters) == own], "peak_lr": rate}
        for own, rate in rates
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(0.9, phase.beta2),
        weight_decay=0.0,
        fused=True,
    )
    bf16 = resolve_precision(config.precision, cpu=True) == "bf16"
    before, losses = reads(), list[float]()
    model.train()
    for step in range(phase.steps):
        set_lr([optimizer], lr_scale(step, phase.steps, phase.warmup, phase.schedule))
        batch = batch_at(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = learner(*batch.tensors)[0] / batch.num_targets
        weight = phase.replay_weight if batch.kind == "text" else 1.0
        (weight * loss).backward()
        if weight * phase.clip:
            torch.nn.utils.clip_grad_norm_(trained, weight * phase.clip)
        optimizer.step()
        optimizer.zero_grad()
        if batch.kind == "question":
            losses.append(float(loss.detach()))
    return losses, before + reads(), sum(parameter.numel() for parameter in trained)


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", default=",".join(VARIANTS))
    chosen, others = parser.parse_known_args(argv)
    names = chosen.only.split(",")
    if unknown := [name for name in names if name not in VARIANTS]:
        raise BadInput(f"there is no variant {unknown[0]!r}: choose from {', '.join(VARIANTS)}.")
    config, options = parse(["--preset", "smollm2", *others], __doc__)
    unpack(config.model.model)
    data = prepare(config, options.cache)
    print(machine())
    steps = config.phase("finetune").steps * (1 - config.phase("finetune").replay_share)
    ends = range(25, int(steps) + 1, 25)
    texts = [f"{text} {when}" for when in ("before", "after") for text in data.held_out_texts]
    table = Table("", *(f"to {end}" for end in ends), *texts, "trained")
    for name in names:
        losses, read, trained = run(name, config, data)
        means = [f"{sum(losses[end - 25 : end]) / 25:.3f}" for end in ends]
        line = [name, *means, *(f"{loss:.3f}" for loss in read), f"{trained:,}"]
        table.add_row(*line)
        print(*line, flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
