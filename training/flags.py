"""Flags of the commands: an error is one sentence, and bounds are checked before work begins.

Standard library only: `--help` and wrong flags must not wait for torch, which takes seconds.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from synthetic_tasks import flags

from .errors import BadInput


class Parser(flags.Parser):
    """An ArgumentParser whose errors are BadInput."""

    failure = BadInput


def flag_of(name: str) -> str:
    """Return the flag of an attribute: "save_every" -> "--save-every"."""
    return f"--{name.replace('_', '-')}"


def check_numbers(options: argparse.Namespace, **bounds: tuple[int, int | None]) -> None:
    """Raise BadInput for the first number outside its bounds, (least, most); None is not checked.

    check_numbers(options, shots=(0, 100), threads=(1, None))
    """
    for name, (least, most) in bounds.items():
        given = getattr(options, name)
        if given is not None and (given < least or (most is not None and given > most)):
            allowed = f"{least} or more" if most is None else f"{least} to {most}"
            raise BadInput(f"{flag_of(name)} is {given}; it must be {allowed}.")
    # more threads than cores slow each other down
    cores, threads = os.cpu_count() or 1, getattr(options, "threads", None)
    if "threads" in bounds and threads is not None and threads > cores:
        seen = f"--threads is {threads}, and this machine has {cores} cores"
        raise BadInput(f"{seen}: choose {cores} or fewer.")


def check_texts(options: argparse.Namespace) -> None:
    """Raise BadInput for a text that names nothing: an empty one, or one with a null byte."""
    # An empty name would be the present folder.
    for name, given in vars(options).items():
        if isinstance(given, str) and (not given.strip() or "\0" in given):
            seen = f"holds a null byte: {given!r}" if given.strip() else "is empty"
            raise BadInput(
                f"{name.upper()} (or {flag_of(name)}) {seen}. Give it a value that names something."
            )


def add_options(
    parser: argparse.ArgumentParser,
    out: str = "run folder [runs/PRESET-DIGEST]",
    measures: str = "12",
) -> argparse._ArgumentGroup:
    """Add the flags that do not change the result of a run.

    Arguments:
        out: the help of --out.
        measures: the default of --measures as its help prints it.
    """
    run = parser.add_argument_group("Run")
    number = partial(run.add_argument, type=int, metavar="N")
    folder = partial(run.add_argument, type=Path, metavar="FOLDER")
    switch = partial(run.add_argument, action="store_true")
    folder("--out", help=out)
    switch("--resume", help="continue an interrupted run, or render a finished one again")
    at_once = "[1 or more; 2 on a CPU, 1 on a GPU]"
    number("--jobs", help=f"arms trained at the same time, each in its own process {at_once}")
    number("--threads", default=1, help="CPU threads per arm [1 or more; 1]")
    switch("--cpu", help="do not use the GPU")
    parts = "compute the batch of a step in N parts and sum their gradients: less memory, the same"
    number(
        "--accumulate",
        default=1,
        help=f"{parts} batch and step; changes last digits [1 or more; 1]",
    )
    compiled = (
        "compile the transformer blocks with torch.compile for training: steps are faster after"
    )
    switch("--compile", help=f"{compiled} a minute or more; changes last digits")
    again = (
        "compute the blocks of a Hugging Face model again in the backward pass: less memory, about"
    )
    switch("--gradient-checkpointing", help=f"{again} a third more time, the same numbers")
    number("--save-every", default=200, help="steps between saved states [1 or more; 200]")
    curves = "times in each phase that held-out loss and exact match are measured, for curves"
    number("--measures", default=12, help=f"{curves} [0 or more; {measures}]")
    ids = "folder for vocabularies and token ids [.cache]"
    folder("--cache", default=Path(".cache"), help=ids)
    switch("--quiet", help="no progress bars")
    return run


def check_options(options: argparse.Namespace) -> None:
    """Raise BadInput for the first option of `add_options` with an impossible value."""
    least = {"threads": 1, "jobs": 1, "accumulate": 1, "save_every": 1, "measures": 0}
    check_numbers(options, **{name: (number, None) for name, number in least.items()})
