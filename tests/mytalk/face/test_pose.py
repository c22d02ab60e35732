"""The head's pose: read off clean points alone, least squares in three dimensions, sure of single bad points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT, INNER_LIP_PAIRS, MOUTH, NOISED, RIGID
from tests.helpers import talkers
from tests.helpers.face_points import faces, ones

degrees = st.tuples(st.floats(-50, 50), st.floats(-40, 40), st.floats(-60, 60))


def posed(yaw: float, pitch: float, roll: float, scale: float = 1.0, shift=(128.0, 110.0, 5.0)) -> pose.Pose:
    angles = torch.deg2rad(torch.tensor([[[yaw, pitch, roll]]], dtype=torch.float64))
    return pose.from_angles(ones(1, 1) * scale, angles, torch.tensor([[shift]], dtype=torch.float64))


def still_head(seed: int = 0) -> torch.Tensor:
    """A face of landmarks as a head's frame has it: upright, its rigid points centred at the origin, (1, 1, 478, 3)."""
    face = torch.from_numpy(talkers.base_face(np.random.default_rng(seed)))[None, None]
    head = pose.person_head(face, ones(1, 1))
    return pose.fit(face, head.rigid_BR3).upright(face)


def test_the_pose_is_read_off_points_that_stay_clean():
    assert set(RIGID) <= set(CLEAN)
    assert set(MOUTH) | {i for pair in INNER_LIP_PAIRS for i in pair} <= set(NOISED)
    assert sorted([*NOISED, *CLEAN]) == list(range(COUNT))
    assert not {*range(468, 478)} & set(RIGID), "an iris moves with the gaze"


def test_the_mean_head_is_symmetric_centred_and_of_the_radius_of_all_heads():
    mean = pose.MEAN_RIGID_R3
    assert mean.mean(0).abs().max() < 0.05
    assert mean.square().sum(-1).mean().sqrt().item() == pytest.approx(pose.RIGID_RADIUS_PX, abs=0.1)
    mirrored = sorted((round(-x, 1) + 0.0, y, z) for x, y, z in mean.tolist())
    assert mirrored == sorted((round(x, 1) + 0.0, y, z) for x, y, z in mean.tolist())


