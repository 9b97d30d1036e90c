"""How many steps each arm needs for the loss that the control ends with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from training.intervals import Row

WINDOW = 25  # steps that a loss is averaged over; what stands between the questions is not counted
METRIC = "steps_to_control_loss"


def steps_to_loss_rows(
    metrics: Sequence[Mapping[str, Any]], arms: Sequence[str], phases: Iterable[tuple[str, str]]
) -> list[Row]:
    """A row for each arm, seed and phase (name, kind) in which the arm gets there; the control always does.

    The first step at which the mean loss of the last 25 steps of the phase's kind is at most the control's
    at its end. Phases shorter than that have no row.
    """
    rows = []
    for phase, kind in phases:
        losses: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for row in metrics:
            if (row["phase"], row["kind"]) == (phase, kind):
                losses.setdefault((row["arm"], row["seed"]), []).append(
                    (row["step"], row["loss_nats"])
                )
        trailing = {
            run: trailing_means(found) for run, found in losses.items() if len(found) >= WINDOW
        }
        for (arm, seed), means in trailing.items():
            goal = trailing[arms[0], seed][-1][1]
            reached = next((step for step, mean in means if mean <= goal), None)
            if reached is not None:
                rows.append(Row(arm, seed, phase, "all", METRIC, reached, None, None, WINDOW, None))
    return rows


def trailing_means(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(step, mean of the last 25 losses), from the 25th on."""
    sums = [0.0, *accumulate(loss for _, loss in losses)]
    return [
        (losses[last - 1][0], (sums[last] - sums[last - WINDOW]) / WINDOW)
        for last in range(WINDOW, len(losses) + 1)
    ]
