"""Write an arm of a finished run as a model that plain transformers loads, with its model card.

    python -m training.ship runs/smollm2-1234abcd smollm2-with-characters
    python -m training.ship RUN OUT --arm lstm --seed 0 --licence mit

The run must be one of a pretrained model. The character encoder is saved in OUT/letters, from which
training can go on, and folded into the embedding. The written model is loaded with plain
transformers and must give the same logits, bit for bit. OUT appears only after this.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from training.flags import Parser, check_texts
from training.interrupts import Stop, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after a stop signal."""

    def program(stop: Stop) -> None:
        parser = Parser("python -m training.ship", __doc__)
        add = parser.add_argument
        add("run", type=Path, metavar="RUN", help="folder of a finished run of a pretrained model")
        add("out", type=Path, metavar="OUT", help="folder to write, new or empty")
        add("--arm", default="lstm", help="arm to write [lstm]")
        add("--seed", type=int, help="its seed [the first of the run]")
        licence = "licence of the base, as the hub writes it: apache-2.0, mit, llama3.2"
        add("--licence", help=licence)
        add("--cache", type=Path, default=Path(".cache"), help="cache of the run [.cache]")
        options = parser.parse_args(argv)
        check_texts(options)
        # Imported here: torch takes seconds, which --help and wrong flags must not take.
        from rich.console import Console

        from .plain_model import ship

        stop.at_once = False
        which = options.arm, options.seed, options.licence, options.cache
        with Console(stderr=True).status("Reading the run ..."):
            ship(options.run, options.out, *which)

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
