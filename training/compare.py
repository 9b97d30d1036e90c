"""Train a pair of models, one of which sees the letters of its tokens, ask both, and say what that was worth.

    python -m training.compare                       # preset quick: one pair, minutes on two CPU cores
    python -m training.compare --seeds 5             # five pairs, intervals over seeds
    python -m training.compare --preset parent       # the parent experiment
    python -m training.compare --vocab-size 8192 --arms matched,lstm,shuffled
    python -m training.compare --model FOLDER --steps 0 --finetune-lr 1e-4      # a pretrained causal model
    python -m training.compare --tasks path_star:2x5 --objective reversed       # other questions, objectives

A run lands in its own folder: config.json, metrics.jsonl, results.json, report.html, and a folder per seed
and arm with checkpoints and all answers. Ctrl-C saves where it is; the same command with --resume goes on to
the same numbers, and --seeds 5 in the folder of a smaller run trains the pairs that are missing.
`accelerate launch -m training.compare ...` spreads each arm over several processes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .interrupts import Stop, run_program


def main(argv: Sequence[str] | None = None, *, last: bool = False) -> int:
    """Run a comparison; `last` if the process has nothing else to do.

    Returns 0, or 2 for bad input, 1 for a run that broke, 130 for one that was stopped.
    """

    def program(stop: Stop) -> None:
        from training.config.flags import parse

        config, options = parse(argv, __doc__)
        from .comparison import compare

        stop.at_once = False
        compare(config, options)

    return run_program(program, last=last)


if __name__ == "__main__":
    sys.exit(main(last=True))
