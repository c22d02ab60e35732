"""The contours of a drawn mouth, and how it is painted: lips, teeth, tongue and the dark between them.

Lengths as in `person`; shape suffix: (M, 2) M points of a contour, each (x, y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.synthetic.paint import brush
from data_pipeline.synthetic.person import Person

ToPixels = Callable[[np.ndarray], np.ndarray]

WIDEST = 0.46  # gap of the inner lips at opening 1, in resting mouth widths
LIFT = 0.16  # share of the gap by which the upper lip rises; the lower lip takes the rest
DARK = (22, 12, 38)
TEETH = (206, 222, 232)
TONGUE = (66, 56, 138)

# Points of the lips whose places the truth tells; the corners as the image has them, the others at the middle.
LANDMARKS = ("left_corner", "right_corner", "upper_outer", "upper_inner", "lower_inner", "lower_outer")

_ACROSS_M = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 25))  # denser towards the corners, where lips curve most


@dataclass(frozen=True)
class Contours:
    """Edges of the lips from the image-left to the image-right corner, each (M, 2), and the gap in px."""

    upper_outer: np.ndarray
    upper_inner: np.ndarray
    lower_inner: np.ndarray
    lower_outer: np.ndarray
    gap: float


def gap(person: Person, opening: float) -> float:
    """Distance of the inner lips at the middle of the mouth, px at 512."""
    return max(opening, 0.0) * WIDEST * 2 * person.mouth_half_width


def contours(person: Person, opening: float, width: float, rounding: float) -> Contours:
    """Where the lips are at a mouth shape (see `articulation`); the gap at the middle is exactly `gap`."""
    across = _ACROSS_M
    open_px = gap(person, opening)
    half = person.mouth_half_width * float(np.clip(1 + width, 0.45, 1.45))
    full = 1 + 0.35 * max(rounding, 0.0)  # protruded lips look thicker
    arch = (1 - across**2) ** (0.75 - 0.25 * float(np.clip(rounding, 0, 1)))
    gap_M = open_px * arch * (1 + person.articulation.asymmetry * across)
    drop = 0.30 * open_px  # the corners follow the jaw part of the way
    line_M = person.mouth_y + (person.mouth_curve + drop) * across**2 - 0.12 * open_px * (across**2)
    line_M = line_M + person.articulation.asymmetry * 5 * across
    upper_M = line_M - LIFT * gap_M
    lower_M = line_M + (1 - LIFT) * gap_M
    bow = 1 - 0.20 * np.exp(-((across / 0.13) ** 2)) + 0.10 * np.exp(-(((np.abs(across) - 0.28) / 0.14) ** 2))
    # Lips thin out as they are stretched over an open mouth.
    thin = 1 - 0.18 * min(open_px / 50, 1)
    over_M = person.upper_lip * full * thin * (1 - across**2) ** 0.65 * bow + 0.8
    under_M = person.lower_lip * full * thin * (1 - across**2) ** 0.60 + 0.8
    inner_x, outer_x = across * half * 0.93, across * half
    return Contours(
        np.stack([outer_x, upper_M - over_M], -1),
        np.stack([inner_x, upper_M], -1),
        np.stack([inner_x, lower_M], -1),
        np.stack([outer_x, lower_M + under_M], -1),
        open_px,
    )


def landmarks(edges: Contours) -> np.ndarray:
    """Points of the lips (6, 2) in the order of LANDMARKS."""
    middle = len(_ACROSS_M) // 2
    rows = [edges.upper_outer, edges.upper_inner, edges.lower_inner, edges.lower_outer]
    return np.stack([edges.upper_outer[0], edges.upper_outer[-1], *(row[middle] for row in rows)])


def paint(patch: np.ndarray, person: Person, edges: Contours, to_px: ToPixels, scale: float) -> None:
    """Paint the mouth over the skin of `patch` (H, W, 4), in place.

    `to_px(points (M, 2)) -> (M, 2)` maps the face's coordinates to pixels of the patch, of which there are
    `scale` per px at 512.
    """
    upper_inner, lower_inner = to_px(edges.upper_inner), to_px(edges.lower_inner)
    upper_outer, lower_outer = to_px(edges.upper_outer), to_px(edges.lower_outer)
    lips = np.array(person.lips)
    middle = (upper_inner + lower_inner) / 2
    brush.fill(patch, np.concatenate([middle, lower_outer[::-1]]), lips)
    brush.fill(patch, np.concatenate([upper_outer, middle[::-1]]), lips * 0.82)
    shine = slice(7, 18)
    high = lower_inner * 0.55 + lower_outer * 0.45
    low = lower_inner * 0.35 + lower_outer * 0.65
    brush.fill(patch, np.concatenate([high[shine], low[shine][::-1]]), lips * 0.7 + 255 * 0.22)
    patch[:] = cv2.GaussianBlur(patch, (0, 0), 1.3 * scale)
    if edges.gap > 0.8:
        _paint_inside(patch, person, edges, to_px, scale)
    width_px = (2.4 if edges.gap < 1.5 else 1.4) * scale
    for rim in (upper_inner, lower_inner):
        brush.line(patch, rim, lips * 0.30, width_px)


def _paint_inside(patch: np.ndarray, person: Person, edges: Contours, to_px: ToPixels, scale: float) -> None:
    """The cavity between the inner lips: dark, with the upper teeth fixed to the head, the lower to the jaw."""
    cavity = np.empty_like(patch)
    cavity[:] = brush.opaque(DARK)
    half = person.mouth_half_width
    jaw_y = edges.lower_inner[len(_ACROSS_M) // 2, 1]
    tongue = to_px(np.array([[0.0, jaw_y + 4]]))[0]
    brush.disc(cavity, tongue, (0.50 * half * scale, max(0.28 * edges.gap, 1) * scale), TONGUE)
    upper = _teeth(0.60 * half, person.mouth_y - 12, person.mouth_y + 0.04 * half)
    lower = _teeth(0.46 * half, jaw_y + 12, jaw_y - 0.03 * half)
    brush.fill(cavity, to_px(upper), np.array(TEETH))
    brush.fill(cavity, to_px(lower), np.array(TEETH) * 0.78)
    cavity = cv2.GaussianBlur(cavity, (0, 0), 1.0 * scale)
    ring = np.concatenate([edges.upper_inner, edges.lower_inner[::-1]])
    brush.lay(cavity, patch, brush.inside(patch.shape[0], patch.shape[1], to_px(ring)))


def _teeth(half: float, root_y: float, edge_y: float) -> np.ndarray:
    """A row of teeth as a polygon (M, 2): from its roots to its edge, a little shorter towards the sides."""
    across = np.linspace(-1, 1, 13)
    shorter = np.sign(root_y - edge_y) * 2.5 * across**2
    edge = np.stack([across * half, edge_y + shorter], -1)
    root = np.stack([across * half, np.full(13, root_y)], -1)
    return np.concatenate([edge, root[::-1]])
