"""One arm of one pair, from its first weights to its marked answers, in a folder of its own.

The folder holds `metrics.jsonl`, `state.safetensors` (where training stands), a file per finished phase
(`pretrain.safetensors`, `finetune.safetensors`) and, last, `results.json`: the arm is done when that file is
there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import is_bf16_available
from torch import nn

from .arms import build_arm, num_parameters, num_parameters_after_fold
from .config import CompareConfig, Phase
from .data import Data, prepare
from .evaluate import answer_all, mark, set_exams, text_loss
from .files import write_atomically, write_json
from .loop import Bar, Training, train
from .models import LanguageModel
from .spelling_loss import heads_for
from .state import load_trained, write_trained
from .statistics import Row, read_rows


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, nothing that changes a result: device, threads, caching, progress."""

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


def resolve_precision(precision: str, cpu: bool) -> str:
    """The arithmetic that will be used: "auto" is bf16 on a GPU that has it, and fp32 elsewhere."""
    if precision == "auto":
        return (
            "bf16" if torch.cuda.is_available() and not cpu and is_bf16_available(ignore_tpu=True) else "fp32"
        )
    return precision


def run_arm(
    config: CompareConfig,
    seed: int,
    arm: str,
    folder: Path,
    options: RunOptions,
    data: Data | None = None,
    bar: Bar | None = None,
) -> list[Row]:
    """Take one arm through all phases and ask it; what the folder already holds is not done again.

    Returns its result rows.
    """
    if (folder / "results.json").exists():
        return read_rows(folder / "results.json")
    torch.set_num_threads(options.threads)
    accelerator = Accelerator(
        cpu=options.cpu,
        mixed_precision={"bf16": "bf16", "fp32": "no"}[resolve_precision(config.precision, options.cpu)],
    )
    data = data or prepare(config, options.cache)
    model = build_arm(config, arm, seed, data.spellings).to(accelerator.device)
    spells = any(phase.spells for phase in trained_phases(config))
    heads = heads_for(model, model.embedding, data.spellings, seed).to(accelerator.device) if spells else None
    rows: list[Row] = []
    for phase in config.phases:
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
                heads=heads,
                save_every=options.save_every,
            )
            _train_or_load(training, bar)
        if phase.kind != "spelling":
            rows += _text_rows(model, data, config, arm, seed, f"text, after {phase.title}")
    exams = set_exams(config, data, seed)
    marked_rows, marked = mark(exams, answer_all(model, config, data, exams, bar), arm, seed)
    rows += [*marked_rows, *_cost_rows(config, folder, model, arm, seed)]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "answers.jsonl", "".join(json.dumps(answer) + "\n" for answer in marked))
        write_json(folder / "results.json", [asdict(row) for row in rows])
    return rows


def load_arm(config: CompareConfig, seed: int, arm: str, folder: Path, data: Data) -> LanguageModel:
    """A finished arm, ready to be asked. Raises BadInput when the folder does not hold it."""
    model = build_arm(config, arm, seed, data.spellings)
    for phase in config.phases:
        if phase.kind == "question":
            _extend_context(model, phase, seed)
    if trained := trained_phases(config):
        load_trained(folder / phase_file(trained[-1]), {"model": model})
    return model.eval()


def trained_phases(config: CompareConfig) -> list[Phase]:
    return [phase for phase in config.phases if phase.steps]


def phase_file(phase: Phase) -> str:
    return f"{phase.name}.safetensors"


def _train_or_load(training: Training, bar: Bar | None) -> None:
    path = training.folder / phase_file(training.phase)
    if path.exists():
        load_trained(path, training.parts)
        return
    digest = train(training, bar)
    if training.accelerator.is_main_process:
        write_trained(
            path,
            training.parts,
            {"phase": training.phase.name, "steps": training.phase.steps, "batches": digest},
        )
    training.accelerator.wait_for_everyone()


def _extend_context(model: LanguageModel, phase: Phase, seed: int) -> None:
    model.extend_context(phase.context, torch.Generator().manual_seed(seed))


def _row(arm: str, seed: int, task: str, metric: str, value: float, n: int = 1) -> Row:
    return Row(arm, seed, task, "all", metric, value, None, None, n, None)


def _text_rows(
    model: nn.Module, data: Data, config: CompareConfig, arm: str, seed: int, task: str
) -> list[Row]:
    loss_nats, n = text_loss(model, data.validation_ids, config.exam.validation_rows, config.text.context)
    bits = loss_nats / math.log(2) / data.bytes_per_token
    return [_row(arm, seed, task, "loss_nats", loss_nats, n), _row(arm, seed, task, "bits_per_byte", bits, n)]


def _cost_rows(
    config: CompareConfig, folder: Path, model: LanguageModel, arm: str, seed: int
) -> Iterator[Row]:
    path = folder / "metrics.jsonl"
    steps = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    yield _row(arm, seed, "all", "parameters", num_parameters(model))
    for phase in config.phases:
        seconds = [
            step["seconds"] for step in steps if step["phase"] == phase.name and step["kind"] == phase.kind
        ]
        if seconds:
            yield _row(arm, seed, phase.name, "median_step_seconds", statistics.median(seconds), len(seconds))
    if steps:
        yield _row(arm, seed, "all", "training_seconds", sum(step["seconds"] for step in steps), len(steps))
    yield _row(arm, seed, "all", "parameters_after_fold", num_parameters_after_fold(model))
