"""Faces of 478 landmarks whose mouths open as a test asks, on heads that turn and move."""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import INNER_LIP_PAIRS
from tests.helpers import talkers

FACE = talkers.outlined(talkers.base_face(np.random.default_rng(3)))
WAVE = 8 + 4 * np.sin(np.arange(40) / 3)


def still(frames: int) -> np.ndarray:
    """A face that does not move, (T, 478, 3)."""
    return np.repeat(FACE[None], frames, axis=0)


def opened(openings_T: np.ndarray) -> np.ndarray:
    """The face with its mouth open so many px, (T, 478, 3)."""
    landmarks = still(len(openings_T))
    for upper, lower in INNER_LIP_PAIRS:
        landmarks[:, lower] = landmarks[:, upper] + np.stack([0 * openings_T, openings_T, 0 * openings_T], axis=-1)
    return landmarks


def similarity(landmarks_TN3: np.ndarray, turn: complex, shift: complex) -> np.ndarray:
    """Landmarks scaled, turned in the picture and moved, more from frame to frame."""
    frames = 1 + np.arange(len(landmarks_TN3))[:, None] / 50
    return _moved(landmarks_TN3, turn**frames, shift * frames)


def turning(landmarks_TN3: np.ndarray) -> np.ndarray:
    """The same head: yawing, tilting, nearing and moving."""
    frames = np.arange(len(landmarks_TN3))
    turn = (1 + 0.3 * np.sin(frames / 5)) * np.exp(0.4j * np.cos(frames / 7))
    yawed = talkers.turned(landmarks_TN3, np.radians(20 * np.sin(frames / 6)))
    return _moved(yawed, turn[:, None], (3 + 2j) * frames[:, None])


def _moved(landmarks_TN3: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    moved = (landmarks_TN3[..., 0] + 1j * landmarks_TN3[..., 1]) * turn + shift
    return np.stack([moved.real, moved.imag, landmarks_TN3[..., 2] * np.abs(turn)], axis=-1)
