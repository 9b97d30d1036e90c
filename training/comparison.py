"""The main job: from flags through all arms of all seeds to the report. compare.py starts it."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console

from training.ask.eval_sets import check_lengths
from training.config.config import CompareConfig
from training.data.prepare import Data, Facts, prepare
from training.data.replay import keep_base_samples
from training.errors import BadInput, Interrupted
from training.files import clear_left_overs, write_record
from training.models.smollm2 import unpack
from training.report.results import finish
from training.run.arm import RunOptions
from training.run.build import assert_paired, build_arm
from training.run.finished import is_finished
from training.run.folder import CONFIG, arm_folder, check_folder, locked, read_facts
from training.run.identity import check_same, describe, identity, short_name
from training.run.machine import check_machine
from training.run.workers import Job, run_all


def compare(config: CompareConfig, options: argparse.Namespace) -> None:
    """Prepare, train and ask all arms of all seeds, then write and print what came out."""
    try:
        _compare(config, options, Console())
    except KeyboardInterrupt:
        raise Interrupted from None


def _compare(config: CompareConfig, options: argparse.Namespace, console: Console) -> None:
    out: Path = options.out or Path("runs") / f"{options.preset}-{short_name(config)}"
    unpack(config.model.model)
    check_machine(config, options, out)
    state = PartialState(cpu=options.cpu)
    if state.num_processes > 1 and (options.jobs or 1) > 1:
        raise BadInput(
            f"jobs is {options.jobs}, and each arm is spread over {state.num_processes} processes already: "
            "leave --jobs out."
        )
    check_folder(out, config, options.resume)
    state.wait_for_everyone()
    torch.set_num_threads(options.threads)
    writes = any(phase.replays_base for phase in config.phases)
    what = (
        "Corpus, vocabulary, spellings, words"
        + ", and once what the model writes by itself" * writes
    )
    with state.main_process_first(), console.status(f"{what} ..."):
        clear_left_overs(options.cache)
        data = prepare(config, options.cache, out)
    with ExitStack() as held:
        begin(held, config, options, out, data, state)
        run_all(jobs(config, out, data), RunOptions.of(options), side_by_side(options, state))
        if state.is_main_process:
            finish(config, out, data, console)


def begin(
    held: ExitStack,
    config: CompareConfig,
    options: argparse.Namespace,
    out: Path,
    data: Data,
    state: PartialState,
) -> None:
    """Take the folder of a run for as long as `held` is open, and write what the run is, or see that it is
    the one that was begun there.

    Raises BadInput for questions that do not fit, and for a folder that holds something else.
    """
    check_lengths(config, data)
    arms = ((arm, build_arm(config, arm, config.first_seed, data.spellings)) for arm in config.arms)
    here = describe(config, options, data, assert_paired(arms))
    fault = [""]
    if state.is_main_process:
        try:
            held.enter_context(locked(out))
            check_folder(out, config, options.resume)
            claim(out, config, here)
            keep_base_samples(data.base_ids, out)
        except BadInput as error:
            fault = [str(error)]
    if broadcast_object_list(fault)[0]:
        raise BadInput(fault[0])


def claim(out: Path, config: CompareConfig, here: dict[str, Any]) -> None:
    """Write what the run is, or compare it with what the folder says it is."""
    if (out / CONFIG).exists():
        saved = read_facts(out)
        held = CompareConfig.from_dict(saved["config"])
        facts = here["data"]
        check_same(
            out,
            saved,
            here,
            lambda: all(finished(out, config, *arm, facts) for arm in pairs(config)),
        )
        if held.seeds == config.seeds:
            return
        here = {**saved, "config": here["config"]}
    write_record(out / CONFIG, here)


def finished(out: Path, config: CompareConfig, seed: int, arm: str, facts: Facts) -> bool:
    return is_finished(arm_folder(out, seed, arm), identity(config, seed, arm, facts))


def pairs(config: CompareConfig) -> list[tuple[int, str]]:
    """Every arm of every seed."""
    return [(seed, arm) for seed in config.seed_range for arm in config.arms]


def jobs(config: CompareConfig, out: Path, data: Data, run: str = "") -> list[Job]:
    """What there is to do for a run in a folder; `run` is its name where there are several."""
    return [Job(config, seed, arm, out, data, run) for seed, arm in pairs(config)]


def side_by_side(options: argparse.Namespace, state: PartialState) -> int:
    """How many arms are trained at once, as the machine and the flags say."""
    one_by_one = state.num_processes > 1 or (torch.cuda.is_available() and not options.cpu)
    return options.jobs or (1 if one_by_one else min(2, os.cpu_count() or 1))
