"""Pixels: PSNR and SSIM of a row and the clip in fixed boxes round the mouth and the face, and flicker.

Shape suffixes: T frames, H height, W width, N landmarks (478), 2 = (x, y), 3 = RGB or (x, y, z) in px.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from eval.metrics.metric import ZERO, Comparison, Metric, Miss
from mytalk.face.landmarks import MOUTH, NOISED

BOX_MARGIN = 0.25  # of the mouth's width, on each side of the box in which pictures are compared
MOST_DB = 100.0  # PSNR of frames that are the same to the bit
WINDOW_PX, SIGMA_PX = 11, 1.5  # SSIM's Gaussian window (Wang et al. 2004)
BRIGHTEST = 255.0
C1, C2 = (0.01 * BRIGHTEST) ** 2, (0.03 * BRIGHTEST) ** 2
MOST_KEPT = 300  # frames whose blurred truth is kept for the other rows, some 0.7 MB each
TOO_SHORT = "too_short_for_flicker"
Box = tuple[slice, slice]  # rows, columns


def mouth_box(landmarks_TN3: np.ndarray, size: tuple[int, int]) -> Box:
    """The box round the mouth of all frames with its margin, inside a picture of `size` (H, W), for SSIM's window."""
    lips_TM2 = landmarks_TN3[:, MOUTH, :2]
    low_2, high_2 = lips_TM2.min(axis=(0, 1)), lips_TM2.max(axis=(0, 1))
    margin_px = BOX_MARGIN * (high_2[0] - low_2[0])
    return tuple(  # type: ignore[return-value]
        _within(float(low_2[axis] - margin_px), float(high_2[axis] + margin_px), size[1 - axis]) for axis in (1, 0)
    )


def psnr_db(truth_THW3: np.ndarray, result_THW3: np.ndarray, box: Box) -> float:
    """Peak signal-to-noise ratio of each frame, mean over the frames, dB; at most MOST_DB."""
    squares = []
    for true_HW3, result_HW3 in zip(truth_THW3, result_THW3, strict=True):
        apart_HW3 = _cut(true_HW3, box) - _cut(result_HW3, box)
        squares.append(float(np.vdot(apart_HW3, apart_HW3)) / apart_HW3.size)
    least = BRIGHTEST**2 / 10 ** (MOST_DB / 10)
    return float(np.mean(10 * np.log10(BRIGHTEST**2 / np.maximum(squares, least))))


Moments = list[tuple[np.ndarray, np.ndarray]]  # of each frame the blurred picture and its blurred square


def moments(frames_THW3: np.ndarray, box: Box) -> Moments:
    """What SSIM asks of one side alone."""
    return [_own_moments(_cut(frame_HW3, box)) for frame_HW3 in frames_THW3]


