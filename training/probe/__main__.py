"""Probe what an embedding table knows of spelling, scored on tokens that the probe never saw.

    python -m training.probe smollm2                    # the packaged model: five minutes of a core
    python -m training.probe runs/quick-1234abcd        # all arms, before and after training
    python -m training.probe runs/quick-1234abcd --arm lstm --seed 0
    python -m training.probe FOLDER-OR-HUB-NAME --encoder FOLDER
    python -m training.probe table.safetensors --tokenizer FOLDER-OR-HUB-NAME

A linear probe predicts the letter at each place, from the start and from the end, the letters
that a token contains, and its length; a small decoder spells it. Tokens that differ in case or in
spaces alone are never on both sides of a split. Beside each score: the majority baseline, the same
vectors given to the wrong tokens (a control task: Hewitt & Liang 2019, arXiv 1909.03368), and
random vectors. The questions are those of Kaushal & Mahowald 2022 (arXiv 2206.02608) and Itzhak &
Levy 2022 (arXiv 2108.11193).

The folder gets probe.html, results.json (a row for each table, split and question, and means over
splits) and probe.json (the model and the settings). The same command gives the same numbers. Ctrl-C
ends it and writes nothing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import BadInput
from training.flags import Parser, check_numbers, check_texts
from training.interrupts import Stop, held_back, run_program

from . import MOST_SPLITS, PROBES


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after a stop signal."""

    def program(stop: Stop) -> None:
        options = parse(argv)
        # Imported here: torch takes seconds, which --help need not wait for.
        from .command import run_probes, write_probes

        stop.at_once = False
        try:
            probed = run_probes(options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Nothing was written.") from None
        with held_back():  # a folder is written whole or not at all
            write_probes(probed, options)

    return run_program(program)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags. Raises BadInput for a value that is not allowed."""
    parser = Parser("python -m training.probe", __doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="run folder, model folder or hub name, or safetensors file")
    add("--arm", help="arm of a run [all]")
    add("--seed", type=int, help="seed of a run [all, one for each split in turn]")
    add("--encoder", metavar="FOLDER", help="character encoder that charembed.save wrote for MODEL")
    add("--letters", dest="encoder", help=argparse.SUPPRESS)  # its name in 0.1
    add("--tokenizer", metavar="NAME", help="folder or hub name [the model's own]")
    add("--tensor", metavar="NAME", help="table of a file [its only one]")
    add("--probes", default=",".join(PROBES), help="separated by commas [%(default)s]")
    add("--tokens", type=int, metavar="N", help="tokens, drawn at random [all made of letters]")
    add("--apart", type=int, metavar="N", help="keep tokens with equal first N letters on one side")
    add("--splits", type=int, default=5, help="times a fifth is held out [%(default)s]")
    add("--out", type=Path, help="folder to write [probes/NAME]")
    add("--cache", type=Path, default=Path(".cache"), help="[%(default)s]")
    add("--threads", type=int, default=1, help="may change the last digits [%(default)s]")
    add("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(argv)
    check_texts(options)
    check_numbers(
        options, tokens=(1, None), apart=(1, None), splits=(1, MOST_SPLITS), threads=(1, None)
    )
    given = sys.argv[1:] if argv is None else argv
    options.command = shlex.join(["python", "-m", "training.probe", *given])
    options.probes = tuple(options.probes.split(","))
    if unknown := [name for name in options.probes if name not in PROBES]:
        raise BadInput(f"There is no probe {unknown[0]!r}. Choose from {', '.join(PROBES)}.")
    return options


if __name__ == "__main__":
    sys.exit(main())
