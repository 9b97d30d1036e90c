"""Train a pair of models, one of which sees the letters of its tokens, ask both about letters, and say what that was worth.

    python -m training.compare                       # preset quick: one pair, minutes on two CPU cores
    python -m training.compare --seeds 5             # five pairs, intervals over seeds
    python -m training.compare --preset parent       # the parent experiment
    python -m training.compare --vocab-size 8192 --arms matched,lstm,shuffled

A run lands in its own folder: config.json, metrics.jsonl, results.json, report.html, and a folder per seed and arm with
checkpoints and all answers. Ctrl-C saves where it is; the same command with --resume goes on to the same numbers.
`accelerate launch -m training.compare ...` spreads each arm over several processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from rich.console import Console
from tqdm import tqdm

from .arms import assert_paired, build_arm
from .config import PRESETS, CompareConfig, preset
from .data import Data, build_tasks, prepare
from .evaluate import check_lengths
from .files import read_tensors, write_atomically, write_json
from .loop import Bar, Interrupted, NotFinite
from .prose import print_table, verdict
from .report import write_report
from .run import RunOptions, resolve_precision, run_arm
from .statistics import Row, read_rows, summarise

PACKAGES = ("torch", "accelerate", "tiktoken", "tokenizers", "safetensors", "scipy", "numpy")
BAD_INPUT, STOPPED = 2, 130


@dataclass(frozen=True)
class PhaseFacts:
    name: str
    kind: str
    title: str
    replay_share: float = 0.0


class BrokeOff(Exception):
    """An arm that ran in a process of its own ended with an error, which it has printed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{message}. Run 'python -m training.compare --help' for what there is.\n")


def parse(argv: Sequence[str] | None) -> tuple[CompareConfig, argparse.Namespace]:
    """The config, from a preset and the flags that differ from it, and the options of this run.

    Raises ValueError for values that cannot work; an unknown flag or preset ends the program with one sentence.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="quick")
    base = preset(first.parse_known_args(argv)[0].preset)
    parser = _Parser(
        prog="python -m training.compare",
        usage="python -m training.compare [--preset NAME] [--resume] [--FIELD VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", default="quick", help=f"where the other values come from: {', '.join(PRESETS)} (quick)")
    run = parser.add_argument_group("how to run it")
    run.add_argument("--out", type=Path, help="run folder (runs/PRESET-DIGEST)")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted run, or render a finished one again")
    run.add_argument("--jobs", type=int, help="arms trained side by side, each in a process of its own (2 on a CPU, 1 on a GPU)")
    run.add_argument("--threads", type=int, default=1, help="CPU threads per arm (1)")
    run.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    run.add_argument("--save-every", type=int, default=200, help="steps between saved states (200)")
    run.add_argument("--cache", type=Path, default=Path(".cache"), help="folder for vocabularies and token ids (.cache)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    config = parser.add_argument_group("what to compare (every field of the config, with its value in this preset)")
    for item in fields(CompareConfig):
        default = getattr(base, item.name)
        shown = ",".join(default) if isinstance(default, tuple) else default
        kind: dict[str, Any] = {"type": _names if isinstance(default, tuple) else type(default), "metavar": item.name.split("_")[-1].upper()}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        config.add_argument(f"--{item.name.replace('_', '-')}", help=f"{item.metadata['help']} ({shown})".replace("%", "%%"), default=default, **kind)
    options = parser.parse_args(argv)
    return replace(base, **{item.name: getattr(options, item.name) for item in fields(CompareConfig)}), options


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a comparison. Returns 0, or 2 for bad input, 1 for a run that broke, 130 for one that was stopped."""
    console = Console()
    try:
        config, options = parse(argv)
        return compare(config, options, console)
    except (NotFinite, BrokeOff) as error:
        print(error, file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"Stopped. {error} The same command with --resume goes on from there.", file=sys.stderr)
        return STOPPED


def compare(config: CompareConfig, options: argparse.Namespace, console: Console) -> int:
    """Prepare, train and ask all arms of all seeds, then write and print what came out."""
    out: Path = options.out or Path("runs") / f"{options.preset}-{config.digest}"
    on_gpu = torch.cuda.is_available() and not options.cpu
    run_options = RunOptions(cache=options.cache, threads=options.threads, cpu=options.cpu, progress=not options.quiet, save_every=options.save_every)
    if options.threads < 1 or options.save_every < 1 or (options.jobs is not None and options.jobs < 1):
        raise ValueError(f"threads {options.threads}, jobs {options.jobs} and save-every {options.save_every} must be 1 or more.")
    state = PartialState(cpu=options.cpu)
    check_folder(out, config, options.resume)
    state.wait_for_everyone()
    torch.set_num_threads(options.threads)
    with state.main_process_first(), console.status("Corpus, vocabulary, spellings, words ..."):
        data = prepare(config, options.cache)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    check_lengths(config, data, seeds)
    if len(config.arms) > 1:
        assert_paired({arm: build_arm(config, arm, config.first_seed, data.table) for arm in config.arms})
    if state.is_main_process and not (out / "config.json").exists():
        write_json(out / "config.json", describe(config, options, data))
    jobs = [(seed, arm) for seed in seeds for arm in config.arms]
    side_by_side = options.jobs or (1 if on_gpu or state.num_processes > 1 else min(2, os.cpu_count() or 1))
    run_all(config, jobs, out, run_options, data, side_by_side)
    if state.is_main_process:
        finish(config, out, seeds, console, data)
    return 0


