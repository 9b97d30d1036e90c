"""One arm of one pair, from its first weights to its marked answers, in a folder of its own.

The folder holds `metrics.jsonl`, `state.safetensors` (where training stands), a file per finished phase
(`pretrain.safetensors`, `finetune.safetensors`) and what finished.py says of a finished arm.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

import charembed
from training.ask.eval_sets import answer_all, mark, set_exams, text_loss
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.data.batches import text_batches
from training.data.prepare import Data, prepare
from training.errors import Interrupted
from training.interrupts import deferred
from training.intervals import Row
from training.models.arms import num_parameters, num_parameters_after_fold
from training.models.language_model import LanguageModel
from training.models.precision import resolve_precision
from training.progress import Bars, no_bars
from training.run.build import build_arm, build_model
from training.train.loop import Training, stopping, train
from training.train.spelling import heads_for
from training.train.state import (
    METRICS,
    STATE,
    Position,
    check_metrics,
    load_trained,
    write_trained,
)

from .finished import DONE, is_finished, phase_file, trained_phases, write_finished
from .identity import identity

TOKENS_PER_COLUMN = 4  # of text, for each column of the embedding, that tell its quiet directions


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run: device, threads (both may move the last digits), caching, progress."""

    cache: Path
    threads: int = 1
    cpu: bool = False
    progress: bool = True
    save_every: int = 200

    @staticmethod
    def of(flags: argparse.Namespace) -> RunOptions:
        return RunOptions(
            cache=flags.cache,
            threads=flags.threads,
            cpu=flags.cpu,
            progress=not flags.quiet,
            save_every=flags.save_every,
        )


def run_arm(
    config: CompareConfig,
    seed: int,
    arm: str,
    folder: Path,
    options: RunOptions,
    data: Data | None = None,
    bars: Bars = no_bars,
) -> None:
    """Take one arm through all phases and ask it; what the folder already holds is not done again.

    What is missing is made again. Raises Damaged for what is there and not what was written, and Interrupted
    when someone asked to stop, once its state is saved.
    """
    with deferred() as stop:
        data = data or prepare(config, options.cache)
        run = identity(config, seed, arm, data.facts)
        if is_finished(folder, run):
            return
        torch.set_num_threads(options.threads)
        accelerator = Accelerator(
            cpu=options.cpu,
            mixed_precision={"bf16": "bf16", "fp32": "no"}[
                resolve_precision(config.precision, options.cpu)
            ],
        )
        if accelerator.is_main_process:
            (folder / DONE).unlink(missing_ok=True)  # it no longer holds
        model = first_weights(config, arm, seed, data, accelerator.device)
        spells = any(phase.spells for phase in trained_phases(config))
        heads = (
            heads_for(model, model.embedding, data.spellings, seed).to(accelerator.device)
            if spells
            else None
        )
        position = Position(run)
        rows: list[Row] = []
        batches: dict[str, str] = {}
        for phase in config.phases:
            if stopping(accelerator, stop):
                raise Interrupted(f"{phase.name} has not begun; what was done before is saved.")
            if phase.kind == "question":
                _extend_context(model, phase, seed)
            if phase.steps:
                training = Training(
                    model=model,
                    phase=phase,
                    batch_at=data.batches(config, phase, seed),
                    folder=folder,
                    accelerator=accelerator,
                    seed=seed,
                    position=position,
                    heads=heads,
                    save_every=options.save_every,
                )
                position = _train_or_load(training, config, bars)
                batches[phase.name] = position.batches
            if phase.kind == "spelling":
                if phase.steps:
                    settle(model, config, data)
            else:
                rows += _text_rows(model, data, config, arm, seed, phase.title)
        if stopping(accelerator, stop):
            raise Interrupted("Training is finished and saved; the questions come when it goes on.")
        exams = set_exams(config, data, seed)
        marked_rows, marked = mark(exams, answer_all(model, config, data, exams, bars), arm, seed)
        rows += [*marked_rows, *_cost_rows(config, folder, model, arm, seed)]
        if accelerator.is_main_process:
            write_finished(folder, config, rows, marked, batches, run)
        accelerator.wait_for_everyone()


def first_weights(
    config: CompareConfig, arm: str, seed: int, data: Data, device: torch.device | None = None
) -> LanguageModel:
    """An arm before its first step."""
    model = build_arm(config, arm, seed, data.spellings).to(device)
    settle(model, config, data)
    return model


