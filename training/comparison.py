"""The main job: from flags through all arms of all seeds to the report. compare.py starts it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console

from .arms import assert_paired, build_arm
from .config import CompareConfig
from .data import Data, prepare
from .errors import BadInput, Interrupted, exit_status
from .evaluate import check_lengths
from .files import clear_left_overs, write_record
from .finished import is_finished
from .flags import parse
from .folder import CONFIG, arm_folder, check_folder, locked, read_facts
from .identity import check_same, describe
from .results import finish
from .run import RunOptions
from .workers import run_all


def run(argv: Sequence[str] | None, manual: str | None) -> int:
    """What the command returns; see `exit_status`."""

    def program() -> int:
        config, options = parse(argv, manual)
        try:
            compare(config, options, Console())
        except KeyboardInterrupt:
            raise Interrupted from None
        return 0

    return exit_status(program)


def compare(config: CompareConfig, options: argparse.Namespace, console: Console) -> None:
    """Prepare, train and ask all arms of all seeds, then write and print what came out."""
    if options.threads < 1 or options.save_every < 1 or (options.jobs is not None and options.jobs < 1):
        raise BadInput(
            f"threads {options.threads}, jobs {options.jobs} and save-every {options.save_every} must be 1 "
            "or more."
        )
    out: Path = options.out or Path("runs") / f"{options.preset}-{config.digest}"
    state = PartialState(cpu=options.cpu)
    check_folder(out, config, options.resume)
    state.wait_for_everyone()
    torch.set_num_threads(options.threads)
    with state.main_process_first(), console.status("Corpus, vocabulary, spellings, words ..."):
        clear_left_overs(options.cache)
        data = prepare(config, options.cache)
    check_lengths(config, data)
    arms = ((arm, build_arm(config, arm, config.first_seed, data.spellings)) for arm in config.arms)
    here = describe(config, options, data, assert_paired(arms))
    with locked(out) if state.is_main_process else nullcontext():
        if state.is_main_process:
            check_folder(out, config, options.resume)
            claim(out, config, here)
        state.wait_for_everyone()
        train_all(config, options, out, data, state)
        if state.is_main_process:
            finish(config, out, data, console)


def claim(out: Path, config: CompareConfig, here: dict[str, Any]) -> None:
    """Write what the run is, or compare it with what the folder says it is."""
    if (out / CONFIG).exists():
        saved = read_facts(out)
        held = CompareConfig.from_dict(saved["config"])
        check_same(out, saved, here, lambda: all(is_finished(arm_folder(out, *job)) for job in jobs(config)))
        if held.seeds == config.seeds:
            return
        here = {**saved, "config": here["config"]}
    write_record(out / CONFIG, here)


def jobs(config: CompareConfig) -> list[tuple[int, str]]:
    """Every arm of every seed."""
    return [(seed, arm) for seed in config.seed_range for arm in config.arms]


def train_all(
    config: CompareConfig, options: argparse.Namespace, out: Path, data: Data, state: PartialState
) -> None:
    """The arms of all seeds, so many side by side as the machine and the flags say."""
    one_by_one = state.num_processes > 1 or (torch.cuda.is_available() and not options.cpu)
    side_by_side = options.jobs or (1 if one_by_one else min(2, os.cpu_count() or 1))
    run_all(config, jobs(config), out, RunOptions.of(options), data, side_by_side)
