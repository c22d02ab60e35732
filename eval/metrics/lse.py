"""LSE-C, LSE-D and offset of the public SyncNet, which the user brings (eval/judges/public_syncnet.py).

A change of codec alone moves them by 0.4 to 1.2, and methods trained on such a network rank too high: no verdict
rests on them. Shape suffixes: T frames, N landmarks (478), 4 = (left, top, right, bottom) px.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.metrics.metric import NO_MOUTH, Comparison, Metric, Miss
from eval.metrics.sync import TOO_SHORT, TRUE_SPEECH


def boxes(landmarks_TN3: np.ndarray) -> np.ndarray:
    """The box round all landmarks of each frame, (T, 4)."""
    points = np.asarray(landmarks_TN3, np.float64)[..., :2]
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def lip_sync(row: Comparison) -> Any:
    """What the public SyncNet says of the row. Raises Miss for a clip that is too short."""
    judge = row.evaluators.lse
    assert judge is not None, "without it its metrics are omitted"
    try:
        return judge.score(row.video.frames_THW3, boxes(row.video.landmarks_TN3), row.truth.audio_S)
    except ValueError as error:
        raise Miss(TOO_SHORT, str(error)) from error


_HOW = (
    f"{TRUE_SPEECH}, by the public SyncNet of the digests and its published algorithm (31 offsets, ends zero-padded), "
    "but in boxes round the re-detected landmarks and inside the 256 px crop, beyond which all is grey; beside "
    "numbers of the full pipeline it says nothing. Above the real video's row is exaggeration, not quality"
)
METRICS = {
    "lse_c@mediapipe": Metric(
        lambda row: row.once(lip_sync).confidence,
        f"LSE-C: median minus minimum over the offsets of the mean distance between lips and sound, {_HOW}",
        "distance of embeddings",
        "higher",
        needs="lse",
        mouth=NO_MOUTH,
        conditional=True,
    ),
    "lse_d@mediapipe": Metric(
        lambda row: row.once(lip_sync).distance,
        f"LSE-D: minimum over the offsets of the mean distance between lips and sound, {_HOW}",
        "distance of embeddings",
        "lower",
        needs="lse",
        mouth=NO_MOUTH,
        conditional=True,
    ),
    "lse_offset_frames@mediapipe": Metric(
        lambda row: float(abs(row.once(lip_sync).offset_frames)),
        f"absolute offset of that minimum, {_HOW}",
        "frames of 25 Hz",
        "lower",
        needs="lse",
        mouth=NO_MOUTH,
        conditional=True,
    ),
}
