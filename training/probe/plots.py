"""The figures of a probe: curves over places and lengths, areas by letter, maps of tokens.

Axes: N tokens that are probed, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy.sparse.linalg import eigsh
from torch import Tensor

from synthetic_tasks import stream
from training.intervals import Row
from training.report.figures import COLOURS, DASHED, INK, SOFT, WIDE, Spot, picture, share_curves
from training.report.formats import percent

from .tables import BASE, BEFORE, EXTRA, LETTERS, SUM, Label

# Each part of an embedding has the colour of an arm: the pages know it in light and dark.
PARTS = {BASE: "matched", LETTERS: "gru", EXTRA: "shuffled", SUM: "cnn"}
# The colours of first letters on maps.
_FIRST = ("lstm", "matched", "cnn", "shuffled", "gru", "bag", "transformer", "random")
_DOTS, _WORDS = 900, 42  # tokens of a map, and how many of them are written out
_CURVES = (  # task, splits, metric, caption, axis
    ("letter", "start", "accuracy", "Letters by place from the start", "place from the start"),
    ("letter", "end", "accuracy", "Letters by place from the end", "place from the end"),
    ("letter", "length", "accuracy", "Letters from the start, by length of the token", "letters"),
    ("spell", "length", "exact_match", "Tokens spelled without a mistake, by length", "letters"),
)


class Map(NamedTuple):
    """Tokens of a table on two principal components, with the components' shares of variance."""

    points: list[tuple[float, float]]
    texts: list[str]
    shares: tuple[float, float]


def map_points(vectors_ND: Tensor, texts: Sequence[str]) -> Map:
    """Project the same tokens of each table onto two principal components (Pearson 1901)."""
    vectors_ND = vectors_ND.double() - vectors_ND.double().mean(0)
    covariance_DD = (vectors_ND.T @ vectors_ND / len(vectors_ND)).numpy()
    total = max(float(np.trace(covariance_DD)), 1e-30)
    # subtle: without this ridge, eigsh does not converge on a table of zeros
    ridge_DD = 1e-9 * total * np.eye(len(covariance_DD))
    values, axes_D2 = eigsh(covariance_DD + ridge_DD, k=2, v0=np.ones(len(covariance_DD)))
    values, axes_D2 = values[::-1], axes_D2[:, ::-1]
    # the sign of an axis is arbitrary: make its largest component positive
    axes_D2 = axes_D2 * np.sign(axes_D2[np.abs(axes_D2).argmax(0), [0, 1]])
    numbers = sorted(stream("map").sample(range(len(texts)), min(_DOTS, len(texts))))
    points = [(float(x), float(y)) for x, y in vectors_ND[numbers].numpy() @ axes_D2]
    shares = (float(values[0]) / total, float(values[1]) / total)
    return Map(points, [texts[number] for number in numbers], shares)


def pictures(
    prefix: str, labels: Sequence[Label], summary: Sequence[Row], maps: Mapping[Label, Map]
) -> list[tuple[str, str]]:
    """Return captions and figures of the tables of one model; ids begin with `prefix`."""
    by_table = {label: [row for row in summary if row.arm == label.name] for label in labels}
    model, found = labels[0].model, []
    for task, splits, metric, caption, axis in _CURVES:
        curves = {label: _by_number(rows, task, splits, metric) for label, rows in by_table.items()}
        if any(curves.values()):
            name = f"{prefix}-{task}-{splits}"
            found.append((caption, _curves(name, f"{caption}, {model}.", curves, axis)))
    areas = {
        label: {r.split: r.value for r in rows if r.task == "contains" and r.split != "all"}
        for label, rows in by_table.items()
    }
    if any(areas.values()):
        caption = "Does a token contain this letter? Area under the curve; dashed line: chance"
        found.append((caption, _area_picture(f"{prefix}-contains", f"{caption}, {model}.", areas)))
    for number, (label, points) in enumerate(maps.items()):
        if label in by_table:
            shares = " and ".join(map(percent, points.shares))
            caption = f"Map of {label.name}: two principal components with {shares} of its variance"
            found.append((caption, _map_picture(f"{prefix}-map-{number}", f"{caption}.", points)))
    return found


