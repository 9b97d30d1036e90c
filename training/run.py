"""One arm of one pair, from its first weights to its marked answers, in a folder of its own.

The folder holds `metrics.jsonl`, `state.safetensors` (where training stands), `pretrained.safetensors`,
`finetuned.safetensors` and, last, `results.json`: the arm is done when that file is there.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import is_bf16_available
from torch import nn

import charembed

from .arms import build_arm, num_parameters
from .config import CompareConfig
from .data import Data, prepare
from .decoder import Decoder
from .evaluate import answer_all, mark, set_exams, text_loss
from .files import read_tensors, write_atomically, write_json, write_tensors
from .loop import Bar, Phase, load_parameters, train, trained_parameters
from .statistics import Row, read_rows


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, nothing that changes a result: device, threads, caching, progress."""

    cache: Path
    threads: int = 1
    cpu: bool = False
    progress: bool = True
    save_every: int = 200


def resolve_precision(precision: str, cpu: bool) -> str:
    """The arithmetic that will be used: "auto" is bf16 on a GPU that has it, and fp32 elsewhere."""
    if precision == "auto":
        return "bf16" if torch.cuda.is_available() and not cpu and is_bf16_available(ignore_tpu=True) else "fp32"
    return precision


def run_arm(config: CompareConfig, seed: int, arm: str, folder: Path, options: RunOptions, data: Data | None = None, bar: Bar | None = None) -> list[Row]:
    """Pretrain, fine-tune and ask one arm; what the folder already holds is not done again. Returns its result rows."""
    if (folder / "results.json").exists():
        return read_rows(folder / "results.json")
    torch.set_num_threads(options.threads)
    accelerator = Accelerator(cpu=options.cpu, mixed_precision={"bf16": "bf16", "fp32": "no"}[resolve_precision(config.precision, options.cpu)])
    data = data or prepare(config, options.cache)
    model = build_arm(config, arm, seed, data.table).to(accelerator.device)
    size = num_parameters(model)
    rows: list[Row] = []

    _train_or_load(model, _phase(config, "pretrain", seed, options), data.pretraining(config, seed), folder, accelerator, bar)
    rows += _text_rows(model, data, config, arm, seed, "text, after pretraining")
    _extend_context(model, config, seed)
    _train_or_load(model, _phase(config, "finetune", seed, options), data.finetuning(config, seed), folder, accelerator, bar)
    rows += _text_rows(model, data, config, arm, seed, "text, after fine-tuning")

    exams = set_exams(config, data.tasks(config), seed)
    marked_rows, marked = mark(exams, answer_all(model, data.encoding, exams, config.finetune_context, bar), arm, seed)
    rows += marked_rows
    rows += _cost_rows(folder, model, size, arm, seed)
    if accelerator.is_main_process:
        write_atomically(folder / "answers.jsonl", "".join(json.dumps(answer) + "\n" for answer in marked))
        write_json(folder / "results.json", [asdict(row) for row in rows])
    return rows


def load_arm(config: CompareConfig, seed: int, arm: str, folder: Path, data: Data) -> Decoder:
    """A finished arm, ready to be asked. Raises ValueError when the folder does not hold it."""
    model = build_arm(config, arm, seed, data.table)
    _extend_context(model, config, seed)
    load_parameters(model, read_tensors(folder / "finetuned.safetensors")[0], folder / "finetuned.safetensors")
    return model.eval()


def _phase(config: CompareConfig, name: str, seed: int, options: RunOptions) -> Phase:
    pretraining = name == "pretrain"
    lr = config.lr if pretraining else config.finetune_lr
    return Phase(
        name=name, steps=config.steps if pretraining else config.finetune_steps, lr=lr, char_lr=lr * config.char_lr_factor, seed=seed,
        optimizer=config.optimizer, weight_decay=config.weight_decay, clip=config.clip, warmup=config.warmup, save_every=options.save_every,
    )  # fmt: skip


def _train_or_load(model: nn.Module, phase: Phase, batch_at: Any, folder: Path, accelerator: Accelerator, bar: Bar | None) -> None:
    path = folder / {"pretrain": "pretrained.safetensors", "finetune": "finetuned.safetensors"}[phase.name]
    if path.exists():
        load_parameters(model, read_tensors(path)[0], path)
        return
    digest = train(model, phase, batch_at, folder, accelerator, bar)
    if accelerator.is_main_process:
        write_tensors(path, trained_parameters(model), {"phase": phase.name, "steps": phase.steps, "batches": digest})
    accelerator.wait_for_everyone()


def _extend_context(model: Decoder, config: CompareConfig, seed: int) -> None:
    model.extend_context(config.finetune_context, torch.Generator().manual_seed(seed))


def _row(arm: str, seed: int, task: str, metric: str, value: float, n: int = 1) -> Row:
    return Row(arm, seed, task, "all", metric, value, None, None, n, None)


def _text_rows(model: nn.Module, data: Data, config: CompareConfig, arm: str, seed: int, task: str) -> list[Row]:
    loss_nats, n = text_loss(model, data.validation_ids, config.validation_rows, config.context)
    bits = loss_nats / math.log(2) / data.bytes_per_token
    return [_row(arm, seed, task, "loss_nats", loss_nats, n), _row(arm, seed, task, "bits_per_byte", bits, n)]


def _cost_rows(folder: Path, model: nn.Module, size: int, arm: str, seed: int) -> list[Row]:
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    rows = [_row(arm, seed, "all", "parameters", size)]
    for phase, kind in (("pretrain", "text"), ("finetune", "question")):
        seconds = [step["seconds"] for step in steps if step["phase"] == phase and step["kind"] == kind]
        if seconds:
            rows.append(_row(arm, seed, phase, "median_step_seconds", statistics.median(seconds), len(seconds)))
    rows.append(_row(arm, seed, "all", "training_seconds", sum(step["seconds"] for step in steps), len(steps)))
    rows.append(_row(arm, seed, "all", "parameters_after_fold", num_parameters(charembed.fold(model))))
    return rows