def _own_moments(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _blurred(a), _blurred(a * a)


def ssim(truth_THW3: np.ndarray, result_THW3: np.ndarray, box: Box, of_truth: Moments | None = None) -> float:
    """Structural similarity of each frame, mean over the frames. `of_truth`: the true side's, where they are kept.

    Wang et al. 2004, equation 13; the box's borders are reflected.
    """
    values = []
    for number, (true_HW3, result_HW3) in enumerate(zip(truth_THW3, result_THW3, strict=True)):
        a, b = _cut(true_HW3, box), _cut(result_HW3, box)
        mean_a, aa = _own_moments(a) if of_truth is None else of_truth[number]
        (mean_b, bb), ab = _own_moments(b), _blurred(a * b)
        product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
        covariance, variances = ab - product, aa + bb - squares
        each = (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
        values.append(each.mean(dtype=np.float64))
    return float(np.mean(values))


def _blurred(picture_HW3: np.ndarray) -> np.ndarray:
    """The Gaussian-weighted mean round every pixel, the picture's borders reflected."""
    import cv2

    side = (WINDOW_PX, WINDOW_PX)
    return cv2.GaussianBlur(picture_HW3, side, SIGMA_PX, borderType=cv2.BORDER_REFLECT_101)


def _cut(frame_HW3: np.ndarray, box: Box) -> np.ndarray:
    """The box of a frame as float32."""
    return frame_HW3[box].astype(np.float32)


def flicker(frames_THW3: np.ndarray, region: Box, without: Box) -> float:
    """Mean absolute difference of each pixel from frame to frame, in a region without a box in it, grey levels.

    Raises Miss below two frames, and where the box covers the region.
    """
    counted = np.zeros(frames_THW3.shape[1:3], bool)
    counted[region] = True
    counted[without] = False
    if len(frames_THW3) < 2 or not counted.any():
        raise Miss(TOO_SHORT, f"{len(frames_THW3)} frames, {counted.sum()} pixels outside the mouth's box")
    picked_TP3 = frames_THW3[:, counted]
    changes = [np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(picked_TP3)]
    return float(np.mean(changes))


def box_round(landmarks_TN3: np.ndarray, points: list[int], size: tuple[int, int]) -> Box:
    """The box round these points in all frames, inside a picture of `size` (H, W)."""
    of_points_TM2 = landmarks_TN3[:, points, :2]
    low_2, high_2 = of_points_TM2.min(axis=(0, 1)), of_points_TM2.max(axis=(0, 1))
    return tuple(_within(float(low_2[axis]), float(high_2[axis]), size[1 - axis]) for axis in (1, 0))  # type: ignore[return-value]


def _compared(row: Comparison) -> tuple[np.ndarray, np.ndarray, Box]:
    """Frames of truth and row, and the box round the true mouth."""
    return row.truth.frames_THW3, row.video.frames_THW3, mouth_box(row.truth.landmarks_TN3, _size(row))


def _faces(row: Comparison) -> tuple[np.ndarray, np.ndarray, Box]:
    """Frames of truth and row, and the box round the true face."""
    face = list(range(row.truth.landmarks_TN3.shape[1]))
    return row.truth.frames_THW3, row.video.frames_THW3, box_round(row.truth.landmarks_TN3, face, _size(row))


def flicker_excess(row: Comparison) -> float:
    """Flicker of the lower face outside the mouth's box, the row's minus the clip's. Raises Miss."""
    lower, mouth = box_round(row.truth.landmarks_TN3, NOISED, _size(row)), _compared(row)[2]
    of_truth = row.truth.once(flicker, lambda: flicker(row.truth.frames_THW3, lower, mouth))
    return flicker(row.video.frames_THW3, lower, mouth) - of_truth


def _ssim(row: Comparison, name: str, frames_THW3: np.ndarray, result_THW3: np.ndarray, box: Box) -> float:
    """SSIM in the box of this name; of clips that are not too long the true side is blurred once for all rows."""
    if len(frames_THW3) > MOST_KEPT:
        return ssim(frames_THW3, result_THW3, box)
    return ssim(frames_THW3, result_THW3, box, row.truth.once((moments, name), lambda: moments(frames_THW3, box)))


def _size(row: Comparison) -> tuple[int, int]:
    height, width = row.truth.frames_THW3.shape[1:3]
    return height, width


def _within(low: float, high: float, side: int) -> slice:
    """Whole px from low to high inside [0, side), at least SSIM's window."""
    start, stop = max(int(np.floor(low)), 0), min(int(np.ceil(high)), side)
    start = max(min(start, stop - WINDOW_PX), 0)
    return slice(start, max(stop, start + WINDOW_PX))


_FACE = (
    "in the box round all true landmarks of all frames, against the clip's frames in the shards; mean over all frames"
)
_BOX = (
    f"in a box round the true mouth, fixed for the clip (all lip points of all frames, and {100 * BOX_MARGIN:.0f} % of "
    "their width on each side), against the clip's frames in the shards; mean over all frames"
)
METRICS = {
    "psnr_mouth_db": Metric(
        lambda row: psnr_db(*_compared(row)),
        f"peak signal-to-noise ratio of RGB {_BOX}; {MOST_DB:.0f} where equal",
        "dB",
        "higher",
    ),
    "ssim_mouth": Metric(
        lambda row: _ssim(row, "mouth", *_compared(row)),
        f"structural similarity of RGB (Gaussian window of 11 px, sigma 1.5, borders reflected) {_BOX}",
        "up to 1",
        "higher",
    ),
    "psnr_face_db": Metric(
        lambda row: psnr_db(*_faces(row)),
        f"peak signal-to-noise ratio of RGB {_FACE}; {MOST_DB:.0f} where equal",
        "dB",
        "higher",
    ),
    "ssim_face": Metric(
        lambda row: _ssim(row, "face", *_faces(row)),
        f"structural similarity of RGB (Gaussian window of 11 px, sigma 1.5, borders reflected) {_FACE}",
        "up to 1",
        "higher",
    ),
    "flicker_excess": Metric(
        flicker_excess,
        "absolute difference of a pixel from frame to frame, mean over RGB, frames and the region: the box round the "
        "true lower face (the landmarks that a model writes) without the mouth's box; the row's minus that of the "
        "clip's frames in the shards, which the codec of the rows has not been through: compare with ground_truth",
        "grey levels",
        ZERO,
        conditional=True,
    ),
}
