"""Pixels of the mouth: PSNR and SSIM of a row and the clip in one fixed box.

Shape suffixes: T frames, H height, W width, N landmarks (478), 2 = (x, y), 3 = RGB or (x, y, z) in px.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.metric import Comparison, Metric
from mytalk.face.landmarks import MOUTH

if TYPE_CHECKING:
    import torch

BOX_MARGIN = 0.25  # of the mouth's width, on each side of the box in which pictures are compared
MOST_DB = 100.0  # PSNR of frames that are the same to the bit
WINDOW_PX = 11  # side of SSIM's Gaussian window (Wang et al. 2004)
CHUNK_FRAMES = 8  # at a time, so that they stay in the processor's cache
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
    from torchmetrics.functional.image import peak_signal_noise_ratio

    truth, result = _cut(truth_THW3, box), _cut(result_THW3, box)
    each_T = peak_signal_noise_ratio(result, truth, data_range=255.0, reduction="none", dim=(1, 2, 3))
    return float(each_T.clamp(max=MOST_DB).mean())


def ssim(truth_THW3: np.ndarray, result_THW3: np.ndarray, box: Box) -> float:
    """Structural similarity of each frame, mean over the frames."""
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    chunks = []
    for start in range(0, len(truth_THW3), CHUNK_FRAMES):
        here = np.s_[start : start + CHUNK_FRAMES]
        result, truth = _cut(result_THW3[here], box), _cut(truth_THW3[here], box)
        each = structural_similarity_index_measure(
            result, truth, data_range=255.0, kernel_size=WINDOW_PX, reduction="none"
        )
        assert isinstance(each, torch.Tensor)
        chunks.append(each.reshape(-1))
    return float(torch.cat(chunks).mean())


def _compared(row: Comparison) -> tuple[np.ndarray, np.ndarray, Box]:
    """Frames of truth and row, and the box round the true mouth."""
    height, width = row.truth.frames_THW3.shape[1:3]
    return row.truth.frames_THW3, row.video.frames_THW3, mouth_box(row.truth.landmarks_TN3, (height, width))


def _within(low: float, high: float, side: int) -> slice:
    """Whole px from low to high inside [0, side), at least SSIM's window."""
    start, stop = max(int(np.floor(low)), 0), min(int(np.ceil(high)), side)
    start = max(min(start, stop - WINDOW_PX), 0)
    return slice(start, max(stop, start + WINDOW_PX))


def _cut(frames_THW3: np.ndarray, box: Box) -> torch.Tensor:
    """The box of every frame as float (T, 3, h, w), the channels last in memory: 2.5 times as fast to convolve."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(frames_THW3[:, box[0], box[1]])).float().permute(0, 3, 1, 2)


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
        lambda row: ssim(*_compared(row)),
        f"structural similarity of RGB (Gaussian window of 11 px, sigma 1.5, borders reflected) {_BOX}",
        "up to 1",
        "higher",
    ),
}
