"""The rows of the map: all finished cells of a vocabulary, and the judged differences of all.

A cell of the map is an arm of one seed in the run of a vocabulary. The method of a judgement:

- **Control.** Each arm is compared with the strongest of `plain`, `matched` and `shuffled` on each
  task and split, by `training.differences`: better means better than every control (intersection-
  union test, Berger 1982), worse is tested with the number of controls times the p-value
  (Bonferroni). Rivals are judged like encoders. DIRECT are further comparisons with one arm.
- **helps, hurts**: the p-value holds after Holm's correction (1979) for all judged differences of
  the whole map together.
- **no difference larger than X**: equivalence by two one-sided tests (Schuirmann 1987, "A
  comparison of the two one-sided tests procedure and the power approach", Journal of
  Pharmacokinetics and Biopharmaceutics 15), each at 2.5 %: the 95 % interval lies within the
  margin X of zero. X is a number of MARGINS, set before any run.
- **not shown**: none of these. A single seed shows nothing about arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from training.ask.added_tokens import IN_PIECES
from training.data.prepare import Data
from training.differences import Windows, corrected, summarise
from training.errors import BadInput
from training.intervals import ALPHA, MARGINS, Marks, Row
from training.models.arms import AGAIN
from training.report.results import steps_to_loss_rows
from training.run.run import ArmRun, TextsByRun

from .added import added_of

CONTROLS, COMPARED = ("plain", "matched", "shuffled"), "lstm"
# (arm, the one arm that it is compared with): an encoder and a rival, order and no order, A/A
DIRECT = (("lstm", "spelling_data"), ("lstm", "bag"), (AGAIN, "lstm"))
HELPS, HURTS, NOT_SHOWN = "helps", "hurts", "not shown"
PRETRAINED_MARGIN = 0.01  # nats per token of text after pretraining
_AFTER_PRETRAINING = "after pretraining"


@dataclass
class Vocabulary:
    """The finished cells of one vocabulary, over all its runs.

    Attributes:
        size: number of tokens.
        arms: of which a cell is finished, in the order of the runs.
        rows: results of each cell, with those of added tokens and steps to the control's loss.
        marks, windows: the score of each question, the loss of each window of held-out text.
        curves, metrics, texts: as `Run` returns them.
        answers: of the controls and COMPARED.
        hashes: by (arm, seed), the hash of config, data, seed and arm that made the cell.
        points: the name of the run by arm.
    """

    size: int
    data: Data
    arms: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    marks: Marks = field(default_factory=dict)
    windows: Windows = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[tuple[str, int], Any] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    hashes: dict[tuple[str, int], str] = field(default_factory=dict)
    points: dict[str, str] = field(default_factory=dict)

    def seeds(self, *arms: str) -> list[int]:
        """The seeds in which all these arms are finished."""
        found = [{seed for name, seed in self.hashes if name == arm} for arm in arms]
        return sorted(set.intersection(*found)) if found else []

    @property
    def controls(self) -> list[str]:
        return [arm for arm in CONTROLS if arm in self.arms]

    @property
    def judged_arms(self) -> list[str]:
        return [arm for arm in self.arms if arm not in (*CONTROLS, AGAIN)]

    @property
    def text_by_run(self) -> TextsByRun:
        return self.texts


def collected(size: int, arms: Iterable[ArmRun]) -> Vocabulary | None:
    """Read the finished cells of a vocabulary; None if there is none.

    An arm that is not finished, or whose files are damaged, is left out. Asserts that the cells of
    a seed were trained on the same batches.
    """
    found: Vocabulary | None = None
    batches: dict[int, dict[str, str]] = {}
    for arm in arms:
        try:
            if not arm.is_finished:
                continue
        except BadInput:
            continue
        found = found or Vocabulary(size, arm.run.data)
        if found.hashes.get((arm.name, arm.seed)) == arm.identity:
            continue  # the same cell in another run
        if arm.data is arm.run.data:  # a rival with prompts of its own has other tokens
            first = batches.setdefault(arm.seed, arm.batches())
            assert first == arm.batches(), (
                f"{arm.title} saw other batches than its seed's first arm"
            )
        _add(found, arm)
    if found is not None and CONTROLS[0] in found.arms:
        phases = [(phase.name, phase.kind) for phase in found.data.config.phases]
        # the first arm is the one whose final loss is to be reached
        ordered = sorted(found.arms, key=lambda name: name != CONTROLS[0])
        whole = [line for line in found.metrics if line["seed"] in found.seeds(CONTROLS[0])]
        found.rows += steps_to_loss_rows(whole, ordered, phases)
    return found


def _add(found: Vocabulary, arm: ArmRun) -> None:
    name, seed = arm.name, arm.seed
    if name not in found.arms:
        found.arms.append(name)
    found.hashes[name, seed] = arm.identity
    found.points[name] = arm.run.title or arm.run.folder.name
    found.rows += arm.rows()
    for one in arm.answers():
        found.marks.setdefault((name, seed, one["task"], one["split"]), []).append(one["right"])
        if name in (*CONTROLS, COMPARED):  # of others the scores are enough
            found.answers.append(arm.label | one)
    found.texts[name, seed] = arm.text_losses()
    for task, losses in found.texts[name, seed].items():
        found.windows[name, seed, task] = losses.window_nats
    found.curves += [arm.label | line for line in arm.curves()]
    found.metrics += [arm.label | line for line in arm.metrics()]
    for way, added in (added_of(arm) or {}).items():
        found.rows += added.rows
        for task, right in added.right.items():
            found.marks[name, seed, task, way] = right


# Judgements


class Judged(NamedTuple):
    """A judged difference.

    Judged(4096, "lstm", "plain", row, 5, 0.05, "helps").kind -> "strongest control"

    Attributes:
        arm, control: the value is the arm's minus the control's.
        row: as `training.differences` makes it; `p_holm` is corrected over the whole map.
        seeds: pairs of models.
        margin: half the width of the region of equivalence.
        kind: "strongest control", "one arm", or "A/A".
    """

    vocabulary: int
    arm: str
    control: str
    row: Row
    seeds: int
    margin: float
    verdict: str
    kind: str


def judged(vocabularies: Sequence[Vocabulary]) -> list[Judged]:
    """Judge each arm of each vocabulary, and correct all p-values together."""
    made: list[tuple[Vocabulary, str, str, int, Row]] = []
    for one in vocabularies:
        for arm in one.judged_arms if one.controls else ():
            of_arm = _differences(one, arm, one.controls)
            made += [(one, "strongest control", arm, n, row) for n, row in of_arm]
        for arm, other in DIRECT:
            if arm in one.arms and other in one.arms:
                kind = "A/A" if arm == AGAIN else "one arm"
                made += [(one, kind, arm, n, row) for n, row in _differences(one, arm, [other])]
    # only the differences of several seeds say something about arms, and are corrected together
    rows = corrected([row if n > 1 else replace(row, p=None) for *_, n, row in made])
    return [
        Judged(
            one.size, arm, row.arm.split(" - ")[1], row, n, margin_of(row), verdict(row, n), kind
        )
        for (one, kind, arm, n, _), row in zip(made, rows, strict=True)
    ]


def _differences(one: Vocabulary, arm: str, controls: Sequence[str]) -> list[tuple[int, Row]]:
    """(pairs, row) of each task, split and text of an arm, over the seeds that all arms share."""
    arms, seeds = [*controls, arm], one.seeds(*controls, arm)
    rows = [
        row
        for row in one.rows
        if row.arm in arms
        and row.seed in seeds
        and row.metric in ("exact_match", "loss_nats")
        and row.split != IN_PIECES  # a reference, not a condition
    ]
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.task, row.split, row.metric), []).append(row)
    # such as added tokens that were not measured in every arm
    whole = [
        sorted(of_cell, key=lambda row: (arms.index(row.arm), int(row.seed)))
        for of_cell in cells.values()
        if len(of_cell) == len(arms) * len(seeds)
    ]
    summary = summarise(
        [row for of_cell in whole for row in of_cell], controls, arms, one.marks, one.windows
    )
    return [(len(seeds), row) for row in summary if row.controls]


def margin_of(row: Row) -> float:
    """The margin of a difference: 0.05 of exact match, 0.01 or 0.02 nats per token."""
    if row.metric == "loss_nats_difference" and row.task.endswith(_AFTER_PRETRAINING):
        return PRETRAINED_MARGIN
    return MARGINS[row.metric.removesuffix("_difference")]


def verdict(row: Row, seeds: int) -> str:
    """Judge a difference over some seeds: "helps", "hurts", "no difference larger than X" or
    "not shown". A smaller loss helps."""
    if seeds < 2 or row.low is None or row.high is None or row.p is None or row.p_holm is None:
        return NOT_SHOWN
    if row.p_holm < ALPHA:
        return HELPS if gain(row) > 0 else HURTS
    margin = margin_of(row)
    if -margin < row.low <= row.high < margin:
        return no_difference(row)
    return NOT_SHOWN


def no_difference(row: Row) -> str:
    """no difference larger than 0.05; with the unit for nats."""
    unit = " nats" if "nats" in row.metric else ""
    return f"no difference larger than {margin_of(row):g}{unit}"


def gain(row: Row) -> float:
    """A difference with its sign turned so that a larger one is better."""
    return -row.value if row.metric.startswith("loss") else row.value


def mean_values(
    one: Vocabulary, metric: str, only: Mapping[str, str] | None = None
) -> dict[tuple[str, str, str], float]:
    """The mean over seeds of a metric, by (arm, task, split); `only` fixes fields of a row."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in one.rows:
        if row.metric == metric and all(getattr(row, key) == v for key, v in (only or {}).items()):
            values.setdefault((row.arm, row.task, row.split), []).append(row.value)
    return {key: sum(each) / len(each) for key, each in values.items()}
