"""The findings of the map in the terminal: exact match by vocabulary, split and arm."""

from __future__ import annotations

import numpy as np

from .findings import Findings, Measured


def shares_by_vocabulary(measured: list[Measured]) -> Findings:
    """Return the mean exact match over tasks and seeds of each vocabulary, split and arm."""
    cells: dict[tuple[int, str, str], list[float]] = {}
    for at, row in measured:
        if row.metric == "exact_match":
            cells.setdefault((int(at["vocabulary"]), row.split, row.arm), []).append(row.value)
    arms = list(dict.fromkeys(arm for _, _, arm in cells))
    places = sorted({(vocabulary, split) for vocabulary, split, _ in cells}, key=lambda at: at[0])
    lines = [
        [
            f"{vocabulary:,}",
            split.replace("_", " "),
            *(
                f"{np.mean(cells[vocabulary, split, arm]):.2f}"
                if (vocabulary, split, arm) in cells
                else ""
                for arm in arms
            ),
        ]
        for vocabulary, split in places
    ]
    return Findings(
        "Mean exact match over the tasks and seeds, by vocabulary and split.",
        [],
        ["vocabulary", "split", *arms],
        lines,
        [],
    )
