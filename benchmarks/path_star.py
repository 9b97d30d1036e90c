"""Path-star graphs of two arms of five nodes, one objective against another.

Trained to write the path forward, a model learns to follow edges and guesses the first step; trained to write
it from its end, it can learn the path (arXiv 2403.06963). Some text before it teaches both which token stands
before another.

    python -m benchmarks.path_star                                    # next_token and reversed
    python -m benchmarks.path_star --objectives teacherless --steps 3000

Printed for new graphs: how often each token of the answer is right when all before it are given, and the
share of answers that a model writes freely without a mistake. Guessing the arm gets 0.50 of both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import torch
from accelerate import Accelerator

from benchmarks.measure import machine
from training.arms import build_arm
from training.batches import pad_examples
from training.config import CompareConfig
from training.data import Data, prepare
from training.evaluate import answer_all, mark, set_exams
from training.flags import changed
from training.loop import Bar, Training, train
from training.models import LanguageModel
from training.presets import preset
from training.questions import encode_item
from training.run import trained_phases

ITEMS = 500


def setting(objective: str, steps: int, lr: float) -> CompareConfig:
    """The quick preset's vocabulary, a decoder of two layers of width 64, and its 400 steps of text."""
    return changed(
        preset("quick"),
        tasks=("path_star:2x5",),
        arms=("plain",),
        objective=objective,
        layers=2,
        heads=2,
        width=64,
        finetune_steps=steps,
        finetune_lr=lr,
        replay_share=0.0,
        questions=ITEMS,
    )


@torch.no_grad()
def given_the_rest(model: LanguageModel, config: CompareConfig, data: Data) -> list[float]:
    """The share of new graphs on which each token of the answer is right when all before it are given."""
    (exam,) = (exam for exam in set_exams(config, data, 0) if exam.split == "fresh")
    objective = data.questions(config).objective
    batch = pad_examples(
        [objective.arrange(*encode_item(data.tokenizer, item), data.dummy) for item in exam.items]
    )
    assert batch.keep_BT is not None
    right = model.eval()(batch.ids_BT, batch.keep_BT).argmax(-1) == batch.targets_BT[batch.keep_BT]
    return right.view(len(exam.items), -1).float().mean(0).tolist()


def measure(objective: str, steps: int, lr: float, cache: Path) -> None:
    config = setting(objective, steps, lr)
    data = prepare(config, cache)
    model, accelerator = build_arm(config, "plain", 0, data.spellings), Accelerator(cpu=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for phase in trained_phases(config):
            batch_at = data.batches(config, phase, 0)
            training = Training(
                model=model,
                phase=phase,
                batch_at=batch_at,
                folder=Path(folder),
                accelerator=accelerator,
                seed=0,
            )
            train(training, Bar(objective, 0))
    seconds = time.perf_counter() - began
    print(f"{objective}, {steps} steps of {config.phase('finetune').batch_size}, {seconds:.0f} seconds")
    print(
        "  given the rest, token by token:",
        " ".join(f"{share:.2f}" for share in given_the_rest(model, config, data)),
    )
    exams = set_exams(config, data, 0)
    rows, _ = mark(exams, answer_all(model, config, data, exams), "plain", 0)
    print(
        "  written freely:",
        ", ".join(f"{row.split} {row.value:.2f} ({row.low:.2f} to {row.high:.2f})" for row in rows),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objectives", default="next_token,reversed")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    print(machine())
    for objective in options.objectives.split(","):
        measure(objective, options.steps, options.lr, options.cache)


if __name__ == "__main__":
    main()
