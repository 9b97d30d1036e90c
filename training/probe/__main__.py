"""What an embedding table knows of its spelling, always asked about tokens that the probe never saw.

    python -m training.probe smollm2                           # the packaged model: five minutes of a core
    python -m training.probe runs/quick-1234abcd               # all arms of a run, before and after training
    python -m training.probe runs/quick-1234abcd --arm lstm --seed 0
    python -m training.probe FOLDER-OR-HUB-NAME --letters LETTERS
    python -m training.probe table.safetensors --tokenizer FOLDER-OR-HUB-NAME

A linear probe says the letter at each place, from the start and from the end, which letters a token contains,
and how long it is; a small decoder spells it out. Tokens that differ in case or in spaces alone are never on
both sides of a split. Beside each score: the most frequent answer, the same vectors dealt to the wrong tokens
(a control task: Hewitt & Liang 2019, arXiv 1909.03368), and random vectors. The questions are those of
Kaushal & Mahowald 2022 (arXiv 2206.02608) and Itzhak & Levy 2022 (arXiv 2108.11193).

Written are probe.html, results.json (a row for each table, split and question, and means over splits) and
probe.json (what was probed). The same command gives the same numbers. Ctrl-C ends it with nothing written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.interrupts import Stop, held_back, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 for bad input, 1 for what broke, 130 for what was stopped."""

    def program(stop: Stop) -> None:
        from .probing import parse, run_probes, write_probes

        options = parse(argv, __doc__)
        stop.at_once = False
        try:
            probed = run_probes(options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Nothing was written.") from None
        with held_back():
            write_probes(probed, options)

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
