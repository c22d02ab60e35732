"""The axis of plots."""

from __future__ import annotations

import numpy as np
import pytest

from eval.report import plots


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-0.083, 0.379), (14.57, 37.5), (1.0, 1.0), (0.0, 0.0), (0.968, 0.9681)]
)
def test_an_axis_covers_its_values_with_few_even_ticks(low, high) -> None:
    step, ticks = plots.nice(low, high, 4)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), step)
    assert len({plots.number(tick, step) for tick in ticks}) == len(ticks), "no two ticks read alike"
