"""Judge a finished map again under labels that are exchanged at random: how many verdicts hold?

    python -m benchmarks.permuted_map runs/map-published --rounds 100

In each round the names of the arms are exchanged within each seed, so no arm differs from another
one but by chance. Everything else is the map's own: scores, losses, seeds, judgement and
correction. At most 5 % of the rounds should have a verdict that helps or hurts.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import numpy as np

from training.errors import BadInput, exit_status
from training.intervals import wilson
from training.run.run import Run
from training.study.map_rows import HELPS, HURTS, Judged, Vocabulary, collected, judged


def exchanged(one: Vocabulary, rng: np.random.Generator) -> Vocabulary:
    """The same results under labels that are exchanged at random among the arms of each seed."""
    names: dict[tuple[str, int], str] = {}
    for seed in sorted({seed for _, seed in one.hashes}):
        own = [arm for arm in one.arms if (arm, seed) in one.hashes]
        names |= {
            (arm, seed): own[i] for arm, i in zip(own, rng.permutation(len(own)), strict=True)
        }
    made = Vocabulary(one.size, one.data, arms=list(one.arms))
    made.hashes = {(names[arm, seed], seed): each for (arm, seed), each in one.hashes.items()}
    made.rows = [replace(row, arm=names[row.arm, int(row.seed)]) for row in one.rows]
    made.marks = {
        (names[arm, seed], seed, task, split): each
        for (arm, seed, task, split), each in one.marks.items()
    }
    made.windows = {
        (names[arm, seed], seed, task): each for (arm, seed, task), each in one.windows.items()
    }
    return made


def held(found: Sequence[Judged]) -> int:
    """The number of differences that help or hurt."""
    return sum(one.verdict in (HELPS, HURTS) for one in found)


def vocabularies_of(folder: Path, cache: Path) -> list[Vocabulary]:
    """The finished cells of a map by vocabulary. Raises BadInput for a folder that has none."""
    runs = [Run.open(path.parent, cache) for path in sorted(folder.glob("*/config.json"))]
    sizes = sorted({run.config.data.vocab_size for run in runs})
    found = [
        collected(
            size, [arm for run in runs if run.config.data.vocab_size == size for arm in run.arms()]
        )
        for size in sizes
    ]
    whole = [one for one in found if one is not None]
    if not whole:
        raise BadInput(f"{folder} has no finished cell of a map: name the folder of the study.")
    return whole


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("map", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    if options.rounds < 1:
        raise BadInput(f"--rounds is {options.rounds}; it must be 1 or more.")
    vocabularies = vocabularies_of(options.map, options.cache)
    own = judged(vocabularies)
    print(f"the map itself: {held(own)} of {len(own)} differences help or hurt")
    rng, counts = np.random.default_rng(options.seed), list[int]()
    for _ in range(options.rounds):
        counts.append(held(judged([exchanged(one, rng) for one in vocabularies])))
    some = sum(count > 0 for count in counts)
    low, high = wilson(some, options.rounds)
    print(
        f"exchanged labels: {some} of {options.rounds} rounds have a verdict ({low:.3f} to "
        f"{high:.3f} of the rounds); {sum(counts)} of {len(own) * options.rounds} differences"
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
