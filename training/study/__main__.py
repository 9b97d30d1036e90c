"""Train a published experiment again: a grid of runs with one table and one page.

    python -m training.study --list                     # studies and sizes
    python -m training.study counting                   # minutes on two cores
    python -m training.study path_star --seeds 3        # intervals over seeds
    python -m training.study functions --size published   # for a GPU
    python -m training.study map --size published         # hours of two cores

Every point of the grid is a run folder below --out, such as
counting-small/d8-m4, which every other tool can open. The folder of the study
also has results.json (the rows of all runs with their coordinates, and the
findings), pictures as .svg files, and report.html. Ctrl-C saves the state. The
same command with --resume goes on to the same numbers, and a larger --seeds
trains the missing models.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import BadInput
from training.flags import Parser, add_options, check_options
from training.interrupts import Stop, run_program

from . import NAMES


def main(argv: Sequence[str] | None = None, *, last: bool = False) -> int:
    """Run a study. Returns 0, or 2 for bad input, 1 for a run that broke, 130 for a stopped one.

    `last`: the process has nothing else to do afterwards.
    """

    def program(stop: Stop) -> None:
        options = parse(argv)
        if options.list:
            print(listed())
            return
        from .run import run_study  # takes seconds, which --list does not need

        stop.at_once = False
        run_study(options)

    return run_program(program, last=last)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags. Raises BadInput for unknown names and values that cannot work."""
    parser = Parser("python -m training.study", __doc__)
    add = parser.add_argument
    add("study", nargs="?", metavar="STUDY", help=f"one of {', '.join(NAMES)}")
    add("--list", action="store_true", help="print the studies and their sizes, and stop")
    add("--size", default="small", help="small, published, or tiny [small]")
    own = "1; map: as many as its size says"
    add("--seeds", type=int, metavar="N", help=f"models per point [1 or more; {own}]")
    usual = "0; map: 12"  # the pages of other studies have no learning curves
    add_options(parser, out="folder of the study [runs/STUDY-SIZE]", measures=usual)
    parser.set_defaults(measures=None)
    options = parser.parse_args(argv)
    check_options(options)
    if options.list:
        return options
    if options.study is None:
        raise BadInput(f"No study is named: choose one of {', '.join(NAMES)}, or use --list.")
    # Imported here: torch takes seconds, which --help need not wait for.
    from .studies import study_named

    study = study_named(options.study)
    # Raises for an unknown size, and for a config that cannot work.
    study.points(options.size, options.seeds)
    if options.measures is None:
        options.measures = study.measures
    # For config.json of the runs, in the place of a preset's name.
    options.preset = f"study {options.study}, {options.size}"
    if study.seeds is None and options.seeds is not None:
        options.preset += f", seeds {options.seeds}"
    options.out = options.out or Path("runs") / f"{options.study}-{options.size}"
    return options


def listed() -> str:
    """Return a line for each size of each study, below its question."""
    from .studies import STUDIES

    lines = []
    for study in STUDIES.values():
        lines.append(f"{study.name}: {study.asks} ({study.source})")
        for size in study.sizes:
            configs = [point.config for point in study.points(size)]
            steps = max(sum(phase.steps for phase in config.phases) for config in configs)
            passes = max(phase.epochs for config in configs for phase in config.phases)
            # the text decides the steps of a phase in passes
            many = "es" if passes != 1 else ""
            long = f"{passes:g} pass{many} over the text" if passes else f"{steps:,} steps"
            lines.append(
                f"  --size {size}: {len(configs)} run{'s' * (len(configs) > 1)} of up to {long}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(last=True))
