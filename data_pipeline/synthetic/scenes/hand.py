"""A drawn hand, its palm to the camera: a sheet (H, W, 4) uint8 as in paint/portrait.py.

Lengths are px in a square of 256 with the wrist at the lower edge.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from data_pipeline.synthetic.paint import brush
from data_pipeline.synthetic.person import Colour

SIDE = 256
COVERS = np.array([124.0, 130.0])  # the point of the hand that is held before the mouth

# Joints of each digit from its root to its tip, and its width.
FINGERS = (
    (((92, 140), (82, 92), (78, 58), (76, 32)), 24),
    (((114, 134), (111, 80), (110, 44), (109, 16)), 26),
    (((138, 136), (141, 86), (143, 52), (144, 26)), 25),
    (((160, 144), (170, 106), (176, 80), (180, 58)), 21),
)
THUMB = (((104, 210), (72, 182), (48, 158), (30, 138)), 29)
PALM = ((84, 152), (94, 128), (120, 122), (146, 126), (170, 142), (170, 190), (156, 226), (152, 262),
        (104, 262), (98, 228), (86, 196))  # fmt: skip


@lru_cache(maxsize=8)
def sheet(skin: Colour, side_px: int) -> np.ndarray:
    """The hand of a skin colour in a square of `side_px`."""
    tone = np.array(skin)
    hand = np.zeros((SIDE, SIDE, 4), np.uint8)
    for digit, width in FINGERS:
        _digit(hand, tone, digit, width)
    _laid(hand, tone * 0.96, _mask_of(np.array(PALM, np.float64), soft_px=3), rim=0.30)
    _digit(hand, tone, *THUMB)
    _palm(hand, tone)
    return np.asarray(cv2.resize(hand, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def _digit(hand: np.ndarray, tone: np.ndarray, joints, width: float) -> None:
    """A finger: a round limb, creased at its joints, brighter along its middle."""
    at = np.array(joints, np.float64)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    brush.line(mask, at, (255, 255, 255), width)
    _laid(hand, tone, mask, rim=0.42)
    shine = np.zeros((SIDE, SIDE), np.uint8)
    brush.line(shine, at, (110, 110, 110), 0.3 * width)
    _tinted(hand, np.minimum(tone * 1.15 + 12, 255), cv2.GaussianBlur(shine, (0, 0), 0.2 * width))
    for before, joint in pairwise(at[:-1]):
        along = (joint - before) / np.linalg.norm(joint - before)
        across = np.array([-along[1], along[0]]) * 0.40 * width
        for shift in (-2.0, 2.0):
            crease = np.zeros((SIDE, SIDE), np.uint8)
            brush.line(crease, np.stack([joint - across, joint + across]) + shift * along, (150, 150, 150), 1.4)
            _tinted(hand, tone * 0.62, cv2.GaussianBlur(crease, (0, 0), 0.8))


def _palm(hand: np.ndarray, tone: np.ndarray) -> None:
    """The balls of thumb and little finger, and the three lines."""
    for x, y, radius_x, radius_y in ((108, 196, 22, 34), (156, 190, 16, 36), (128, 142, 36, 12)):
        ball = np.zeros((SIDE, SIDE), np.uint8)
        brush.disc(ball, np.array([x, y], np.float64), (radius_x, radius_y), (120, 120, 120))
        _tinted(hand, np.minimum(tone * 1.10 + 10, 255), cv2.GaussianBlur(ball, (0, 0), 9))
    for points in (
        ((88, 168), (108, 160), (124, 172), (132, 196), (134, 226)),
        ((88, 166), (116, 162), (142, 172), (160, 190)),
        ((168, 160), (144, 158), (120, 150), (106, 140)),
    ):
        crease = np.zeros((SIDE, SIDE), np.uint8)
        brush.line(crease, np.array(points, np.float64), (170, 170, 170), 2)
        _tinted(hand, tone * 0.60, cv2.GaussianBlur(crease, (0, 0), 1.1))


def _mask_of(points_M2: np.ndarray, soft_px: float) -> np.ndarray:
    """A polygon with rounded corners."""
    mask = cv2.GaussianBlur(brush.inside(SIDE, SIDE, points_M2), (0, 0), 2 * soft_px)
    return np.asarray(np.clip((mask.astype(np.float32) - 96) * 4, 0, 255), np.uint8)


def _laid(hand: np.ndarray, tone: np.ndarray, mask: np.ndarray, rim: float) -> None:
    """Lay a limb over the hand: shaded towards its edge, with a shadow around it."""
    near = cv2.GaussianBlur(mask, (0, 0), 4).astype(np.float32) / 255
    inner = np.clip(2 * cv2.distanceTransform((mask > 128).astype(np.uint8), cv2.DIST_L2, 5) / 14, 0, 1)
    hand[..., :3] = (hand[..., :3] * (1 - 0.35 * near[..., None])).astype(np.uint8)
    shade = (1 - rim + rim * inner**0.7)[..., None] * tone
    weight = mask.astype(np.float32)[..., None] / 255
    laid = np.concatenate([np.clip(shade, 0, 255), np.full((SIDE, SIDE, 1), 255.0)], axis=-1)
    hand[:] = np.round(hand * (1 - weight) + laid * weight).astype(np.uint8)


def _tinted(hand: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> None:
    """Colour the hand where a mask says so, and nothing outside of it."""
    weight = mask.astype(np.float32)[..., None] / 255 * hand[..., 3:] / 255
    hand[..., :3] = np.round(hand[..., :3] * (1 - weight) + np.clip(colour, 0, 255) * weight).astype(np.uint8)
