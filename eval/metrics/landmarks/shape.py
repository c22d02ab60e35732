"""Lip shape: does each part of the mouth do what the true one does, and as far?

The opening is nearly all lower lip, so a mouth whose upper lip or corners hardly move scores well on it. Here the
width, each lip and the rounding are held against the true ones alone: correlation over time, and the ratio of the
standard deviations (amplitude), which a correlation cannot see.

Shape suffixes: T frames, N landmarks (478), 2 = (x, y) in px at 256 of the head's frame (see `lips.aligned`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from eval.metrics import lips
from eval.metrics.lips import STILL_PX, LipPair
from eval.metrics.metric import HIGHER, ONE, Metric
from mytalk.face.landmarks import OUTER_LIP

CORNERS = (61, 291)
UPPER, LOWER = [37, 0, 267, 82, 13, 312], [84, 17, 314, 87, 14, 317]  # the middle of either lip, both of its edges
# What a step of fp16 (0.125 px) at either end of a mouth of 50 px changes in a quotient of 0.6.
STILL_QUOTIENT = 2 * 0.6 * STILL_PX / 50


def width(points_TN2: np.ndarray) -> np.ndarray:
    """Distance of the corners of the mouth, (T,) px."""
    return np.linalg.norm(points_TN2[:, CORNERS[0]] - points_TN2[:, CORNERS[1]], axis=-1)


def upper_lip(points_TN2: np.ndarray) -> np.ndarray:
    """How low the middle of the upper lip lies in the head, (T,) px."""
    return points_TN2[:, UPPER, 1].mean(axis=1)


def lower_lip(points_TN2: np.ndarray) -> np.ndarray:
    """How low the middle of the lower lip lies in the head, (T,) px."""
    return points_TN2[:, LOWER, 1].mean(axis=1)


def rounding(points_TN2: np.ndarray) -> np.ndarray:
    """Isoperimetric quotient of the outer lips, (T,): 4 pi area / perimeter^2, 1 for a circle, 0 for a line."""
    ring_TM2 = points_TN2[:, OUTER_LIP]
    after_TM2 = np.roll(ring_TM2, -1, axis=1)
    cross_TM = ring_TM2[..., 0] * after_TM2[..., 1] - ring_TM2[..., 1] * after_TM2[..., 0]
    perimeter_T = np.linalg.norm(after_TM2 - ring_TM2, axis=-1).sum(axis=1)
    return 2 * np.pi * np.abs(cross_TM.sum(axis=1)) / np.square(perimeter_T)


Measure = Callable[[np.ndarray], np.ndarray]
PARTS: dict[str, tuple[Measure, str, float]] = {  # the measure, what it is, and when it stands still
    "width": (width, "distance of the corners of the mouth", STILL_PX),
    "upper_lip": (upper_lip, "height of the middle of the upper lip in the head", STILL_PX),
    "lower_lip": (lower_lip, "height of the middle of the lower lip in the head", STILL_PX),
    "rounding": (rounding, "4 pi area / perimeter^2 of the outer lips", STILL_QUOTIENT),
}


def both(part: str, pair: LipPair) -> tuple[np.ndarray, np.ndarray]:
    """A part of truth and row over time, (T,) each."""
    measure, *_ = PARTS[part]
    truth_T, row_T = (measure(np.asarray(side, np.float64)[..., :2]) for side in (pair.truth_TN, pair.result_TN))
    return truth_T, row_T


def correlation(part: str, pair: LipPair) -> float:
    """Pearson correlation of a part over time. Raises Miss where the true one does not move."""
    return lips.correlation(*both(part, pair), still=PARTS[part][2])


def amplitude(part: str, pair: LipPair) -> float:
    """Ratio of the standard deviations over time, row's to true. Raises Miss where the true one does not move."""
    return lips.spread_ratio(*both(part, pair), still=PARTS[part][2])


def _metrics() -> dict[str, Metric]:
    metrics = {}
    for part, (_, words, still) in PARTS.items():
        unit = "px at 256" if still == STILL_PX else "of the quotient"
        metrics[f"{part}_correlation"] = Metric(
            partial(correlation, part),
            f"Pearson correlation over the frames of the {words}, the row's with the true one; 0 where the row's "
            f"varies by less than {still:g} {unit} (standard deviation), no value where the true one does",
            "-1 to 1",
            HIGHER,
            conditional=True,
        )
        metrics[f"{part}_amplitude"] = Metric(
            partial(amplitude, part),
            f"standard deviation over the frames of the {words}, the row's divided by the true one's; no value where "
            f"the true one's is below {still:g} {unit}",
            "1: as far as the person",
            ONE,
            conditional=True,
        )
    return metrics


LANDMARK_METRICS = lips.in_head_frame(_metrics())
METRICS = lips.of_detected(_metrics())
