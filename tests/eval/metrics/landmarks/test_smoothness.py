"""MSI and jitter by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.landmarks import smoothness
from eval.metrics.landmarks.shape import CORNERS
from eval.metrics.lips import LipPair
from eval.metrics.metric import Miss
from mytalk.face.landmarks import COUNT, MOUTH


def shaken(px_T: np.ndarray, width_px: float = 64.0) -> np.ndarray:
    """A mouth of this width that moves up and down as a whole."""
    face = np.zeros((len(px_T), COUNT, 2))
    face[:, CORNERS[1], 0] = width_px
    face[:, :, 1] += px_T[:, None]
    return face


def msi_by_loops(face_TN2: np.ndarray) -> float:
    """The definition, value by value."""
    apart = [np.hypot(*(frame[CORNERS[1]] - frame[CORNERS[0]])) for frame in face_TN2]
    scaled = face_TN2 * 64 / np.mean(apart)
    values = []
    for point in MOUTH:
        for axis in range(2):
            x = scaled[:, point, axis]
            acceleration = [x[t + 2] - 2 * x[t + 1] + x[t] for t in range(len(x) - 2)]
            for start in range(0, len(acceleration) - 11, 6):
                window = acceleration[start : start + 12]
                mean = sum(window) / 12
                values.append(1 / (sum((a - mean) ** 2 for a in window) / 12 + 0.5))
    return sum(values) / len(values)


def test_a_mouth_that_does_not_accelerate_has_msi_2_and_no_jitter() -> None:
    for path_T in (np.zeros(30), 3.0 * np.arange(30)):
        assert smoothness.msi(shaken(path_T)) == pytest.approx(2)
        assert smoothness.jitter_px(shaken(path_T)) == pytest.approx(0, abs=1e-9)


def test_a_mouth_that_alternates_has_the_closed_form() -> None:
    """y = +-a: the acceleration is -+4 a, its variance 16 a^2; x stands still."""
    a = 0.5
    face = shaken(a * (-1.0) ** np.arange(30))
    assert smoothness.msi(face) == pytest.approx((2 + 1 / (16 * a * a + 0.5)) / 2)
    assert smoothness.jitter_px(face) == pytest.approx(4 * a)


def test_msi_agrees_with_its_definition_value_by_value() -> None:
    face = np.random.default_rng(0).normal(0, 2, (27, COUNT, 2))
    face[:, CORNERS[1], 0] += 40
    assert smoothness.msi(face) == pytest.approx(msi_by_loops(face))


@given(scale=st.floats(0.1, 10), x=st.floats(-100, 100), seed=st.integers(0, 9))
def test_msi_hangs_on_neither_the_size_of_the_picture_nor_the_place_in_it(scale, x, seed) -> None:
    face = shaken(np.random.default_rng(seed).normal(0, 1, 20), 50)
    assert smoothness.msi(face * scale + x) == pytest.approx(smoothness.msi(face), rel=1e-6)


def test_more_trembling_is_less_stable_and_the_excess_is_signed() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 40)
    stability = [smoothness.msi(shaken(level * noise)) for level in (0, 0.2, 0.5, 1, 2)]
    assert stability == sorted(stability, reverse=True)
    trembling, calm = shaken(noise), shaken(0.5 * noise)
    excess = smoothness.jitter_excess_px(LipPair(calm, trembling))
    assert excess == pytest.approx(smoothness.jitter_px(calm))
    assert smoothness.jitter_excess_px(LipPair(trembling, calm)) == pytest.approx(-excess)


def test_clips_shorter_than_a_window_are_refused_by_name() -> None:
    smoothness.msi(shaken(np.zeros(14)))
    with pytest.raises(Miss) as raised:
        smoothness.msi(shaken(np.zeros(13)))
    assert raised.value.reason == smoothness.TOO_SHORT
    with pytest.raises(Miss):
        smoothness.jitter_px(shaken(np.zeros(2)))
