"""How a drawn head moves while it speaks: sway, turns, blinks, glances, brows; never driven by the speech.

Lengths as in `person`; T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT = 25.0, 15.0, 10.0  # degrees that no head exceeds


@dataclass(frozen=True)
class Pose:
    """One frame's pose. Angles in degrees, as in paint/projection.py: yaw to the image's right, pitch down, roll
    clockwise. Scale, and shift in px; eyelids (0 open, 1 closed), gaze in px, brows raised in px."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    x: float
    y: float
    lids: float
    gaze_x: float
    gaze_y: float
    brows: float


FRONTAL = Pose(yaw=0, pitch=0, roll=0, scale=1, x=0, y=0, lids=0, gaze_x=0, gaze_y=0, brows=0)


def poses(random: np.random.Generator, times_s: np.ndarray, liveliness: float) -> list[Pose]:
    """Poses at `times_s` (T,), smooth in time and different in every clip.

    `liveliness` (0 to 1) is the person's: how far the head turns and how much it moves to and fro.
    """
    times_T = np.asarray(times_s, dtype=np.float64)
    live = liveliness * random.uniform(0.7, 1.2)  # some clips are livelier than others

    def turned(limit: float, rest: float, reach: float, fastest_hz: float) -> np.ndarray:
        wanted_T = random.uniform(-rest, rest) + reach * _sway(random, times_T, fastest_hz)
        return limit * np.tanh(wanted_T / limit)

    columns = {
        "yaw": turned(YAW_LIMIT, 4 + 8 * live, 4 + 28 * live, 0.9),
        "pitch": turned(PITCH_LIMIT, 2 + 4 * live, 3 + 11 * live, 1.2),
        "roll": turned(ROLL_LIMIT, 2 + 2 * live, 2 + 7 * live, 0.9),
        "scale": random.uniform(0.94, 1.01) + (0.01 + 0.06 * live) * _sway(random, times_T, 0.6),
        "x": random.uniform(-10, 10) + (4 + 8 * live) * _sway(random, times_T, 0.9),
        "y": random.uniform(-6, 6) + (3 + 4 * live) * _sway(random, times_T, 0.9),
        "lids": _blinks(random, times_T),
        "gaze_x": 3.0 * _glances(random, times_T),
        "gaze_y": 1.2 * _glances(random, times_T),
        "brows": 2.0 + (2 + 2 * live) * _sway(random, times_T, 0.9),
    }
    return [Pose(**{name: float(column[t]) for name, column in columns.items()}) for t in range(len(times_T))]


def _sway(random: np.random.Generator, times_T: np.ndarray, fastest_hz: float) -> np.ndarray:
    """A slow wander between about -1 and 1, (T,): three sines of random phase."""
    total_T = np.zeros(len(times_T))
    for hz, weight in ((0.18 * fastest_hz, 0.6), (0.45 * fastest_hz, 0.35), (fastest_hz, 0.13)):
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
    aims = random.uniform(-1, 1, 41) * (random.random(41) < 0.6)
    return aims[np.searchsorted(at_s, times_T)]
