"""The pictures of a page."""

from __future__ import annotations

import numpy as np

from eval.report import pictured


def test_the_moments_are_in_turn_the_widest_and_the_narrowest() -> None:
    opening_T = np.tile([3.0, 9.0, 1.0, 5.0, 4.0], 8)
    assert pictured.moments(opening_T) == [5 * i + (1, 2)[i % 2] for i in range(8)]
    assert len(pictured.moments(np.arange(3.0))) == 3
