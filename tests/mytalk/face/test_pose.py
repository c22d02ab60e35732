"""The head's pose: read off clean points alone, a least-squares similarity, smoothed over time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT, INNER_LIP_PAIRS, MOUTH, NOISED, RIGID
from tests.helpers.face_points import faces, ones


def test_the_pose_is_read_off_points_that_stay_clean():
    used = {*RIGID, *pose.NOSE_BRIDGE, *pose.TEMPLES, 33, 263}
    assert used <= set(CLEAN)
    assert set(MOUTH) | {i for pair in INNER_LIP_PAIRS for i in pair} <= set(NOISED)
    assert sorted([*NOISED, *CLEAN]) == list(range(COUNT))


similarities = st.tuples(
    st.floats(0.3, 3.0), st.floats(-3.1, 3.1), st.floats(-200, 200), st.floats(-200, 200), st.integers(0, 5)
)


@given(similarities)
@settings(max_examples=60, deadline=None)
def test_fit_recovers_a_known_similarity_and_to_crop_inverts(drawn):
    """A rigid shape that was turned, scaled and shifted comes back exactly; all points go there and back."""
    scale, angle, x, y, seed = drawn
    turn, shift = torch.polar(ones(1, 1) * scale, ones(1, 1) * angle), torch.complex(ones(1, 1) * x, ones(1, 1) * y)
    known, landmarks = pose.Pose(turn, shift), faces(seed, 1)
    found = pose.fit(landmarks, known.to_head(landmarks)[:, 0, RIGID])
    torch.testing.assert_close(found.turn_BT, turn, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.shift_BT, shift, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(found.to_crop(found.to_head(landmarks)), landmarks, rtol=0, atol=1e-9)


def test_fit_is_least_squares():
    """No turn or shift nearby brings noisy points closer to the target."""
    landmarks, target = faces(3, 2), faces(4, 1)[:, 0, RIGID]
    best = pose.fit(landmarks, target)

    def distance(turn, shift):
        return (pose.Pose(turn, shift).to_head(landmarks[:, :, RIGID]) - target[:, None]).square().sum((-1, -2))

    least = distance(best.turn_BT, best.shift_BT)
    for step in (1e-3, -1e-3, 1e-3j, -1e-3j):
        assert (distance(best.turn_BT + step, best.shift_BT) > least).all()
        assert (distance(best.turn_BT, best.shift_BT + step) > least).all()


def test_the_rigid_shape_is_upright_centred_and_of_one_size():
    """However the head is turned, scaled and shifted, its rigid shape is the same."""
    landmarks = faces(5, 4)
    shape = pose.rigid_shape(landmarks, ones(1, 4))
    torch.testing.assert_close(shape.mean(1), 0 * ones(1, 2), rtol=0, atol=1e-10)
    moved = pose.Pose(torch.polar(ones(1, 4) * 0.7, ones(1, 4) * 0.4), torch.complex(ones(1, 4) * 9, ones(1, 4)))
    torch.testing.assert_close(pose.rigid_shape(moved.to_head(landmarks), ones(1, 4)), shape, rtol=0, atol=1e-9)
    one = pose.rigid_shape(landmarks[:, :1], ones(1, 1))[0]
    assert one.square().sum(-1).mean().sqrt().item() == pytest.approx(pose.RIGID_RADIUS_PX)
    assert one[RIGID.index(33), 1].item() == pytest.approx(one[RIGID.index(263), 1].item(), abs=1e-9)


@pytest.mark.parametrize(("frames", "sigma"), [(1, 3.0), (20, 0.5), (20, 3.0), (20, 12.0)])
def test_slow_equals_a_normalised_gaussian(frames, sigma):
    """scipy's Gaussian of the values over scipy's Gaussian of ones, silent outside the valid frames."""
    values = np.random.default_rng(6).standard_normal((2, frames, 3))
    lengths = [frames, max(frames - 6, 1)]
    mask = torch.tensor([[float(t < length) for t in range(frames)] for length in lengths], dtype=torch.float64)
    garbage = torch.from_numpy(values) + 1e3 * (1 - mask)[..., None]
    made = pose.slow(garbage, mask, sigma).numpy()
    for b, length in enumerate(lengths):
        how = {"sigma": sigma, "axis": 0, "mode": "constant", "truncate": 2 * frames / sigma + 1}
        expected = gaussian_filter1d(values[b, :length], **how) / gaussian_filter1d(np.ones((length, 1)), **how)
        np.testing.assert_allclose(made[b, :length], expected, rtol=1e-10, atol=1e-12)