def first_letters(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the most frequent first letters in alphabetical order, with their colours on maps."""
    firsts = [text[0] for text in texts]
    by_count = sorted(set(firsts), key=lambda letter: (-firsts.count(letter), letter))
    return list(zip(sorted(by_count[: len(_FIRST)]), _FIRST, strict=False))


def _by_number(rows: Sequence[Row], task: str, splits: str, metric: str) -> dict[int, Row]:
    """Select the rows of splits such as "start 3", by number."""
    wanted = [row for row in rows if (row.task, row.metric) == (task, metric)]
    return {int(row.split.split()[1]): row for row in wanted if row.split.startswith(f"{splits} ")}


def _look(label: Label) -> dict[str, Any]:
    """Line style of a table: the colour of its part, thin before training, grey for controls."""
    if label.is_control:
        return {"color": SOFT, "linewidth": 0.9, "linestyle": ":"}
    line = {"linewidth": 0.9, "linestyle": DASHED} if label.when == BEFORE else {"linewidth": 1.8}
    return {"color": COLOURS[PARTS[label.part]]} | line


def _is_faint(label: Label) -> bool:
    return label.is_control or label.when == BEFORE


def _curves(name: str, label: str, curves: Mapping[Label, Mapping[int, Row]], axis: str) -> str:
    """Draw shares over places or lengths: intervals for the trained tables, and the baseline."""
    baseline: dict[int, float] = {}
    spots: dict[str, list[Spot]] = {}
    for table, curve in curves.items():
        baseline |= {number: row.majority or 0.0 for number, row in curve.items()}
        spots[table.name] = [
            Spot(x, row.value, *((None, None) if _is_faint(table) else (row.low, row.high)))
            for x, row in curve.items()
        ]
    styles = {table.name: _look(table) for table in curves}
    reference = ("majority baseline", list(baseline.items()))
    return share_curves(name, label, spots, axis, reference=reference, styles=styles)


def _area_picture(name: str, label: str, areas: Mapping[Label, Mapping[str, float]]) -> str:
    """Draw a dot for each letter and table, hollow before training and for controls."""
    letters = sorted({letter for found in areas.values() for letter in found})

    def draw(panel: Axes) -> None:
        for table, found in areas.items():
            places = [letters.index(letter) for letter in found]
            panel.plot(
                places, list(found.values()), "o", color=_look(table)["color"], markeredgewidth=0.8,
                markersize=2.4 if _is_faint(table) else 4,
                markerfacecolor="none" if _is_faint(table) else None,
            )  # fmt: skip
        panel.axhline(0.5, color=INK, linestyle=DASHED, linewidth=1)
        panel.set_ylim(0.38, 1.02)
        panel.set_yticks([0.5, 0.75, 1])
        panel.set_xticks(range(len(letters)), letters)
        panel.grid(visible=False, axis="x")

    return picture(name, label, 2.4, draw)


def _map_picture(name: str, label: str, found: Map) -> str:
    """Draw tokens as dots in the colour of their first letter, and write out those with space."""
    shades = {letter: COLOURS[arm] for letter, arm in first_letters(found.texts)}
    x, y = np.array(found.points).T
    (left, right), (bottom, top) = _middle_of(x), _middle_of(y)

    def draw(panel: Axes) -> None:
        # grey dots first, so that they lie below the coloured ones
        for letter, colour in (("", SOFT), *shades.items()):
            of_it = [n for n, text in enumerate(found.texts) if shades.get(text[0], SOFT) == colour]
            strength = 0.75 if letter else 0.25
            panel.scatter(x[of_it], y[of_it], s=5, color=colour, alpha=strength, linewidths=0)
        written: list[tuple[float, float]] = []
        for number, text in enumerate(found.texts):
            a, b = (x[number] - left) / (right - left), (y[number] - bottom) / (top - bottom)
            inside = 0.02 < a < 0.84 and 0.02 < b < 0.96
            free = all(abs(a - one) > 0.17 or abs(b - other) > 0.045 for one, other in written)
            if text[0] in shades and inside and free and len(written) < _WORDS:
                written.append((a, b))
                style: dict[str, Any] = {"color": shades[text[0]], "fontsize": 7.5, "va": "center"}
                panel.text(x[number], y[number], f" {text[:10]}", **style)
        panel.set_xlim(left, right)
        panel.set_ylim(bottom, top)
        panel.set_xticks([])
        panel.set_yticks([])

    return picture(name, label, WIDE, draw)


def _middle_of(values: Any) -> tuple[float, float]:
    """Limits of an axis without the outermost 1 %: a few far tokens would shrink the rest."""
    low, high = (float(bound) for bound in np.quantile(values, [0.005, 0.995]))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
