"""The findings of functions: error by number of examples k and by split."""

from __future__ import annotations

from training.report.figures import share_curves
from training.report.formats import capital, percent

from .findings import Cells, Findings, Measured, Picture, interval, mean, spot

_SPLITS = {
    "fresh": "inside the mixture",
    "held_out_family": "held-out family",
    "composed": "two composed",
    "longer": "longer strings",
}
_OUTSIDE = ("held_out_family", "composed", "longer")  # of the training's mixture


def functions(measured: list[Measured]) -> Findings:
    """Compare the error inside of the training's mixture of functions with that outside of it."""
    right: Cells = {}
    known: Cells = {}  # answers that a function of the mixture gives
    for _, row, *_ in measured:
        if row.metric in ("exact_match", "of_the_mixture"):
            # The number of examples is in the name of the task: "functions:4x8".
            k = int(row.task.removeprefix("functions:").split("x")[0])
            cells = right if row.metric == "exact_match" else known
            cells.setdefault((row.split, k), []).append(row)
    ks = sorted(k for split, k in right if split == "fresh")
    names = {split: name for split, name in _SPLITS.items() if (split, ks[0]) in right}
    errors = {
        name: [spot(k, right[split, k], flipped=True) for k in ks] for split, name in names.items()
    }
    # Longer strings are left out: their functions are those of the mixture.
    chosen = {_SPLITS[split]: [spot(k, known[split, k]) for k in ks] for split in _OUTSIDE[:2]}
    most = ks[-1]
    best = {split: percent(mean(right[split, most])) for split in names}
    of_mixture = "share of answers that a function of the mixture gives."
    wrong = "Share of wrong answers over the number of examples."
    pictures = [
        Picture(
            "error",
            "Share of wrong answers, over the number of examples k; thin lines are 95 % intervals.",
            share_curves("error", wrong, errors, "examples k"),
        ),
        Picture(
            "chosen",
            f"Outside of the mixture: {of_mixture} None of them is right.",
            share_curves("chosen", capital(of_mixture), chosen, "examples k"),
        ),
    ]
    plural = "" if most == 1 else "s"
    outer = ", ".join(f"{best[split]} on {names[split]}" for split in _OUTSIDE if split in best)
    return Findings(
        f"With {most} example{plural} a model applies {best['fresh']} of the functions inside its "
        f"training's mixture: {outer}.",
        [
            "Inside the mixture: new strings under functions of training. The held-out family and "
            "compositions of two trained functions are drawn so that no function of the mixture "
            "explains the examples and the answer.",
            "Without an example the family can only be guessed. Copying the last input is never "
            "right.",
        ],
        ["split", *(f"k = {k}" for k in ks), f"of the mixture, k = {most}"],
        [
            [name, *(interval(right[split, k]) for k in ks), interval(known[split, most])]
            for split, name in names.items()
        ],
        pictures,
    )
