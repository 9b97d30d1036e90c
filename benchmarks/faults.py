"""Count the faults that a run survives: signals at random moments, and changed bits in its files.

    python -m benchmarks.faults signals --moments 50   # of SIGKILL, SIGTERM, SIGHUP and SIGINT each
    python -m benchmarks.faults damage --places 300
    python -m benchmarks.faults inputs --places 60

`signals` starts the tiny preset (300 steps), sends a signal at a random moment to the parent, to one
of its child processes or to the whole group, with --jobs 1 and 2 in turn, and then resumes. It counts
processes that live on, tracebacks, temporary files that are left, and runs with other numbers than an
undisturbed run.

`damage` flips a bit or cuts off the end of a random file: of a finished run, of an interrupted run,
or of their cache. Then it resumes, renders the page and prompts the model. A fault counts as noticed
if a message names the file, as harmless if all numbers, answers and the page are the same, and else as
silent.

`inputs` gives the command bad flags, those of tests/laboratory/test_bad_input.py that need no file,
and measures the seconds until each message. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from examples import ask
from tests.laboratory.test_bad_input import FLAGS
from training import compare
from training.intervals import read_rows

TINY = ["--preset", "tiny", "--quiet", "--cpu"]
LONG = ["--steps", "300", "--finetune-steps", "20", "--save-every", "50"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TARGETS = ("parent", "child", "group")


def numbers(out: Path) -> tuple[list[object], list[object]]:
    """Return all results but seconds, and the loss of every step."""
    results = [row for row in read_rows(out / "results.json") if "seconds" not in row.metric]
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return list(results), [{**step, "seconds": 0} for step in steps]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("signals", "damage", "inputs"))
    parser.add_argument("--moments", type=int, default=50, help="of each signal (50)")
    parser.add_argument("--places", type=int, default=300, help="damaged, or inputs given (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="signals: runs at a time (2)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "signals":
            return signals(Path(folder), options.moments, options.seed, options.workers)
        if options.what == "inputs":
            return inputs(Path(folder), options.places)
        return damage(Path(folder), options.places, options.seed)


# Inputs


def inputs(folder: Path, places: int) -> int:
    given = [flags for flags, _ in FLAGS if "FILES" not in flags]
    given = given[:: max(1, len(given) // places)][:places]
    slow, wrong = [], []
    for flags in given:
        began = time.monotonic()
        out = ["--out", str(folder / "run"), "--cache", str(folder / "cache")]
        done = subprocess.run(
            [sys.executable, "-m", "training.compare", *TINY, *out, *shlex.split(flags)],
            capture_output=True,
            text=True,
        )
        slow.append((time.monotonic() - began, flags))
        if (
            done.returncode != 2
            or done.stderr.count("\n") != 1
            or done.stdout
            or any(folder.iterdir())
        ):
            wrong.append(f"{flags}: {done.returncode} {done.stderr}")
    seconds = [taken for taken, _ in slow]
    print(
        f"{len(given)} bad inputs: median {statistics.median(seconds):.1f} s, slowest {max(slow)}"
    )
    print(f"within 5 seconds: {sum(taken <= 5 for taken in seconds)}; wrong: {wrong or 'none'}")
    return 1 if wrong else 0


# Signals


def command(out: Path, cache: Path, *flags: str) -> list[str]:
    where = ["--out", str(out), "--cache", str(cache)]
    return [sys.executable, "-m", "training.compare", *TINY, *LONG, *where, *flags]


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = path.read_text().rsplit(")", 1)[1].split()[:4]
            if int(of) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


def signals(folder: Path, moments: int, seed: int, workers: int) -> int:
    whole, cache = folder / "whole", folder / "cache"
    subprocess.run(command(whole, cache), check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run(command(folder / "again", cache), check=True, capture_output=True)
    length = time.monotonic() - began
    chance = Random(seed)
    trials = [
        (
            number,
            TARGETS[k % 3],
            1 + k % 2,
            chance.uniform(0, length),
            folder / f"{number.name}-{k}",
        )
        for k in range(moments)
        for number in SIGNALS
    ]
    expected = numbers(whole)
    found = []
    with ThreadPoolExecutor(workers) as pool:
        disturbed = pool.map(lambda trial: disturb(*trial, cache, expected), trials)
        for trial, told in zip(trials, disturbed, strict=True):
            found.append((trial, told))
            number, target, jobs, moment, _ = trial
            print(
                f"{number.name} to the {target}, {jobs} jobs, after {moment:.1f} s: {', '.join(told)}",
                flush=True,
            )
    faults = Counter(fault for _, told in found for fault in told if not fault.startswith("status"))
    for number in SIGNALS:
        status = Counter(told[0] for trial, told in found if trial[0] == number)
        print(f"{number.name}: {moments} moments in {length:.0f} seconds, {dict(status)}")
    print("faults:", dict(faults) or "none")
    return 1 if faults else 0


def disturb(
    number: signal.Signals,
    target: str,
    jobs: int,
    moment: float,
    out: Path,
    cache: Path,
    expected: object,
) -> list[str]:
    """Return the problems of a disturbed run after the way it ended."""
    process = subprocess.Popen(
        command(out, cache, "--jobs", str(jobs)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(moment)
    started = [pid for pid in session(process.pid) if pid != process.pid]
    with contextlib.suppress(ProcessLookupError):
        if target == "group":
            os.killpg(process.pid, number)
        else:
            os.kill(started[0] if started and target == "child" else process.pid, number)
    errors = process.communicate()[1]
    told = [f"status {process.returncode}"]
    deadline = time.monotonic() + 10
    while session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if session(process.pid):
        told.append("orphan")
    if "Traceback" in errors or "Error" in errors:
        told.append(f"traceback: {errors}")
    resumed = subprocess.run(
        command(out, cache, "--jobs", "1", "--resume"), capture_output=True, text=True
    )
    if resumed.returncode:
        told.append(f"no resume: {resumed.stderr}")
    elif numbers(out) != expected:
        told.append("other numbers")
    host_part = [path for path in (*out.rglob("*.part"), *out.rglob("state.safetensors"))]
    if host_part:
        told.append("left over")
    shutil.rmtree(out)
    return told


# Damage


def damage(folder: Path, places: int, seed: int) -> int:
    run, half, cache = folder / "run", folder / "half", folder / "cache"
    flags = [*TINY, *LONG, "--arms", "matched,lstm", "--jobs", "1", "--cache", str(cache)]
    assert quietly(compare.main, [*flags, "--out", str(run)])[0] == 0
    interrupted = subprocess.Popen(command(half, cache, "--jobs", "1"), stderr=subprocess.DEVNULL)
    while not (half / "seed0" / "matched" / "state.safetensors").exists():
        time.sleep(0.01)
    interrupted.send_signal(signal.SIGINT)
    interrupted.wait()
    kept = {
        name: shutil.copytree(folder / name, folder / "kept" / name)
        for name in ("run", "half", "cache")
    }
    expected = look(folder, flags, cache)
    chance = Random(seed)
    paths = sorted(
        path.relative_to(folder / "kept")
        for path in (folder / "kept").rglob("*")
        if path.is_file() and path.stat().st_size
    )
    counts: Counter[tuple[str, str]] = Counter()
    silent = []
    for k in range(places):
        for name, copy in kept.items():
            shutil.rmtree(folder / name)
            shutil.copytree(copy, folder / name)
        path = folder / paths[k % len(paths)]
        content = bytearray(path.read_bytes())
        place = chance.randrange(len(content))
        if cut := chance.random() < 0.25:
            content = content[:place]
        else:
            content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(content))
        status, told = look(folder, flags, cache)
        if str(path) in told and status in (1, 2) and "Traceback" not in told:
            result = "noticed"
        elif (status, told) == expected:
            result = "harmless"
        else:
            result = "silent"
            silent.append(
                f"{path.relative_to(folder)}, {'cut' if cut else 'flipped'} at {place}: {told[:300]}"
            )
        counts[path.name, result] += 1
        print(f"{k + 1}: {path.relative_to(folder)}, {result}", flush=True)
    for (name, result), count in sorted(counts.items()):
        print(f"{name}: {count} {result}")
    print("\n".join(["silent:", *silent] if silent else ["silent: none"]))
    return 1 if silent else 0


def look(folder: Path, flags: list[str], cache: Path) -> tuple[int, str]:
    """Resume both runs and prompt one. Return the first fault message, or all results."""
    seen = ""
    for name in ("run", "half"):
        status, errors = quietly(compare.main, [*flags, "--out", str(folder / name), "--resume"])
        if status:
            return status, errors
        results, steps = numbers(folder / name)
        seen += f"{results}{steps}"
    seen += (folder / "run" / "report.html").read_text("utf-8")
    status, text = quietly(
        ask.main, ["--run", str(folder / "run"), "--cache", str(cache), "--word", "strawberry"]
    )
    return status, seen + text


def quietly(program: Callable[[list[str]], int], flags: list[str]) -> tuple[int, str]:
    """Return a command's exit status and its output."""
    said = io.StringIO()
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said if program is ask.main else io.StringIO()),
    ):
        status = program(flags)
    return status, said.getvalue()


if __name__ == "__main__":
    sys.exit(main())
