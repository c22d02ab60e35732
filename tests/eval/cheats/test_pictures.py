"""Cheats made from pictures: what they change, and that they change nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from eval.cheats import mouth, pictures
from mytalk.face.landmarks import opening
from tests.helpers import talkers


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Frames and landmarks of a talker, 12 frames."""
    random = np.random.default_rng(0)
    landmarks_TN3, _ = talkers.clip(random, talkers.outlined(talkers.base_face(random)), 14.0, 12)
    return talkers.pictures(landmarks_TN3, np.random.default_rng(1)), landmarks_TN3


@pytest.mark.parametrize(("frames", "expected"), [(0, [0, 1, 2, 3]), (2, [0, 0, 0, 1]), (-1, [1, 2, 3, 3])])
def test_a_late_picture_shows_what_was_heard_before(frames, expected) -> None:
    numbered = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert pictures.late(numbered, frames)[:, 0, 0, 0].tolist() == expected


def test_a_static_picture_never_changes(clip) -> None:
    made = pictures.static(clip[0])
    assert made.shape == clip[0].shape
    assert (made == clip[0][6]).all()


def test_noise_has_the_sigma_asked_for_and_a_blur_keeps_the_mean(clip) -> None:
    grey = np.full((3, 64, 64, 3), 128, np.uint8)
    noise = pictures.noisy(grey, 8.0, np.random.default_rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(8, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert pictures.blurred(clip[0], 2).mean() == pytest.approx(clip[0].mean(), rel=0.01)
    assert (
        np.abs(np.diff(pictures.blurred(clip[0], 2).astype(int), axis=2)).mean()
        < np.abs(np.diff(clip[0].astype(int), axis=2)).mean()
    )


def test_a_mouth_trembles_and_the_rest_stands(clip) -> None:
    frames_THW3, landmarks_TN3 = clip
    made = pictures.trembling(frames_THW3, landmarks_TN3, 3.0, np.random.default_rng(0))
    assert (made[:, :60] == frames_THW3[:, :60]).all(), "the forehead"
    assert (made != frames_THW3).any()
    assert (pictures.trembling(frames_THW3, landmarks_TN3, 0.0, np.random.default_rng(0)) == frames_THW3).all()


def test_a_warp_moves_the_lips_where_it_should_and_leaves_the_rest() -> None:
    """Discs drawn on the lips' middle are found again where the wanted opening has them."""
    random = np.random.default_rng(3)
    landmarks_TN3, _ = talkers.clip(random, talkers.outlined(talkers.base_face(random)), 14.0, 4)
    y, x = np.mgrid[:256, :256]
    own_T = opening(landmarks_TN3)

    def dotted(point: int) -> np.ndarray:
        at_T2 = landmarks_TN3[:, point, :2]
        dots = [np.exp(-0.5 * ((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2.0**2) for at in at_T2]
        return np.repeat((255 * np.stack(dots)).astype(np.uint8)[..., None], 3, axis=-1)

    def height(frames_THW3: np.ndarray) -> np.ndarray:
        weight = frames_THW3[..., 0].astype(float)
        return (weight * y).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))

    wanted_T = own_T + 6
    lower = height(mouth.reopened(dotted(14), landmarks_TN3, wanted_T)) - height(dotted(14))
    upper = height(mouth.reopened(dotted(13), landmarks_TN3, wanted_T)) - height(dotted(13))
    assert np.allclose(lower - upper, 6, atol=2), "a dot is stretched as well, so its middle goes a little less far"
    assert (upper < 0).all()
    assert (lower > 2 * np.abs(upper)).all(), "the lower lip takes most of the way"
    frames_THW3 = random.integers(0, 255, (4, 256, 256, 3)).astype(np.uint8)
    made = mouth.reopened(frames_THW3, landmarks_TN3, wanted_T)
    assert (made[:, :70] == frames_THW3[:, :70]).all()
    assert (made != frames_THW3).any()
