"""The page of the map: heat maps, answers, figures, failed cells and the table of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.ask.added_tokens import IN_PIECES, WAYS
from training.files import write_atomically, write_json
from training.intervals import Row
from training.models.arms import ARMS
from training.report.formats import listed, percent
from training.report.page import Cell, Table, difference, render
from training.run.folder import read_facts
from training.run.run import RESULTS, Run
from training.run.workers import Failure

from .estimate import in_words, read_times
from .findings import Findings
from .map_answers import ENCODER, STRONGEST, answers, split_labels, steps_to_loss, tokens
from .map_figures import drawn
from .map_rows import CONTROLS, HELPS, HURTS, Judged, Vocabulary, collected, gain, judged
from .map_tables import lines_of, points_of, rows_of, summary_of, write_table

_FULL = 0.5  # a difference of this share of answers has the full colour
_TINT = 50  # percent of the colour, at most: text stays readable on it, light and dark


class Square(NamedTuple):
    """A square of a heat map.

    Attributes:
        text: the difference in points; "" if the cell is not finished.
        mark: "✓" for helps, "✗" for hurts, "=" for no larger difference, "" for not shown.
        tint: percent of the colour of a gain ("good") or of a loss ("bad").
    """

    text: str
    mark: str = ""
    side: str = "good"
    tint: int = 0
    label: str = ""


class Heat(NamedTuple):
    """The heat map of one task: a line of squares for each vocabulary, a column for each split."""

    task: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Square]]]


_MARKS = {HELPS: "✓", HURTS: "✗"}


def write_map(
    out: Path, size: str, study: Any, runs: Sequence[tuple[Run, int]], failed: Sequence[Failure]
) -> Findings:
    """Write the tables and the page of the finished cells, and return the findings to print.

    Arguments:
        runs: with the vocabulary of each.
        failed: cells that could not be trained or evaluated.
    """
    vocabularies = [
        found
        for number in sorted({number for _, number in runs})
        if (
            found := collected(
                number, [arm for run, n in runs if n == number for arm in run.arms()]
            )
        )
    ]
    differences = judged(vocabularies)
    figures = drawn(vocabularies)
    starts = {run.title: read_facts(run.folder).get("begun", []) for run, _ in runs}
    made_by = {name: begun[-1] for name, begun in starts.items() if begun}
    rows = rows_of(vocabularies, made_by)
    write_table(out / "map.csv", rows)
    write_table(out / "summary.csv", summary_of([*_means(vocabularies), *figures.computed]))
    write_table(out / "differences.csv", lines_of(differences))
    write_table(out / "curves.csv", list(points_of(vocabularies)))
    write_json(out / RESULTS, rows)
    begun: list[dict[str, Any]] = next(iter(starts.values()), [])
    said = answers(vocabularies, differences)
    arms = list(dict.fromkeys(arm for one in vocabularies for arm in one.arms))
    first = runs[0][0]
    cells, whole = sum(len(one.hashes) for one in vocabularies), sum(len(r.arms()) for r, _ in runs)
    page = render(
        "study/map.html.jinja", study=study, size=size, found=said, figures=figures,
        heats=heat_maps(vocabularies, differences), failed=[one.message for one in failed],
        count=f"{cells} of {whole} cells (vocabulary x arm x seed)",
        legend=[(arm, arm, ARMS[arm].sentence) for arm in arms], encoder=ENCODER,
        controls=listed(list(CONTROLS)), verdicts=verdict_tables(vocabularies, differences),
        shares=shares_table(vocabularies, arms), steps=steps_table(vocabularies, arms),
        compared=sum(one.row.p_holm is not None for one in differences),
        held=sum(one.verdict in (HELPS, HURTS) for one in differences),
        times=in_words(read_times(out)), points=[run.title for run, _ in runs],
        record=f"The config of {first.title}", facts=first.config.as_dict(), begun=begun,
        command=begun[-1]["command"] if begun else "", ways=WAYS,
    )  # fmt: skip
    write_atomically(out / "report.html", page)
    table = shares_table(vocabularies, arms)
    return Findings(
        str(said[0]), [str(one) for one in said[1:]], table.headings,
        [[str(cell) for cell in line] for line in table.lines], [],
        about="Exact match of freely generated answers, mean of the tasks and seeds.",
        left=table.left,
    )  # fmt: skip


def _means(vocabularies: Sequence[Vocabulary]) -> list[tuple[int, Row]]:
    """The mean exact match and loss over seeds of each arm, for the table."""
    found = []
    for one in vocabularies:
        cells: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in one.rows:
            if row.metric in ("exact_match", "loss_nats"):
                cells.setdefault((row.arm, row.task, row.split, row.metric), []).append(row)
        for key, rows in cells.items():
            arm, task, split, metric = key
            value, n = float(np.mean([row.value for row in rows])), sum(row.n for row in rows)
            baselines = [row.majority for row in rows if row.majority is not None]
            majority = float(np.mean(baselines)) if baselines else None
            row = Row(arm, "mean", task, split, metric, value, None, None, n, majority)
            found.append((one.size, row))
        for (arm, split), values in _shares(one).items():
            cell = (arm, "mean", "mean of tasks", split, "exact_match")
            found.append((one.size, Row(*cell, float(np.mean(values)), None, None, 0, None)))
    for each in steps_to_loss(vocabularies):
        cell = (each.arm, "median", each.phase, "all", "share_of_steps_to_control_loss")
        found.append((each.vocabulary, Row(*cell, each.share, None, None, each.reached, None)))
    return found


def _shares(one: Vocabulary) -> dict[tuple[str, str], list[float]]:
    """Exact match of all tasks and seeds by arm and split."""
    shares: dict[tuple[str, str], list[float]] = {}
    for row in one.rows:
        if row.metric == "exact_match":
            shares.setdefault((row.arm, row.split), []).append(row.value)
    return shares


def heat_maps(vocabularies: Sequence[Vocabulary], found: Sequence[Judged]) -> list[Heat]:
    """The gain of the encoder over the strongest control, a heat map for each task."""
    of_answers = {
        (one.vocabulary, one.row.task, one.row.split): one
        for one in found
        if (one.arm, one.kind) == (ENCODER, STRONGEST) and "nats" not in one.row.metric
    }
    labels: dict[str, str] = {}
    for one in vocabularies:
        labels |= split_labels(one)
    maps = []
    for task in dict.fromkeys(task for _, task, _ in of_answers):
        splits = [s for s in labels if any((t, p) == (task, s) for _, t, p in of_answers)]
        lines = [
            (
                tokens(one.size),
                [_square(of_answers.get((one.size, task, split))) for split in splits],
            )
            for one in vocabularies
        ]
        maps.append(Heat(task, [labels[split] for split in splits], lines))
    return maps


def _square(one: Judged | None) -> Square:
    if one is None:
        return Square("")
    value = gain(one.row)
    mark = _MARKS.get(one.verdict, "=" if one.verdict.startswith("no difference") else "")
    tint = round(_TINT * min(1.0, abs(value) / _FULL))
    label = f"{one.verdict}, over {one.control}"
    return Square(f"{100 * value:+.0f}", mark, "good" if value >= 0 else "bad", tint, label)


def shares_table(vocabularies: Sequence[Vocabulary], arms: Sequence[str]) -> Table:
    """Exact match, mean of the tasks and seeds: a line for each vocabulary and arm."""
    means = {one.size: _shares(one) for one in vocabularies}
    labels: dict[str, str] = {}
    for one in vocabularies:
        labels |= {**split_labels(one), IN_PIECES: "the same words in pieces"}
    splits = [s for s in labels if any((a, s) in of for of in means.values() for a in arms)]
    lines = [
        [
            f"{size:,}",
            arm,
            *(percent(float(np.mean(of[arm, s]))) if (arm, s) in of else "" for s in splits),
        ]
        for size, of in means.items()
        for arm in arms
        if any((arm, s) in of for s in splits)
    ]
    return Table(["vocabulary", "arm", *(labels[split] for split in splits)], lines, left=2)


def steps_table(vocabularies: Sequence[Vocabulary], arms: Sequence[str]) -> Table:
    """The median of steps to the final training loss of plain, as a share of all steps."""
    found: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for one in steps_to_loss(vocabularies):
        some = "" if one.reached == one.seeds else f" ({one.reached} of {one.seeds} seeds)"
        column = f"{one.phase}, {tokens(one.vocabulary)}"
        columns[column] = None
        found.setdefault(one.arm, {})[column] = f"{percent(one.share)}{some}"
    trained = {tokens(one.size): one.arms for one in vocabularies}
    lines = [
        [
            arm,
            *(
                cells.get(c, "not reached" if arm in trained[c.split(", ", 1)[1]] else "")
                for c in columns
            ),
        ]
        for arm in arms
        if ARMS[arm].role != "rival"
        for cells in (found.get(arm, {}),)
    ]
    return Table(["arm", *columns], lines if columns else [])


def verdict_tables(
    vocabularies: Sequence[Vocabulary], found: Sequence[Judged]
) -> list[tuple[str, str, Table]]:
    """(title, counts, table) of the judged differences of each vocabulary."""
    tables = []
    for one in vocabularies:
        rows = [each for each in found if each.vocabulary == one.size]
        labels: Mapping[str, str] = split_labels(one) | {"all": "held-out text"}
        lines: list[list[Cell | str]] = [
            [
                f"{each.arm} − {each.control}",
                each.row.task,
                labels.get(each.row.split, each.row.split),
                difference(each.row, "{:+.3f}"),
                Cell(each.verdict, style="held" if each.verdict in (HELPS, HURTS) else ""),
            ]
            for each in rows
        ]
        counts: dict[str, int] = {}
        for each in rows:
            counts[each.verdict] = counts.get(each.verdict, 0) + 1
        told = ", ".join(f"{verdict}: {number}" for verdict, number in counts.items())
        headings = ["difference", "task", "split", "value", "verdict"]
        tables.append((tokens(one.size), told, Table(headings, lines, left=3)))
    return tables
