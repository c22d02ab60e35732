"""Smoothing: jitter of a still face is halved and more, fast lips and a turning head are kept, without lag."""

from __future__ import annotations

import numpy as np
import pytest

from mytalk.face.landmarks import MOUTH, RIGID, opening
from mytalk.face.smooth import smooth
from tests.helpers import talkers

JITTER_PX = 0.4


def face() -> np.ndarray:
    return talkers.base_face(np.random.default_rng(0))


def jitter(landmarks_TN3: np.ndarray) -> float:
    """Of x and y, px: a second difference of white noise has six times its variance."""
    return float(np.diff(landmarks_TN3[..., :2], 2, axis=0).std() / 6**0.5)


def detected(landmarks_TN3: np.ndarray, seed: int = 1) -> np.ndarray:
    return landmarks_TN3 + np.random.default_rng(seed).normal(0, JITTER_PX, landmarks_TN3.shape)


def with_opening(opening_T: np.ndarray) -> np.ndarray:
    landmarks = np.repeat(face()[None], len(opening_T), axis=0)
    landmarks[:, talkers.LOWER, 1] += opening_T[:, None]
    return landmarks


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_the_jitter_of_a_still_face_is_halved_and_more(fps):
    raw = detected(np.repeat(face()[None], 3 * fps, axis=0))
    steady = smooth(raw, fps)
    for part in (MOUTH, RIGID):
        assert jitter(steady[:, part]) < 0.5 * jitter(raw[:, part])
    assert np.abs(steady.mean(0) - raw.mean(0)).max() < 0.1


def test_a_mouth_that_closes_for_one_frame_still_closes_and_on_that_frame():
    truth_T = np.full(75, 12.0)
    truth_T[20::10] = 0.0
    raw = detected(with_opening(truth_T))
    (raw_T, steady_T) = (opening(landmarks) for landmarks in (raw, smooth(raw)))
    assert np.abs(steady_T - raw_T)[20::10].max() < 1.0
    assert ((raw_T - steady_T)[5:-5].std() < 1.0).all()


def test_fast_speech_keeps_its_amplitude_and_place():
    """Four cycles a second: from open to closed within three frames."""
    truth_T = 6 + 6 * np.sin(np.arange(100) * 2 * np.pi * 4 / 25)
    steady_T = opening(smooth(detected(with_opening(truth_T))))
    speed, steady_speed = np.diff(truth_T), np.diff(steady_T)
    assert 0.95 < speed @ steady_speed / (speed @ speed) < 1.05
    lags = [np.corrcoef(truth_T[3:-3], np.roll(steady_T, -lag)[3:-3])[0, 1] for lag in (-1, 0, 1)]
    assert np.argmax(lags) == 1


def test_a_turning_head_is_followed():
    """30 degrees within a second, there and back, with a still mouth."""
    yaw_T = np.radians(15 * np.sin(np.arange(75) * 2 * np.pi / 50))
    truth = talkers.turned(np.repeat(face()[None], 75, axis=0), yaw_T)
    steady = smooth(detected(truth))
    error = (steady - truth)[..., :2]
    assert np.sqrt(np.square(error).mean()) < 0.5 * JITTER_PX
    assert np.abs(error[3:-3].mean(axis=(1, 2))).max() < 0.3, "no lag"


def test_without_jitter_nothing_changes_and_short_shots_are_left():
    truth = talkers.turned(np.repeat(face()[None], 40, axis=0), np.radians(np.linspace(-10, 10, 40)))
    np.testing.assert_allclose(smooth(truth)[..., :2], truth[..., :2], atol=0.02)
    for frames in (0, 1, 2, 3, 4):
        short = smooth(truth[:frames])
        assert short.shape == (frames, 478, 3)
        assert short.dtype == np.float32
        np.testing.assert_allclose(short[..., :2], truth[:frames, :, :2], atol=0.02)


def test_time_reversed_it_does_the_same():
    raw = detected(with_opening(6 + 5 * np.sin(np.arange(60))))
    np.testing.assert_allclose(smooth(raw[::-1])[::-1], smooth(raw), atol=1e-4)


def test_an_upside_down_head_is_smoothed_like_an_upright_one():
    """Its roll passes half a turn, where angles jump by a whole one."""
    truth = talkers.turned(np.repeat(face()[None], 60, axis=0), np.radians(10 * np.sin(np.arange(60) / 6)))
    tilt_T1 = np.radians(2 * np.sin(np.arange(60) / 5))[:, None]
    x, y = truth[..., 0] - 128, truth[..., 1] - 120
    tilted = np.stack([np.cos(tilt_T1) * x - np.sin(tilt_T1) * y, np.sin(tilt_T1) * x + np.cos(tilt_T1) * y], -1)
    upright = np.concatenate([tilted + np.array([128, 120]), truth[..., 2:]], axis=-1)
    turned = np.concatenate([np.array([128, 120]) - tilted, truth[..., 2:]], axis=-1)
    np.testing.assert_allclose(256 - smooth(turned)[..., 0], smooth(upright)[..., 0], atol=0.05)
    np.testing.assert_allclose(240 - smooth(turned)[..., 1], smooth(upright)[..., 1], atol=0.05)