@given(degrees, st.floats(0.3, 3.0), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_fit_recovers_a_known_pose(angles, scale, seed):
    """A rigid head that was turned, scaled and shifted comes back, and scipy makes the same rotation of its angles."""
    head = still_head(seed)
    known = posed(*angles, scale)
    found = pose.fit(known.place(head), head[:, 0, RIGID])
    torch.testing.assert_close(found.scale_BT, known.scale_BT, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.rotation_BT33, known.rotation_BT33, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.shift_BT3, known.shift_BT3, rtol=0, atol=1e-5)
    yaw, pitch, roll = angles
    expected = Rotation.from_euler("xyz", [pitch, -yaw, roll], degrees=True).as_matrix()
    np.testing.assert_allclose(known.rotation_BT33[0, 0].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(np.degrees(found.angles()[0, 0].numpy()), angles, atol=1e-5)


def test_yaw_to_the_right_pitch_down_and_roll_clockwise_are_positive():
    nose = torch.tensor([[[[0.0, 0.0, -50.0]]]], dtype=torch.float64)  # towards the camera
    assert posed(20, 0, 0).place(nose)[..., 0].item() > 128
    assert posed(0, 20, 0).place(nose)[..., 1].item() > 110
    right_eye = torch.tensor([[[[50.0, 0.0, 0.0]]]], dtype=torch.float64)  # of the image
    assert posed(0, 0, 20).place(right_eye)[..., 1].item() > 110


@pytest.mark.parametrize("seed", range(4))
def test_fit_is_the_weighted_least_squares_of_scipy(seed, monkeypatch):
    """Without the doubt in single points: noise of 3 px, z at a quarter."""
    monkeypatch.setattr(pose, "OUTLIER", 1e6)
    head = still_head(seed)[0, 0, RIGID].numpy()
    noise = np.random.default_rng(seed).normal(0, 3, head.shape)
    points = posed(25, -12, 15, 0.8).place(torch.from_numpy(head)[None, None])[0, 0].numpy() + noise

    def residual(p: np.ndarray) -> np.ndarray:
        moved = np.exp(p[0]) * head @ Rotation.from_rotvec(p[1:4]).as_matrix().T + p[4:]
        return ((moved - points) * [1, 1, pose.DEPTH_WEIGHT]).ravel()

    best = least_squares(residual, np.array([0, 0, 0, 0, 128, 110, 5.0]), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    whole = torch.zeros(1, 1, COUNT, 3, dtype=torch.float64)
    whole[:, :, RIGID] = torch.from_numpy(points)
    found = pose.fit(whole, torch.from_numpy(head)[None])
    assert found.scale_BT.item() == pytest.approx(np.exp(best.x[0]), rel=1e-4)
    np.testing.assert_allclose(
        found.rotation_BT33[0, 0].numpy(), Rotation.from_rotvec(best.x[1:4]).as_matrix(), atol=1e-3
    )
    np.testing.assert_allclose(found.shift_BT3[0, 0].numpy(), best.x[4:], atol=0.02)


@pytest.mark.parametrize("index", [10, 127, 263, 197])
def test_a_single_bad_point_hardly_moves_the_pose(index, monkeypatch):
    """One point 30 px off, as under hair or a hand, on a face with the jitter of a detector: half a degree at most."""
    head = still_head(1)
    jitter = torch.from_numpy(np.random.default_rng(2).normal(0, 0.4, (1, 1, COUNT, 3)))
    points = posed(10, 5, 3).place(head) + jitter
    good = pose.fit(points, head[:, 0, RIGID]).angles()
    points[0, 0, index, :2] += torch.tensor([18.0, -24.0])

    def error() -> float:
        return torch.rad2deg(pose.fit(points, head[:, 0, RIGID]).angles() - good).abs().max().item()

    assert error() < 0.5
    monkeypatch.setattr(pose, "OUTLIER", 1e6)
    assert error() > 0.8, "trusting it would turn the head"


@given(degrees, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_to_crop_inverts_to_head_exactly_in_the_picture(angles, seed):
    """Whatever the pose, the depths and the points: x and y go there and back."""
    points, depth = faces(seed, 1), 30 * torch.randn(1, COUNT, dtype=torch.float64)
    turned = posed(*angles, 0.7)
    back = turned.to_crop(turned.to_head(points, depth), depth)
    torch.testing.assert_close(back[..., :2], points[..., :2], rtol=0, atol=1e-8)


def test_a_head_that_turns_nods_and_nears_does_not_move_in_its_own_frame():
    """A still face at 25 degrees of yaw, 15 of pitch, 10 of roll. The same in the plane moves by more than 4 px."""
    time = np.arange(60)
    angles = np.radians(np.stack([25 * np.sin(time / 9), 15 * np.sin(time / 7), 10 * np.sin(time / 11)], -1))
    scale = torch.from_numpy(1 + 0.2 * np.sin(time / 13))[None]
    shift = torch.from_numpy(np.stack([128 + time / 3, 110 - time / 4, 0 * time], -1))[None]
    moving = pose.from_angles(scale, torch.from_numpy(angles)[None], shift).place(still_head(2).expand(1, 60, -1, -1))
    upright = pose.to_own_head(moving, ones(1, 60))
    assert (upright - upright[:, :1]).abs().max() < 1e-6
    z, w = (torch.view_as_complex(p[:, :, RIGID, :2].contiguous()) for p in (moving, still_head(2)))
    z_mean, w_mean = z.mean(-1, keepdim=True), w.mean(-1, keepdim=True)
    turn = ((z - z_mean).conj() * (w - w_mean)).sum(-1, keepdim=True) / (z - z_mean).abs().square().sum(
        -1, keepdim=True
    )
    flat = turn * (torch.view_as_complex(moving[:, :, MOUTH, :2].contiguous()) - z_mean)
    assert (flat - flat.mean(1, keepdim=True)).abs().square().mean().sqrt() > 4


def test_a_persons_head_is_the_same_however_the_picture_is_turned_scaled_and_shifted():
    landmarks = faces(5, 4)
    head = pose.person_head(landmarks, ones(1, 4))
    torch.testing.assert_close(head.rigid_BR3.mean(1), 0 * ones(1, 3), rtol=0, atol=1e-10)
    assert head.rigid_BR3.square().sum(-1).mean().sqrt().item() == pytest.approx(pose.RIGID_RADIUS_PX)
    moved = posed(0, 0, 25, 0.7).place(landmarks)
    again = pose.person_head(moved, ones(1, 4))
    torch.testing.assert_close(again.rigid_BR3, head.rigid_BR3, rtol=0, atol=1e-7)
    torch.testing.assert_close(again.depth_BN, head.depth_BN, rtol=0, atol=1e-7)


def test_masked_frames_do_not_belong_to_the_person():
    landmarks, mask = faces(6, 5), ones(1, 5)
    mask[:, 3:] = 0
    head, own = pose.person_head(landmarks, mask), pose.person_head(landmarks[:, :3], ones(1, 3))
    torch.testing.assert_close(head.rigid_BR3, own.rigid_BR3, rtol=0, atol=1e-10)
    torch.testing.assert_close(head.depth_BN, own.depth_BN, rtol=0, atol=1e-10)


def test_float32_has_the_digits_that_training_needs():
    landmarks = faces(7, 6)
    precise = pose.to_own_head(landmarks, ones(1, 6))
    quick = pose.to_own_head(landmarks.float(), torch.ones(1, 6))
    torch.testing.assert_close(quick.double(), precise, rtol=0, atol=2e-3)


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
