"""The number of steps after which each arm reaches the control's final loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from training.intervals import Row

METRIC = "steps_to_control_loss"
_WINDOW = 25  # steps in the mean of a loss; replay steps between the questions do not count


def steps_to_loss_rows(
    metrics: Sequence[Mapping[str, Any]], arms: Sequence[str], phases: Iterable[tuple[str, str]]
) -> list[Row]:
    """Return a row for each arm, seed and phase in which the arm reaches the control's final loss.

    The value is the first step at which the mean loss of the last 25 steps is at most the control's
    at its end. The control always reaches it. A phase with fewer steps has no row.

    Arguments:
        phases: (name, kind); only steps of this kind count.
    """
    rows = []
    for phase, kind in phases:
        losses: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for row in metrics:
            if (row["phase"], row["kind"]) == (phase, kind):
                run = losses.setdefault((row["arm"], row["seed"]), [])
                run.append((row["step"], row["loss_nats"]))
        means = {run: _means(found) for run, found in losses.items() if len(found) >= _WINDOW}
        for (arm, seed), of_run in means.items():
            goal = means[arms[0], seed][-1][1]
            reached = next((step for step, mean in of_run if mean <= goal), None)
            if reached is not None:
                n = _WINDOW
                rows.append(Row(arm, seed, phase, "all", METRIC, reached, None, None, n, None))
    return rows


def _means(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(step, mean of the last 25 losses), from the 25th step on."""
    sums = [0.0, *accumulate(loss for _, loss in losses)]
    return [
        (losses[last - 1][0], (sums[last] - sums[last - _WINDOW]) / _WINDOW)
        for last in range(_WINDOW, len(losses) + 1)
    ]
