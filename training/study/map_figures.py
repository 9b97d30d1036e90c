"""The figures of the map, and the numbers that they add to its table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from training.intervals import Row
from training.report.breakdowns import LONGEST, RAREST, Bin, BinRow, breakdown
from training.report.curves import band_curves, by_arm_of
from training.report.figures import COLOURS, INK, SERIES, SOFT, legend, picture
from training.report.formats import capital

from .map_answers import ENCODER, frequency_gains, split_labels, tokens
from .map_rows import CONTROLS, Vocabulary, mean_values

_AXES = {
    LONGEST: "letters of the word's longest token",
    RAREST: "count of the rarest token in text",
}
_UNSEEN = "unseen_tokens"
Shown = tuple[str, str]  # a caption and its figure


class Drawn(NamedTuple):
    """Figures by section, and (vocabulary, row) of the numbers that they show."""

    curves: list[Shown]
    words: list[Shown]
    costs: list[Shown]
    forgetting: list[Shown]
    computed: list[tuple[int, Row]]


def drawn(vocabularies: Sequence[Vocabulary]) -> Drawn:
    """Draw the figures of all vocabularies."""
    computed: list[tuple[int, Row]] = []
    curves = [shown for one in vocabularies for shown in _curves(one)]
    words = _by_word(vocabularies, computed)
    costs = [shown for one in vocabularies for shown in _cost(one, computed)]
    forgetting = [shown for one in vocabularies for shown in _forgetting(one, computed)]
    return Drawn(curves, words, costs, forgetting, computed)


def _row(arm: str, task: str, split: str, metric: str, value: float, n: int) -> Row:
    return Row(arm, "mean", task, split, metric, value, None, None, n, None)


def _curves(one: Vocabulary) -> list[Shown]:
    """Held-out text and exact match during training, with bands over seeds."""
    figures, labels = [], split_labels(one)
    for phase in one.data.config.phases:
        own = [row for row in one.curves if row["phase"] == phase.name]
        text = [row for row in own if row["metric"] == "loss_nats"]
        asked = [row for row in own if (row["metric"], row["split"]) == ("exact_match", _UNSEEN)]
        name = f"v{one.size}-{phase.name}"
        if text and phase.kind == "text":
            label = f"Loss on held-out text over the steps of {phase.title}, {tokens(one.size)}."
            caption = f"{tokens(one.size)}: held-out text in nats per token, {phase.title}"
            figures.append((caption, band_curves(f"{name}-text", label, by_arm_of(text))))
        if asked:
            label = f"Exact match on {labels[_UNSEEN]} over {phase.title}, {tokens(one.size)}."
            caption = f"{tokens(one.size)}: exact match on {labels[_UNSEEN]}, mean of the tasks"
            svg = band_curves(f"{name}-asked", label, by_arm_of(asked), share=True)
            figures.append((caption, svg))
    return figures


# Words and tokens


def _by_word(
    vocabularies: Sequence[Vocabulary], computed: list[tuple[int, Row]]
) -> list[Shown]:  # fmt: skip
    found = {one.size: breakdown(one.answers, one.data, longest=True) for one in vocabularies}
    figures = []
    for axis, label in _AXES.items():
        lines: dict[str, dict[Bin, float]] = {}
        for size, rows in found.items():
            gains = bin_gains([row for row in rows if row.axis == axis])
            for of_bin, (value, n) in gains.items():
                metric = f"exact_match_gain[{axis}={of_bin.name}]"
                computed.append((size, _row(ENCODER, "mean of tasks", "new", metric, value, n)))
                lines.setdefault(tokens(size), {})[of_bin] = value
        if lines:
            caption = f"Gain in exact match on new words, mean of the tasks, by the {label}"
            name = f"gain-{axis.replace(' ', '-')}"
            figures.append((caption, _lines(name, f"{caption}.", lines, label, points=True)))
    text: dict[str, dict[Bin, float]] = {}
    for one in vocabularies:
        for task, low, difference in frequency_gains(one):
            if task.endswith("after pretraining") and task.startswith("text,"):
                computed.append(
                    (one.size, _row(ENCODER, task, "all", f"loss_nats_difference_to_plain[count>={low}]",
                                    difference, 0))
                )  # fmt: skip
                bin_of = Bin(low, f"{low:,} or more", f"{low:,}+")
                text.setdefault(tokens(one.size), {})[bin_of] = difference
    if text:
        x_label = "count of the predicted token in training"
        caption = f"Loss on text after pretraining minus that of plain, nats, by the {x_label}"
        figures.append((caption, _lines("gain-text", f"{caption}.", text, x_label)))
    return figures


def bin_gains(rows: Sequence[BinRow]) -> dict[Bin, tuple[float, int]]:
    """The encoder's share minus the best control's in each bin, mean of the tasks; and questions.

    A task counts in a bin if the encoder and a control have enough questions there.
    """
    cells: dict[tuple[Bin, str], dict[str, Row]] = {}
    for one in rows:
        cells.setdefault((one.bin, one.row.task), {})[one.row.arm] = one.row
    gains: dict[Bin, list[tuple[float, int]]] = {}
    for (of_bin, _), by_arm in cells.items():
        controls = [by_arm[arm].value for arm in CONTROLS if arm in by_arm]
        if ENCODER in by_arm and controls:
            value = by_arm[ENCODER].value - max(controls)
            gains.setdefault(of_bin, []).append((value, by_arm[ENCODER].n))
    return {
        of_bin: (statistics.fmean(value for value, _ in each), sum(n for _, n in each))
        for of_bin, each in sorted(gains.items())
    }


def _lines(
    name: str, label: str, lines: Mapping[str, Mapping[Bin, float]], x_label: str, *,
    points: bool = False,
) -> str:  # fmt: skip
    """Draw a line of each vocabulary over bins; `points`: shares, in points."""
    bins = sorted({of_bin for line in lines.values() for of_bin in line})
    places = {of_bin: place for place, of_bin in enumerate(bins)}
    scale, form = (100, "{:+.0f}") if points else (1, "{:+.3f}")

    def draw(panel: Axes) -> None:
        panel.axhline(0, color=INK, linewidth=0.8)
        for number, (line, values) in enumerate(lines.items()):
            xs = [places[of_bin] for of_bin in values]
            style: Any = {"color": SERIES[number % 6], "marker": "osD^vP"[number % 6]}
            ys = [scale * value for value in values.values()]
            panel.plot(xs, ys, label=line, linewidth=1.4, markersize=4, **style)
        panel.set_xticks(list(places.values()), [of_bin.short for of_bin in bins], fontsize=8)
        panel.set_xlabel(x_label)
        panel.set_ylabel("points" if points else "nats per token")
        legend(panel)

    for line, values in lines.items():
        each = (f"{of_bin.name} {form.format(scale * v)}" for of_bin, v in values.items())
        label += f" {line}: {', '.join(each)}."
    return picture(name, label, 2.7, draw)


# Cost and forgetting


def _cost(one: Vocabulary, computed: list[tuple[int, Row]]) -> list[Shown]:
    """Seconds of training relative to plain against the gain on unseen tokens, an arm a point."""
    seconds = mean_values(one, "training_seconds", {"task": "all"})
    shares = mean_values(one, "exact_match", {"split": _UNSEEN})
    base = seconds.get(("plain", "all", "all"))
    found: dict[str, tuple[float, float]] = {}
    for arm in one.arms:
        own = [value for (name, _, _), value in shares.items() if name == arm]
        theirs = [value for (name, _, _), value in shares.items() if name == "plain"]
        if base and own and theirs and (arm, "all", "all") in seconds:
            cost = seconds[arm, "all", "all"] / base
            value = statistics.fmean(own) - statistics.fmean(theirs)
            found[arm] = (cost, value)
            computed.append(
                (one.size, _row(arm, "all", "all", "training_seconds_over_plain", cost, 0))
            )
            metric = "exact_match_minus_plain"
            computed.append((one.size, _row(arm, "mean of tasks", _UNSEEN, metric, value, 0)))
    if len(found) < 2:
        return []

    def draw(panel: Axes) -> None:
        panel.axhline(0, color=SOFT, linewidth=0.8)
        for number, (arm, (cost, value)) in enumerate(found.items()):
            style: Any = {"color": COLOURS[arm], "marker": "osD^vPX*"[number % 8]}
            panel.plot([cost], [100 * value], linestyle="none", markersize=6, label=arm, **style)
        panel.set_xlabel("seconds of training, as a multiple of plain")
        panel.set_ylabel("points over plain")
        legend(panel)

    caption = f"{tokens(one.size)}: gain on unseen tokens, mean of the tasks, against the cost"
    label = f"{caption}. " + " ".join(
        f"{arm}: {cost:.2f} times the seconds, {100 * value:+.0f} points."
        for arm, (cost, value) in found.items()
    )
    return [(caption, picture(f"v{one.size}-cost", label, 3.1, draw))]


def _forgetting(one: Vocabulary, computed: list[tuple[int, Row]]) -> list[Shown]:
    """The loss on held-out text after each phase of rows, a line for each arm."""
    titles = [phase.title for phase in one.data.config.phases if phase.reads_rows]
    losses = mean_values(one, "loss_nats")
    found: dict[str, list[float]] = {}
    for arm in one.arms:
        own = [losses.get((arm, f"text, after {title}", "all")) for title in titles]
        values = [value for value in own if value is not None]
        if len(values) == len(titles) > 1:
            found[arm] = values
            metric = "loss_nats_forgotten"
            computed.append((one.size, _row(arm, "text", "all", metric, values[-1] - values[0], 0)))
    if not found:
        return []

    def draw(panel: Axes) -> None:
        for y, (arm, values) in enumerate(found.items()):
            panel.plot(values, [y] * len(values), color=COLOURS[arm], linewidth=1.4)
            panel.plot(values[:1], [y], "o", color=COLOURS[arm], markersize=5, mfc="none")
            panel.plot(values[-1:], [y], "o", color=COLOURS[arm], markersize=5)
        panel.set_yticks(range(len(found)), list(found))
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_xlabel("nats per token of held-out text")

    caption = f"{tokens(one.size)}: text after {titles[0]} (hollow) and after {titles[-1]} (filled)"
    label = f"{capital(caption)}. " + " ".join(
        f"{arm}: {values[0]:.3f} and {values[-1]:.3f}." for arm, values in found.items()
    )
    tall = 0.75 + 0.21 * len(found)
    return [(caption, picture(f"v{one.size}-forgetting", label, tall, draw))]
