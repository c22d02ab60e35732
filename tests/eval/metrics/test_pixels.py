"""PSNR and SSIM against their formulas, and the box they look at."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import pixels
from eval.metrics.metric import Comparison, DetectedVideo, Miss, Truth
from mytalk.face.landmarks import MOUTH
from tests.helpers.faces import WAVE, opened


def psnr_by_hand(truth, result) -> float:
    error = ((truth.astype(float) - result.astype(float)) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())


def ssim_by_hand(truth, result) -> float:
    """Wang et al. 2004, equation 13, window by window; the border is reflected."""
    at = np.arange(11) - 5
    bell = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for t, c in np.ndindex(len(truth), 3):
        a, b = (np.pad(side[t, ..., c].astype(float), 5, mode="reflect") for side in (truth, result))
        for y, x in np.ndindex(a.shape[0] - 10, a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
            cov = (window * p * q).sum() - mp * mq
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_psnr_and_ssim_agree_with_their_formulas_and_see_the_box_alone() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    result = np.clip(truth.astype(int) + random.integers(-40, 41, truth.shape), 0, 255).astype(np.uint8)
    box = (slice(5, 22), slice(10, 24))
    cut = np.s_[:, 5:22, 10:24]
    assert pixels.psnr_db(truth, result, box) == pytest.approx(psnr_by_hand(truth[cut], result[cut]), rel=1e-5)
    assert pixels.ssim(truth, result, box) == pytest.approx(ssim_by_hand(truth[cut], result[cut]), rel=1e-4)
    outside = result.copy()
    outside[:, 30:] = 0
    assert pixels.psnr_db(truth, outside, box) == pixels.psnr_db(truth, result, box)
    assert pixels.psnr_db(truth, truth, box) == 100
    assert pixels.ssim(truth, truth, box) == pytest.approx(1)


def test_ssim_is_the_mean_over_frames_and_may_be_given_what_is_the_truths_alone() -> None:
    random = np.random.default_rng(1)
    truth, result = random.integers(0, 256, (2, 5, 16, 16, 3), dtype=np.uint8)
    box = (slice(0, 16), slice(0, 16))
    each = [pixels.ssim(truth[frame : frame + 1], result[frame : frame + 1], box) for frame in range(len(truth))]
    assert pixels.ssim(truth, result, box) == pytest.approx(np.mean(each), rel=1e-9)
    kept = pixels.moments(truth, box)
    assert pixels.ssim(truth, result, box, kept) == pixels.ssim(truth, result, box)
    assert pixels.ssim(truth, result, box, kept[::-1]) != pixels.ssim(truth, result, box), "they are used"


def test_the_box_is_fixed_round_all_the_lips_and_inside_the_picture() -> None:
    landmarks = opened(WAVE)
    rows_px, columns_px = pixels.mouth_box(landmarks, (256, 256))
    low, high = landmarks[:, MOUTH, :2].min((0, 1)), landmarks[:, MOUTH, :2].max((0, 1))
    margin = 0.25 * (high[0] - low[0])
    assert [columns_px.start, rows_px.start] == pytest.approx(low - margin, abs=1)
    assert [columns_px.stop, rows_px.stop] == pytest.approx(high + margin, abs=1)
    at_edge = pixels.mouth_box(landmarks - [*low, 0], (256, 256))
    assert at_edge[0].start == at_edge[1].start == 0
    beyond = pixels.mouth_box(landmarks + 300, (256, 256))
    assert all(side.stop == 256 and side.stop - side.start >= 11 for side in beyond)


def test_dark_pictures_show_the_constants_of_ssim() -> None:
    random = np.random.default_rng(2)
    truth, result = random.integers(0, 6, (2, 1, 20, 20, 3), dtype=np.uint8)
    box = (slice(0, 20), slice(0, 20))
    assert pixels.ssim(truth, result, box) == pytest.approx(ssim_by_hand(truth, result), rel=1e-4)


def test_flicker_is_the_mean_change_of_the_region_without_the_mouth() -> None:
    frames = np.zeros((3, 20, 20, 3), np.uint8)
    region, mouth = (slice(5, 15), slice(5, 15)), (slice(8, 12), slice(8, 12))
    frames[1, 5:15, 5:15] = 10  # up by 10, then down by 10
    frames[:, 8:12, 8:12] = np.array([0, 200, 90], np.uint8)[:, None, None, None]
    frames[1, :5] = 250
    assert pixels.flicker(frames, region, mouth) == pytest.approx(10)
    assert pixels.flicker(frames[:1].repeat(4, axis=0), region, mouth) == 0
    for shown, hole in ((frames[:1], mouth), (frames, region)):
        with pytest.raises(Miss):
            pixels.flicker(shown, region, hole)


def test_flicker_beyond_the_clips_own_is_signed() -> None:
    landmarks = opened(WAVE)
    calm = np.full((len(WAVE), 256, 256, 3), 100, np.uint8)
    blinking = calm.copy()
    blinking[::2] += 4
    rows = [
        Comparison(Truth(a, landmarks, np.zeros(0), landmarks), DetectedVideo(b, landmarks, np.ones(len(WAVE), bool)))
        for a, b in ((calm, blinking), (blinking, calm), (blinking, blinking))
    ]
    assert [pixels.flicker_excess(row) for row in rows] == pytest.approx([4, -4, 0])


def test_the_box_of_points_holds_them_in_every_frame() -> None:
    landmarks = opened(WAVE)
    rows_px, columns_px = pixels.box_round(landmarks, list(range(478)), (256, 256))
    low, high = landmarks[..., :2].min((0, 1)), landmarks[..., :2].max((0, 1))
    assert [columns_px.start, rows_px.start] == pytest.approx(np.maximum(low, 0), abs=1)
    assert [columns_px.stop, rows_px.stop] == pytest.approx(np.minimum(high, 256), abs=1)
