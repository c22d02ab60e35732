"""Patches: a crop made of a patch is the crop of the whole picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data_pipeline.extract.patches import cut_out, shrinking
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX
from tests.helpers.stub_extract import face_at


def scenery(width: int, height: int) -> np.ndarray:
    """Structures in grey, and slower ones in colour, as cameras give them."""
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.normal(0, 400, (height, width)).astype(np.float32), (0, 0), 6)
    colours = cv2.GaussianBlur(rng.normal(0, 1500, (height, width, 3)).astype(np.float32), (0, 0), 30)
    return np.clip(128 + grey[..., None] + colours, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "at", "side_px"),
    [
        ((640, 360), (300.3, 170.8), 60),
        ((641, 361), (290, 180), 130),
        ((1280, 719), (800, 400), 300),  # read as it is, reduced by the crop
        ((1920, 1080), (900, 500), 400),  # reduced by 2
        ((1920, 1080), (900, 500), 530),  # reduced by 3
        ((640, 360), (20, 30), 90),  # in a corner: beyond the border, its colour
    ],
)
def test_a_crop_of_the_patch_is_the_crop_of_the_picture(size, at, side_px):
    picture = scenery(*size)
    landmarks_TN3 = face_at(*at, side_px)[None]
    crop_23 = crop.canonical(landmarks_TN3)
    patch = cut_out(picture, np.array([*at, side_px]), shrinking(side_px))
    got, expected = patch.cropped(crop_23, CROP_PX).astype(int), crop.warp(picture, crop_23).astype(int)
    assert np.abs(got - expected).mean() < 2.5  # grey levels: rounding in YUV
    assert np.quantile(np.abs(got - expected), 0.999) < 16
    placed_N3 = patch.placed(landmarks_TN3[0])
    scale = crop_23[0, 0]
    shrunk = placed_N3[:, :2] / patch.scale_2 + patch.corner_2
    np.testing.assert_allclose(shrunk, landmarks_TN3[0, :, :2], atol=0.01 / scale)


def test_a_patch_is_small_however_large_the_face():
    picture = scenery(3840, 2160)
    for side_px in (100, 341, 342, 600, 1100, 2000):
        patch = cut_out(picture, np.array([1900, 1000, side_px]), shrinking(side_px))
        assert patch.planes.nbytes < 1.2e6


@pytest.mark.parametrize("at", [(-500, -500), (0, 0), (700, 400), (9000, 50)])
def test_a_face_beyond_the_picture_has_a_patch_all_the_same(at):
    patch = cut_out(scenery(641, 361), np.array([*at, 80.0]), 1)
    assert patch.rgb().size > 0
