"""Heads that move by closed forms in px of a video, and a mask to paint on them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mytalk.face.landmarks import NOISED
from tests.helpers import talkers


def swaying(frames: int, fps: float | Fraction = 25, side_px: float = 60, centre=(80.0, 60.0)) -> np.ndarray:
    """A head in source px that nods, turns and speaks, by closed forms of time: (F, 478, 3)."""
    face = talkers.base_face(np.random.default_rng(2)) - [128, 128, 0]
    t = (np.arange(frames) / float(fps))[:, None]
    points = np.repeat((face * side_px / 160)[None], frames, axis=0)
    points[:, NOISED, 1] += 2 * np.sin(5 * t)
    turn = np.exp(0.1j * np.sin(2 * t))
    turned = (points[..., 0] + 1j * points[..., 1]) * turn + 3 * np.sin(t) + 2j * np.cos(3 * t)
    return (np.stack([turned.real, turned.imag, points[..., 2]], -1) + np.array([*centre, 0])).astype(np.float32)


def disc(radius: float = 50, centre: tuple[float, float] = (128, 160)) -> np.ndarray:
    """A soft mask: (256, 256) float32."""
    y, x = np.mgrid[:256, :256] + 0.5
    return np.clip((radius - np.hypot(x - centre[0], y - centre[1])) / 10, 0, 1).astype(np.float32)
