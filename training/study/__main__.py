"""Train a neighbouring experiment: a grid of runs of this laboratory, one table, one page.

    python -m training.study --list                       # the studies and their sizes
    python -m training.study counting                     # minutes on two CPU cores
    python -m training.study path_star --seeds 3          # intervals over seeds
    python -m training.study functions --size published   # for a GPU

Every point of the grid is a run folder below --out, such as counting-small/d8-m4, that every other tool can
open. Beside them stand results.json (the rows of all runs with their place in the grid, and what was computed
of them), the pictures as .svg files, and report.html. Ctrl-C saves where it is; the same command with
--resume goes on to the same numbers, and a larger --seeds trains what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.interrupts import Stop, run_program


def main(argv: Sequence[str] | None = None, *, last: bool = False) -> int:
    """Run a study; `last` if the process has nothing else to do. Returns what training.compare does."""

    def program(stop: Stop) -> None:
        options = parse(argv)
        if options.list:
            print(listed())
            return
        from .run import run_study

        stop.at_once = False
        run_study(options)

    return run_program(program, last=last)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a study, as those of a comparison. Raises BadInput for what is unknown or cannot be."""
    from training.config.flags import Help, Parser, add_options, check_options
    from training.errors import BadInput

    from .studies import STUDIES, study_named

    parser = Parser(
        prog="python -m training.study",
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument(
        "--list", action="store_true", help="name the studies and their sizes, and end"
    )
    parser.add_argument(
        "--size", default="small", metavar="SIZE", help="small, published, or tiny [small]"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="models of each point [1 or more; 1]"
    )
    add_options(parser, out="folder of the study [runs/STUDY-SIZE]")
    options = parser.parse_args(argv)
    check_options(options)
    if options.list:
        return options
    if options.study is None:
        raise BadInput(f"no study is named: choose one of {', '.join(STUDIES)}, or ask for --list.")
    study_named(options.study).points(options.size, options.seeds)
    options.preset = f"study {options.study}, {options.size}"
    options.out = options.out or Path("runs") / f"{options.study}-{options.size}"
    return options


def listed() -> str:
    """A line for each size of each study, under what it asks."""
    from .studies import STUDIES

    lines = []
    for study in STUDIES.values():
        lines.append(f"{study.name}: {study.asks} ({study.source})")
        for size, points in study.sizes.items():
            configs = [point.config for point in points()]
            steps = max(config.phase("finetune").steps for config in configs)
            lines.append(f"  --size {size}: {len(configs)} runs of up to {steps:,} steps")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(last=True))
