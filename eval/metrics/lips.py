"""Lips: how far they are from the true ones, and whether the mouth opens when the true one does.

Both sides are first brought to the head's frame: in the picture a mouth that stands still seems to open and close as
the head nods, and the mesh reads an opening mouth as a nod (docs/log.md), so that a frozen mouth would seem to follow.
Every distance is in px of a crop of 256 px.

Shape suffixes: T frames, N landmarks (478), 2 = (x, y), 3 = (x, y, z) in px at 256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from eval.metrics.metric import LOWER, ONE, Comparison, Metric, Miss
from mytalk.face.landmarks import MOUTH, face_height, opening

# Shards keep fp16, whose step is 0.125 px between 128 and 256 px. An opening that varies less is rounding.
STILL_PX = 0.125
STILL, NO_FRAMES = "truth_still", "no_frames"  # reasons of a miss
FACE = list(range(468))


@dataclass(frozen=True)
class LipPair:
    """True landmarks and a row's, in the head's frame at the truth's mean size (see `aligned`).

    Raises ValueError where shapes differ or the row is not finite.
    """

    truth_TN: np.ndarray
    result_TN: np.ndarray

    def __post_init__(self) -> None:
        if self.truth_TN.shape != self.result_TN.shape:
            raise ValueError(f"{self.result_TN.shape} landmarks cannot be measured against {self.truth_TN.shape}")
        if not np.isfinite(self.result_TN).all():
            raise ValueError("the generated landmarks are not finite")

    def openings(self) -> tuple[np.ndarray, np.ndarray]:
        """Mouth openings of truth and row, (T,) px each."""
        return opening(self.truth_TN).astype(np.float64), opening(self.result_TN).astype(np.float64)


def lmd_px(pair: LipPair, points: list[int] = MOUTH) -> float:
    """Landmark distance, px: mean Euclidean distance over the 40 lip points (or others) and all frames.

    Source: LMD of Chen et al., "Lip Movements Generation at a Glance" (ECCV 2018), over the lips only.
    """
    truth, result = (np.asarray(side, np.float64)[:, points, :2] for side in (pair.truth_TN, pair.result_TN))
    return float(np.linalg.norm(truth - result, axis=-1).mean())


def lmd_face_px(pair: LipPair) -> float:
    """LMD over the 468 points of the face (LMD-F), px: without the irises, which the gaze moves."""
    return lmd_px(pair, FACE)


def opening_error_px(pair: LipPair) -> float:
    """Mean absolute difference of the openings, px. It punishes the exaggeration that sync scores reward."""
    truth_T, result_T = pair.openings()
    return float(np.abs(truth_T - result_T).mean())


def opening_error_pct(pair: LipPair) -> float:
    """The opening error in percent of the true face's mean height."""
    return 100 * opening_error_px(pair) / float(face_height(pair.truth_TN).mean())


def opening_correlation(pair: LipPair) -> float:
    """Pearson correlation of the openings over time. Raises Miss where the true mouth does not move."""
    return correlation(*pair.openings())


def amplitude_ratio(pair: LipPair) -> float:
    """Standard deviation of the row's opening over the true one's. Raises Miss where the true mouth does not move."""
    return spread_ratio(*pair.openings())


def correlation(truth_T: np.ndarray, result_T: np.ndarray, still: float = STILL_PX) -> float:
    """Pearson correlation of two openings in px over time, or of what else a mouth does.

    A generated mouth that does not move follows nothing: 0, by definition. A true mouth that does not move
    cannot be followed: raises Miss. Still: a standard deviation under 0.125 px.
    """
    truth_T, result_T = _moving(truth_T, result_T, still)
    if result_T.std() < still:
        return 0.0
    truth, result = truth_T - truth_T.mean(), result_T - result_T.mean()
    return float(np.dot(truth, result) / (np.linalg.norm(truth) * np.linalg.norm(result)))


def spread_ratio(truth_T: np.ndarray, result_T: np.ndarray, still: float = STILL_PX) -> float:
    """Standard deviation over time of the row's, divided by the true one's. Raises Miss where the true one is still."""
    truth_T, result_T = _moving(truth_T, result_T, still)
    return float(result_T.std() / truth_T.std())


