"""The findings of learning_rates: the best learning rate of each arm, on seeds of its own."""

from __future__ import annotations

import numpy as np

from training.report.figures import Spot, share_curves

from .findings import Findings, Measured, Picture

_Cells = dict[tuple[str, float], float]  # by arm and factor


def learning_rates(measured: list[Measured]) -> Findings:
    """Choose for each arm the factor with the best mean exact match over all tasks and splits.

    Text after pretraining is shown beside it. A choice at the end of the grid is named, because a
    factor beyond it may be better.
    """
    scores = _means(measured, "exact_match", "")
    losses = _means(measured, "loss_nats", "text, after pretraining")
    arms = list(dict.fromkeys(arm for arm, _ in scores))
    factors = sorted({factor for _, factor in scores})
    # of equal scores the factor nearest to 1 is chosen: the preset's own rate
    chosen = {arm: max(factors, key=lambda f: (scores[arm, f], -abs(np.log(f)))) for arm in arms}
    at_end = [arm for arm in arms if chosen[arm] in (factors[0], factors[-1])]
    sentences = [
        "Each factor multiplies the learning rates of pretraining and fine-tuning. The score is "
        "the mean exact match over all tasks and splits.",
        f"The factors were chosen on {_seeds(measured)}. Report a comparison on other seeds; by "
        "default it begins with seed 0.",
    ]
    if at_end:
        sentences.append(
            f"The choice of {', '.join(at_end)} is at the end of the grid: a factor beyond it may "
            "be better."
        )
    lines = [
        [
            arm,
            *(f"{scores[arm, f]:.3f}{' *' if f == chosen[arm] else ''}" for f in factors),
            *(f"{losses[arm, f]:.3f}" if (arm, f) in losses else "" for f in factors),
        ]
        for arm in arms
    ]
    flag = ",".join(f"{arm}={chosen[arm]:g}" for arm in arms if chosen[arm] != 1) or "none"
    curves = {arm: [Spot(f, scores[arm, f], None, None) for f in factors] for arm in arms}
    label = "Mean exact match of each arm, by the factor on its learning rates."
    picture = Picture(
        "learning_rates", label, share_curves("learning_rates", label, curves, "factor", arms=True)
    )
    return Findings(
        f"The best factors on the learning rates are {_listed(chosen)}: --lr-factors {flag}.",
        sentences,
        ["arm", *(f"score x {f:g}" for f in factors), *(f"text x {f:g}" for f in factors)],
        lines,
        [picture],
        [{"arm": arm, "metric": "lr_factor", "value": chosen[arm]} for arm in arms],
    )


def _means(measured: list[Measured], metric: str, task: str) -> _Cells:
    values: dict[tuple[str, float], list[float]] = {}
    for at, row, *_ in measured:
        if row.metric == metric and task in ("", row.task):
            values.setdefault((row.arm, float(at["factor"])), []).append(row.value)
    return {cell: float(np.mean(each)) for cell, each in values.items()}


def _seeds(measured: list[Measured]) -> str:
    """Name the seeds of the study: "seed 100", "the seeds 100 to 102"."""
    seeds = sorted({int(row.seed) for _, row, *_ in measured})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"the seeds {seeds[0]} to {seeds[-1]}"


def _listed(chosen: dict[str, float]) -> str:
    return ", ".join(f"{factor:g} ({arm})" for arm, factor in chosen.items())
