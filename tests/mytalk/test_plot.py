"""The axes of plots: round ticks, and where a value lies."""

from __future__ import annotations

import numpy as np
import pytest

from mytalk import plot

RANGES = [(0.0, 1.0), (-0.083, 0.379), (14.57, 37.5), (0.968, 0.9681)]


@pytest.mark.parametrize(("low", "high"), [*RANGES, (1.0, 1.0), (0.0, 0.0)])
def test_a_rounded_axis_covers_its_values_with_few_even_ticks(low, high):
    axis = plot.rounded_axis(low, high, 4, 10, 110)
    at, labels = zip(*axis.ticks())
    assert axis.low <= low + 1e-9
    assert axis.high >= high - 1e-9
    assert (at[0], at[-1]) == pytest.approx((10, 110))
    assert 2 <= len(at) <= 7
    assert np.allclose(np.diff(at), axis.step / (axis.high - axis.low) * 100)
    assert len(set(labels)) == len(at), "no two ticks read alike"


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_an_axis_ends_at_its_values_with_ticks_between(low, high):
    axis = plot.axis(low, high, 12, 0, 100)
    assert (axis.px(low), axis.px(high)) == (0, 100)
    at = [px for px, _ in axis.ticks()]
    assert all(-1e-6 <= px <= 100 + 1e-6 for px in at)
    assert 2 <= len(at) <= 13


def test_ticks_read_as_their_values_do():
    assert plot.axis(-1, 1, 4, 100, 0).ticks() == [(100, "-1.0"), (75, "-0.5"), (50, "0.0"), (25, "0.5"), (0, "1.0")]
    assert [label for _, label in plot.axis(0, 4.32, 12, 0, 432).ticks()][:3] == ["0.0", "0.5", "1.0"]
    assert [label for _, label in plot.axis(0, 250, 5, 0, 250).ticks()][-2:] == ["200", "250"]