def _moving(truth_T: np.ndarray, result_T: np.ndarray, still: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64. Raises Miss where there is nothing, or the true one does not move."""
    truth_T, result_T = (np.asarray(values, np.float64) for values in (truth_T, result_T))
    if not len(truth_T):
        raise Miss(NO_FRAMES, "no frame shows a face")
    if truth_T.std() < still:
        raise Miss(STILL, f"the true mouth varies by less than {still:g}{' px' if still == STILL_PX else ''}")
    return truth_T, result_T


def aligned(truth_TN: np.ndarray, result_TN: np.ndarray) -> LipPair:
    """Both sides in the head's frame, at the truth's mean size in px: what is left is how the face moves.

    Each frame is brought there by the pose that its own rigid points have against the truth's head, so moving, turning
    or scaling a side (in any frame, however) changes nothing. Returns landmarks of x and y.
    """
    import torch

    from mytalk.face import pose

    truth, result = (torch.from_numpy(np.asarray(side, np.float64))[None] for side in (truth_TN, result_TN))
    head = pose.person_head(truth, torch.ones(truth.shape[:2], dtype=torch.float64))
    truth_pose, result_pose = pose.fit(truth, head.rigid_BR3), pose.fit(result, head.rigid_BR3)
    px = truth_pose.scale_BT.mean()
    truth_TN = (truth_pose.to_head(truth, head.depth_BN) * px)[0].numpy()
    result_TN = (result_pose.to_head(result, head.depth_BN) * px)[0].numpy()
    return LipPair(truth_TN, result_TN)


def detected_lips(row: Comparison) -> LipPair:
    """Truth and row, aligned, over the frames in which a face was detected again. Raises Miss where there are none."""
    detected_T = row.video.detected_T
    if not detected_T.any():
        raise Miss(NO_FRAMES, "no frame shows a face")
    return aligned(row.truth.landmarks_TN3[detected_T], row.video.landmarks_TN3[detected_T])


def all_frames(row: Comparison) -> LipPair:
    """Truth and row, aligned, over all frames: those without a face as they were filled. Raises Miss as above."""
    if not row.video.detected_T.any():
        raise Miss(NO_FRAMES, "no frame shows a face")
    if row.video.detected_T.all():
        return row.once(detected_lips)
    return aligned(row.truth.landmarks_TN3, row.video.landmarks_TN3)


def in_head_frame(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Metrics of a LipPair, with that in their definitions."""
    return {name: replace(m, definition=f"{m.definition}; {_IN_HEAD_FRAME}") for name, m in metrics.items()}


def of_detected(metrics: Mapping[str, Metric], filled: bool = False) -> dict[str, Metric]:
    """Metrics of a LipPair as metrics of a dubbed row, with that in their definitions.

    `filled`: of all frames, for what needs each next frame; else of those in which a face was detected again.
    """
    frames, words = (all_frames, _FILLED) if filled else (detected_lips, _ALIGNED)

    def of_row(compute: Callable[[LipPair], float]) -> Callable[[Comparison], float]:
        return lambda row: compute(row.once(frames))

    return {
        name: replace(m, compute=of_row(m.compute), definition=f"{m.definition}; {words}")
        for name, m in metrics.items()
    }


_IN_HEAD_FRAME = "each side first brought to the head's frame by its own rigid points (the truth's head and mean size)"
_ALIGNED = f"{_IN_HEAD_FRAME}; frames without a re-detected face are left out"
_FILLED = f"{_IN_HEAD_FRAME}; frames without a re-detected face are filled linearly"
_MORE = {
    "lmd_face_px": Metric(
        lmd_face_px,
        "distance between the row's and the true landmark, mean over the 468 points of the face (without irises) and "
        "the frames",
        "px at 256",
        LOWER,
    ),
    "amplitude_ratio": Metric(
        amplitude_ratio,
        "standard deviation over the frames of the mouth opening, the row's divided by the true one's",
        "1: as far as the person",
        ONE,
    ),
}
LANDMARK_METRICS = {  # of `motion`
    "lmd_px": Metric(
        lmd_px,
        f"distance between generated and true landmark, mean over the 40 lip points and the frames; {_IN_HEAD_FRAME}",
        "px at 256",
        "lower",
    ),
    "opening_error_px": Metric(
        opening_error_px,
        "absolute difference of the mouth openings (mean distance of three inner-lip pairs), mean over the frames; "
        f"{_IN_HEAD_FRAME}",
        "px at 256",
        "lower",
    ),
    "opening_error_pct": Metric(
        opening_error_pct,
        "opening_error_px as a share of the true face height (forehead top to chin, the clip's mean)",
        "% of face height",
        "lower",
    ),
    "opening_correlation": Metric(
        opening_correlation,
        f"Pearson correlation of the mouth openings over a clip's frames; 0 where the generated opening varies "
        f"by less than {STILL_PX} px (standard deviation); {_IN_HEAD_FRAME}",
        "-1 to 1",
        "higher",
    ),
    **in_head_frame(_MORE),
}
METRICS = {  # of `benchmark`
    "lmd_px": Metric(
        lambda row: lmd_px(row.once(detected_lips)),
        f"distance between re-detected and true landmark, mean over the 40 lip points and the frames; {_ALIGNED}",
        "px at 256",
        "lower",
    ),
    "opening_error_px": Metric(
        lambda row: opening_error_px(row.once(detected_lips)),
        "absolute difference of the mouth openings (mean distance of three inner-lip pairs), mean over the frames; "
        f"{_ALIGNED}",
        "px at 256",
        "lower",
    ),
    "opening_correlation": Metric(
        lambda row: opening_correlation(row.once(detected_lips)),
        "Pearson correlation of the re-detected and the true mouth opening over the frames; 0 where the re-detected "
        f"one varies by less than {STILL_PX} px (standard deviation), so a frozen mouth has what the detector's jitter "
        f"gives it; {_ALIGNED}",
        "-1 to 1",
        "higher",
    ),
    **of_detected(_MORE),
}
