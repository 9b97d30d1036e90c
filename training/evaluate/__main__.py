"""Ask a model about the letters of words, and score its answers with 95 % intervals.

    python -m training.evaluate runs/quick-1234abcd                   # a run: last arm, first seed
    python -m training.evaluate runs/quick-1234abcd --arm lstm --against-arm matched
    python -m training.evaluate HuggingFaceTB/SmolLM2-135M --suite letters,cute=FOLDER
    python -m training.evaluate BASE --encoder FOLDER    # a base model and its character encoder
    python -m training.evaluate MODEL --against OTHER    # paired: the same questions to both

Suites: letters (every word task on every split), letters=reverse+count, and the benchmarks of the
field by their names, made offline from held-out words, or from their own files: cute=FOLDER,
cute=hf:NAME, charbench=FOLDER:find_first_occurrence (some of its tasks; --questions draws a sample
of their items), cute@paper=FOLDER (another scoring rule).

The folder is --out, or lies beside the run or in evaluations/. It holds evaluation.json, the
answers in answers/, marks.jsonl, results.json and report.html. Ctrl-C keeps the answers; the same
command with --resume asks the remaining questions. From Python, and for any function from a prompt
to a text: docs/evaluating.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.interrupts import Stop, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after a stop signal."""

    def program(stop: Stop) -> None:
        # Imported here: torch takes seconds, and Ctrl-C is handled meanwhile.
        from .command import parse, run_evaluation

        options = parse(argv, __doc__)
        stop.at_once = False
        run_evaluation(options)

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
