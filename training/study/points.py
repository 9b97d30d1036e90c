"""A point of a study's grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from training.config.config import CompareConfig


class Point(NamedTuple):
    """One run of a study, and its coordinates in the grid.

    Point("d8-m4", {"d": 8, "m": 4}, config)
    """

    name: str
    at: Mapping[str, int | float | str]
    config: CompareConfig
