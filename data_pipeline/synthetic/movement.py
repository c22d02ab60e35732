"""How a drawn head moves while it speaks: sway, turns, blinks, glances, brows; never driven by the speech.

Lengths as in `person`; T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """One frame's pose: shift in px, roll and its centre as in the picture, yaw and pitch in radians, scale,
    eyelids (0 open, 1 closed), gaze in px, brows raised in px."""

    x: float
    y: float
    roll: float
    yaw: float
    pitch: float
    scale: float
    lids: float
    gaze_x: float
    gaze_y: float
    brows: float


def poses(random: np.random.Generator, times_s: np.ndarray) -> list[Pose]:
    """Poses at `times_s` (T,), smooth in time and different in every clip."""
    times_T = np.asarray(times_s, dtype=np.float64)
    still = random.uniform(0.6, 1.1)  # some clips are livelier than others
    columns = {
        "x": random.uniform(-10, 10) + 9 * still * _sway(random, times_T),
        "y": random.uniform(-6, 6) + 5 * still * _sway(random, times_T),
        "roll": random.uniform(-0.04, 0.04) + 0.05 * still * _sway(random, times_T),
        "yaw": random.uniform(-0.08, 0.08) + 0.13 * still * _sway(random, times_T),
        "pitch": 0.07 * still * _sway(random, times_T),
        "scale": random.uniform(0.94, 1.03) + 0.015 * _sway(random, times_T),
        "lids": _blinks(random, times_T),
        "gaze_x": 3.0 * _glances(random, times_T),
        "gaze_y": 1.2 * _glances(random, times_T),
        "brows": 2.0 + 4.0 * still * _sway(random, times_T),
    }
    return [Pose(**{name: float(column[t]) for name, column in columns.items()}) for t in range(len(times_T))]


def _sway(random: np.random.Generator, times_T: np.ndarray) -> np.ndarray:
    """A slow wander between about -1 and 1, (T,): three sines of random phase."""
    total_T = np.zeros(len(times_T))
    for hz, weight in ((0.17, 0.6), (0.41, 0.35), (0.93, 0.13)):
        turn = 2 * np.pi * (hz * random.uniform(0.8, 1.25) * times_T + random.random())
        total_T += weight * np.sin(turn)
    return total_T


def _blinks(random: np.random.Generator, times_T: np.ndarray) -> np.ndarray:
    """Eyelids (T,), 0 open to 1 closed: a blink of 0.28 s every few seconds."""
    lids_T = np.zeros(len(times_T))
    at_s = random.uniform(0.3, 2.5)
    while at_s < times_T[-1]:
        lids_T = np.maximum(lids_T, np.clip(1.4 - np.abs(times_T - at_s) / 0.10, 0, 1))
        at_s += random.uniform(1.6, 4.5)
    return lids_T


def _glances(random: np.random.Generator, times_T: np.ndarray) -> np.ndarray:
    """Where the eyes look (T,), -1 to 1: held, then a quick move."""
    at_s = np.cumsum(random.uniform(0.5, 1.8, 40))
    held = random.uniform(-1, 1, 41) * (random.random(41) < 0.6)
    return held[np.searchsorted(at_s, times_T)]
