"""Train all runs of a study, then write its results, pictures and page."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from training.errors import BadInput, Broke, Interrupted
from training.files import read_record, write_atomically, write_json, write_record
from training.intervals import read_rows
from training.report.figures import alone
from training.report.page import print_sentences, print_table, render
from training.report.report import finish
from training.run.folder import WAY_OUT, locked, read_facts
from training.run.machine import Machine, check_place
from training.run.run import RESULTS, ArmRun, Run, check_begin
from training.run.workers import Failure, failure_of, train_all

from .added import measure_added, words_of
from .estimate import Clock, estimate
from .findings import Findings, Measured
from .points import Point
from .studies import Study, study_named

_STUDY = "study.json"


def run_study(options: argparse.Namespace) -> None:
    """Train the missing arms of every point, then write and print the findings.

    An arm that fails does not stop the others. Raises BadInput before any training, Interrupted for
    a Ctrl-C during it, after all state has been saved, and an error that lists the failed arms.
    """
    console = Console()
    study, out, resume = study_named(options.study), options.out, options.resume
    machine, points = Machine.of(options), study.points(options.size, options.seeds)
    if (processes := machine.state.num_processes) > 1:
        one = f"A study trains each run in one process, not in {processes}"
        raise BadInput(f"{one}: start it without accelerate.")
    places = {point.name: dict(point.at) for point in points}
    record = {"study": study.name, "size": options.size, "points": places}
    check_place("--out", out)
    _check_study(out, record, resume)
    for point in points:  # all of them before the first one begins
        check_begin(out / point.name, point.config, machine, resume)
    with ExitStack() as held:
        held.enter_context(locked(out))
        how = {"preset": options.preset, "resume": resume}
        begun = (
            Run.begin(out / point.name, point.config, machine, title=point.name, **how)
            for point in points
        )
        runs = [held.enter_context(run) for run in begun]
        # After all runs have begun: a refused study leaves no record behind.
        write_record(out / _STUDY, record)
        arms = [arm for run in runs for arm in run.arms()]
        if study.write is None and study.score_run is None:
            failed = train_all(arms, machine, isolated=True)
        else:
            failed = _train_cells(arms, machine, out, console, added=study.write is not None)
        with console.status("Reports of the runs ..."):
            for run in runs:
                if not failed or all(map(_is_finished, run.arms())):
                    finish(run, Console(quiet=True))  # one table of all runs is printed instead
            if study.write is not None:
                sizes = [int(point.at["vocabulary"]) for point in points]
                placed = list(zip(runs, sizes, strict=True))
                findings = study.write(out, options.size, study, placed, failed)
        if study.write is None and not failed:
            more = _scores(study, points, runs, machine, console)
            findings = _report(study, options.size, points, out, more)
    if study.write is not None or not failed:
        print_table(console, findings.table, findings.about)
        print_sentences(console, [findings.headline, *findings.sentences], out / "report.html")
    if failed:
        raise _failures(failed, partial=study.write is not None)


def _scores(
    study: Study, points: Sequence[Point], runs: Sequence[Run], machine: Machine, console: Console
) -> list[Measured]:
    """The rows that the study itself measures on the finished arms."""
    if study.score_run is None:
        return []
    torch.set_num_threads(machine.threads)
    with console.status("Scores of the finished arms ..."):
        return [
            row
            for point, run in zip(points, runs, strict=True)
            for row in study.score_run(point.at, run, machine.cache)
        ]


def _train_cells(
    arms: Sequence[ArmRun], machine: Machine, out: Path, console: Console, *, added: bool
) -> list[Failure]:
    """Estimate the time, train the missing arms, and if `added` ask about words added as tokens."""
    missing = [arm for arm in arms if _is_missing(arm)]
    clock = None
    if missing:
        with console.status("Timing a few steps of each kind of arm ..."):
            found = estimate(missing, machine)
        console.print(f"Estimated from timed steps on this machine: {found}.", highlight=False)
        clock = Clock(out, found, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    try:
        failed = train_all(arms, machine, isolated=True)
        if added:
            failed += _ask_about_added(arms, {one.arm for one in failed}, machine)
    finally:
        if clock is not None:
            clock.write()
    return failed


def _is_finished(arm: ArmRun) -> bool:
    try:
        return arm.is_finished
    except BadInput:
        return False


def _is_missing(arm: ArmRun) -> bool:
    """Whether steps of an arm are left. A damaged one is refused before any step."""
    try:
        return not arm.is_finished
    except BadInput:
        return False


def _ask_about_added(
    arms: Sequence[ArmRun], without: Collection[ArmRun], machine: Machine
) -> list[Failure]:
    """Measure the answers about added tokens of each arm that has none. Return the failures."""
    failed, words = list[Failure](), dict[Path, list[str]]()
    torch.set_num_threads(machine.threads)
    for arm in arms:
        if arm in without:
            continue
        try:
            if arm.run.folder not in words:
                words[arm.run.folder] = words_of(arm.run.data)
            measure_added(arm, words[arm.run.folder])
        except Interrupted:
            raise
        except Exception as error:  # any failure of one cell leaves the others their results
            failed.append(failure_of(arm, error))
    return failed


def _failures(failed: Sequence[Failure], *, partial: bool) -> BadInput | Broke:
    """The error of a study in which some arms failed: it lists all of them.

    `partial`: the page shows the others, so the study broke, whatever the cause of the failures.
    """
    count = f"{len(failed)} arm{'s' if len(failed) > 1 else ''} of this study failed"
    kind = BadInput if not partial and all(one.bad_input for one in failed) else Broke
    listed = "\n".join(f"- {one.message}" for one in failed)
    return kind(
        f"{count}; the others are finished and saved:\n{listed}\nThe same command with --resume "
        "tries the failed ones again."
    )


def _check_study(out: Path, record: dict[str, Any], resume: bool) -> None:
    """Raise BadInput if the study must not be written into the folder, and change nothing."""
    # Hidden files, such as the lock, are no content.
    there = {path.name for path in out.glob("[!.]*")}
    if not there:
        return
    if _STUDY not in there:
        # The record may be deleted, as the message of a damaged one says. Each point checks its own.
        if not resume or not there & record["points"].keys():
            raise BadInput(f"{out} exists and is no folder of a study: choose another --out.")
        return
    # The number of seeds is no part of the record: a study may grow.
    held = read_record(out / _STUDY, WAY_OUT)
    # In this order: another study has another grid, too, and the first difference is named.
    for name in ("study", "size"):
        if held[name] != record[name]:
            here = f"the {name} {held[name]}, not {record[name]}"
            raise BadInput(f"{out} holds {here}: choose another --out.")
    if held["points"] != record["points"]:
        raise BadInput(f"{out} holds another grid of this study: choose another --out.")


def _report(
    study: Study, size: str, points: Sequence[Point], out: Path, more: Sequence[Measured] = ()
) -> Findings:
    """Write the rows of all runs and the findings: results.json, pictures, report.html.

    `more`: the rows that the study itself measured.
    """
    rows = [(point, row) for point in points for row in read_rows(out / point.name / RESULTS)]
    # Rows of the seed "mean" are the summaries of single runs; the findings make their own.
    of_seeds = [Measured(point.at, row) for point, row in rows if row.seed != "mean"]
    findings = study.findings([*of_seeds, *more])
    # All rows in one file, with their coordinates: a plot needs no other file.
    placed = [{"point": point.name, **point.at, **row.saved} for point, row in rows]
    placed += [{**one.at, **one.row.saved} for one in more]
    write_json(out / RESULTS, [*placed, *findings.rows])
    for picture in findings.pictures:
        write_atomically(out / f"{picture.name}.svg", alone(picture.svg))
    # every point holds the command of the study and its own start
    begun = [read_facts(out / point.name).get("begun", []) for point in points]
    starts = begun[0] if all(begun) else []
    write_atomically(out / "report.html", page(study, size, points, findings, starts))
    return findings


def page(
    study: Study, size: str, points: Sequence[Point], findings: Findings,
    begun: Sequence[dict[str, Any]] = (),
) -> str:  # fmt: skip
    """Render the page of a study; its links are relative to the study's folder.

    `begun`: its starts, as config.json of its runs holds them.
    """
    first, seeds = points[0], points[0].config.seeds
    count = f"{len(points)} point{'s' if len(points) > 1 else ''} of a grid"
    return render(
        "study/page.html.jinja", study=study, size=size, points=points, findings=findings,
        count=f"{count}, {f'{seeds} seeds' if seeds > 1 else 'one seed'} each",
        pictures=[(one.caption, one.svg) for one in findings.pictures],
        record=f"The config of {first.name}", facts=first.config.as_dict(), begun=begun,
        command=begun[-1]["command"] if begun else "",
    )  # fmt: skip
