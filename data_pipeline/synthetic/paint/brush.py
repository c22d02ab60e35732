"""Anti-aliased polygons, lines and discs at fractions of a pixel, on pictures (H, W) or (H, W, 4) uint8."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

BITS = 4  # of the fraction of a coordinate: 1/16 px


def fill(picture: Any, points_px: np.ndarray, colour) -> None:
    """Fill a polygon (M, 2) with a colour (blue, green, red)."""
    cv2.fillPoly(picture, [fixed(points_px)], opaque(colour), cv2.LINE_AA, BITS)


def line(picture: Any, points_px: np.ndarray, colour, width_px: float) -> None:
    """Draw a line through points (M, 2), at least a pixel wide."""
    cv2.polylines(picture, [fixed(points_px)], False, opaque(colour), max(1, round(width_px)), cv2.LINE_AA, BITS)


def disc(picture: Any, centre_px: np.ndarray, radii_px: tuple[float, float], colour) -> None:
    """Fill an upright ellipse around a point (2,)."""
    x, y = (int(value) for value in fixed(centre_px))
    axes = (round(radii_px[0] * 2**BITS), round(radii_px[1] * 2**BITS))
    cv2.ellipse(picture, (x, y), axes, 0, 0, 360, opaque(colour), -1, cv2.LINE_AA, BITS)


def inside(height: int, width: int, points_px: np.ndarray) -> np.ndarray:
    """A mask (H, W) uint8 of a polygon (M, 2), 255 inside."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [fixed(points_px)], (255.0,), cv2.LINE_AA, BITS)
    return mask


def lay(over: np.ndarray, under: np.ndarray, mask: np.ndarray) -> None:
    """Lay a picture over another one, in place, where a uint8 mask (H, W) says so."""
    weight = mask.astype(np.float32) / 255
    under[:] = cv2.blendLinear(over, under, weight, 1 - weight)


def over(sheet: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A sheet (H, W, 4), whose colours are multiplied by its alpha, laid over a picture (H, W, 3), as a new one."""
    colour = cv2.cvtColor(sheet, cv2.COLOR_BGRA2BGR)
    through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(sheet, 3)), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.add(colour, cv2.multiply(picture, through, scale=1 / 255)), np.uint8)


def fixed(points_px: np.ndarray) -> np.ndarray:
    """Coordinates as cv2 takes them with `shift=BITS`."""
    return np.round(np.asarray(points_px) * 2**BITS).astype(np.int32)


def opaque(colour) -> tuple[float, float, float, float]:
    """A colour cut off at 0 and 255, with full alpha."""
    blue, green, red = (float(min(max(c, 0), 255)) for c in colour)
    return blue, green, red, 255.0
