"""Find the m at which accuracy falls to a level, and fit a line through such thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import optimize, stats

from training.intervals import ALPHA

LEVEL = 0.8  # the accuracy that defines m_thr in arXiv 2407.15160


@dataclass(frozen=True)
class Threshold:
    """The m at which a curve falls to the level, or None if it does not in the measured range.

    In that case `bound` says which end the threshold lies beyond: "above 16" if the curve never
    falls below the level, "below 2" if it never reaches it.
    """

    value: float | None
    bound: str = ""

    def __str__(self) -> str:
        return self.bound if self.value is None else f"{self.value:.1f}"


def threshold(accuracy: Mapping[int, float], level: float = LEVEL) -> Threshold:
    """Return the m at which accuracy falls to the level, from accuracies by m.

    threshold({2: 1.0, 4: 0.9, 8: 0.5}) -> 5.0

    Accuracies are noisy, so the best falling curve is fitted first (isotonic regression, least
    squares). The result is a linear interpolation between the last m at or above the level and the
    first m below it.
    """
    places = sorted(accuracy)
    fitted = optimize.isotonic_regression(
        [accuracy[m] for m in places], increasing=False
    ).x.tolist()
    # The fit only falls, so everything after this place is below the level, too.
    fell = next((number for number, share in enumerate(fitted) if share < level), None)
    if fell is None:
        return Threshold(None, f"above {places[-1]}")
    if fell == 0:
        return Threshold(None, f"below {places[0]}")
    (left, right), (high, low) = places[fell - 1 : fell + 1], fitted[fell - 1 : fell + 1]
    return Threshold(left + (right - left) * (high - level) / (high - low))


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x, and for three points or more the 95 % interval of the slope."""

    slope: float
    intercept: float
    low: float | None = None
    high: float | None = None


def fitted_line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Fit a line by least squares (scipy.stats.linregress); None if all points have the same x.

    fitted_line([(8, 4), (16, 8), (32, 16)]) -> slope 0.5, intercept 0
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < 2:
        return None
    found = stats.linregress(xs, ys)
    if len(points) == 2:  # no degree of freedom is left for an interval
        return Line(float(found.slope), float(found.intercept))
    reach = float(stats.t.ppf(1 - ALPHA / 2, len(points) - 2)) * float(found.stderr)
    return Line(
        float(found.slope), float(found.intercept), found.slope - reach, found.slope + reach
    )
