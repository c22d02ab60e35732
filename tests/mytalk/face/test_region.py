"""The region of a face: it holds any position of the jaw and shows nothing of the mouth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from mytalk.dub import inputs
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.face import pose, region
from mytalk.face.landmarks import COUNT, MOUTH, NOISED, RIGID
from mytalk.face.region import JAW
from tests.helpers.appearance_models import filled, talking


def test_regions_hold_the_lower_face_with_any_jaw():
    """Lips, and the jaw where it has fallen by a fifth of the face below the nose, as the widest mouths do."""
    landmarks = talking(gain_px=18)
    made = region.regions(landmarks)
    fall_px = 0.2 * (landmarks[0, 152, 1] - landmarks[0, 2, 1])
    for polygon_V2, face_N2 in zip(made, landmarks[..., :2]):
        mask = filled(polygon_V2, 256, 2)
        for points in (face_N2[MOUTH], face_N2[JAW[2:-2]], face_N2[JAW[4:-4]] + [0, fall_px]):
            at = points.round().astype(int)
            assert mask[at[:, 1], at[:, 0]].all()
        top = filled(polygon_V2, 256).nonzero()[0].min()
        assert top > face_N2[2, 1], "begins below the nose"


def test_a_region_tells_nothing_of_its_frames_mouth():
    """The lower faces of two frames change places, in the head's frame: no region changes."""
    landmarks = torch.from_numpy(talking())[None].double()
    head = pose.person_head(landmarks, torch.ones(landmarks.shape[:2], dtype=torch.float64))
    posed = pose.fit(landmarks, head.rigid_BR3)
    upright = posed.to_head(landmarks, head.depth_BN)
    order = torch.randperm(landmarks.shape[1], generator=torch.Generator().manual_seed(0))
    upright[:, :, NOISED] = upright[:, order][:, :, NOISED]
    other = posed.to_crop(upright, head.depth_BN)
    other[..., 2] = landmarks[..., 2]
    other = other[0].numpy()
    assert np.abs(other - landmarks[0].numpy()).max() > 5
    np.testing.assert_allclose(other[:, RIGID], landmarks[0, :, RIGID].numpy(), atol=1e-9)
    made = region.regions(landmarks[0].numpy())
    np.testing.assert_allclose(region.regions(other), made, atol=1e-3)
    assert np.ptp(made, axis=0).max() > 0.5, "but it moves with the head"


def turned(yaw_T: np.ndarray) -> np.ndarray:
    """A mean head that is turned by these degrees, frame by frame: (T, 478, 3)."""
    upright = torch.zeros(1, len(yaw_T), COUNT, 3, dtype=torch.float64)
    upright[:, :, RIGID] = pose.MEAN_RIGID_R3
    angles_T3 = torch.zeros(len(yaw_T), 3, dtype=torch.float64)
    angles_T3[:, 0] = torch.from_numpy(np.radians(yaw_T))
    shift_T3 = torch.tensor([128.0, 128.0, 0.0], dtype=torch.float64).expand(len(yaw_T), 3)
    posed = pose.from_angles(torch.ones(1, len(yaw_T), dtype=torch.float64), angles_T3[None], shift_T3[None])
    return posed.place(upright)[0].numpy()


def test_a_face_that_turns_away_fades_and_is_passed_through():
    """1 up to 35 degrees, 0 from 45, either way, and half at 40; a head that jitters at the border does not flash."""
    for yaw, expected in ((0, 1), (34.9, 1), (40, 0.5), (-40, 0.5), (45.1, 0), (-60, 0)):
        made = region.strengths(turned(np.full(9, float(yaw))), 25.0)
        np.testing.assert_allclose(made, expected, atol=1e-4)
    jittering = region.strengths(turned(np.where(np.arange(50) % 2, 36.0, 44.0)), 25.0)
    assert np.abs(np.diff(jittering)).max() < 0.1, "0.8 unsmoothed"
    turning = region.strengths(turned(np.linspace(0, 60, 60)), 25.0)
    assert (np.diff(turning) <= 1e-6).all()
    assert turning[0] == 1
    assert turning[-1] == 0


def test_regions_of_a_turned_head_hold_the_mouth():
    """A head as round as a real one, 44 degrees to either side: the jaw's far end is hidden behind the mouth."""
    landmarks = torch.from_numpy(talking(frames=4))[None].double()
    head = pose.person_head(landmarks, torch.ones(landmarks.shape[:2], dtype=torch.float64))
    posed = pose.fit(landmarks, head.rigid_BR3)
    upright_14N2 = posed.to_head(landmarks, head.depth_BN)
    depth_14N = 60 * (upright_14N2[..., 0] / 80) ** 2
    depth_14N[:, :, RIGID] = head.depth_BN[:, None, RIGID]
    upright_14N3 = torch.cat([upright_14N2, depth_14N[..., None]], dim=-1)
    for yaw in (-44, 44):
        angles = posed.angles()
        angles[..., 0] = np.radians(yaw)
        clip = pose.from_angles(posed.scale_BT, angles, posed.shift_BT3).place(upright_14N3)[0].numpy()
        for polygon_V2, face_N2 in zip(region.regions(clip), clip[..., :2]):
            at = face_N2[MOUTH].round().astype(int)
            assert filled(polygon_V2, 256)[at[:, 1], at[:, 0]].all(), yaw


def test_frames_of_a_face_that_is_turned_away_are_told(capsys):
    """Their number in one line; of a head that looks ahead nothing."""
    for yaws, said in ((np.full(20, 60.0), "in 20 of 20 frames the face is turned"), (np.zeros(20), "")):
        span = FaceSpan(0, 20, np.zeros((20, 2, 3)), turned(yaws))
        inputs.say_turned(Path("actor.mp4"), [FirstPass(Path("actor.mp4"), Fraction(25), 256, 256, 20, [span])])
        told = capsys.readouterr().out
        assert said in told
        assert bool(told) == bool(said)
