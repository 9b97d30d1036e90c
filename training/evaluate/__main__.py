"""Ask a model about letters, mark what it says, and say with intervals what that is worth.

    python -m training.evaluate runs/quick-1234abcd                   # a run: its last arm, its first seed
    python -m training.evaluate runs/quick-1234abcd --arm lstm --against-arm matched
    python -m training.evaluate HuggingFaceTB/SmolLM2-135M --suite letters,cute=FOLDER --questions 100
    python -m training.evaluate BASE --letters FOLDER                 # a base with letters of charembed.save
    python -m training.evaluate MODEL --against OTHER                 # the same questions to both, in pairs

Suites: letters (every word task on every split), letters=reverse+count, and the benchmarks of the field by
their names, made offline of held-out words, or from their own files: cute=FOLDER, cute=hf:NAME.

A folder beside the run, in evaluations/, or where --out says, holds evaluation.json, every answer in
answers/, marks.jsonl, results.json and report.html. Ctrl-C keeps what is answered; the same command with
--resume asks the rest. From Python, and for any function from a prompt to a text: docs/evaluating.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.interrupts import Stop, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 for bad input, 1 for what broke, 130 for what was stopped."""

    def program(stop: Stop) -> None:
        from .command import parse, run_evaluation

        options = parse(argv, __doc__)
        stop.at_once = False
        run_evaluation(options)

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
