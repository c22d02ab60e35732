"""Smoothness: does the mouth tremble, or is it smoother than a person's?

Shape suffixes: T frames, N landmarks (478), M lip points (40), A accelerations (T - 2), K windows, 2 = (x, y) in px at
256 of the head's frame (see `lips.aligned`).
"""

from __future__ import annotations

import numpy as np

from eval.metrics import lips
from eval.metrics.landmarks.shape import width
from eval.metrics.lips import LipPair
from eval.metrics.metric import REAL, ZERO, Metric, Miss
from mytalk.face.landmarks import CROP_PX, MOUTH

WINDOW, STEP = 12, 6  # accelerations of a window, and from window to window
MOUTH_WIDTH_PX = 0.25 * CROP_PX  # to which MSI scales
BIAS = 0.5
TOO_SHORT = "too_short_for_smoothness"


def accelerations(points_TN2: np.ndarray) -> np.ndarray:
    """Second differences of the lip points over time, (A, M, 2) px per frame^2. Raises Miss below three frames."""
    if len(points_TN2) < 3:
        raise Miss(TOO_SHORT, f"{len(points_TN2)} frames have no acceleration")
    return np.diff(np.asarray(points_TN2, np.float64)[:, MOUTH, :2], n=2, axis=0)


def msi(points_TN2: np.ndarray) -> float:
    """Motion stability index of the lips: mean over points, axes and windows of 1 / (variance + 0.5) of the
    acceleration.

    The clip is scaled so that its mouth is 64 px wide on the mean; windows of 12 accelerations begin every 6 frames. A
    mouth that never accelerates has 2. Source: MSI of Ling et al., "StableFace" (2022). Raises Miss for a shorter clip.
    """
    acceleration_AM2 = accelerations(points_TN2)
    if len(acceleration_AM2) < WINDOW:
        raise Miss(TOO_SHORT, f"{len(points_TN2)} frames are fewer than the {WINDOW + 2} of a window")
    scale = MOUTH_WIDTH_PX / float(width(np.asarray(points_TN2, np.float64)[..., :2]).mean())
    windows_KMW = np.lib.stride_tricks.sliding_window_view(acceleration_AM2 * scale, WINDOW, axis=0)[::STEP]
    return float((1 / (windows_KMW.var(axis=-1) + BIAS)).mean())


def jitter_px(points_TN2: np.ndarray) -> float:
    """Mean length of the lip points' acceleration, px at 256 per frame^2."""
    return float(np.linalg.norm(accelerations(points_TN2), axis=-1).mean())


def jitter_excess_px(pair: LipPair) -> float:
    """The row's jitter minus the true one's: below 0 it is smoother than the person."""
    return jitter_px(pair.result_TN) - jitter_px(pair.truth_TN)


_METRICS = {
    "msi": Metric(
        lambda pair: msi(pair.result_TN),
        "motion stability index of Ling et al. (2022): mean over the 40 lip points, both axes and windows of 12 "
        "frames, one every 6, of 1 / (variance of the acceleration in px per frame^2 + 0.5), the mouth scaled to a "
        "width of 64 px; a mouth that stands still has 2, so more than the real video's is too smooth",
        "0 to 2",
        REAL,
        conditional=True,
    ),
    "jitter_excess_px": Metric(
        jitter_excess_px,
        "length of the acceleration (second difference) of the 40 lip points, mean over points and frames, the row's "
        "minus the true one's; below 0: smoother than the person",
        "px at 256 per frame^2",
        ZERO,
        conditional=True,
    ),
}
LANDMARK_METRICS = lips.in_head_frame(_METRICS)
METRICS = lips.of_detected(_METRICS, filled=True)
