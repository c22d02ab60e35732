"""Metrics, intervals, gate and the frozen mouth against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from eval import gate, intervals, metrics
from eval.methods import frozen_mouth, head_scale, swapped, without_mouth
from mytalk.face.landmarks import INNER_LIP_PAIRS, MOUTH, NOISED, opening
from tests.helpers import talkers

STILL_HEAD = np.ones(30)


def face(frames: int = 30) -> np.ndarray:
    """A still face, (T, 478, 2)."""
    return np.repeat(talkers.base_face(np.random.default_rng(0))[None], frames, axis=0)


def opened(openings_T: np.ndarray) -> np.ndarray:
    """A still face whose mouth opens as told, in px."""
    landmarks = face(len(openings_T))
    for upper, lower in INNER_LIP_PAIRS:
        landmarks[:, lower] = landmarks[:, upper] + np.stack([np.zeros(len(openings_T)), openings_T], axis=-1)
    return landmarks


def turning(landmarks_TN2: np.ndarray) -> np.ndarray:
    """The same head, turning, nearing and moving: a similarity per frame."""
    frames = np.arange(len(landmarks_TN2))
    turn = (1 + 0.3 * np.sin(frames / 5)) * np.exp(0.4j * np.cos(frames / 7))
    moved = (landmarks_TN2[..., 0] + 1j * landmarks_TN2[..., 1]) * turn[:, None] + (3 + 2j) * frames[:, None]
    return np.stack([moved.real, moved.imag], axis=-1)


WAVE = 8 + 4 * np.sin(np.arange(30) / 3)


def test_lmd_of_landmarks_shifted_by_3_and_4_px_is_5() -> None:
    assert metrics.lmd_px(face(), face() + np.array([3.0, 4.0])) == pytest.approx(5)


def test_lmd_counts_the_lips_alone() -> None:
    moved = face() + 50.0
    moved[:, MOUTH] = face()[:, MOUTH]
    assert metrics.lmd_px(face(), moved) == 0


def test_a_mouth_that_opens_twice_as_far_correlates_fully_and_errs_by_the_opening() -> None:
    found = metrics.measure(opened(WAVE), opened(2 * WAVE), STILL_HEAD)
    assert found["opening_correlation"] == pytest.approx(1)
    assert found["opening_error_px"] == pytest.approx(WAVE.mean(), rel=1e-5)
    height = np.linalg.norm(face()[0, 10] - face()[0, 152])
    assert found["opening_error_pct"] == pytest.approx(100 * WAVE.mean() / height, rel=1e-5)


def test_a_mouth_that_opens_where_the_true_one_closes_correlates_at_minus_1() -> None:
    assert metrics.opening_correlation(WAVE, 20 - WAVE) == pytest.approx(-1)


def test_correlation_agrees_with_scipy() -> None:
    a, b = np.random.default_rng(1).normal(0, 3, (2, 100))
    assert metrics.opening_correlation(a, b) == pytest.approx(scipy.stats.pearsonr(a, b)[0])


def test_a_still_mouth_correlates_at_0_and_a_still_truth_has_no_correlation() -> None:
    rounding = 5 + 1e-3 * np.sin(np.arange(30) / 3)  # follows the truth, but nobody could see it
    assert metrics.opening_correlation(WAVE, np.full(30, 5.0)) == 0
    assert metrics.opening_correlation(WAVE, rounding) == 0
    with pytest.raises(metrics.StillTruth):
        metrics.opening_correlation(rounding, WAVE)


def test_a_head_that_nears_the_camera_opens_no_mouth() -> None:
    landmarks = turning(opened(np.full(30, 8.0)))
    assert opening(landmarks).std() > 1
    assert metrics.openings(landmarks, head_scale(landmarks)).std() < 1e-4


def test_the_frozen_mouth_is_constant_on_a_moving_head_and_keeps_the_upper_face() -> None:
    truth = turning(opened(WAVE))
    frozen = frozen_mouth(truth)
    scale = head_scale(truth)
    assert metrics.openings(truth, scale).std() > 1
    assert metrics.openings(frozen, scale).std() < 1e-4
    assert np.array_equal(np.delete(frozen, NOISED, axis=1), np.delete(truth, NOISED, axis=1))
    assert metrics.measure(truth, frozen, scale)["opening_correlation"] == 0


def test_the_frozen_mouth_of_a_still_clip_is_the_clip() -> None:
    assert np.allclose(frozen_mouth(turning(face())), turning(face()))


def test_the_head_scale_sees_no_mouth() -> None:
    truth = turning(opened(WAVE))
    assert np.array_equal(head_scale(truth), head_scale(without_mouth(truth)))


def test_landmarks_of_another_length_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be measured"):
        metrics.measure(face(30), face(29), STILL_HEAD)
    with pytest.raises(ValueError, match="not finite"):
        metrics.measure(opened(WAVE), face() * np.nan, STILL_HEAD)


def test_swapped_speech_is_cut_or_repeated_and_never_the_clips_own() -> None:
    own = np.arange(5, dtype=np.float32)
    assert swapped(own, np.array([7, 8])).tolist() == [7, 8, 7, 8, 7]
    assert swapped(own, np.arange(9, 0, -1)).tolist() == [9, 8, 7, 6, 5]
    assert swapped(own, own.copy()) is None
    assert swapped(own, np.arange(9)) is None, "the same sound, only longer"


def test_interval_by_hand_and_by_scipy() -> None:
    mean, ci95 = intervals.mean_and_ci95([1.0, 2.0, 3.0])
    assert mean == 2
    assert ci95 == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5])  # t(0.975, 2), s = 1
    values = np.random.default_rng(2).normal(size=17).tolist()
    expected = scipy.stats.t.interval(0.95, 16, np.mean(values), scipy.stats.sem(values))
    assert intervals.mean_and_ci95(values)[1] == pytest.approx(list(expected))


def test_people_weigh_the_same_however_many_clips_they_have() -> None:
    score = intervals.over_people([("a", 0.0), *[("b", 1.0)] * 9], total=3)
    assert score["mean"] == 0.5
    assert (score["n"], score["total"], score["clips"]) == (2, 3, 10)


def test_one_person_gives_no_interval() -> None:
    assert intervals.over_people([("a", 0.25), ("a", 0.75)], total=1)["ci95"] is None


@pytest.mark.parametrize(
    ("model", "shuffled", "passed"),
    [([0.5, 0.7], [0.1, 0.4], True), ([0.5, 0.7], [0.1, 0.5], False), (None, [0.1, 0.4], False)],
    ids=["apart", "touching", "one person"],
)
def test_the_gate_wants_intervals_apart(model, shuffled, passed) -> None:
    ends = {"mytalk": model, "shuffled_audio": shuffled, "frozen_mouth": [0.0, 0.0]}
    methods = {name: {gate.METRIC: {"mean": 0.5, "ci95": ci95}} for name, ci95 in ends.items()}
    assert gate.judge(methods)["passed"] is passed
    assert ("PASS" if passed else "FAIL") in gate.in_words(methods)
