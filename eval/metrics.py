"""Metrics of generated landmarks against the true ones, one function each.

The two sides share the crop and the head's pose (only the lower face is generated), so nothing is aligned
before comparing. Every distance is in px of a crop of 256 px.

Shape suffixes: T frames, N landmarks (478), 2 = (x, y) in px at 256.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mytalk.face.landmarks import MOUTH, face_height, opening

# Shards keep fp16, whose step is 0.125 px between 128 and 256 px. An opening that varies less is rounding.
STILL_PX = 0.125


@dataclass(frozen=True)
class Metric:
    """What a metric is called in a report's protocol."""

    definition: str
    unit: str
    better: str  # lower, higher


METRICS = {
    "lmd_px": Metric(
        "distance between generated and true landmark, mean over the 40 lip points and the frames; "
        "crop and head pose are shared, so nothing is aligned",
        "px at 256",
        "lower",
    ),
    "opening_error_px": Metric(
        "absolute difference of the mouth openings (mean distance of three inner-lip pairs, at the clip's mean "
        "head size), mean over the frames",
        "px at 256",
        "lower",
    ),
    "opening_error_pct": Metric(
        "opening_error_px as a share of the true face height (forehead top to chin, the clip's mean)",
        "% of face height",
        "lower",
    ),
    "opening_correlation": Metric(
        f"Pearson correlation of the mouth openings over a clip's frames; 0 where the generated opening varies "
        f"by less than {STILL_PX} px (standard deviation)",
        "-1 to 1",
        "higher",
    ),
}


class StillTruth(ValueError):
    """The true mouth does not move, so no correlation with it is defined."""


def measure(truth_TN2: np.ndarray, result_TN2: np.ndarray, scale_T: np.ndarray) -> dict[str, float]:
    """Every metric of one clip. `scale_T` is the head's scale per frame, up to a common factor (see `openings`).

    Raises StillTruth, ValueError where shapes differ or the result is not finite.
    """
    if truth_TN2.shape != result_TN2.shape:
        raise ValueError(f"{result_TN2.shape} landmarks cannot be measured against {truth_TN2.shape}")
    if not np.isfinite(result_TN2).all():
        raise ValueError("the generated landmarks are not finite")
    truth_T, result_T = openings(truth_TN2, scale_T), openings(result_TN2, scale_T)
    error_px = opening_error_px(truth_T, result_T)
    return {
        "lmd_px": lmd_px(truth_TN2, result_TN2),
        "opening_error_px": error_px,
        "opening_error_pct": 100 * error_px / float(at_mean_size(face_height(truth_TN2), scale_T).mean()),
        "opening_correlation": opening_correlation(truth_T, result_T),
    }


def lmd_px(truth_TN2: np.ndarray, result_TN2: np.ndarray) -> float:
    """Landmark distance of the lips, px: mean Euclidean distance over the 40 lip points and all frames.

    Source: LMD of Chen et al., "Lip Movements Generation at a Glance" (ECCV 2018), over the lips only.
    """
    difference = np.asarray(truth_TN2, np.float64)[:, MOUTH] - np.asarray(result_TN2, np.float64)[:, MOUTH]
    return float(np.linalg.norm(difference, axis=-1).mean())


def at_mean_size(lengths_T: np.ndarray, scale_T: np.ndarray) -> np.ndarray:
    """Lengths in px as they would be if the head kept its mean size. `scale_T`: from crop px to a fixed head."""
    return np.asarray(lengths_T, np.float64) * scale_T / np.mean(scale_T)


def openings(landmarks_TN2: np.ndarray, scale_T: np.ndarray) -> np.ndarray:
    """Mouth opening per frame at the clip's mean head size: (T,) px.

    Without `scale_T`, a face that nears the camera with its mouth held still would seem to open it.
    """
    return at_mean_size(opening(landmarks_TN2), scale_T)


def opening_error_px(truth_T: np.ndarray, result_T: np.ndarray) -> float:
    """Mean absolute difference of two openings, px. It punishes the exaggeration that sync scores reward."""
    return float(np.abs(np.asarray(truth_T) - np.asarray(result_T)).mean())


def opening_correlation(truth_T: np.ndarray, result_T: np.ndarray) -> float:
    """Pearson correlation of two openings over time.

    A generated mouth that does not move follows nothing: 0, by definition. A true mouth that does not move
    cannot be followed: raises StillTruth. Still: a standard deviation under 0.125 px.
    """
    truth_T, result_T = (np.asarray(values, np.float64) for values in (truth_T, result_T))
    if truth_T.std() < STILL_PX:
        raise StillTruth(f"the true mouth opening varies by less than {STILL_PX} px")
    if result_T.std() < STILL_PX:
        return 0.0
    truth, result = truth_T - truth_T.mean(), result_T - result_T.mean()
    return float(np.dot(truth, result) / (np.linalg.norm(truth) * np.linalg.norm(result)))
