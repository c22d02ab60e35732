"""Promises about the mouth that hold whatever the motion model would do: lips closed, a still mouth, given keyframes.

A network that generates pixels can be asked for closed lips; one that generates landmarks can be held to them. In every
step of the sampler the estimate of the clean motion is moved onto what was promised, and the frames around it with it,
so that the rest of the motion is generated to fit; what is written at last is moved once more, and so holds exactly.

Lips are closed as the person closes them: along the direction in which their own lower face moves with their mouth's
opening (the mean of a Gaussian of their motion, given the opening).

Shape suffixes: T frames, U frames of the source stretch, K noised landmarks, M keyframes, 2 = (x, y) px in the head's
frame (mytalk/face/pose.py), y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from mytalk.face.landmarks import INNER_LIP, INNER_LIP_PAIRS, NOISED, OUTER_LIP
from mytalk.face.shots import runs

CLOSED_QUANTILE = 0.02  # of the source's openings: the person's closed mouth
CLOSED_PX = 2.0  # at most: a source whose mouth never closes does not show it
REACH_S = 0.12  # a promise moves the frames around it by less and less, up to here
PRIOR_PX2 = 1.0  # variance of an opening by the lower lip as a whole: the way of a source whose mouth is still
LOWER_LIP = sorted({*INNER_LIP[11:], *OUTER_LIP[11:]})


@dataclass(frozen=True)
class Mouth:
    """How one person opens and closes the mouth. `opening` is linear in the points, so a shift along `way` is exact."""

    way_K2: np.ndarray  # by which the points move while the mouth opens by 1 px
    closed_px: float

    def opening(self, lower_TK2: np.ndarray) -> np.ndarray:
        """How far the lower lip's inner edge is below the upper's, px: (T, K, 2) -> (T,). Below 0 the lips cross."""
        return (lower_TK2 * _OPENING_K2).sum((-2, -1))

    def opened(self, lower_TK2: np.ndarray, by_T: np.ndarray) -> np.ndarray:
        """The mouth opened further in each frame, px."""
        return lower_TK2 + by_T[:, None, None] * self.way_K2


@dataclass(frozen=True)
class Promises:
    """What is promised of each frame of a clip, at any frame rate; of no frame by default."""

    mouth: Mouth
    fps: float
    closed_T: np.ndarray  # bool: the lips are closed
    still_T: np.ndarray  # bool: the mouth is still from the first to the last frame of each run
    keyframe_M: np.ndarray  # numbers of frames
    keyframes_MK2: np.ndarray  # where the points are in these; they take precedence over all else

    def hold(self, lower_TK2: np.ndarray) -> np.ndarray:
        """The motion (T, K, 2) moved onto what is promised, its neighbours by less and less."""
        wanted_TK2 = np.array(lower_TK2, np.float64)
        for start, stop in runs(self.still_T):
            wanted_TK2[start:stop] = wanted_TK2[start:stop].mean(0)
        too_open_T = np.maximum(self.mouth.opening(wanted_TK2) - self.mouth.closed_px, 0)
        wanted_TK2 = self.mouth.opened(wanted_TK2, np.where(self.closed_T, -too_open_T, 0.0))
        wanted_TK2[self.keyframe_M] = self.keyframes_MK2
        bound_T = self.closed_T | self.still_T
        bound_T[self.keyframe_M] = True
        moved_TK2 = lower_TK2 + _spread(wanted_TK2 - lower_TK2, bound_T, REACH_S * self.fps)
        return np.where(bound_T[:, None, None], wanted_TK2, self._uncrossed(moved_TK2, lower_TK2))

    def _uncrossed(self, moved_TK2: np.ndarray, lower_TK2: np.ndarray) -> np.ndarray:
        """A neighbour that was nearly closed would have its lips pushed through each other."""
        least_T = np.minimum(self.mouth.opening(lower_TK2), self.mouth.closed_px)
        return self.mouth.opened(moved_TK2, np.maximum(least_T - self.mouth.opening(moved_TK2), 0))

    def part(self, start: int, stop: int) -> Promises:
        """Those of the frames [start, stop)."""
        inside_M = (self.keyframe_M >= start) & (self.keyframe_M < stop)
        return replace(
            self,
            closed_T=self.closed_T[start:stop],
            still_T=self.still_T[start:stop],
            keyframe_M=self.keyframe_M[inside_M] - start,
            keyframes_MK2=self.keyframes_MK2[inside_M],
        )


def mouth_of(source_UK2: np.ndarray) -> Mouth:
    """How the person of a source stretch opens and closes the mouth."""
    opening_U = (source_UK2 * _OPENING_K2).sum((-2, -1))
    centred_UK2, centred_U = source_UK2 - source_UK2.mean(0), opening_U - opening_U.mean()
    covariance_K2 = (centred_UK2 * centred_U[:, None, None]).mean(0)
    way_K2 = (covariance_K2 + PRIOR_PX2 * _JAW_K2) / (centred_U.var() + PRIOR_PX2)
    return Mouth(way_K2, float(np.clip(np.quantile(opening_U, CLOSED_QUANTILE), 0, CLOSED_PX)))


def frames_of(times_s: Sequence[tuple[float, float]], frames: int, fps: Fraction | float) -> np.ndarray:
    """The frames that show some moment of these (start, stop) in s, at least one each: (T,) bool."""
    inside_T = np.zeros(frames, bool)
    for start_s, stop_s in times_s:
        first, last = round(start_s * float(fps)), round(stop_s * float(fps))
        inside_T[max(first, 0) : max(last + 1, 0)] = True
    return inside_T


def _spread(moved_TK2: np.ndarray, bound_T: np.ndarray, reach: float) -> np.ndarray:
    """What the bound frames are moved by, faded over `reach` frames into the others.

    A frame between two bound ones takes of both, by weights that sum to 1 at most.
    """
    places = np.flatnonzero(bound_T)
    if not len(places):
        return np.zeros_like(moved_TK2)
    frames_T = np.arange(len(bound_T))
    after_T = np.searchsorted(places, frames_T)
    left_T, right_T = places[np.maximum(after_T - 1, 0)], places[np.minimum(after_T, len(places) - 1)]
    weights = [_fade((frames_T - left_T), reach), _fade((right_T - frames_T), reach)]
    total_T = np.maximum(weights[0] + weights[1], 1.0)
    left_T11, right_T11 = ((weight_T / total_T)[:, None, None] for weight_T in weights)
    return left_T11 * moved_TK2[left_T] + right_T11 * moved_TK2[right_T]


def _fade(away_T: np.ndarray, reach: float) -> np.ndarray:
    """1 at 0 frames, 0 from `reach` on; 0 on the other side."""
    inside_T = (away_T >= 0) & (away_T < reach)
    return np.where(inside_T, (1 + np.cos(np.pi * away_T / reach)) / 2, 0.0)


def _of_points(values: dict[int, float]) -> np.ndarray:
    """(K, 2) with these in y, 0 elsewhere."""
    out_K2 = np.zeros((len(NOISED), 2))
    for landmark, value in values.items():
        out_K2[NOISED.index(landmark), 1] = value
    return out_K2


_SHARE = 1 / len(INNER_LIP_PAIRS)
_UPPER, _LOWER = zip(*INNER_LIP_PAIRS)
_OPENING_K2 = _of_points(dict.fromkeys(_UPPER, -_SHARE) | dict.fromkeys(_LOWER, _SHARE))
_JAW_K2 = _of_points(dict.fromkeys(LOWER_LIP, 1.0))
