"""Lip closure: do the lips meet at every p, b and m, and only there?

A viewer forgives much, but not an open mouth on a bilabial. When those are spoken comes from outside: from the truth of
drawn people, or from a recogniser of phones, whose times are indicative.

Shape suffixes: T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics import lips
from eval.metrics.landmarks.speech import speech_T
from eval.metrics.lips import STILL, STILL_PX
from eval.metrics.metric import HIGHER, NO_MOUTH, Comparison, Metric, Miss
from mytalk.face.landmarks import FRAME_HZ
from mytalk.face.shots import runs

CLOSED, WIDE = 0.02, 0.95  # quantiles of the true opening: the person's closed and wide mouth
SHARE = 0.15  # closed is what opens by less than this share of the way from one to the other (docs/decisions.md)
TOLERANCE_S = 0.08  # by which a closure may precede or follow its sound: people do both
NO_TIMES, NO_BILABIALS = "no_times_of_sounds", "no_bilabials"  # reasons of a miss


@dataclass(frozen=True)
class Closures:
    """Bilabials on which the lips close, those on which they do not, and closures in speech that belong to none."""

    hits: int
    missed: int
    false: int

    def recall(self) -> float:
        """Share of the bilabials on which the lips close."""
        return self.hits / (self.hits + self.missed)

    def precision(self) -> float:
        """Closed bilabials as a share of them and the false closures; 0 where the lips never close."""
        return self.hits / (self.hits + self.false) if self.hits else 0.0

    def f1(self) -> float:
        """Harmonic mean of the two: 2 hits / (2 hits + missed + false)."""
        return 2 * self.hits / (2 * self.hits + self.missed + self.false)


def limit_px(truth_T: np.ndarray) -> float:
    """The opening below which this person's mouth is closed, px. Raises Miss where the true mouth does not move."""
    if not len(truth_T) or np.std(truth_T) < STILL_PX:
        raise Miss(STILL, "the true mouth does not move, so that nobody knows when it is closed")
    closed, wide = np.quantile(np.asarray(truth_T, np.float64), [CLOSED, WIDE])
    return float(closed + SHARE * (wide - closed))


def closures(
    truth_T: np.ndarray, row_T: np.ndarray, bilabials_s: Sequence[tuple[float, float]], speaking_T: np.ndarray
) -> Closures:
    """Count them in a row's openings (T,), px; frame i shows the moment i / 25 s.

    A bilabial counts where one of its frames is in the clip. Lips may close where nobody speaks: a closure is false
    only where all of its frames are `speaking_T` and none is near a bilabial. Raises Miss without bilabials.
    """
    closed_T = np.asarray(row_T) <= limit_px(truth_T)
    moments_s = np.arange(len(closed_T)) / FRAME_HZ
    near = [(moments_s >= a - TOLERANCE_S) & (moments_s <= b + TOLERANCE_S) for a, b in bilabials_s]
    near = [near_T for near_T in near if near_T.any()]
    if not near:
        raise Miss(NO_BILABIALS, "no p, b or m is spoken in the clip")
    hits = sum(bool((closed_T & near_T).any()) for near_T in near)
    allowed_T = np.any(near, axis=0) | ~np.asarray(speaking_T, bool)
    false = sum(not allowed_T[start:stop].any() for start, stop in runs(closed_T))
    return Closures(hits, len(near) - hits, false)


def row_closures(row: Comparison) -> Closures:
    """Those of a dubbed row. Raises Miss."""
    openings = row.once(lips.all_frames).openings()
    return closures(*openings, row.truth.once(bilabials, lambda: bilabials(row)), speech_T(row))


def bilabials(row: Comparison) -> Sequence[tuple[float, float]]:
    """When p, b and m are spoken, seconds: as is known, else as the phone decoder hears. Raises Miss without both."""
    if row.truth.bilabials_s is not None:
        return row.truth.bilabials_s
    if row.evaluators.phones is None:
        raise Miss(NO_TIMES, "nothing says when p, b and m are spoken")
    return row.evaluators.phones.bilabials_s(row.truth.audio_S)


def _metric(number: Callable[[Closures], float], words: str) -> Metric:
    return Metric(
        lambda row: number(row.once(row_closures)),
        f"{words}; {_HOW}",
        "0 to 1",
        HIGHER,
        mouth=NO_MOUTH,
        conditional=True,
    )


_HOW = (
    f"closed: an opening of at most the true one's {CLOSED:g} quantile and {SHARE:g} of the way to its {WIDE:g} "
    f"quantile; the times of the sounds are widened by {TOLERANCE_S:g} s on either side; closures outside speech do "
    "not count. The times are those of the manifest's column bilabials, else of the decoder of phones, and then "
    "indicative"
)
METRICS = {
    "closure_recall": _metric(Closures.recall, "share of the bilabials (p, b, m) on which the lips close"),
    "closure_precision": _metric(
        Closures.precision,
        "bilabials on which the lips close, divided by those and the closures in speech that belong to none; 0 where "
        "they close on none",
    ),
    "closure_f1": _metric(Closures.f1, "harmonic mean of closure_recall and closure_precision"),
}
