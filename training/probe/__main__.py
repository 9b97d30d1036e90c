"""Probe what an embedding table knows of spelling, scored on tokens that the probe never saw.

    python -m training.probe smollm2                    # the packaged model: five minutes of a core
    python -m training.probe runs/quick-1234abcd        # all arms, before and after training
    python -m training.probe runs/quick-1234abcd --arm lstm --seed 0
    python -m training.probe FOLDER-OR-HUB-NAME --letters FOLDER
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

import sys
from collections.abc import Sequence

from training.interrupts import Stop, held_back, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after a stop signal."""

    def program(stop: Stop) -> None:
        # Imported here: torch takes seconds, and Ctrl-C is handled meanwhile.
        from .command import parse, run_probes, write_probes

        options = parse(argv, __doc__)
        stop.at_once = False
        try:
            probed = run_probes(options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Nothing was written.") from None
        with held_back():  # a folder is written whole or not at all
            write_probes(probed, options)

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
