"""Differences of two arms over seeds and the values of each seed, and their verdicts.

Axes: S seeds, P values of a seed, such as questions, pairs or windows of text; both arms have them
in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from training.intervals import ALPHA, Bounds, over_windows

Table = NDArray[np.float64]  # of an arm (S, P)
NOT_SHOWN = "not shown"


class Kind(NamedTuple):
    """What a difference is measured in, and how small a difference does not matter.

    Kind(0.02, more_is_better=True, per=100, unit="points", digits=1)

    Attributes:
        margin: half the width of the region of equivalence.
        per: a value is printed times this.
    """

    margin: float
    more_is_better: bool
    per: float
    unit: str
    digits: int


class Contrast(NamedTuple):
    """A difference of two arms with its interval and p-value, or a share of a gap.

    str(contrast("lstm - plain", ours, theirs, kind)) -> "+1.5 points (+0.2 to +2.8)"
    """

    name: str
    value: float
    bounds: Bounds
    kind: Kind

    def __str__(self) -> str:
        low, high, _ = self.bounds
        text = f"{self._number(self.value)} {self.kind.unit}"
        if low is None or high is None:
            return text
        return f"{text} ({self._number(low)} to {self._number(high)})"

    def _number(self, value: float) -> str:
        return f"{self.kind.per * value:+.{self.kind.digits}f}"


def contrast(name: str, ours: Table, theirs: Table, kind: Kind) -> Contrast:
    """Subtract the values of two arms, seed by seed; the interval is that of `over_windows`."""
    difference_SP = ours - theirs
    return Contrast(name, float(difference_SP.mean()), over_windows(difference_SP.tolist()), kind)


def judged(found: Sequence[Contrast]) -> list[tuple[float, str]]:
    """The p-value of each contrast after Holm's correction for all of them, and its verdict."""
    ps = [1.0 if one.bounds[2] is None else one.bounds[2] for one in found]
    adjusted = multipletests(ps, ALPHA, method="holm")[1] if ps else []
    return [(float(p), verdict(one, float(p))) for one, p in zip(found, adjusted, strict=True)]


def verdict(one: Contrast, p_holm: float) -> str:
    """Judge a difference: "helps", "hurts", "no difference larger than 2 points", "not shown".

    No difference: the 95 % interval lies within the margin as a whole, two one-sided tests of 2.5 %
    each (Schuirmann 1987). An interval without width shows nothing: two arms that are wrong in all
    questions have one, however few the questions are.
    """
    low, high, _ = one.bounds
    if low is None or high is None or low == high:
        return NOT_SHOWN
    if p_holm < ALPHA and (low > 0 or high < 0):
        return "helps" if (low > 0) == one.kind.more_is_better else "hurts"
    if max(-low, high) < one.kind.margin:
        return f"no difference larger than {one.kind.per * one.kind.margin:g} {one.kind.unit}"
    return NOT_SHOWN


_SHARE = Kind(0.0, more_is_better=True, per=1, unit="of the gap", digits=2)


def share_closed(plain: Table, ours: Table, best: Table) -> Contrast:
    """The share of the gap between `plain` and `best` that an arm closes.

    share_closed(plain, lstm, characters) -> Contrast("share", 0.4, (0.1, 0.8, nan), ...)

    The interval has every share s for which ours - plain - s (best - plain) is not shown to differ
    from zero over seeds and values (Fieller 1954). Without a gap it has no bounds.
    """
    gain_SP, gap_SP = ours - plain, best - plain
    low, _, _ = over_windows(gap_SP.tolist())
    if low is None or low <= 0:
        return Contrast("share", float("nan"), (None, None, None), _SHARE)
    value = float(gain_SP.mean() / gap_SP.mean())

    def rejected(share: float) -> bool:
        low, high, _ = over_windows((gain_SP - share * gap_SP).tolist())
        return low is not None and high is not None and not low <= 0 <= high

    ends = [_end(rejected, value, sign) for sign in (-1, 1)]
    return Contrast("share", value, (ends[0], ends[1], float("nan")), _SHARE)


def _end(rejected: Callable[[float], bool], inside: float, sign: int) -> float:
    """The last share that is not rejected, in one direction from one that is not; at most 64 away."""
    step = 0.125
    while step < 64 and not rejected(inside + sign * step):
        step *= 2
    near, far = 0.0, step
    for _ in range(20):
        middle = (near + far) / 2
        near, far = (near, middle) if rejected(inside + sign * middle) else (middle, far)
    return inside + sign * near
