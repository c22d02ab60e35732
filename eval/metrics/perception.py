"""Perception: how unlike a row looks to the clip, by a network trained on what people told apart.

Shape suffixes: T frames, K frames that are judged, N landmarks (478), H height, W width, 3 = RGB or (x, y, z) in px.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.metrics.metric import Comparison, Metric

MOST_KEPT = 16  # frames whose features of the truth are kept for the other rows, 9 MB each
MARGIN = 0.1  # of the face's height, around it
TOGETHER = 16  # frames whose features are in memory at once


def face_box(landmarks_TN3: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the square round the face in all frames, with its margin, in a picture of `size` (H, W)."""
    low_2 = landmarks_TN3[..., :2].min(axis=(0, 1))
    high_2 = landmarks_TN3[..., :2].max(axis=(0, 1))
    side = min((high_2 - low_2).max() * (1 + 2 * MARGIN), *size)
    centre_2 = (low_2 + high_2) / 2
    starts = [round(float(np.clip(centre_2[axis] - side / 2, 0, size[1 - axis] - side))) for axis in (1, 0)]
    return tuple(slice(start, start + round(float(side))) for start in starts)  # type: ignore[return-value]


def judged(frames: int, asked: int | None) -> np.ndarray:
    """Numbers of the frames that are judged: `asked` of them evenly spread, all where it is None."""
    return np.unique(np.linspace(0, frames - 1, asked or frames).round().astype(int))


def seen(row: Comparison) -> tuple[float, np.ndarray, np.ndarray]:
    """Distance of the row to the clip, mean over the judged frames; and the features of both, (K, D) each."""
    judge = row.evaluators.perception
    assert judge is not None, "without it the metrics of perception are omitted"
    truth, size = row.truth, row.truth.frames_THW3.shape[1:3]
    box = face_box(truth.landmarks_TN3, (size[0], size[1]))
    picked = judged(len(truth.frames_THW3), row.evaluators.judged_frames)

    def features(frames_THW3: np.ndarray, some: np.ndarray) -> Any:
        return judge.seen(frames_THW3[some][:, box[0], box[1]])

    distances, of_truth, of_row = [], [], []
    for start in range(0, len(picked), TOGETHER):
        some = picked[start : start + TOGETHER]
        if len(picked) <= MOST_KEPT:
            true = truth.once(judge.seen, lambda some=some: features(truth.frames_THW3, some))  # type: ignore[misc]
        else:
            true = features(truth.frames_THW3, some)
        result = features(row.video.frames_THW3, some)
        distances.append(judge.distances(true, result))
        of_truth.append(judge.embed(true))
        of_row.append(judge.embed(result))
    return float(np.concatenate(distances).mean()), np.concatenate(of_truth), np.concatenate(of_row)


def lpips(row: Comparison) -> float:
    """LPIPS of the judged frames, their mean."""
    judge = row.evaluators.lpips
    assert judge is not None, "without it the metric is omitted"
    picked = judged(len(row.truth.frames_THW3), row.evaluators.judged_frames)
    return float(judge.distances(row.truth.frames_THW3[picked], row.video.frames_THW3[picked]).mean())


METRICS = {
    "lpips@alex": Metric(
        lpips,
        "LPIPS (Zhang et al. 2018) with its AlexNet trunk between row and clip, of the whole crop; mean over the "
        "judged frames",
        "distance",
        "lower",
        needs="lpips",
    ),
    "st_lpips@vgg": Metric(
        lambda row: row.once(seen)[0],
        "ST-LPIPS (Ghildyal and Liu 2022) with its VGG trunk between row and clip, in a square round the face, fixed "
        f"for the clip ({100 * MARGIN:.0f} % of its size on each side), reduced to 128 px; mean over the judged "
        "frames. It ignores shifts of a pixel or two by design: it certifies neither a seam nor where the lips are",
        "distance",
        "lower",
        needs="perception",
    ),
}
