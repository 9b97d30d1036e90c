"""Text alone: the loss of each arm by the passes over the text and by the frequency of the tokens.

Nothing is trained on questions. The loss of held-out text is compared window by window; a bin of
tokens, by their count in the training text, seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.config.flags import changed
from training.config.presets import QUICK
from training.intervals import Row
from training.run.run import ArmRun, Run

from .contrasts import NOT_SHOWN, Contrast, Kind, Table, contrast, judged
from .findings import Findings, Measured
from .points import Point

TASK, ALL, METRIC = "text, after pretraining", "all tokens", "nats_by_frequency"
NATS = Kind(0.01, more_is_better=False, per=1, unit="nats per token", digits=3)
_ARM, _CONTROLS = "lstm", ("plain", "matched", "shuffled")
_Place = tuple[float, str]  # passes and tokens
_Values = dict[_Place, dict[str, dict[int, Sequence[float]]]]  # by arm and seed


class _Judged(NamedTuple):
    """The encoder against one control, at one place."""

    place: _Place
    control: str
    contrast: Contrast
    p_holm: float
    verdict: str

    @property
    def cell(self) -> str:
        """The difference for the table, which names its unit: "-0.012 (-0.019 to -0.005): helps"."""
        unit = f" {NATS.unit}"
        marked = "" if self.verdict == NOT_SHOWN else f": {self.verdict.removesuffix(unit)}"
        return str(self.contrast).replace(unit, "") + marked

    @property
    def saved(self) -> dict[str, Any]:
        """The row of results.json."""
        (passes, tokens), (low, high, p) = self.place, self.contrast.bounds
        return {
            "passes": passes, "tokens": tokens, "arm": self.contrast.name,
            "metric": "loss_nats_difference", "value": self.contrast.value, "low": low,
            "high": high, "p": p, "p_holm": self.p_holm, "verdict": self.verdict,
        }  # fmt: skip


def text_grid(
    passes: Sequence[float], seeds: int | None, seeds_of_size: int = 3, **given: Any
) -> list[Point]:
    """A run for each number of passes over the text, each with a schedule of its own."""
    # the task is a run's formality: nothing is trained on it
    common = {
        "arms": (*_CONTROLS, _ARM), "finetune_steps": 0, "tasks": ("counting:2x10",),
        "questions": 1, "replay_share": 0.0, "seeds": seeds_of_size if seeds is None else seeds,
    }  # fmt: skip
    points = []
    for each in passes:
        config = changed(QUICK, epochs=each, **common | given)
        at = {"passes": each, "vocabulary": config.data.vocab_size}
        points.append(Point(f"passes{each:g}", at, config))
    return points


def score_text(at: Mapping[str, Any], run: Run, cache: Path) -> Iterator[Measured]:
    """Yield the loss of each window of held-out text, and of each bin of tokens, of every arm."""
    for arm in run.arms():
        yield from windows(at, arm)
        for low, high, nats, number in arm.text_losses()[TASK].bins:
            if number:
                yield _row(at, arm, TASK, _named(low, high), [nats / number], number)


def windows(at: Mapping[str, Any], arm: ArmRun) -> Iterator[Measured]:
    """The loss of each window of held-out text, in nats per token, after each phase."""
    for task, losses in arm.text_losses().items():
        each = [nats / losses.tokens_per_window for nats in losses.window_nats]
        yield _row(at, arm, task, ALL, each, len(each) * losses.tokens_per_window)


def _row(
    at: Mapping[str, Any], arm: ArmRun, task: str, split: str, each: Sequence[float], number: int
) -> Measured:
    value = float(np.mean(each))
    return Measured(
        at, Row(arm.name, arm.seed, task, split, METRIC, value, None, None, number, None), each
    )


def _named(low: int, high: int | None) -> str:
    return f"{low:,} times or more" if high is None else f"{low:,} to {high:,} times"


def table_of(found: Mapping[int, Sequence[float]]) -> Table:
    """The values of an arm by seed, (S, P)."""
    return np.array([found[seed] for seed in sorted(found)])


def texts(measured: list[Measured]) -> Findings:
    """Compare the encoder with each control, for all tokens and by their count in the text."""
    values: _Values = {}
    bits: dict[tuple[float, str], list[float]] = {}
    tokens: dict[_Place, int] = {}
    for at, row, each in measured:
        passes = float(at["passes"])
        if row.metric == METRIC:
            by_arm = values.setdefault((passes, row.split), {})
            by_arm.setdefault(row.arm, {})[int(row.seed)] = each
            tokens[passes, row.split] = row.n
        elif (row.task, row.metric) == (TASK, "bits_per_byte"):
            bits.setdefault((passes, row.arm), []).append(row.value)
    found = _judged(values)
    by_place = {(one.place, one.control): one.cell for one in found}
    lines = [
        [
            f"{passes:g}", split, f"{tokens[passes, split]:,}",
            *(
                f"{table_of(by_arm[arm]).mean():.3f}" if arm in by_arm else ""
                for arm in (*_CONTROLS, _ARM)
            ),
            *(by_place.get(((passes, split), control), "") for control in _CONTROLS),
        ]
        for (passes, split), by_arm in values.items()
    ]  # fmt: skip
    sentences = [
        f"Bits per byte, {_count(passes)}: "
        + ", ".join(f"{arm} {np.mean(each):.4f}" for (p, arm), each in bits.items() if p == passes)
        + "."
        for passes in dict.fromkeys(p for p, _ in bits)
    ]
    sentences += [
        "Differences are nats per token, below zero is better, with 95 % intervals over seeds and "
        "windows together (min F'); those of a bin are over seeds alone. P-values are corrected "
        "for all differences of the page (Holm).",
        "The bins are of the tokens that are predicted, by their count in the training text.",
    ]
    return Findings(
        " ".join(_headline(passes, found) for passes in dict.fromkeys(p for p, _ in values)),
        sentences,
        ["passes", "tokens", "predicted", *_CONTROLS, _ARM, *(f"{_ARM} - {c}" for c in _CONTROLS)],
        lines,
        [],
        [one.saved for one in found],
        "Loss of held-out text in nats per token, mean of the seeds.",
        left=2,
    )  # fmt: skip


def _judged(values: _Values) -> list[_Judged]:
    """Judge the encoder against each control at each place, all of them together."""
    made = [
        (place, control, contrast(f"{_ARM} - {control}", table_of(ours), table_of(by_arm[control]), NATS))
        for place, by_arm in values.items()
        if (ours := by_arm.get(_ARM)) is not None
        for control in _CONTROLS
        if control in by_arm
    ]  # fmt: skip
    verdicts = judged([one for *_, one in made])
    return [_Judged(*each, *found) for each, found in zip(made, verdicts, strict=True)]


def _count(passes: float) -> str:
    return f"{passes:g} pass{'es' if passes != 1 else ''}"


def _headline(passes: float, found: Sequence[_Judged]) -> str:
    """After 4 passes the arm lstm is -0.012 (-0.019 to -0.005) from plain: helps; ..."""
    parts = [
        f"{one.contrast} from {one.control}: {one.verdict}"
        for one in found
        if one.place == (passes, ALL)
    ]
    return f"After {_count(passes)} over the text, the loss of {_ARM} is {'; '.join(parts)}."
