"""The findings of path_star: first step and whole path, by objective and number of arms d."""

from __future__ import annotations

from training.report.figures import share_curves
from training.report.formats import percent

from .findings import Findings, Measured, Picture, cells_of, interval, mean, spot


def path_star(measured: list[Measured]) -> Findings:
    """Compare the shares of right first steps and whole paths on new graphs with guessing, 1/d."""
    metrics = {"first_step": "first step", "exact_match": "whole path"}
    cells = {metric: cells_of(measured, "fresh", metric, ("objective", "d")) for metric in metrics}
    objectives = list(dict.fromkeys(objective for objective, _ in cells["exact_match"]))
    arms = sorted({d for _, d in cells["exact_match"]})
    places = [(objective, d) for d in arms for objective in objectives]
    places = [place for place in places if place in cells["exact_match"]]
    # d arms look alike at the start, so one in d guesses is right.
    guess = ("guessing, 1/d", [(float(d), 1 / d) for d in arms])
    pictures, firsts = [], list[str]()
    for metric, name in metrics.items():
        curves = {
            one: [
                spot(d, cells[metric][objective, d]) for objective, d in places if objective == one
            ]
            for one in objectives
        }
        label = f"Share of new graphs on which the {name} is right, over the number of arms d."
        caption = f"The {name} in generated answers, on new graphs; thin lines are 95 % intervals."
        svg = share_curves(metric, label, curves, "arms d", reference=guess)
        pictures.append(Picture(metric, caption, svg))
    for one in objectives:
        shares = {d: mean(cells["first_step"][one, d]) for o, d in places if o == one}
        each = (f"{percent(share)} with {d} arms" for d, share in shares.items())
        firsts.append(f"{one} {', '.join(each)}")
    lines = [
        [
            f"{d} arms",
            objective,
            f"{1 / d:.2f}",
            *(interval(cells[metric][objective, d]) for metric in metrics),
        ]
        for objective, d in places
    ]
    return Findings(
        f"The first step of the path is right: {'; '.join(firsts)}.",
        [
            "The first step is the node after the start. Before it, a model of next_token has "
            "generated only the start, which the question names. Its prefix is therefore correct, "
            "this share is the teacher-forced one, and guessing an arm gets 1/d.",
            "reversed generates the path from its end, so that all other steps come before the "
            "first step; teacherless generates all nodes at once. Both are scored on their own "
            "answers.",
            "A whole path is right if every node is: following edges but guessing the arm gets 1/d "
            "of this, too.",
        ],
        ["graph", "objective", "1/d", *metrics.values()],
        lines,
        pictures,
    )
