"""The second renderer: other faces, other lips, other light.

Of the first it shares how a head is turned in space (projection.py), since that is geometry and no style, and the shape
of the skull. The rest differs: proportions; flat paint instead of shaded skin; light that stays in the room while
the head turns, in bands; outlines; lips that part upwards as well, with square corners; teeth in one band, no tongue.

Lengths as in `person`. Shape suffixes: H height, W width, 3 = blue, green, red; (M, 2) points of a contour.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from data_pipeline.synthetic.movement import Pose
from data_pipeline.synthetic.paint import brush, mouth, projection
from data_pipeline.synthetic.paint.canvas import Canvas, as_bytes, mix
from data_pipeline.synthetic.paint.face import JAW_SHARE, Face
from data_pipeline.synthetic.paint.hair import outline
from data_pipeline.synthetic.paint.portrait import Portrait
from data_pipeline.synthetic.paint.relief import relief
from data_pipeline.synthetic.person import Person, hue

WIDEST, LIFT = 0.42, 0.40  # as mouth.WIDEST and mouth.LIFT, which are 0.46 and 0.16
BANDS = 4  # of light
LIGHT = np.array([-0.55, -0.45, 0.7])  # in the room: from the upper left
INK = (38, 30, 44)
INSIDE, TEETH = (30, 20, 74), (228, 232, 236)
_ACROSS_M = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 25))


def proportioned(who: Person) -> Person:
    """The same person as this renderer draws it: larger eyes, a longer nose, a narrower head, a lower mouth."""
    return replace(
        who,
        half_width=0.95 * who.half_width,
        eye_half_width=1.12 * who.eye_half_width,
        eye_half_height=1.2 * who.eye_half_height,
        nose_y=who.nose_y + 4,
        mouth_y=who.mouth_y + 3,
        mouth_half_width=0.92 * who.mouth_half_width,
        upper_lip=1.15 * who.upper_lip,
    )


def portrait(who: Person, size: int) -> Portrait:
    """The static layers in flat paint: a plain backdrop, and a head whose light is laid on frame by frame."""
    canvas = Canvas(size)
    depth = relief(who, canvas.x, canvas.y).astype(np.float32)
    return Portrait(as_bytes(_backdrop(canvas, who)), as_bytes(_head(canvas, who)), depth, canvas.scale)


class LitFace(Face):
    """Draws one person in this style. `who` is `proportioned` already."""

    def edges(self, shape: np.ndarray) -> mouth.Contours:
        opening, width, rounding = (float(value) for value in shape)
        who, across = self.who, _ACROSS_M
        gap = max(opening, 0.0) * WIDEST * 2 * who.mouth_half_width
        half = who.mouth_half_width * float(np.clip(1 + 0.9 * width, 0.5, 1.4))
        arch = (1 - across**2) ** (0.5 - 0.1 * float(np.clip(rounding, 0, 1)))  # squarer than the first renderer's
        gap_M = gap * arch * (1 + 0.6 * who.articulation.asymmetry * across)
        line_M = who.mouth_y + 0.5 * who.mouth_curve * across**2
        full = 1 + 0.25 * max(rounding, 0.0)
        over_M = who.upper_lip * full * (1 - np.abs(across) ** 2.6) * (1 - 0.12 * np.exp(-((across / 0.1) ** 2))) + 0.8
        under_M = who.lower_lip * full * (1 - np.abs(across) ** 2.6) + 0.8
        upper_M, lower_M = line_M - LIFT * gap_M, line_M + (1 - LIFT) * gap_M
        inner_x, outer_x = across * half * 0.9, across * half
        return mouth.Contours(
            np.stack([outer_x, upper_M - over_M], -1),
            np.stack([inner_x, upper_M], -1),
            np.stack([inner_x, lower_M], -1),
            np.stack([outer_x, lower_M + under_M], -1),
            gap,
        )

    def lay_mouth(self, patch: np.ndarray, edges: mouth.Contours, to_px: mouth.ToPixels) -> None:
        scale, lips = self.still.scale, np.array(self.who.lips)
        upper_outer, upper_inner = to_px(edges.upper_outer), to_px(edges.upper_inner)
        lower_inner, lower_outer = to_px(edges.lower_inner), to_px(edges.lower_outer)
        brush.fill(patch, np.concatenate([upper_outer, lower_outer[::-1]]), lips * 0.95)
        brush.fill(patch, np.concatenate([upper_outer, upper_inner[::-1]]), lips * 0.78)
        if edges.gap > 1:
            ring = np.concatenate([edges.upper_inner, edges.lower_inner[::-1]])
            cavity = np.empty_like(patch)
            cavity[:] = brush.opaque(INSIDE)
            teeth = edges.upper_inner + np.array([0.0, min(0.3 * edges.gap, 7.0)])
            brush.fill(cavity, to_px(np.concatenate([edges.upper_inner, teeth[::-1]])), TEETH)
            brush.lay(cavity, patch, brush.inside(patch.shape[0], patch.shape[1], to_px(ring)))
        for rim, width in ((upper_outer, 1.2), (lower_outer, 1.2), (upper_inner, 1.8), (lower_inner, 1.8)):
            brush.line(patch, rim, lips * 0.35, width * scale)
        patch[:] = cv2.GaussianBlur(patch, (0, 0), 0.8 * scale)

    def head(self, shape: np.ndarray, pose: Pose) -> np.ndarray:
        sheet = super().head(shape, pose)
        map_x, map_y = self._warp(JAW_SHARE * self.edges(shape).gap, pose)
        z = cv2.remap(self.still.depth, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        sheet[..., :3] = np.clip(sheet[..., :3] * _light(z, map_x, map_y, pose, self.still.scale)[..., None], 0, 255)
        return sheet


def _light(z: np.ndarray, map_x: np.ndarray, map_y: np.ndarray, pose: Pose, scale: float) -> np.ndarray:
    """How bright each pixel is, (H, W): Lambert's law in soft bands, the light fixed in the room.

    `map_x`, `map_y`: the pixel of the sheet that is shown there, and `z` its height; turned as the head is, they are a
    surface over the picture.
    """
    points = np.stack([map_x / scale, map_y / scale, z], -1)
    turned_z = (points @ projection.rotation(pose).T[:, 2]).astype(np.float32)
    turned_z = cv2.GaussianBlur(turned_z, (0, 0), 2.5 * scale) * scale
    slope_y, slope_x = np.gradient(turned_z)
    light = LIGHT / np.linalg.norm(LIGHT)
    facing = (-slope_x * light[0] - slope_y * light[1] + light[2]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    level = np.clip(facing, 0, 1) * BANDS
    banded = (np.floor(level) + 1 / (1 + np.exp(-14 * (level % 1 - 0.5)))) / BANDS
    return 0.58 + 0.5 * (0.6 * banded + 0.4 * level / BANDS)


def _backdrop(canvas: Canvas, who: Person) -> np.ndarray:
    """A plain ground that darkens towards the edges, and shoulders in flat cloth, (H, W, 3) float32."""
    ground = np.array(hue(who.background_hue, 0.18, 0.78), np.float32)
    picture = ground * (1 - 0.3 * ((canvas.x / 300) ** 2 + (canvas.y / 330) ** 2))[..., None].clip(0.4, 1)
    neck = 0.56 * who.half_width
    mix(picture, np.array(who.skin) * 0.72, canvas.polygon([(-neck, 60), (neck, 60), (neck, 200), (-neck, 200)], 1))
    wide = 1.8 * who.half_width
    cloth = [
        (-neck * 1.1, 168),
        (0, 196),
        (neck * 1.1, 168),
        (wide, 215),
        (wide * 1.1, 300),
        (-wide * 1.1, 300),
        (-wide, 215),
    ]
    mix(picture, np.array(who.clothes), canvas.polygon(cloth, 1))
    return picture


def _head(canvas: Canvas, who: Person) -> np.ndarray:
    """The sheet (H, W, 4) float32: cap of hair, ears, face, brows and nose in flat paint with outlines."""
    sheet = np.zeros((canvas.size, canvas.size, 4), np.float32)
    colour, alpha = sheet[..., :3], sheet[..., 3]
    skin, hair = np.array(who.skin, np.float32), np.array(who.hair, np.float32)

    def lay(what: np.ndarray, weight: np.ndarray) -> None:
        mix(colour, what, weight)
        alpha[:] += (255 - alpha) * weight

    lay(hair * 0.8, canvas.ellipse(0, -46, 1.12 * who.half_width, 112, 1.5))
    for turn in (-1, 1):
        lay(skin * 0.9, canvas.ellipse(turn * (who.half_width + 1), 2, 12, 24, 0.8))
    points = outline(who)
    lay(np.array(INK, np.float32) * 0.5 + skin * 0.3, canvas.polygon(points * 1.015, 0.8))
    face = canvas.polygon(points, 0.8)
    lay(skin, face)
    crown = canvas.ellipse(0, -118, 1.05 * who.half_width, 58, 1.5)
    lay(hair, crown)
    for turn in (-1, 1):
        along = np.linspace(0, 1, 12)
        brow_x = turn * (who.eye_x - 25 + along * 54)
        brow_y = who.brow_y - 7 * np.sin(along * np.pi * 0.9)
        thick = who.brow_thickness * (1.1 - 0.5 * along)
        brow = np.concatenate([np.stack([brow_x, brow_y], -1), np.stack([brow_x, brow_y + thick], -1)[::-1]])
        mix(colour, hair * 0.5, 0.95 * canvas.polygon(brow, 0.8))
        mix(colour, skin * 0.3, 0.9 * canvas.ellipse(turn * who.nose_half_width * 0.5, who.nose_y + 5, 5, 2.6, 1))
        side = turn * (who.nose_half_width + 1)
        mix(colour, skin * 0.6, 0.7 * canvas.ellipse(side, who.nose_y, 2.2, 8, 1.2))
        mix(colour, skin * [0.82, 0.8, 1.0], 0.5 * canvas.bump(turn * 56, 36, 20, 14))
    mix(colour, skin * 0.78, 0.6 * canvas.polygon([(2, who.eye_y), (9, who.nose_y - 6), (4, who.nose_y - 2)], 2.5))
    mix(colour, skin * 0.7, 0.5 * canvas.ellipse(0, who.mouth_y + who.lower_lip + 10, 20, 3, 2))
    return sheet
