"""Parts of the mouth by hand, and what may be done to a face without changing them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import LANDMARK_METRICS, lips, measure_rows
from eval.metrics.landmarks import shape
from eval.metrics.lips import LipPair
from eval.metrics.metric import Miss
from mytalk.face.landmarks import MOUTH, OUTER_LIP
from tests.helpers.faces import WAVE, opened, similarity, still, turning

SWAY = np.sin(np.arange(40) / 4)


def moved(points: list[int], axis: int, px_T: np.ndarray) -> np.ndarray:
    """A still face with these points moved along an axis."""
    face = still(len(px_T))
    face[:, points, axis] += px_T[:, None]
    return face


def spread(px_T: np.ndarray) -> np.ndarray:
    """A still face whose corners of the mouth stand this much wider."""
    face = still(len(px_T))
    for corner, side in zip(shape.CORNERS, (-1, 1)):
        face[:, corner, 0] += side * px_T / 2
    return face


def test_the_width_is_the_distance_of_the_corners() -> None:
    wide_T = shape.width(spread(3 * SWAY)[..., :2])
    assert np.allclose(wide_T - shape.width(still(1)[..., :2])[0], 3 * SWAY, atol=1e-3)


@pytest.mark.parametrize(("part", "points"), [("upper_lip", shape.UPPER), ("lower_lip", shape.LOWER)])
def test_a_lip_that_moves_half_as_far_has_amplitude_one_half_and_the_other_lip_none(part, points) -> None:
    pair = LipPair(moved(points, 1, 4 * SWAY), moved(points, 1, 2 * SWAY))
    assert shape.amplitude(part, pair) == pytest.approx(0.5)
    assert shape.correlation(part, pair) == pytest.approx(1)
    other = {"upper_lip": "lower_lip", "lower_lip": "upper_lip"}[part]
    with pytest.raises(Miss, match="varies by less"):
        shape.amplitude(other, pair)


def test_a_lip_that_rises_where_the_true_one_sinks_correlates_at_minus_1_and_a_still_one_at_0() -> None:
    truth = moved(shape.UPPER, 1, SWAY)
    assert shape.correlation("upper_lip", LipPair(truth, moved(shape.UPPER, 1, -SWAY))) == pytest.approx(-1)
    assert shape.correlation("upper_lip", LipPair(truth, still(40))) == 0
    assert shape.amplitude("upper_lip", LipPair(truth, still(40))) == 0


def test_the_quotient_of_a_polygon_is_its_closed_form() -> None:
    """pi / (n tan(pi / n)) for the regular one of n corners, 0 for a line."""
    corners = len(OUTER_LIP)
    angle = 2 * np.pi * np.arange(corners) / corners
    face = still(2)[..., :2].astype(float)
    face[0, OUTER_LIP] = 100 + 20 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    face[1, OUTER_LIP, 1] = 50
    expected = np.pi / (corners * np.tan(np.pi / corners))
    assert shape.rounding(face) == pytest.approx([expected, 0], abs=1e-9)


@given(
    scale=st.floats(0.5, 2), turn=st.floats(-0.5, 0.5), x=st.floats(-50, 50), y=st.floats(-50, 50), mirror=st.booleans()
)
def test_moving_turning_and_scaling_the_picture_changes_no_quotient_and_scales_the_width(scale, turn, x, y, mirror):
    face = opened(WAVE)[..., :2]
    points = (face[..., 0] + 1j * face[..., 1]) * scale * np.exp(1j * turn) + complex(x, y)
    points = np.conj(points) if mirror else points
    changed = np.stack([points.real, points.imag], axis=-1)
    assert shape.rounding(changed) == pytest.approx(shape.rounding(face), rel=1e-6)
    assert shape.width(changed) == pytest.approx(scale * shape.width(face), rel=1e-6)


def test_a_turning_head_has_the_shape_of_a_still_one_and_the_opening_alone_cannot_tell_a_dead_upper_lip() -> None:
    truth, dead = opened(WAVE), opened(WAVE)
    truth[:, shape.UPPER, 1] -= 0.3 * (WAVE - WAVE.mean())[:, None]
    dead[:, shape.LOWER, 1] += 0.3 * (WAVE - WAVE.mean())[:, None]
    plain, turned = (
        measure_rows({"": lips.aligned(truth, side)}, LANDMARK_METRICS)[0][""]
        for side in (dead, turning(similarity(dead, 1.1, 3j)))
    )
    assert turned == pytest.approx(plain, rel=1e-3, abs=1e-3)
    assert plain["opening_correlation"] == pytest.approx(1, abs=1e-4)
    assert plain["upper_lip_amplitude"] == pytest.approx(0, abs=1e-3)
    assert plain["lower_lip_amplitude"] == pytest.approx(0.8 / 0.5), "its inner edge alone opens the true mouth"


def test_lmd_of_the_face_counts_every_point_but_the_irises() -> None:
    gaze = still(5)
    gaze[:, 468:] += 9
    assert lips.lmd_face_px(LipPair(still(5), gaze)) == 0
    one = still(5)
    one[:, MOUTH[0], :2] += [3, 4]
    assert lips.lmd_face_px(LipPair(still(5), one)) == pytest.approx(5 / 468)


def test_a_mouth_that_opens_half_as_far_has_amplitude_ratio_one_half() -> None:
    assert lips.amplitude_ratio(LipPair(opened(WAVE), opened(WAVE / 2))) == pytest.approx(0.5, rel=1e-5)
