"""The pictures of a probe: curves over places and lengths, areas by letter, maps of tokens.

Axes: N tokens that are probed, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.sparse.linalg import eigsh
from torch import Tensor

from charembed.spelling_loss import PLACES
from synthetic_tasks import stream
from training.intervals import Row
from training.models.arms import ARMS
from training.report.plots import DASHED, STYLE, WIDE
from training.report.svg import INK, SOFT, svg_of
from training.report.verdict import percent

from .tables import BASE, BEFORE, EXTRA, LETTERS, SUM, Label

# A part of an embedding has the colour of an arm, so that pages know it in light and in dark.
PARTS = {BASE: "matched", LETTERS: "gru", EXTRA: "shuffled", SUM: "cnn"}
FIRST = (
    "lstm",
    "matched",
    "cnn",
    "shuffled",
    "gru",
    "bag",
    "transformer",
    "random",
)  # colours of first letters
DOTS, WORDS = 900, 42  # tokens of a map, and those of them that are written out
OVER = (  # task, splits, metric, caption, axis
    (
        "letter",
        "start",
        "accuracy",
        "Letters read, by place counted from the start",
        "place from the start",
    ),
    (
        "letter",
        "end",
        "accuracy",
        "Letters read, by place counted from the end",
        "place from the end",
    ),
    (
        "letter",
        "length",
        "accuracy",
        "Letters read from the start, by length of the token",
        "letters",
    ),
    (
        "spell",
        "length",
        "exact_match",
        "Tokens spelled out without a mistake, by length",
        "letters",
    ),
)
Curve = dict[int, Row]


class Map(NamedTuple):
    """Tokens of a table on its first two principal components, which hold these `shares` of its variance."""

    points: list[tuple[float, float]]
    texts: list[str]
    shares: tuple[float, float]


def map_points(vectors_ND: Tensor, texts: Sequence[str]) -> Map:
    """Some tokens in the plane in which all vary most (Pearson 1901). The same ones for every table."""
    vectors_ND = vectors_ND.double() - vectors_ND.double().mean(0)
    covariance_DD = (vectors_ND.T @ vectors_ND / len(vectors_ND)).numpy()
    total = max(float(np.trace(covariance_DD)), 1e-30)
    room_DD = 1e-9 * total * np.eye(len(covariance_DD))  # where nothing varies
    values, axes_D2 = eigsh(covariance_DD + room_DD, k=2, v0=np.ones(len(covariance_DD)))
    values, axes_D2 = values[::-1], axes_D2[:, ::-1]
    axes_D2 = axes_D2 * np.sign(
        axes_D2[np.abs(axes_D2).argmax(0), [0, 1]]
    )  # an axis has no sign of its own
    numbers = sorted(stream("map").sample(range(len(texts)), min(DOTS, len(texts))))
    points = [(float(x), float(y)) for x, y in vectors_ND[numbers].numpy() @ axes_D2]
    shares = (float(values[0]) / total, float(values[1]) / total)
    return Map(points, [texts[number] for number in numbers], shares)


def pictures(
    prefix: str, labels: Sequence[Label], summary: Sequence[Row], maps: Mapping[Label, Map]
) -> list[tuple[str, str]]:
    """Captions and pictures of one model, whose tables these are; `prefix` begins the ids in them."""
    of_table = {label: [row for row in summary if row.arm == label.name] for label in labels}
    found = []
    for task, splits, metric, caption, axis in OVER:
        curves = {label: by_number(rows, task, splits, metric) for label, rows in of_table.items()}
        if any(curves.values()):
            name = f"{prefix}-{task}-{splits}"
            found.append(
                (caption, curve_picture(name, f"{caption}, {labels[0].model}.", curves, axis))
            )
    areas = {
        label: {
            row.split: row.value for row in rows if row.task == "contains" and row.split != "all"
        }
        for label, rows in of_table.items()
    }
    if any(areas.values()):
        caption = (
            "Does a token contain this letter? Area under the curve; the dashed line is chance"
        )
        found.append(
            (caption, area_picture(f"{prefix}-contains", f"{caption}, {labels[0].model}.", areas))
        )
    for number, (label, points) in enumerate(maps.items()):
        if label in labels:
            shares = " and ".join(map(percent, points.shares))
            caption = (
                f"Map of {label.name}: its two directions of most variance hold {shares} of it"
            )
            found.append((caption, map_picture(f"{prefix}-map-{number}", f"{caption}.", points)))
    return found


def by_number(rows: Sequence[Row], task: str, splits: str, metric: str) -> Curve:
    """Of splits such as "start 3" the rows by number."""
    wanted = [row for row in rows if (row.task, row.metric) == (task, metric)]
    return {int(row.split.split()[1]): row for row in wanted if row.split.startswith(f"{splits} ")}


def look(label: Label) -> dict[str, Any]:
    """How a table is drawn: by the colour of its part, thin before training, grey for controls."""
    if label.is_control:
        return {"color": SOFT, "linewidth": 0.9, "linestyle": ":"}
    colour = ARMS[PARTS[label.part]].colour
    if label.when == BEFORE:
        return {"color": colour, "linewidth": 0.9, "linestyle": DASHED}
    return {"color": colour, "linewidth": 1.8}


def curve_picture(name: str, label: str, curves: Mapping[Label, Curve], axis: str) -> str:
    """Shares over places or lengths with their intervals, and what the most frequent answer would get."""
    ends, usual = [], dict[int, float]()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 2.4), layout="constrained")
        panel: Axes = figure.subplots()
        for table, curve in curves.items():
            rows, style = list(curve.values()), look(table)
            panel.plot(list(curve), [row.value for row in rows], **style)
            if not table.is_control and table.when != BEFORE:
                low, high = [row.low or 0.0 for row in rows], [row.high or 0.0 for row in rows]
                panel.fill_between(
                    list(curve), low, high, color=style["color"], alpha=0.18, linewidth=0
                )
            usual |= {number: row.majority or 0.0 for number, row in curve.items()}
            if rows:
                ends.append(f"{table.name} {percent(rows[0].value)} to {percent(rows[-1].value)}")
        panel.plot(list(usual), list(usual.values()), color=INK, linestyle=DASHED, linewidth=1)
        panel.set_ylim(0, 1.03)
        panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        panel.set_xticks(range(1, PLACES + 1))
        panel.set_xlabel(axis)
        return svg_of(figure, name, f"{label} From the first to the last: {'; '.join(ends)}.")


def area_picture(name: str, label: str, areas: Mapping[Label, Mapping[str, float]]) -> str:
    """A dot for each letter and table, hollow ones before training and for controls."""
    letters = sorted({letter for found in areas.values() for letter in found})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 2.4), layout="constrained")
        panel: Axes = figure.subplots()
        for table, found in areas.items():
            hollow, colour = table.is_control or table.when == BEFORE, look(table)["color"]
            shape: dict[str, Any] = (
                {"markersize": 2.4, "markerfacecolor": "none"} if hollow else {"markersize": 4}
            )
            places = [letters.index(letter) for letter in found]
            panel.plot(
                places, list(found.values()), "o", color=colour, markeredgewidth=0.8, **shape
            )
        panel.axhline(0.5, color=INK, linestyle=DASHED, linewidth=1)
        panel.set_ylim(0.38, 1.02)
        panel.set_yticks([0.5, 0.75, 1])
        panel.set_xticks(range(len(letters)), letters)
        panel.grid(visible=False, axis="x")
        return svg_of(figure, name, label)


def map_picture(name: str, label: str, found: Map) -> str:
    """Tokens as dots in the colour of their first letter, a few of them written out where there is room."""
    shades = {letter: ARMS[arm].colour for letter, arm in first_letters(found.texts)}
    x, y = np.array(found.points).T
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, WIDE), layout="constrained")
        panel: Axes = figure.subplots()
        for letter, colour in (
            ("", SOFT),
            *shades.items(),
        ):  # those of no colour first, below the others
            of_it = [n for n, text in enumerate(found.texts) if shades.get(text[0], SOFT) == colour]
            strength = 0.75 if letter else 0.25
            panel.scatter(x[of_it], y[of_it], s=5, color=colour, alpha=strength, linewidths=0)
        left, right = middle_of(x)
        bottom, top = middle_of(y)
        written: list[tuple[float, float]] = []
        for number, text in enumerate(found.texts):
            a, b = (x[number] - left) / (right - left), (y[number] - bottom) / (top - bottom)
            room = all(abs(a - one) > 0.17 or abs(b - other) > 0.045 for one, other in written)
            if (
                text[0] in shades
                and room
                and len(written) < WORDS
                and 0.02 < a < 0.84
                and 0.02 < b < 0.96
            ):
                written.append((a, b))
                panel.text(
                    x[number],
                    y[number],
                    f" {text[:10]}",
                    color=shades[text[0]],
                    fontsize=7.5,
                    va="center",
                )
        panel.set_xlim(left, right)
        panel.set_ylim(bottom, top)
        panel.set_xticks([])
        panel.set_yticks([])
        return svg_of(figure, name, label)


def middle_of(values: Any) -> tuple[float, float]:
    """Where an axis begins and ends: a few far tokens would shrink all others."""
    low, high = (float(bound) for bound in np.quantile(values, [0.005, 0.995]))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def first_letters(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The most frequent first letters, in the alphabet's order, and the arm whose colour each has on maps."""
    firsts = [text[0] for text in texts]
    frequent = sorted(set(firsts), key=lambda letter: (-firsts.count(letter), letter))[: len(FIRST)]
    return list(zip(sorted(frequent), FIRST, strict=False))
