"""The files of the map: every row, every judged difference, every point of a learning curve.

- `map.csv`: a row for each vocabulary, arm, seed, task, split and metric, with the hash of config,
  data, seed and arm that made it, and the version and commit of the code.
- `summary.csv`: the other numbers of the page: means over seeds, gains by bins of words, ratios.
- `differences.csv`: the judged differences with their verdicts; see map_rows.py.
- `curves.csv`: mean, least and largest value over seeds of each measurement during training.

pyarrow writes them: `pandas.read_csv` and `datasets.load_dataset("csv", ...)` read them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from training.files import write_atomically
from training.intervals import Row

from .map_rows import Judged, Vocabulary

_MADE_BY = ("charembed", "commit", "changed")


def rows_of(vocabularies: Iterable[Vocabulary], made_by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of map.csv.

    Arguments:
        made_by: by name of a run, its last start as config.json holds it.
    """
    lines = []
    for one in vocabularies:
        for row in one.rows:
            point = one.points[row.arm]
            code = {name: made_by.get(point, {}).get(name) for name in _MADE_BY}
            code["config"] = one.hashes[row.arm, int(row.seed)]
            lines.append({"point": point, "vocabulary": one.size} | _plain(row) | code)
    return lines


def summary_of(computed: Iterable[tuple[int, Row]]) -> list[dict[str, Any]]:
    """Return the lines of summary.csv from (vocabulary, row) of the numbers that the page adds."""
    return [{"vocabulary": size} | _plain(row) for size, row in computed]


def _plain(row: Row) -> dict[str, Any]:
    # "seed" is a number in one file and "mean" in the other: readers take the type of a column
    # from its first lines
    names = ("arm", "seed", "task", "split", "metric", "value", "low", "high", "n", "majority")
    return {name: getattr(row, name) for name in names} | {"value": float(row.value)}


def lines_of(differences: Iterable[Judged]) -> list[dict[str, Any]]:
    """Return the lines of differences.csv."""
    return [
        {
            "vocabulary": one.vocabulary, "kind": one.kind, "arm": one.arm, "control": one.control,
            "task": one.row.task, "split": one.row.split, "metric": one.row.metric,
            "value": float(one.row.value), "low": one.row.low, "high": one.row.high, "n": one.row.n,
            "seeds": one.seeds, "p": one.row.p, "p_holm": one.row.p_holm,
            "controls": one.row.controls, "covers": one.row.covers, "margin": one.margin,
            "verdict": one.verdict,
        }
        for one in differences
    ]  # fmt: skip


def points_of(vocabularies: Iterable[Vocabulary]) -> Iterator[dict[str, Any]]:
    """Yield the lines of curves.csv."""
    for one in vocabularies:
        found: dict[tuple[Any, ...], list[float]] = {}
        for row in one.curves:
            keys = ("arm", "phase", "step", "task", "split", "metric")
            found.setdefault(tuple(row[key] for key in keys), []).append(row["value"])
        for key, values in found.items():
            arm, phase, step, task, split, metric = key
            yield {
                "vocabulary": one.size, "arm": arm, "phase": phase, "step": step, "task": task,
                "split": split, "metric": metric, "mean": sum(values) / len(values),
                "least": min(values), "largest": max(values), "seeds": len(values),
            }  # fmt: skip


def write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines with the same keys as a CSV file with a heading; nothing if there is none."""
    if not lines:
        return
    buffer = io.BytesIO()
    csv.write_csv(pa.Table.from_pylist(list(lines)), buffer)
    write_atomically(path, buffer.getvalue())
