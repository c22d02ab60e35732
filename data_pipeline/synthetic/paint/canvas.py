"""A painting ground in the face's coordinates: soft-edged shapes, noise, and how colour is laid on.

Lengths as in `person`; H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthetic.paint import brush

CENTRE = (256.0, 264.0)  # of the face in the picture of 512 x 512


class Canvas:
    """Coordinates of every pixel in the face's px (x, y (H, W)), and soft-edged shapes on them."""

    def __init__(self, size: int):
        self.size, self.scale = size, size / 512
        at = (np.arange(size, dtype=np.float32) + 0.5) / self.scale
        self.x, self.y = np.meshgrid(at - CENTRE[0], at - CENTRE[1])

    def bump(self, x: float, y: float, sx: float, sy: float) -> np.ndarray:
        """A Gaussian hill of height 1, (H, W)."""
        across = np.exp(-0.5 * ((self.x[:1] - x) / sx) ** 2)
        return np.exp(-0.5 * ((self.y[:, :1] - y) / sy) ** 2) * across

    def polygon(self, points, soft_px: float = 0.0) -> np.ndarray:
        """The inside of a polygon in the face's px, 0 to 1, (H, W), its edge blurred by `soft_px`."""
        at = (np.asarray(points) + CENTRE) * self.scale - 0.5
        return self.softened(brush.inside(self.size, self.size, at), soft_px)

    def ellipse(self, x: float, y: float, rx: float, ry: float, soft_px: float = 0.0) -> np.ndarray:
        """The inside of an ellipse, as `polygon`."""
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return self.polygon(np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], -1), soft_px)

    def softened(self, mask: np.ndarray, soft_px: float) -> np.ndarray:
        """A uint8 mask as weights from 0 to 1, blurred."""
        if soft_px > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), soft_px * self.scale)
        return mask.astype(np.float32) / 255

    def noise(self, random: np.random.Generator, cell_px: float) -> np.ndarray:
        """Smooth noise of unit variance with grains of about `cell_px`, (H, W); the same at any size."""
        count = max(2, round(512 / cell_px))
        coarse = random.standard_normal((count, count)).astype(np.float32)
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)


def mix(picture: np.ndarray, colour, weight: np.ndarray) -> None:
    """Lay `colour` (one, or a picture) over a float picture with weights (H, W), in place."""
    seen = weight > 1 / 512  # less changes no pixel; most shapes are small, so only their box is touched
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if len(rows) == 0:
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colour = np.asarray(colour, np.float32)
    over = colour[box] if colour.ndim == 3 else colour
    picture[box] += (over - picture[box]) * weight[box][..., None]


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """A float picture as uint8."""
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