def settle(model: LanguageModel, config: CompareConfig, data: Data) -> None:
    """Turn an arm's letters into quiet directions and set their loudness, as far as the config wants either.

    What a warm-up on spelling did to both is undone: it knows nothing of the model.
    """
    embedding = model.get_submodule(model.embedding)
    gain = config.model.scale or None
    if not isinstance(embedding, charembed.CharEmbedding):
        return
    if config.model.low_fisher_share:
        rows = max(32, math.ceil(TOKENS_PER_COLUMN * embedding.embedding_dim / config.text.context))
        text = text_batches(data.train_ids, rows, config.text.context, "quiet")(0)
        ids_BT = text.ids_BT.to(embedding.weight.device)
        charembed.project_to_low_fisher(
            model, ids_BT, share=config.model.low_fisher_share, scale=gain
        )
    elif gain:
        charembed.set_scale(model, gain)


def load_arm(config: CompareConfig, seed: int, arm: str, folder: Path, data: Data) -> LanguageModel:
    """A finished arm, ready to be asked. Raises Damaged when the folder does not hold it."""
    trained = trained_phases(config)
    # The file of a trained phase holds every parameter, so the first weights need no preparation.
    model = (
        build_arm(config, arm, seed, data.spellings)
        if trained
        else first_weights(config, arm, seed, data)
    )
    for phase in config.phases:
        if phase.kind == "question":
            _extend_context(model, phase, seed)
    if trained:
        run = identity(config, seed, arm, data.facts)
        load_trained(folder / phase_file(trained[-1]), {"model": model}, run, trained[-1].name)
    return model.eval()


def _train_or_load(training: Training, config: CompareConfig, bars: Bars) -> Position:
    """Where the phase ends. If it is trained, so is what followed from an older file of it."""
    folder, phases = training.folder, trained_phases(config)
    path, main = folder / phase_file(training.phase), training.accelerator.is_main_process
    told = (folder / METRICS).exists()
    if path.exists() and told:
        position = load_trained(path, training.parts, training.position.run, training.phase.name)
        check_metrics(folder / METRICS, position)
        return position
    if main:
        for later in phases[phases.index(training.phase) :]:
            (folder / phase_file(later)).unlink(missing_ok=True)
        if not told:
            (folder / STATE).unlink(missing_ok=True)
    training.accelerator.wait_for_everyone()
    if training.phase.replay_target == "base":
        training.base = build_model(config, training.seed).to(training.accelerator.device).eval()
    position = train(training, bars)
    if main:
        write_trained(path, training.parts, position)
        (folder / STATE).unlink(missing_ok=True)
    training.accelerator.wait_for_everyone()
    return position


def _extend_context(model: LanguageModel, phase: Phase, seed: int) -> None:
    model.extend_context(phase.context, torch.Generator().manual_seed(seed))


def _row(arm: str, seed: int, task: str, metric: str, value: float, n: int = 1) -> Row:
    return Row(arm, seed, task, "all", metric, value, None, None, n, None)


def _text_rows(
    model: nn.Module, data: Data, config: CompareConfig, arm: str, seed: int, title: str
) -> list[Row]:
    """The loss on held-out text, and on the other corpus where there is one."""
    rows = []
    for name, text in data.held_out_texts.items():
        loss_nats, n = text_loss(
            model, text.ids, config.evaluation.validation_rows, config.text.context
        )
        task, bits = f"{name}, after {title}", loss_nats / math.log(2) / text.bytes_per_token
        rows.append(_row(arm, seed, task, "loss_nats", loss_nats, n))
        rows.append(_row(arm, seed, task, "bits_per_byte", bits, n))
    return rows


def _cost_rows(
    config: CompareConfig, folder: Path, model: LanguageModel, arm: str, seed: int
) -> Iterator[Row]:
    path = folder / METRICS
    steps = (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    )
    yield _row(arm, seed, "all", "parameters", num_parameters(model))
    for phase in config.phases:
        seconds = [
            step["seconds"]
            for step in steps
            if step["phase"] == phase.name and step["kind"] == phase.kind
        ]
        if seconds:
            yield _row(
                arm,
                seed,
                phase.name,
                "median_step_seconds",
                statistics.median(seconds),
                len(seconds),
            )
    if steps:
        yield _row(
            arm, seed, "all", "training_seconds", sum(step["seconds"] for step in steps), len(steps)
        )
    yield _row(arm, seed, "all", "parameters_after_fold", num_parameters_after_fold(model))
