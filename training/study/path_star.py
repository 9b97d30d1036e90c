"""The findings of path_star: first step and whole path, by objective and number of arms d."""

from __future__ import annotations

from training.report.figures import share_curves
from training.report.formats import percent

from .findings import Findings, Measured, Picture, cells_of, interval, mean, spot

_METRICS = {"first_step": "first step", "exact_match": "whole path"}


def path_star(measured: list[Measured]) -> Findings:
    """Compare the shares of right first steps and whole paths on new graphs with guessing, 1/d."""
    cells = {metric: cells_of(measured, "fresh", metric, ("objective", "d")) for metric in _METRICS}
    # A stable sort: objectives keep the order of the grid.
    places = sorted(cells["exact_match"], key=lambda place: int(place[1]))
    arms: dict[str, list[int]] = {}
    for objective, d in places:
        arms.setdefault(objective, []).append(d)
    # d arms look alike at the start, so one in d guesses is right.
    guess = ("guessing, 1/d", [(float(d), 1 / d) for d in sorted({d for _, d in places})])
    pictures = []
    for metric, name in _METRICS.items():
        curves = {one: [spot(d, cells[metric][one, d]) for d in ds] for one, ds in arms.items()}
        label = f"Share of new graphs on which the {name} is right, over the number of arms d."
        caption = f"The {name} in generated answers, on new graphs; thin lines are 95 % intervals."
        svg = share_curves(metric, label, curves, "arms d", reference=guess)
        pictures.append(Picture(metric, caption, svg))
    firsts = []
    for one, ds in arms.items():
        each = (f"{percent(mean(cells['first_step'][one, d]))} with {d} arms" for d in ds)
        firsts.append(f"{one} {', '.join(each)}")
    lines = []
    for one, d in places:
        shares = (interval(cells[metric][one, d]) for metric in _METRICS)
        lines.append([f"{d} arms", one, f"{1 / d:.2f}", *shares])
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
        ["graph", "objective", "1/d", *_METRICS.values()],
        lines,
        pictures,
    )
