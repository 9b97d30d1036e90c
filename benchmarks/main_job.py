"""Measure the main job as a user runs it: seconds and peak memory of the whole process tree.

python -m benchmarks.main_job --seeds 1
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.measure import machine


def tree_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process and of all its descendants.

    An upper bound: shared pages count once for each process.
    """
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> int:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        began, peak = time.monotonic(), 0
        command = [
            sys.executable,
            "-m",
            "training.compare",
            "--quiet",
            "--out",
            str(Path(folder) / "run"),
            "--cache",
            str(Path(folder) / "cache"),
            *sys.argv[1:],
        ]
        job = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        watched = psutil.Process(job.pid)
        while job.poll() is None:
            try:
                peak = max(peak, tree_bytes(watched))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.5)
        print(
            f"{time.monotonic() - began:.0f} seconds from an empty cache, at most {peak / 2**30:.2f} GiB"
        )
        return job.wait()


if __name__ == "__main__":
    sys.exit(main())
