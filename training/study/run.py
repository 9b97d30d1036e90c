"""A study from its options to its page: the runs of its grid side by side, then what they say together."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from training.comparison import begin, jobs, side_by_side
from training.data.prepare import prepare
from training.errors import BadInput, Interrupted
from training.files import clear_left_overs, read_record, write_atomically, write_json, write_record
from training.intervals import read_rows
from training.report.figures import alone
from training.report.results import finish
from training.run.arm import RunOptions
from training.run.finished import RESULTS
from training.run.folder import WAY_OUT, check_folder, locked
from training.run.machine import check_machine, check_place
from training.run.workers import run_all

from .findings import Findings, Measured
from .page import page
from .studies import Point, Study, study_named

STUDY = "study.json"


def run_study(options: argparse.Namespace) -> None:
    """Train what is missing of every point, then write and print what came out.

    Raises BadInput before any time is spent, and Interrupted once all has been saved.
    """
    try:
        _run_study(options, Console())
    except KeyboardInterrupt:
        raise Interrupted from None


def _run_study(options: argparse.Namespace, console: Console) -> None:
    study, out = study_named(options.study), options.out
    points = study.points(options.size, options.seeds)
    record = {
        "study": study.name,
        "size": options.size,
        "points": {p.name: dict(p.at) for p in points},
    }
    state = PartialState(cpu=options.cpu)
    if state.num_processes > 1:
        raise BadInput(
            f"a study trains its runs side by side, each in one process, not in {state.num_processes}: start "
            "it without accelerate."
        )
    check_place("--out", out)
    check_study(out, record, options.resume)
    for point in points:
        check_machine(point.config, options, out / point.name)
        check_folder(out / point.name, point.config, options.resume)
    torch.set_num_threads(options.threads)
    clear_left_overs(options.cache)
    with ExitStack() as held:
        held.enter_context(locked(out))
        work = []
        with console.status("Corpus, vocabulary, questions ..."):
            for point in points:
                data = prepare(point.config, options.cache, out / point.name)
                begin(held, point.config, options, out / point.name, data, state)
                work.append((point, data))
        write_record(out / STUDY, record)
        run_all(
            [
                job
                for point, data in work
                for job in jobs(point.config, out / point.name, data, point.name)
            ],
            RunOptions.of(options),
            side_by_side(options, state),
        )
        with console.status("Reports of the runs ..."):
            for point, data in work:
                finish(point.config, out / point.name, data, Console(file=io.StringIO()))
        findings = report(study, options.size, points, out)
    print_findings(console, findings)
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def check_study(out: Path, record: dict[str, Any], resume: bool) -> None:
    """Refuse to write into a folder that holds something else. Raises BadInput, and changes nothing."""
    if not out.exists() or all(path.name.startswith(".") for path in out.iterdir()):
        return
    if not (out / STUDY).is_file():
        known = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        if not resume or not known <= record["points"].keys():
            raise BadInput(f"{out} exists and is no folder of a study: choose another --out.")
        return
    held = read_record(out / STUDY, WAY_OUT)
    for name in ("study", "size", "points"):
        if held[name] != record[name]:
            here, wanted = (
                f"the {name} {one[name]}" if name != "points" else "another grid"
                for one in (held, record)
            )
            raise BadInput(f"{out} holds {here}, not {wanted}: choose another --out.")


def report(study: Study, size: str, points: Sequence[Point], out: Path) -> Findings:
    """The rows of all runs and what they say together: results.json, pictures, report.html."""
    measured = [
        Measured(point.at, row) for point in points for row in read_rows(out / point.name / RESULTS)
    ]
    findings = study.findings(measured)
    rows = [
        {"point": point.name, **point.at, **asdict(row)}
        for point in points
        for row in read_rows(out / point.name / RESULTS)
    ]
    write_json(out / RESULTS, [*rows, *findings.rows])
    for picture in findings.pictures:
        write_atomically(out / f"{picture.name}.svg", alone(picture.svg))
    write_atomically(out / "report.html", page(study, size, points, findings))
    return findings


def print_findings(console: Console, findings: Findings) -> None:
    table = Table(title="Shares of freely generated answers that are right, on new questions")
    for number, heading in enumerate(findings.headings):
        table.add_column(heading, justify="right" if number else "left")
    for line in findings.lines:
        table.add_row(*line)
    console.print(table)
    for sentence in (findings.headline, *findings.sentences):
        console.print(sentence, highlight=False, markup=False)
