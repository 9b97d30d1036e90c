"""Train a pair of models, one of which sees the letters of its tokens, ask both, and say what that was worth.

    python -m training.compare                       # preset quick: one pair, minutes on two CPU cores
    python -m training.compare --seeds 5             # five pairs, intervals over seeds
    python -m training.compare --preset parent       # the parent experiment
    python -m training.compare --vocab-size 8192 --arms matched,lstm,shuffled
    python -m training.compare --model FOLDER --steps 0 --finetune-lr 1e-4      # a pretrained causal model
    python -m training.compare --tasks path_star:2x5 --objective reversed       # other questions, objectives

A run lands in its own folder: config.json, metrics.jsonl, results.json, report.html, and a folder per seed
and arm with checkpoints and all answers. Ctrl-C saves where it is; the same command with --resume goes on to
the same numbers. `accelerate launch -m training.compare ...` spreads each arm over several processes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from rich.console import Console

from .arms import assert_paired, build_arm
from .config import CompareConfig
from .data import prepare
from .errors import exit_status
from .evaluate import check_lengths
from .files import write_json
from .flags import parse
from .folder import check_folder, describe
from .preflight import check_machine
from .results import finish
from .run import RunOptions
from .workers import run_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run a comparison.

    Returns 0, or 2 for bad input, 1 for a run that broke, 130 for one that was stopped.
    """

    def program() -> int:
        config, options = parse(argv, __doc__)
        return compare(config, options, Console())

    return exit_status(program)


def compare(config: CompareConfig, options: argparse.Namespace, console: Console) -> int:
    """Prepare, train and ask all arms of all seeds, then write and print what came out."""
    out: Path = options.out or Path("runs") / f"{options.preset}-{config.digest}"
    check_machine(config, options, out)
    state = PartialState(cpu=options.cpu)
    check_folder(out, config, options.resume)
    state.wait_for_everyone()
    torch.set_num_threads(options.threads)
    with state.main_process_first(), console.status("Corpus, vocabulary, spellings, words ..."):
        data = prepare(config, options.cache)
    check_lengths(config, data)
    arms = ((arm, build_arm(config, arm, config.first_seed, data.spellings)) for arm in config.arms)
    weights = assert_paired(arms)
    if state.is_main_process and not (out / "config.json").exists():
        write_json(out / "config.json", describe(config, options, data, weights))
    jobs = [(seed, arm) for seed in config.seed_range for arm in config.arms]
    one_by_one = state.num_processes > 1 or (torch.cuda.is_available() and not options.cpu)
    side_by_side = options.jobs or (1 if one_by_one else min(2, os.cpu_count() or 1))
    run_all(config, jobs, out, RunOptions.of(options), data, side_by_side)
    if state.is_main_process:
        finish(config, out, data, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