def check_folder(out: Path, config: CompareConfig, resume: bool) -> None:
    """Refuse to write into a folder that holds something else. Raises ValueError, and changes nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "config.json").is_file():
        raise ValueError(f"{out} exists and is no run folder: choose another --out.")
    saved = json.loads((out / "config.json").read_text("utf-8"))["config"]
    wanted = config.as_dict()
    if different := [name for name in wanted if saved.get(name) != wanted[name]]:
        name = different[0]
        raise ValueError(
            f"{out} holds another run: its {name} is {saved.get(name)!r}, not {wanted[name]!r} ({len(different)} fields differ); choose another --out."
        )
    if not resume:
        raise ValueError(f"{out} already holds this run: go on with it or render it again with --resume, or choose another --out.")


def describe(config: CompareConfig, options: argparse.Namespace, data: Data) -> dict[str, Any]:
    """What makes the run repeatable: config, resolved arithmetic, versions, hashes of all data, and the machine."""
    return {
        "preset": options.preset,
        "config": config.as_dict(),
        "precision": resolve_precision(config.precision, options.cpu),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "data": data.facts,
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads_per_arm": options.threads,
        },
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def arm_folder(out: Path, seed: int, arm: str) -> Path:
    return out / f"seed{seed}" / arm


def run_all(config: CompareConfig, jobs: list[tuple[int, str]], out: Path, options: RunOptions, data: Data, side_by_side: int) -> None:
    """Train and ask every arm: here, one after the other, or side by side in processes that start afresh."""
    jobs = [job for job in jobs if not (arm_folder(out, *job) / "results.json").exists()]
    if side_by_side == 1 or len(jobs) < 2:
        for seed, arm in jobs:
            bar = Bar(f"seed {seed} {arm}", 0) if options.progress else None
            run_arm(config, seed, arm, arm_folder(out, seed, arm), options, data, bar)
        return
    context = multiprocessing.get_context("spawn")
    lock = context.RLock()
    running: dict[int, SpawnProcess] = {}
    codes: list[int | None] = []
    try:
        while jobs or running:
            while jobs and len(running) < side_by_side and not any(codes):
                seed, arm = jobs.pop(0)
                place = min(set(range(side_by_side)) - running.keys())
                process = context.Process(target=_job, args=(config, seed, arm, arm_folder(out, seed, arm), options, place, lock))
                _start_deaf(process)
                running[place] = process
            if not running:
                break
            wait([process.sentinel for process in running.values()])
            for place in [place for place, process in running.items() if not process.is_alive()]:
                codes.append(running.pop(place).exitcode)
    except KeyboardInterrupt:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        raise KeyboardInterrupt("Every arm saved its state.") from None
    if any(codes):
        raise BrokeOff("An arm broke off, as said above. Nothing that was saved is lost: --resume goes on from there.")


def _start_deaf(process: SpawnProcess) -> None:
    """Start a process that ignores Ctrl-C: this one hears it and asks the others to save and stop."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def _job(config: CompareConfig, seed: int, arm: str, folder: Path, options: RunOptions, place: int, lock: Any) -> None:
    tqdm.set_lock(lock)
    bar = Bar(f"seed {seed} {arm}", place) if options.progress else None
    try:
        run_arm(config, seed, arm, folder, options, bar=bar)
    except Interrupted:
        sys.exit(STOPPED)
    except ValueError as error:
        print(f"seed {seed}, {arm}: {error}", file=sys.stderr)
        sys.exit(1)


def finish(config: CompareConfig, out: Path, seeds: range, console: Console, data: Data) -> None:
    """Results, metrics and report of the whole run, from what the arms wrote; and a table for the terminal."""
    control, arms = config.arms[0], config.arms
    rows: list[Row] = []
    right: dict[tuple[str, int, str, str], list[bool]] = {}
    metrics, answers = [], []
    for seed in seeds:
        digests = {}
        for arm in arms:
            folder = arm_folder(out, seed, arm)
            rows += read_rows(folder / "results.json")
            digests[arm] = [read_tensors(folder / f"{phase}.safetensors")[1]["batches"] for phase in ("pretrained", "finetuned")]
            metrics += [{"arm": arm, "seed": seed, **json.loads(line)} for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
            for answer in map(json.loads, (folder / "answers.jsonl").read_text("utf-8").splitlines()):
                right.setdefault((arm, seed, answer["task"], answer["split"]), []).append(answer["right"])
                answers.append({"arm": arm, "seed": seed, **answer})
        assert len({tuple(hashes) for hashes in digests.values()}) == 1, f"the arms of seed {seed} saw different batches: {digests}"
    tasks = build_tasks(config, data.splits)
    summary = summarise(rows, control, arms, right)
    sentences = [sentence for arm in arms[1:] for sentence in verdict(summary, tasks, arm, control, len(seeds))]
    write_atomically(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in metrics))
    write_json(out / "results.json", [vars(row) for row in rows + summary])
    write_report(
        out,
        json.loads((out / "config.json").read_text("utf-8")),
        f"{config.vocab_size:,} tokens, {config.layers} layers of width {config.width}, corpus {config.corpus} "
        f"({data.facts['train_tokens']:,} tokens).",
        arms=arms,
        tasks=tasks,
        phases=(
            PhaseFacts("pretrain", "text", "pretraining"),
            PhaseFacts("finetune", "question", "fine-tuning", config.replay_share),
        ),
        rows=rows,
        summary=summary,
        sentences=sentences,
        metrics=metrics,
        answers=answers,
    )
    print_table(console, arms, tasks, summary)
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
