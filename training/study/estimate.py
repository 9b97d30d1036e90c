"""The time that a study will take, from a few timed steps of each kind of arm on this machine.

The steps are trained in a temporary folder, with a model, an optimizer and a folder of their own.
Each step of a run seeds its random numbers from the run's seed and the number of the step, so the
timed steps change no number of the runs.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.errors import Interrupted, tell
from training.files import write_json
from training.run.arm import heads_of
from training.run.build import extend_context, whole_words
from training.run.machine import Machine
from training.run.processes import accelerator_of
from training.run.run import ArmRun, read_lines
from training.train.kinds import phase_batches
from training.train.loop import Training, train
from training.train.state import METRICS, Position

STEPS = 3  # of each phase; the first one is not counted
# Imports, data, and the loss on held-out text; then the answers: both on one core of 2.6 GHz.
_START, _QUESTION = 10.0, 1e-3  # seconds of an arm, and of a question
_ADDED = 5.0  # seconds of a cell's questions about added tokens; one cell after the other
_CURVE = 0.02  # of the training: the measurements of learning curves
TIMES = "times.json"


class Estimate(NamedTuple):
    """The seconds of each arm that is left, by point and name, and of all of them together.

    str(Estimate({"v512 lstm": 270.0}, 5, 2, 675.0)) -> "11 minutes for 5 cells, 2 at a time"

    `unknown`: arms whose steps failed; their time is not in the sum.
    """

    each: dict[str, float]
    cells: int
    jobs: int
    seconds: float
    unknown: Sequence[str] = ()

    def __str__(self) -> str:
        many = f"{self.cells} cell{'s' if self.cells != 1 else ''}"
        without = f"; without {', '.join(self.unknown)}, whose steps failed" if self.unknown else ""
        return f"{in_hours(self.seconds)} for {many}, {self.jobs} at a time{without}"


def in_hours(seconds: float) -> str:
    """in_hours(27000) -> "7.5 hours"; in_hours(90) -> "2 minutes"."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    minutes = max(1, round(seconds / 60))
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def estimate(arms: Iterable[ArmRun], machine: Machine) -> Estimate:
    """Estimate the time of some arms. Takes a few steps of each point and arm, not of each seed."""
    by_kind: dict[str, list[ArmRun]] = {}
    for arm in arms:
        by_kind.setdefault(f"{arm.run.title} {arm.name}", []).append(arm)
    each: dict[str, float] = {}
    for kind, of_kind in by_kind.items():
        try:
            each[kind] = seconds_of(of_kind[0], machine)
        except Interrupted:
            raise
        except Exception as error:  # a cell that fails stops no other: its own start reports it
            tell(f"The steps of {kind} could not be timed: {error}")
    cells = Counter({kind: len(by_kind[kind]) for kind in each})
    jobs = min(machine.side_by_side, cells.total()) or 1
    total = sum(each[kind] * number for kind, number in cells.items())
    # the longest cell is trained in one process
    longest = max(each.values(), default=0.0)
    seconds = max(total / jobs, longest) + _ADDED * cells.total()
    return Estimate(each, cells.total(), jobs, seconds, [k for k in by_kind if k not in each])


def seconds_of(arm: ArmRun, machine: Machine) -> float:
    """Estimate the seconds of one arm: its steps, its evaluation, and the start of its process."""
    config = arm.run.config
    steps = sum(
        phase.steps * seconds
        for phase, seconds in zip(arm.trained_phases, timed_steps(arm, machine), strict=True)
    )
    splits = sum(len(task.splits) for task in arm.run.data.tasks)
    questions = config.evaluation.questions * splits
    curves = _CURVE if machine.measures else 0.0
    return (1 + curves) * steps + _START + _QUESTION * questions


def timed_steps(arm: ArmRun, machine: Machine, steps: int = STEPS) -> list[float]:
    """Return the median seconds of a step of each trained phase, without the first step.

    The steps of a phase with replay are counted as steps on questions.
    """
    data, config, seconds = arm.data, arm.run.config, list[float]()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as made, torch.random.fork_rng(devices=[]):
        torch.set_num_threads(machine.threads)
        try:
            accelerator = accelerator_of(machine, config)
            model = arm.first_model(accelerator.device)
            heads = heads_of(arm, model, accelerator)
            for phase in arm.phases:
                extend_context(model, phase, arm.seed)
                if not phase.steps:
                    continue
                folder = Path(made) / phase.name
                folder.mkdir()
                with whole_words(model, data, phase, arm.name, arm.seed) as asked:
                    train(
                        Training(
                            model=model,
                            phase=replace(phase, steps=steps),
                            batch_at=phase_batches(asked, phase, arm.seed, arm.name),
                            folder=folder,
                            accelerator=accelerator,
                            seed=arm.seed,
                            position=Position(arm.identity),
                            heads=heads,
                            accumulate=machine.accumulate,
                        )
                    )
                lines: list[dict[str, Any]] = read_lines((folder / METRICS).read_bytes())
                seconds.append(statistics.median(line["seconds"] for line in lines[1:]))
        finally:
            torch.set_num_threads(threads)
    return seconds


class Clock:
    """The estimates of a study's starts and the seconds that they took, in `times.json`."""

    def __init__(self, out: Path, found: Estimate, date: str) -> None:
        self.path, self.began = out / TIMES, time.perf_counter()
        self.starts = [
            *read_times(out),
            {
                "date": date, "cells": found.cells, "jobs": found.jobs,
                "estimated_seconds": round(found.seconds, 1), "seconds": None,
                "seconds_of_a_cell": {name: round(each, 2) for name, each in found.each.items()},
            },
        ]  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.starts)  # a killed study keeps its estimate

    def write(self) -> None:
        """Write the seconds since the start."""
        self.starts[-1]["seconds"] = round(time.perf_counter() - self.began, 1)
        write_json(self.path, self.starts)


def read_times(out: Path) -> list[dict[str, Any]]:
    """Return the starts of a study with their estimates; [] if it has none, or if they are damaged."""
    path = out / TIMES
    if not path.exists():
        return []
    try:
        starts = [dict(start) for start in json.loads(path.read_text())]
        in_words(starts)  # the values are there
    except (ValueError, TypeError, KeyError):
        # no result depends on it
        tell(f"{path} is damaged, so the times of earlier starts are left out.")
        return []
    return starts


def in_words(starts: Sequence[dict[str, Any]]) -> str:
    """State the time that a study took beside its first estimate; "" if no start has ended."""
    ended = [one["seconds"] for one in starts if one["seconds"] is not None]
    if not ended:
        return ""
    # a later start estimates the cells that are left, which the first estimate already holds
    said = in_hours(starts[0]["estimated_seconds"])
    more = f" in {len(ended)} starts" if len(ended) > 1 else ""
    killed = len(starts) - len(ended)
    of = "1 start that was" if killed == 1 else f"{killed} starts that were"
    unknown = f", without the time of {of} killed" if killed else ""
    return (
        f"The runs took {in_hours(sum(ended))}{more}{unknown}; the estimate before them was {said}."
    )
