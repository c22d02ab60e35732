"""THEval's measures by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import measure_videos
from eval.metrics.landmarks import theval
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from mytalk.face.landmarks import MOUTH, SAMPLES_PER_FRAME
from tests.helpers.faces import WAVE, still

FRAMES = len(WAVE)


def gaping(px_T: np.ndarray) -> np.ndarray:
    """A still face with its eight inner-lip pairs so far apart in y, (T, 478, 2)."""
    face = still(len(px_T))[..., :2].astype(float)
    for upper, lower in zip(theval.UPPER_INNER, theval.LOWER_INNER):
        face[:, lower, 1] = face[:, upper, 1] + px_T
    return face


def loud(gain_T: np.ndarray) -> np.ndarray:
    """A square wave with this root mean square in each frame."""
    signs = np.where(np.arange(SAMPLES_PER_FRAME) % 2, 1.0, -1.0)
    return np.repeat(gain_T, SAMPLES_PER_FRAME) * np.tile(signs, len(gain_T))


def test_an_opening_that_is_the_loudness_differs_by_nothing_and_its_opposite_by_what_is_computed_by_hand() -> None:
    ramp = np.arange(1, 41) / 100.0
    loudness = np.sqrt(np.square(loud(ramp).reshape(-1, 800)).mean(1))
    at_frames = np.interp(np.arange(40) / 25, np.arange(len(loudness)) * 0.05, loudness)
    speaking = np.ones(40, bool)
    assert theval.lip_sync(gaping(100 * at_frames), loud(ramp), speaking) == pytest.approx(0, abs=1e-6)
    scaled = (at_frames - at_frames.min()) / np.ptp(at_frames)
    expected = np.abs(1 - 2 * scaled).mean()
    assert theval.lip_sync(gaping(50 - 100 * at_frames), loud(ramp), speaking) == pytest.approx(expected)


def test_frames_without_speech_do_not_count_and_a_clip_with_little_speech_is_refused() -> None:
    ramp = np.arange(1, 41) / 100.0
    speaking = np.arange(40) < 20
    plain = theval.lip_sync(gaping(WAVE), loud(ramp), speaking)
    shouting = np.where(speaking, ramp, 30.0)
    shouting[20:22] = ramp[20:22]  # the loudness of a frame lies between two stretches of 50 ms
    wide = np.where(speaking, WAVE, 90.0)
    assert theval.lip_sync(gaping(wide), loud(shouting), speaking) == pytest.approx(plain)
    with pytest.raises(Miss, match="8 % of the frames"):
        theval.lip_sync(gaping(WAVE), loud(ramp), np.arange(40) < 3)


def test_stability_is_the_median_deviation_in_silences_that_last() -> None:
    px_T = np.full(40, 30.0)
    px_T[10:18] = [1, 1, 1, 1, 2, 2, 2, 6]  # mean 2: deviations 1 1 1 1 0 0 0 4, median 1
    speaking = np.ones(40, bool)
    speaking[10:18] = False
    speaking[25:32] = False  # 7 frames: a pause
    eyes = np.hypot(*(still(1)[0, 33, :2] - still(1)[0, 263, :2]))
    assert theval.silent_stability(gaping(px_T), speaking) == pytest.approx(1 / eyes)
    with pytest.raises(Miss) as raised:
        theval.silent_stability(gaping(px_T), np.ones(40, bool))
    assert raised.value.reason == theval.NO_SILENCE


def test_dynamics_are_the_mean_over_all_pairs_of_the_deviation_of_their_distance() -> None:
    face = np.random.default_rng(0).normal(100, 20, (12, 478, 2))
    sizes = [max(np.ptp(frame[:, 0]), np.ptp(frame[:, 1])) for frame in face]
    pairs = list(itertools.combinations(MOUTH, 2))
    spreads = [np.std([np.hypot(*(frame[a] - frame[b])) for frame in face]) for a, b in pairs]
    assert len(pairs) == 780
    assert theval.lip_dynamics(face) == pytest.approx(np.mean(spreads) * 256 / np.mean(sizes))


def test_brows_that_rise_by_a_step_each_frame_have_that_step() -> None:
    face = still(10)[..., :2].astype(float)
    for eye, brow in zip(theval.EYES, theval.BROWS):  # the brow straight above the eye, 2 px higher each frame
        face[:, brow] = (
            face[:, eye].mean(1, keepdims=True) - np.stack([0 * np.arange(10), 10 + 2 * np.arange(10)], -1)[:, None]
        )
    between = np.hypot(*(face[0, theval.EYES[0]].mean(0) - face[0, theval.EYES[1]].mean(0)))
    assert theval.eyebrow_dynamics(face) == pytest.approx(2 / between)


@given(scale=st.floats(0.2, 5), x=st.floats(-100, 100), y=st.floats(-100, 100))
def test_the_size_of_the_picture_and_the_place_in_it_are_no_matter(scale, x, y) -> None:
    face, speaking = gaping(WAVE), np.arange(FRAMES) < 20
    audio_S = loud(WAVE / 100)
    moved = face * scale + [x, y]
    assert theval.lip_sync(moved, audio_S, speaking) == pytest.approx(
        theval.lip_sync(face, audio_S, speaking), rel=1e-6
    )
    for measure in (lambda f: theval.silent_stability(f, speaking), theval.lip_dynamics, theval.eyebrow_dynamics):
        assert measure(moved) == pytest.approx(measure(face), rel=1e-6, abs=1e-9)


def test_a_row_is_judged_with_the_detector_of_speech_that_it_is_given() -> None:
    class Half:
        name = "a stand-in"

        def speech_T(self, audio_S: np.ndarray) -> np.ndarray:
            return (np.arange(FRAMES) < 20).astype(float)

    frames, face = np.zeros((FRAMES, 256, 256, 3), np.uint8), still(FRAMES)
    face[..., :2] = gaping(WAVE)
    audio_S = loud(WAVE / 100).astype(np.float32)
    truth, video = Truth(frames, face, audio_S, face), DetectedVideo(frames, face, np.ones(FRAMES, bool))
    values = measure_videos({"row": Comparison(truth, video, Evaluators(speech=Half()))})[0]["row"]
    assert values["theval_silent_stability"] == pytest.approx(
        theval.silent_stability(face[..., :2].astype(float), np.arange(FRAMES) < 20)
    )
    assert set(theval.METRICS) <= set(values)
    assert set(theval.PUBLISHED) == set(theval.METRICS)
