"""The lip metrics against closed forms: of generated landmarks, and of landmarks detected again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from eval.metrics import LANDMARK_METRICS, lips, measure
from eval.metrics.lips import LipPair
from eval.metrics.metric import Comparison, DetectedVideo, Miss, Truth
from eval.rows.videos import filled
from mytalk.face.landmarks import MOUTH, opening
from tests.helpers.faces import WAVE, opened, similarity, still, turning

TRUTH = similarity(opened(WAVE), 1.01 * np.exp(0.05j), 1 + 2j)


def pair(truth_TN3: np.ndarray, result_TN3: np.ndarray) -> LipPair:
    """Truth and row on a head that does not move."""
    return LipPair(truth_TN3, result_TN3)


def detected(truth_TN3: np.ndarray, result_TN3: np.ndarray, detected_T: np.ndarray | None = None) -> dict[str, float]:
    """The lip metrics of a row with these landmarks."""
    detected_T = np.ones(len(result_TN3), bool) if detected_T is None else detected_T
    no_frames = np.zeros((len(truth_TN3), 0, 0, 3), np.uint8)
    truth = Truth(no_frames, truth_TN3, np.zeros(0), truth_TN3)
    return measure(lips.METRICS, Comparison(truth, DetectedVideo(no_frames, result_TN3, detected_T)))


def test_lmd_of_landmarks_shifted_by_3_and_4_px_is_5() -> None:
    assert lips.lmd_px(pair(still(30), still(30) + np.array([3.0, 4.0, 12.0]))) == pytest.approx(5)


def test_lmd_counts_the_lips_alone() -> None:
    moved = still(30) + 50.0
    moved[:, MOUTH] = still(30)[:, MOUTH]
    assert lips.lmd_px(pair(still(30), moved)) == 0


def test_a_mouth_that_opens_twice_as_far_correlates_fully_and_errs_by_the_opening() -> None:
    scores = measure(LANDMARK_METRICS, pair(opened(WAVE), opened(2 * WAVE)))
    assert scores["opening_correlation"] == pytest.approx(1)
    assert scores["opening_error_px"] == pytest.approx(WAVE.mean(), rel=1e-5)
    height = np.linalg.norm((still(1)[0, 10] - still(1)[0, 152])[:2])
    assert scores["opening_error_pct"] == pytest.approx(100 * WAVE.mean() / height, rel=1e-5)


def test_a_mouth_that_opens_where_the_true_one_closes_correlates_at_minus_1() -> None:
    assert lips.correlation(WAVE, 20 - WAVE) == pytest.approx(-1)


def test_correlation_agrees_with_scipy() -> None:
    a, b = np.random.default_rng(1).normal(0, 3, (2, 100))
    assert lips.correlation(a, b) == pytest.approx(scipy.stats.pearsonr(a, b)[0])


def test_a_still_mouth_correlates_at_0_and_a_still_truth_has_no_correlation() -> None:
    rounding = 5 + 1e-3 * np.sin(np.arange(40) / 3)  # follows the truth, but nobody could see it
    assert lips.correlation(WAVE, np.full(40, 5.0)) == 0
    assert lips.correlation(WAVE, rounding) == 0
    with pytest.raises(Miss, match="varies by less"):
        lips.correlation(rounding, WAVE)


def test_a_head_that_nears_the_camera_opens_no_mouth() -> None:
    landmarks = turning(opened(np.full(30, 8.0)))
    assert opening(landmarks).std() > 1
    assert lips.aligned(landmarks, landmarks).openings()[0].std() < 1e-4


def test_landmarks_of_another_length_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be measured"):
        pair(still(30), still(29))
    with pytest.raises(ValueError, match="not finite"):
        pair(opened(WAVE), still(40) * np.nan)


def test_moving_turning_and_scaling_the_row_changes_no_lip_metric() -> None:
    plain = detected(TRUTH, opened(2 * WAVE))
    moved = detected(TRUTH, similarity(opened(2 * WAVE), 1.3 * np.exp(0.4j), 20 - 30j))
    yawed = detected(TRUTH, turning(opened(2 * WAVE)))
    assert moved == pytest.approx(plain, rel=1e-5)
    assert yawed == pytest.approx(plain, rel=1e-5)
    assert plain["lmd_px"] > 0.1


def test_turning_and_moving_the_truth_changes_no_lip_metric() -> None:
    still_head, turned = (
        detected(similarity(opened(WAVE), np.exp(turn), 9 + 5j), opened(WAVE + 3)) for turn in (0j, 0.2j)
    )
    assert still_head == pytest.approx(turned, rel=1e-5)
    assert still_head["opening_error_px"] == pytest.approx(3, rel=1e-4)


def test_a_mouth_moved_on_its_face_by_3_and_4_px_is_5_px_away_wherever_the_head_is() -> None:
    moved = opened(WAVE)
    moved[:, MOUTH, :2] += [3.0, 4.0]
    scores = detected(opened(WAVE), similarity(moved, 0.5 * np.exp(1j), 7))
    assert scores["lmd_px"] == pytest.approx(5, rel=1e-4)
    assert scores["opening_error_px"] == pytest.approx(0, abs=1e-3)
    assert scores["opening_correlation"] == pytest.approx(1, abs=1e-4)


def test_px_are_px_at_256_of_the_truths_mean_head() -> None:
    """A head of half the size opens its mouth half as far."""
    half = detected(opened(WAVE) / 2, opened(WAVE + 3))
    assert half["opening_error_px"] == pytest.approx(1.5, rel=1e-4)


def test_frames_without_a_face_are_left_out_of_the_lips_and_filled_for_the_others() -> None:
    detected_T = np.ones(40, bool)
    detected_T[[0, 10, 11, 12, 39]] = False
    landmarks = np.where(detected_T[:, None, None], opened(WAVE), 0.0)
    complete = filled(landmarks, detected_T)
    assert np.array_equal(complete[detected_T], opened(WAVE)[detected_T])
    assert np.array_equal(complete[0], complete[1])
    assert np.array_equal(complete[39], complete[38])
    assert np.allclose(complete[11], (complete[9] + complete[13]) / 2)
    assert np.allclose(complete[10], (3 * complete[9] + complete[13]) / 4)
    scores = detected(opened(WAVE), complete, detected_T)
    assert scores["lmd_px"] == pytest.approx(0, abs=1e-6), "the filled frames do not count"


def test_a_still_row_correlates_at_0_and_a_still_truth_is_refused() -> None:
    closed = opened(np.full(40, 5.0))
    assert detected(TRUTH, closed)["opening_correlation"] == 0
    with pytest.raises(Miss, match="varies by less"):
        detected(closed, TRUTH)
