"""The drawn head in depth: how far each of its points stands out towards the camera.

Lengths as in `person`; z grows towards the camera and is 0 about where the ears sit. Points come as arrays x and y
of one shape. The heights are such that a face mesh reads off the drawn face the depth that the face has: it knows
heads of ordinary depth only, and reads a flatter one as turned less than it is.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.synthetic.paint.hair import SKULL_TOP
from data_pipeline.synthetic.person import Person

FRONT = 100.0  # z of the middle of the face, px
BACK = -60.0  # z of what lies behind the head
STEEPEST = 0.94  # share of the half width from which on the surface falls in a straight line


def relief(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the head's surface at (x, y), px: skull, brow, nose, cheeks, lips, chin."""
    wide = half_width(who, y)
    skull = _profile(who, y) - 1.36 * wide * (1 - _dome(x / wide))
    return BACK + 20 * np.logaddexp(0, (skull - BACK) / 20) + _features(who, x, y)


def half_width(who: Person, y: np.ndarray) -> np.ndarray:
    """Half of the head's width at the height y, px; narrow at the chin, but never less than half of the widest."""
    down = np.clip(y / who.chin_y, 0, 1)
    jaw = (1 - down ** (2.1 + 0.9 * who.jaw)) ** (1 / (1.75 + 0.5 * who.jaw))
    return 1.02 * who.half_width * (jaw**4 + 0.5**4) ** 0.25


def _profile(who: Person, y: np.ndarray) -> np.ndarray:
    """z along the middle of the head from crown to chin, without nose and lips, px."""
    up = np.clip((who.brow_y - y) / (1.05 * (who.brow_y - SKULL_TOP)), 0, 0.98)
    crown = 105 * (np.sqrt(1 - up**2) - 1)
    chin = -30 * np.clip(y / who.chin_y, 0, 1) ** 2 - 1.5 * np.maximum(y - who.chin_y, 0)
    return FRONT + crown + chin


def _dome(share: np.ndarray) -> np.ndarray:
    """A half circle of radius 1, continued by its tangent from STEEPEST on."""
    inside = np.minimum(np.abs(share), STEEPEST)
    slope = STEEPEST / np.sqrt(1 - STEEPEST**2)
    return np.sqrt(1 - inside**2) - slope * (np.abs(share) - inside)


def _features(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What stands out of the skull's surface, as a sum of hills, px."""
    down = np.clip((y - who.eye_y + 16) / (who.nose_y - who.eye_y + 16), 0, 1)
    bridge = np.clip((y - who.brow_y + 8) / 30, 0, 1)
    end = np.clip((y - who.nose_y + 0.012 * x**2) / 15, 0, 1)
    ridge = (6 * bridge**2 * (3 - 2 * bridge) + 30 * down**1.4) * (1 - end**2 * (3 - 2 * end))
    breadth = (0.44 + 0.16 * down) * who.nose_half_width
    z = ridge * np.exp(-0.5 * (x / breadth) ** 2)
    z += 8 * _pair(x, y, who.nose_half_width * 0.72, who.nose_y, 6, 6)
    z += 12 * _pair(x, y, 52, who.brow_y + 2, 30, 14)
    z -= 14 * _pair(x, y, who.eye_x - 8, who.eye_y - 2, 19, 17)
    z += 4 * _pair(x, y, who.eye_x, who.eye_y, 15, 9)
    z += 14 * _pair(x, y, 62, 30, 22, 26)
    z += 15 * _hill(x, y, 0, -98, 70, 30)
    z -= 3 * _pair(x, y, 52, who.mouth_y - 10, 7, 24)
    z += 13 * _hill(x, y, 0, who.mouth_y, 28, 26)
    z -= 2.5 * _hill(x, y, 0, (who.nose_y + who.mouth_y) / 2 + 3, 5, 9)
    z -= 5 * _hill(x, y, 0, who.mouth_y + who.lower_lip + 9, 26, 6)
    z += 9 * _hill(x, y, 0, who.chin_y - 18, 24, 14)
    return z


def _pair(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
    """A hill on each side of the face."""
    return _hill(x, y, at_x, at_y, wide, high) + _hill(x, y, -at_x, at_y, wide, high)


def _hill(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
    """A Gaussian hill of height 1 around (at_x, at_y)."""
    return np.exp(-0.5 * (((x - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2))
