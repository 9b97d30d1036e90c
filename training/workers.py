"""The arms of a run, one after the other or side by side, each in a process of its own that starts afresh."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .config import CompareConfig
from .data import Data
from .errors import STOPPED, USER_ERRORS, Broke, Interrupted
from .folder import arm_folder
from .loop import Bar
from .run import RunOptions, run_arm


def run_all(
    config: CompareConfig,
    jobs: list[tuple[int, str]],
    out: Path,
    options: RunOptions,
    data: Data,
    side_by_side: int,
) -> None:
    """Train and ask every arm.

    Raises KeyboardInterrupt when stopped, once all have saved, and Broke when an arm failed.
    """
    jobs = [job for job in jobs if not (arm_folder(out, *job) / "results.json").exists()]
    if side_by_side == 1 or len(jobs) < 2:
        for seed, arm in jobs:
            bar = Bar(f"seed {seed} {arm}", 0) if options.progress else None
            run_arm(config, seed, arm, arm_folder(out, seed, arm), options, data, bar)
        return
    running: dict[int, SpawnProcess] = {}
    try:
        codes = _side_by_side(config, jobs, out, options, side_by_side, running)
    except KeyboardInterrupt:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        raise KeyboardInterrupt("Every arm saved its state.") from None
    if any(codes):
        raise Broke(
            "An arm broke off; its error stands above. Nothing that was saved is lost: --resume goes on "
            "from there."
        )


def _side_by_side(
    config: CompareConfig,
    jobs: list[tuple[int, str]],
    out: Path,
    options: RunOptions,
    places: int,
    running: dict[int, SpawnProcess],
) -> list[int | None]:
    """Keep so many processes busy until no job is left, or one has failed. Returns their exit codes."""
    context = multiprocessing.get_context("spawn")
    lock = context.RLock()
    codes: list[int | None] = []
    while jobs or running:
        while jobs and len(running) < places and not any(codes):
            seed, arm = jobs.pop(0)
            place = min(set(range(places)) - running.keys())
            process = context.Process(
                target=_job, args=(config, seed, arm, arm_folder(out, seed, arm), options, place, lock)
            )
            _start_deaf(process)
            running[place] = process
        if not running:
            break
        wait([process.sentinel for process in running.values()])
        for place in [place for place, process in running.items() if not process.is_alive()]:
            codes.append(running.pop(place).exitcode)
        if STOPPED in codes:  # an arm heard the Ctrl-C that came while this process was starting another
            raise KeyboardInterrupt
    return codes


def _start_deaf(process: SpawnProcess) -> None:
    """Start a process that ignores Ctrl-C: this one hears it and asks the others to save and stop."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def _job(
    config: CompareConfig, seed: int, arm: str, folder: Path, options: RunOptions, place: int, lock: Any
) -> None:
    tqdm.set_lock(lock)
    bar = Bar(f"seed {seed} {arm}", place) if options.progress else None
    try:
        run_arm(config, seed, arm, folder, options, bar=bar)
    except Interrupted:
        sys.exit(STOPPED)
    except (Broke, *USER_ERRORS) as error:
        print(f"seed {seed}, {arm}: {error}", file=sys.stderr)
        sys.exit(1)
