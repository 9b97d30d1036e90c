"""Compare objectives on path-star graphs with two arms of five nodes.

If a model learns to write the path forward, it learns to follow edges and guesses the first step. If
it learns to write the path from its end, it learns the path (arXiv 2403.06963).

    python -m benchmarks.path_star   # next_token and reversed: 4 minutes on one core
    python -m benchmarks.path_star --objectives teacherless
    python -m benchmarks.path_star --task path_star:2x5   # 50 names, as in the paper

The output is for new graphs: the share of correct answers for each token if all tokens before it are
given (teacherless: if none is), and the share of freely generated answers without a mistake. A guess
of the arm gets 0.50 of both.

A model of this size learns to follow edges suddenly, after a period in which it names any inner node
(each middle token at 0.2). With 2,500 steps of 64, that period ended in three of three runs
(next_token with seeds 0 and 1, reversed with seed 0); with 1,500 steps of 128 in two of three. It did
not end within 1,000 steps of 128 of a similar model with two heads, nor with 50 names, and with
teacherless not at all.
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
from training.ask.eval_sets import make_eval_sets
from training.ask.run_evaluation import evaluate_arm
from training.config.config import CompareConfig
from training.config.flags import changed
from training.config.presets import preset
from training.data.batches import pad_examples
from training.data.prepare import Data, prepare
from training.data.questions import encode_item
from training.models.language_model import LanguageModel
from training.progress import in_terminal
from training.run.build import build_arm
from training.train.kinds import phase_batches
from training.train.loop import Training, train

ITEMS = 500


def setting(task: str, objective: str, steps: int, lr: float) -> CompareConfig:
    """Return a config of two layers of width 64 with one head each, trained on questions alone."""
    return changed(
        preset("quick"),
        tasks=(task,),
        arms=("plain",),
        objective=objective,
        layers=2,
        heads=1,
        width=64,
        steps=0,
        optimizer="adamw",
        beta2=0.98,
        weight_decay=0.0,
        finetune_steps=steps,
        finetune_batch_size=64,
        finetune_lr=lr,
        replay_share=0.0,
        questions=ITEMS,
    )


@torch.no_grad()
def token_by_token(model: LanguageModel, config: CompareConfig, data: Data) -> dict[str, float]:
    """Return the share of correct tokens at each place of the answer, in writing order."""
    (exam,) = (exam for exam in make_eval_sets(data, 0) if exam.split == "fresh")
    objective = data.questions().objective
    batch = pad_examples(
        [objective.arrange(*encode_item(data.tokenizer, item), data.dummy) for item in exam.items]
    )
    assert batch.keep_BT is not None
    right = model.eval()(batch.ids_BT, batch.keep_BT).argmax(-1) == batch.targets_BT[batch.keep_BT]
    shares = right.view(len(exam.items), -1).float().mean(0).tolist()
    nodes = ["start", *(f"step {i}" for i in range(1, len(shares) - 2)), "goal"]
    order = nodes[::-1] if config.objective == "reversed" else nodes
    return dict(zip([*order, "end"], shares, strict=True))


def measure(config: CompareConfig, seed: int, cache: Path) -> None:
    data = prepare(config, cache)
    model, accelerator = build_arm(config, "plain", seed, data.spellings), Accelerator(cpu=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for phase in (phase for phase in config.phases if phase.steps):
            batch_at = phase_batches(data, phase, seed)
            training = Training(
                model=model,
                phase=phase,
                batch_at=batch_at,
                folder=Path(folder),
                accelerator=accelerator,
                seed=seed,
            )
            train(training, in_terminal(config.objective))
    seconds = time.perf_counter() - began
    phase = config.phase("finetune")
    print(
        f"{config.objective}: {phase.steps} steps of {phase.batch_size} questions, {seconds:.0f} seconds"
    )
    shares = token_by_token(model, config, data).items()
    given = "all at once" if config.objective == "teacherless" else "given all before it"
    print(f"  each token, {given}:", ", ".join(f"{name} {share:.2f}" for name, share in shares))
    exams = make_eval_sets(data, 0)
    rows, _ = evaluate_arm(model, data, exams, "plain", seed)
    print(
        "  written freely:",
        ", ".join(f"{row.split} {row.value:.2f} ({row.low:.2f} to {row.high:.2f})" for row in rows),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="path_star:2x5x13")
    parser.add_argument("--objectives", default="next_token,reversed")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    print(machine())
    print(f"{options.task}, seed {options.seed}")
    for objective in options.objectives.split(","):
        measure(
            setting(options.task, objective, options.steps, options.lr), options.seed, options.cache
        )


if __name__ == "__main__":
    main()
