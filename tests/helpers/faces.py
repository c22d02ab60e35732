"""Faces of 478 landmarks whose mouths open as a test asks, on heads that turn and move."""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import INNER_LIP_PAIRS
from tests.helpers import talkers

FACE = talkers.outlined(talkers.base_face(np.random.default_rng(3)))
WAVE = 8 + 4 * np.sin(np.arange(40) / 3)


def still(frames: int) -> np.ndarray:
    """A face that does not move, (T, 478, 2)."""
    return np.repeat(FACE[None], frames, axis=0)


def opened(openings_T: np.ndarray) -> np.ndarray:
    """The face with its mouth open so many px, (T, 478, 2)."""
    landmarks = still(len(openings_T))
    for upper, lower in INNER_LIP_PAIRS:
        landmarks[:, lower] = landmarks[:, upper] + np.stack([np.zeros(len(openings_T)), openings_T], axis=-1)
    return landmarks


def similarity(landmarks_TN2: np.ndarray, turn: complex, shift: complex) -> np.ndarray:
    """Landmarks scaled, turned and moved, more from frame to frame."""
    frames = 1 + np.arange(len(landmarks_TN2))[:, None] / 50
    moved = (landmarks_TN2[..., 0] + 1j * landmarks_TN2[..., 1]) * turn**frames + shift * frames
    return np.stack([moved.real, moved.imag], axis=-1)


def turning(landmarks_TN2: np.ndarray) -> np.ndarray:
    """The same head, turning, nearing and moving: a similarity per frame."""
    frames = np.arange(len(landmarks_TN2))
    turn = (1 + 0.3 * np.sin(frames / 5)) * np.exp(0.4j * np.cos(frames / 7))
    moved = (landmarks_TN2[..., 0] + 1j * landmarks_TN2[..., 1]) * turn[:, None] + (3 + 2j) * frames[:, None]
    return np.stack([moved.real, moved.imag], axis=-1)
