"""Thresholds and lines on planted curves."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.study.thresholds import fitted_line, threshold

GRID = (2, 4, 8, 12, 16, 24, 32)


def falling(m: float, at: float) -> float:
    """1 far below `at`, 0.8 there, 0 far above."""
    return 1 / (1 + 0.25 * math.exp((m - at) / 1.5))


def test_a_threshold_is_read_between_two_places_in_a_straight_line() -> None:
    assert threshold({2: 1.0, 4: 0.9, 8: 0.5}).value == pytest.approx(5.0)
    assert threshold({2: 1.0, 4: 0.8, 8: 0.5}).value == pytest.approx(4.0)
    assert threshold({8: 0.5, 2: 1.0, 4: 0.9}).value == pytest.approx(5.0), "in whatever order"
    assert str(threshold({2: 1.0, 4: 0.9, 8: 0.5})) == "5.0"


def test_a_curve_that_never_falls_and_one_that_never_rises_so_far_say_so() -> None:
    never, always = threshold({2: 1.0, 4: 0.95, 8: 0.8}), threshold({2: 0.79, 4: 0.3})
    assert (never.value, str(never)) == (None, "above 8")
    assert (always.value, str(always)) == (None, "below 2")
    assert str(threshold({4: 0.9})) == "above 4"


def test_one_low_reading_among_high_ones_is_noise() -> None:
    """(0.78 + 0.90) / 2 is still above the level, so the fall is behind both."""
    assert threshold({2: 0.99, 4: 0.78, 8: 0.90, 16: 0.4}).value == pytest.approx(
        8 + 8 * 0.04 / 0.44
    )


@settings(deadline=None)
@given(at=st.floats(4, 24), seed=st.integers(0, 10**6))
def test_a_planted_threshold_is_found_again_under_noise(at: float, seed: int) -> None:
    rng = Random(seed)
    curve = {m: min(1.0, max(0.0, falling(m, at) + rng.uniform(-0.03, 0.03))) for m in GRID}
    found = threshold(curve).value
    left = max(m for m in GRID if m <= at)
    right = min(m for m in GRID if m > at)
    assert found is not None
    assert left - 1 <= found <= right + 1


def test_thresholds_of_wider_models_are_larger_and_lie_on_their_line() -> None:
    found = [
        (d, threshold({m: falling(m, 1.5 + 0.75 * d) for m in range(2, 40)}).value)
        for d in (8, 16, 32)
    ]
    line = fitted_line([(d, value) for d, value in found if value is not None])
    assert line is not None
    assert line.slope == pytest.approx(0.75, abs=0.02)
    assert line.intercept == pytest.approx(1.5, abs=0.2)
    assert line.low is not None
    assert line.high is not None
    assert line.low <= line.slope <= line.high


def test_a_line_needs_two_widths_and_its_interval_three_points() -> None:
    assert fitted_line([]) is None
    assert fitted_line([(8, 4), (8, 5)]) is None
    line = fitted_line([(8, 4), (16, 8)])
    assert line is not None
    assert (line.slope, line.intercept, line.low) == (0.5, 0.0, None)
