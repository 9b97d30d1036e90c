"""Lexical decision: the grid, the scores of finished arms, and the share of the gap that is closed.

A cell of the grid is a size and a vocabulary. It has two runs: the arms that read tokens, and one
model that reads bytes ("characters"), with about as many parameters, blocks and characters of text
in a step. Both are scored on the same pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.ask.lexical_decision import (
    BANDS,
    Differences,
    LexicalPairs,
    marks,
    pairs_of_text,
    score,
)
from training.errors import BadInput, Damaged
from training.files import read_record, write_record
from training.intervals import Row, over_windows, wilson
from training.report.figures import Group, Scale, Spot, bars, share_curves
from training.run.run import ArmRun, Run

from .contrasts import Contrast, Kind, Table, contrast, judged, share_closed
from .findings import Findings, Measured, Picture

CHARACTERS, TOKENS = "characters", "tokens"
TASK, WITH_END, WITHOUT_END = "lexical_decision", "word_preferred", "word_preferred_without_end"
# a smaller difference in the share of pairs does not matter
PAIRS = Kind(0.02, more_is_better=True, per=100, unit="points", digits=1)
_FILE = "lexical_decision.json"
_CONTROLS = ("plain", "matched", "shuffled")
_pairs = lru_cache(maxsize=8)(pairs_of_text)


# Score


def score_run(at: Mapping[str, Any], run: Run, cache: Path) -> Iterator[Measured]:
    """Yield the shares of pairs whose word is preferred: of every arm, and of the baselines.

    The scores of a finished arm are kept in its folder. `at` are the coordinates of the run.
    """
    corpus, seed = run.config.data.corpus, run.config.first_seed
    found = _pairs(corpus, int(at["vocabulary"]), int(at["pairs"]), cache)
    for arm in run.arms():
        yield from _rows(at, arm.name, arm.seed, found, _differences(arm, found))
    if at["reads"] == TOKENS:
        for name, logs in found.baselines.items():
            yield from _rows(at, name, seed, found, Differences(logs, logs))


def _differences(arm: ArmRun, found: LexicalPairs) -> Differences:
    """The scores of an arm, from the file in its folder if it is of these pairs and this arm."""
    path = arm.folder / _FILE
    key = {
        "run": arm.identity,
        "pairs": hashlib.sha256(json.dumps(found.pairs).encode()).hexdigest(),
    }
    try:
        kept = read_record(path)
    except (BadInput, Damaged):
        kept = {}
    if any(kept.get(name) != value for name, value in key.items()):
        kept = score(arm.model(), arm.data.tokenizer, found.pairs)._asdict()
        write_record(path, key | kept)
    return Differences(kept["with_end"], kept["without_end"])


def _rows(
    at: Mapping[str, Any], arm: str, seed: int, found: LexicalPairs, differences: Differences
) -> Iterator[Measured]:
    for metric, each in zip((WITH_END, WITHOUT_END), differences, strict=True):
        right = marks(each)
        for split in ("all", *BANDS):
            here = [
                mark
                for mark, pair in zip(right, found.pairs, strict=True)
                if split in ("all", pair.band)
            ]
            if here:  # a vocabulary may have every frequent word as one token
                bounds = wilson(round(sum(here)), len(here))
                row = Row(
                    arm, seed, TASK, split, metric, float(np.mean(here)), *bounds, len(here), 0.5
                )
                yield Measured(at, row, here)


# Findings


def lexical(measured: list[Measured]) -> Findings:
    """Compare the arms of each cell with the model of characters."""
    cells = _cells(measured)
    found = [(cell, each) for cell, of in cells.items() for each in _contrasts(of.tables)]
    sentences, rows = list[str](), list[dict[str, Any]]()
    for (cell, one), (p_holm, says) in zip(found, judged([one for _, one in found]), strict=True):
        sentences.append(f"{_named(cell)}: {one.name} {one}: {says}.")
        rows.append(_saved(cell, one) | {"p_holm": p_holm, "verdict": says})
    shares = {cell: _share(found.tables) for cell, found in cells.items()}
    for cell, share in shares.items():
        if share is not None:
            rows.append(_saved(cell, share))
    return Findings(
        " ".join(_headline(cell, share) for cell, share in shares.items()),
        [*sentences, *_how(cells)],
        [
            "model", "arm", "all pairs", *BANDS, "without the end", "bits per byte",
            "seconds a step", "parameters",
        ],
        [line for cell, found in cells.items() for line in found.lines(cell)],
        _pictures(cells),
        rows,
        "Shares of pairs whose word has more probability than its nonword (chance is 0.50); 95 % "
        "intervals in brackets.",
        left=2,
    )  # fmt: skip


Cell = tuple[str, int]  # size and vocabulary


class _Found(NamedTuple):
    """The rows of a cell by arm, split or task, and metric; and the marks of all pairs by arm."""

    rows: dict[tuple[str, str, str], list[Row]]
    tables: dict[str, Table]

    def lines(self, cell: Cell) -> Iterator[list[str]]:
        arms = list(dict.fromkeys(arm for arm, split, _ in self.rows if split == "all"))
        for arm in arms:
            if (arm, "all", WITH_END) in self.rows:
                yield [
                    _named(cell), arm, self._share(arm, "all", True),
                    *(self._share(arm, band) for band in BANDS),
                    self._share(arm, "all", metric=WITHOUT_END),
                    self._mean(arm, "text, after pretraining", "bits_per_byte", "{:.3f}"),
                    self._mean(arm, "pretrain", "median_step_seconds", "{:.3f}"),
                    self._mean(arm, "all", "parameters", "{:,.0f}"),
                ]  # fmt: skip

    def _share(self, arm: str, split: str, bounds: bool = False, metric: str = WITH_END) -> str:
        found = self.rows.get((arm, split, metric))
        if not found:
            return ""
        text = f"{np.mean([row.value for row in found]):.3f}"
        if bounds and arm in self.tables:
            low, high, _ = over_windows(self.tables[arm].tolist())
            text += "" if low is None else f" ({low:.3f} to {high:.3f})"
        return text

    def _mean(self, arm: str, place: str, metric: str, form: str) -> str:
        found = self.rows.get((arm, place, metric))
        return form.format(np.mean([row.value for row in found])) if found else ""


def _cells(measured: Sequence[Measured]) -> dict[Cell, _Found]:
    rows: dict[Cell, dict[tuple[str, str, str], list[Row]]] = {}
    each: dict[Cell, dict[str, dict[int, Sequence[float]]]] = {}
    for at, row, values in measured:
        cell = str(at["size"]), int(at["vocabulary"])
        arm = CHARACTERS if at["reads"] == CHARACTERS else row.arm
        place = row.split if row.task == TASK else row.task
        rows.setdefault(cell, {}).setdefault((arm, place, row.metric), []).append(row)
        if (row.split, row.metric) == ("all", WITH_END):
            each.setdefault(cell, {}).setdefault(arm, {})[int(row.seed)] = values
    found = {}
    for cell, by_arm in each.items():
        # a baseline is no model and has one seed
        arms = [arm for arm in by_arm if arm in (CHARACTERS, *_CONTROLS, "lstm")]
        seeds = sorted(set.intersection(*(set(by_arm[arm]) for arm in arms)))
        tables = {arm: np.array([by_arm[arm][seed] for seed in seeds]) for arm in arms}
        found[cell] = _Found(rows[cell], tables)
    return found


def _contrasts(tables: dict[str, Table]) -> Iterator[Contrast]:
    if "lstm" in tables:
        for control in _CONTROLS:
            if control in tables:
                yield contrast(f"lstm - {control}", tables["lstm"], tables[control], PAIRS)
    if CHARACTERS in tables and "plain" in tables:
        yield contrast(f"{CHARACTERS} - plain", tables[CHARACTERS], tables["plain"], PAIRS)


def _share(tables: dict[str, Table]) -> Contrast | None:
    wanted = "plain", "lstm", CHARACTERS
    return share_closed(*(tables[arm] for arm in wanted)) if tables.keys() >= {*wanted} else None


def _saved(cell: Cell, one: Contrast) -> dict[str, Any]:
    low, high, p = one.bounds
    metric = "share_of_gap_closed" if one.name == "share" else f"{WITH_END}_difference"
    value = None if np.isnan(one.value) else one.value
    row = {"arm": "lstm" if one.name == "share" else one.name, "metric": metric, "value": value}
    where = {"size": cell[0], "vocabulary": cell[1]}
    return where | row | {"low": low, "high": high} | ({} if one.name == "share" else {"p": p})


def _named(cell: Cell) -> str:
    return f"{cell[0]}, {cell[1]:,} tokens"


def _headline(cell: Cell, share: Contrast | None) -> str:
    if share is None:
        return f"{_named(cell)}: an arm is missing, so there is no share of the gap."
    low, high, _ = share.bounds
    if low is None or high is None:
        return f"{_named(cell)}: no gap between characters and plain is shown."
    return (
        f"{_named(cell)}: the encoder closes {share.value:.2f} of the gap between plain and "
        f"characters (95 % interval {low:.2f} to {high:.2f})."
    )


def _how(cells: dict[Cell, _Found]) -> list[str]:
    seeds = {len(table) for found in cells.values() for table in found.tables.values()}
    sentences = [
        "A word and its nonword have equally many letters and tokens; letter trigrams of the word "
        "list, and the frequencies of the tokens, are right in half of the pairs.",
        "often: ten times or more in the training text; rare: less often; never: in the dictionary "
        "alone. A word of one token has no nonword, so a large vocabulary has no frequent words.",
        "The score is the probability of the string with its end; the column without the end leaves "
        "this out.",
        "Intervals are over seeds and pairs together (min F'); p-values are corrected for all "
        "differences above (Holm).",
    ]
    if 1 in seeds:
        sentences.append("The intervals of one seed hold for its models, and not for another seed.")
    return sentences


def _pictures(cells: dict[Cell, _Found]) -> list[Picture]:
    """One picture by vocabulary: curves over the size of the model, or bars if there is one size."""
    pictures = []
    for vocabulary in sorted({cell[1] for cell in cells}):
        of_size = {
            size: (round(rows[0].value / 1e6, 2), found.tables)
            for (size, of), found in cells.items()
            if of == vocabulary and (rows := found.rows.get(("plain", "all", "parameters")))
        }
        name, label = f"lexical-{vocabulary}", "Share of pairs whose word is preferred"
        if len(of_size) > 1:
            label += f", {vocabulary:,} tokens, by the size of the model."
            pictures.append(Picture(name, label, _curves(name, label, list(of_size.values()))))
        for size, (_, tables) in of_size.items() if len(of_size) == 1 else ():
            label += f", {_named((size, vocabulary))}. Lines are 95 % intervals; chance is dashed."
            pictures.append(Picture(name, label, _bars(name, label, tables)))
    return pictures


def _curves(name: str, label: str, of_size: Sequence[tuple[float, dict[str, Table]]]) -> str:
    """The share of each arm over millions of parameters."""
    curves: dict[str, list[Spot]] = {}
    for millions, tables in of_size:
        for arm, (share, low, high) in _shares(tables).items():
            curves.setdefault(arm, []).append(Spot(millions, share, low, high))
    axis = "parameters of plain, millions"
    return share_curves(name, label, curves, axis, log=True, arms=True)


def _bars(name: str, label: str, tables: dict[str, Table]) -> str:
    """The share of each arm below its name: points at one size would cover each other."""
    groups = []
    for arm, share in _shares(tables).items():
        seeds = tables[arm].mean(axis=1).tolist()
        groups.append(Group(arm, {arm: share}, 0.5, {arm: seeds} if len(seeds) > 1 else {}))
    return bars(name, label, groups, Scale(lambda share: f"{100 * share:.1f} %"))


def _shares(tables: dict[str, Table]) -> dict[str, tuple[float, float | None, float | None]]:
    bounds = {arm: over_windows(table.tolist())[:2] for arm, table in tables.items()}
    return {arm: (float(table.mean()), *bounds[arm]) for arm, table in tables.items()}
