"""The parent experiment: its curves beside ours, with tests of equivalence, and exact match.

The parent (github.com/Danil-Kutnyy/gpt_char_encoder, 2024) compared an LSTM over the characters with
an extra table of as many parameters, in one seed, by loss alone. RECORDED was computed again from
the files of that repository. Our arms are `matched` and `lstm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.config.flags import changed
from training.config.presets import PRESETS
from training.intervals import Row
from training.run.run import ArmRun, Run

from .contrasts import Contrast, Kind, contrast, judged
from .findings import Findings, Measured
from .points import Point
from .texts import ALL, METRIC, NATS, TASK, table_of, windows

_CONTROL, _ARM = "matched", "lstm"
_QUESTIONS, _RIGHT = "nats_of_questions", "right"
_LAST = 0.05  # of the steps of a phase: its loss on questions, each of which is new
_STEPS = {"steps": 15_000, "finetune_steps": 12_000, "tasks_only_steps": 74_000}
_LATER = Kind(0.02, more_is_better=False, per=1, unit="nats per token", digits=3)
_SHARE = Kind(0.05, more_is_better=True, per=100, unit="points", digits=1)


class Recorded(NamedTuple):
    """Losses of the parent in nats per token: with the extra table, and with characters."""

    table: float
    characters: float


# pretraining: mean of the last 50 of its evaluations; tasks alone: of the last 50
RECORDED = {
    "text, after pretraining": Recorded(3.0023, 3.0037),
    "text, after fine-tuning": Recorded(3.187, 3.189),
    "questions, fine-tuning": Recorded(0.528, 0.530),
    "questions, tasks alone": Recorded(0.0515, 0.0477),
    "text, after tasks alone": Recorded(13.8, 13.1),
}


def parent_grid(
    share: float, seeds: int | None, seeds_of_size: int = 3, **given: Any
) -> list[Point]:
    """One run of the preset parent with a share of its steps in each phase."""
    steps = {name: max(2, round(share * number)) for name, number in _STEPS.items()}
    fields = steps | {"seeds": seeds_of_size if seeds is None else seeds}
    config = changed(PRESETS["parent"], arms=(_CONTROL, _ARM), **fields, **given)
    at = {"share of steps": share, "vocabulary": config.data.vocab_size}
    return [Point("parent", at, config)]


def score_parent(at: Mapping[str, Any], run: Run, cache: Path) -> Iterator[Measured]:
    """Yield each window of text, each step of questions at a phase's end, and each answer."""
    for arm in run.arms():
        yield from windows(at, arm)
        yield from _steps(at, arm)
        yield from _answers(at, arm)


def _steps(at: Mapping[str, Any], arm: ArmRun) -> Iterator[Measured]:
    """The loss on the questions of the last steps of a phase. Both arms have the same questions."""
    lines = arm.metrics()
    for phase in arm.trained_phases:
        # two at least: in a mixed phase every other step is one of text
        first = phase.steps - max(2, round(_LAST * phase.steps))
        each = [
            line["loss_nats"]
            for line in lines
            if line["phase"] == phase.name and line["kind"] == "question" and line["step"] > first
        ]
        if each:
            yield _measured(at, arm, f"questions, {phase.title}", ALL, _QUESTIONS, each)


def _answers(at: Mapping[str, Any], arm: ArmRun) -> Iterator[Measured]:
    marks: dict[tuple[str, str], list[float]] = {}
    for one in arm.answers():
        marks.setdefault((one["task"], one["split"]), []).append(float(one["right"]))
    for (task, split), each in marks.items():
        yield _measured(at, arm, task, split, _RIGHT, each)


def _measured(
    at: Mapping[str, Any], arm: ArmRun, task: str, split: str, metric: str, each: Sequence[float]
) -> Measured:
    value = float(np.mean(each))
    row = Row(arm.name, arm.seed, task, split, metric, value, None, None, len(each), None)
    return Measured(at, row, each)


def parent(measured: list[Measured]) -> Findings:
    """Compare the two arms on text, on the loss of questions and on exact match."""
    values: dict[tuple[str, str, str], dict[str, dict[int, Sequence[float]]]] = {}
    majority: dict[tuple[str, str], list[float]] = {}
    for _, row, each in measured:
        if row.metric in (METRIC, _QUESTIONS, _RIGHT):
            by_arm = values.setdefault((row.task, row.split, row.metric), {})
            by_arm.setdefault(row.arm, {})[int(row.seed)] = each
        elif row.metric == "exact_match" and row.majority is not None:
            majority.setdefault((row.task, row.split), []).append(row.majority)
    # text and its questions first, in the order of the phases; then the answers
    order = [*RECORDED, *(task for task, _, _ in values)]
    places = sorted(values, key=lambda place: order.index(place[0]))
    found = [_contrast(place, values[place]) for place in places]
    verdicts = judged(found)
    lines, rows = list[list[str]](), list[dict[str, Any]]()
    for place, one, (p_holm, says) in zip(places, found, verdicts, strict=True):
        task, split, metric = place
        means = {arm: float(table_of(of).mean()) for arm, of in values[place].items()}
        form = "{:.2f}" if metric == _RIGHT else "{:.4f}"
        baseline = f"{np.mean(majority[task, split]):.2f}" if (task, split) in majority else ""
        recorded = RECORDED.get(task) if metric != _RIGHT else None
        theirs = [f"{value:g}" for value in recorded] if recorded else ["", ""]
        lines.append(
            [task, split.replace("_", " "), *theirs, baseline,
             *(form.format(means[arm]) for arm in (_CONTROL, _ARM)), str(one), says]
        )  # fmt: skip
        rows.append(
            {
                "task": task, "split": split, "arm": one.name, "metric": f"{metric}_difference",
                "value": one.value, "low": one.bounds[0], "high": one.bounds[1],
                "p": one.bounds[2], "p_holm": p_holm, "verdict": says,
            }
        )  # fmt: skip
    counts: dict[str, int] = {}
    for _, says in verdicts:
        counts[says] = counts.get(says, 0) + 1
    return Findings(
        f"Verdicts on {len(found)} differences between characters and the extra table: "
        + ", ".join(f"{says} ({number})" for says, number in counts.items()) + ".",
        [
            "The first two numbers of a line are those that the parent recorded, of one seed and "
            "another corpus (Gutenberg's books).",
            f"The loss of questions is the mean over the last {100 * _LAST:.0f} % of a phase's steps; "
            "each question is new, and its words are training words.",
            "Margins of equivalence: 0.01 nats for text after pretraining, 0.02 nats for other "
            "losses, 5 points for exact match. 95 % intervals over seeds and windows, steps or "
            "questions together (min F'); p-values are corrected for all lines (Holm).",
            "The parent never measured exact match.",
        ],
        ["measured", "on", "recorded: table", "recorded: characters", "majority", _CONTROL, _ARM,
         "difference", "verdict"],
        lines, [], rows,
        "Losses in nats per token; exact match of freely generated answers.",
        left=2,
    )  # fmt: skip


def _contrast(
    place: tuple[str, str, str], by_arm: Mapping[str, Mapping[int, Sequence[float]]]
) -> Contrast:
    task, _, metric = place
    kind = _SHARE if metric == _RIGHT else NATS if task == TASK else _LATER
    ours, theirs = table_of(by_arm[_ARM]), table_of(by_arm[_CONTROL])
    return contrast(f"{_ARM} - {_CONTROL}", ours, theirs, kind)
