"""The canonical crop of a clip, and its landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from mytalk.face import crop
from mytalk.face.landmarks import NOISED, RIGID
from tests.helpers import stub_extract


def test_the_crop_and_its_landmarks_agree():
    """A dot drawn at a landmark of the source lies at the landmark of the crop, at every scale."""
    rng = np.random.default_rng(0)
    for side_px in (40, 150, 700):
        at = rng.uniform(0.35, 0.65, 2) * 1024
        picture = np.zeros((1024, 1024, 3), np.uint8)
        x, y = np.meshgrid(np.arange(1024) + 0.5, np.arange(1024) + 0.5)
        radius = side_px / 20 + 2
        blob = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / radius**2)
        picture[:] = (255 * blob)[..., None]
        matrix = crop.canonical(stub_extract.face_at(*at, side_px)[None], 256)
        got = crop.warp(picture, matrix)[..., 0].astype(float)
        centre_y, centre_x = np.mgrid[:256, :256] + 0.5
        found = np.array([(got * centre_x).sum(), (got * centre_y).sum()]) / got.sum()
        np.testing.assert_allclose(found, crop.apply(at, matrix), atol=0.15)
        np.testing.assert_allclose(crop.apply(crop.apply(at, matrix), crop.invert(matrix)), at, atol=1e-2)


def test_the_crop_holds_a_moving_head_and_ignores_a_stray_frame():
    ring = stub_extract.face_at(32, 32)
    still = np.repeat(ring[None], 50, 0)
    matrix = crop.canonical(still, 256)
    inside = crop.apply(still, matrix)[..., :2]
    rigid_px = np.ptp(still[0, RIGID, 0])  # the ring between the rigid points is no wider than the face
    assert np.ptp(inside[0, RIGID, 0]) == pytest.approx(256 / crop.MARGIN * rigid_px / 32, rel=1e-3)
    stray = still.copy()
    stray[7] += 300
    other_mouth = still.copy()
    other_mouth[:, NOISED] += np.random.default_rng(0).normal(0, 9, (50, len(NOISED), 3)).astype(np.float32)
    assert (crop.canonical(other_mouth, 256) == matrix).all(), "it hangs on no point of the lower face"
    np.testing.assert_allclose(crop.canonical(stray, 256), matrix, rtol=1e-6)
    moving = still + np.linspace(-40, 40, 50)[:, None, None]
    inside = crop.apply(moving, crop.canonical(moving, 256))[..., :2]
    assert ((inside >= 0) & (inside <= 256)).all(axis=(1, 2)).mean() >= 0.85
