"""Find the m at which accuracy falls to a level, and fit a line through such thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import optimize, stats

from training.intervals import ALPHA

LEVEL = 0.8  # the accuracy that defines m_thr in arXiv 2407.15160


@dataclass(frozen=True)
class Threshold:
    """The m at which a curve falls to the level; str() gives "5.2", or "above 16".

    Attributes:
        value: None if the curve does not fall to the level in the measured range.
        side: "above" if the curve never falls below the level, "below" if it never reaches it.
        end: the measured m beyond which the threshold lies in this case.
    """

    value: float | None
    side: str = ""
    end: int = 0

    def __str__(self) -> str:
        return f"{self.side} {self.end}" if self.value is None else f"{self.value:.1f}"


def threshold(accuracy: Mapping[int, float], level: float = LEVEL) -> Threshold:
    """Return the m at which accuracy falls to the level, from accuracies by m.

    threshold({2: 1.0, 4: 0.9, 8: 0.5}) -> 5.0

    The result is a linear interpolation between the last m at or above the level and the first m
    below it.
    """
    places = sorted(accuracy)
    # Accuracies are noisy, so the best falling curve is fitted first (least squares).
    values = [accuracy[m] for m in places]
    fitted = optimize.isotonic_regression(values, increasing=False).x.tolist()
    # The fit never rises, so everything after this place is below the level, too.
    fell = next((number for number, share in enumerate(fitted) if share < level), None)
    if fell is None:
        return Threshold(None, "above", places[-1])
    if fell == 0:
        return Threshold(None, "below", places[0])
    (left, right), (high, low) = places[fell - 1 : fell + 1], fitted[fell - 1 : fell + 1]
    return Threshold(left + (right - left) * (high - level) / (high - low))


@dataclass(frozen=True)
class Line:
    """m_thr = intercept + slope d, and for three points or more the 95 % interval of the slope."""

    slope: float
    intercept: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        sign = "+" if self.slope >= 0 else "-"
        return f"m_thr = {self.intercept:.1f} {sign} {abs(self.slope):.2f} d"


def fitted_line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Fit a line by least squares (scipy.stats.linregress); None if all points have the same x.

    fitted_line([(8, 4), (16, 8), (32, 16)]) -> slope 0.5, intercept 0
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < 2:
        return None
    found = stats.linregress(xs, ys)
    slope, intercept = float(found.slope), float(found.intercept)
    if len(points) == 2:  # no degree of freedom is left for an interval
        return Line(slope, intercept)
    reach = float(stats.t.ppf(1 - ALPHA / 2, len(points) - 2)) * float(found.stderr)
    return Line(slope, intercept, slope - reach, slope + reach)
