"""The region of a face: it holds any position of the jaw and shows nothing of the mouth."""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import pose, region
from mytalk.face.landmarks import MOUTH, NOISED, RIGID
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
