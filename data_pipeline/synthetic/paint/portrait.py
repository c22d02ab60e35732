"""What of a drawn person never changes: the scene, and a shaded head with hair, without eyes and mouth.

Lengths as in `person`. Shape legend: H height, W width; a picture is (H, W, 3) and a sheet (H, W, 4) uint8,
blue, green, red and, for a sheet, alpha, which the colours are already multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.synthetic.paint import hair
from data_pipeline.synthetic.paint.canvas import Canvas, as_bytes, mix
from data_pipeline.synthetic.paint.hair import outline
from data_pipeline.synthetic.paint.relief import relief
from data_pipeline.synthetic.paint.scene import scene
from data_pipeline.synthetic.person import Person


@dataclass(frozen=True)
class Portrait:
    """Static layers of one person at `scale` pixels per px at 512."""

    scene: np.ndarray  # background with neck, shoulders and clothes, (H, W, 3)
    head: np.ndarray  # sheet
    depth: np.ndarray  # z of the head's surface (see `relief`), (H, W) float32
    scale: float


def portrait(who: Person, size: int) -> Portrait:
    """Paint the static layers for pictures of size x size."""
    canvas = Canvas(size)
    random = np.random.default_rng(who.texture_seed)
    behind = scene(canvas, who, random)
    depth = relief(who, canvas.x, canvas.y).astype(np.float32)
    head = cv2.GaussianBlur(_head(canvas, who, depth, random), (0, 0), 0.6 * canvas.scale)
    return Portrait(as_bytes(behind), as_bytes(head), depth, canvas.scale)


def _head(canvas: Canvas, who: Person, depth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sheet (H, W, 4) float32 of the head: hair behind, ears, face, brows, hair in front."""
    sheet = np.zeros((canvas.size, canvas.size, 4), np.float32)
    colour, alpha = sheet[..., :3], sheet[..., 3]

    def lay(what, weight: np.ndarray) -> None:
        mix(colour, what, weight)  # over nothing, which is black: so colours come out multiplied by alpha
        alpha[:] += (255 - alpha) * weight

    strands = hair.strands(canvas, who, random)
    back, front = hair.masks(canvas, who, random)
    lay(strands * 0.62, back)
    skin = np.array(who.skin, np.float32)
    for turn in (-1, 1):
        ear_x = turn * (who.half_width + 1)
        lay(skin * 0.84, canvas.ellipse(ear_x, 4, 14, 27, 0.8))
        lay(skin * 0.60, canvas.ellipse(ear_x + turn * 2, 3, 6, 16, 2.5))
    face = canvas.polygon(outline(who), 0.5)
    lay(_shaded_skin(canvas, who, depth, random), face)
    _details(canvas, who, colour, strands, face)
    shadow = cv2.GaussianBlur(front, (0, 0), 7 * canvas.scale) * face
    mix(colour, colour * 0.62, shadow * 0.8)
    lay(strands, front)
    return sheet


def _shaded_skin(canvas: Canvas, who: Person, depth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The skin lit from the front and above (Lambert), redder on cheeks and nose and in the shade."""
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(depth, (0, 0), 2.2 * canvas.scale) * canvas.scale)
    light = np.array([who.light_x, -0.55, 1.0])
    light /= np.linalg.norm(light)
    facing = (-slope_x * light[0] - slope_y * light[1] + light[2]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = np.clip(facing, 0, 1)
    gloss = 0.16 * facing**14
    shade = (0.40 + 0.66 * facing)[..., None] ** np.array([1.15, 1.08, 0.92], np.float32)
    skin = np.array(who.skin, np.float32) * shade + 255 * gloss[..., None]
    blush = canvas.bump(-56, 34, 24, 18) + canvas.bump(56, 34, 24, 18) + 0.6 * canvas.bump(0, who.nose_y, 14, 10)
    skin *= 1 - blush[..., None] * np.array([0.10, 0.12, 0.0], np.float32)
    skin *= 1 + 0.012 * canvas.noise(random, 5)[..., None] + 0.012 * canvas.noise(random, 28)[..., None]
    return skin


def _details(canvas: Canvas, who: Person, colour: np.ndarray, strands: np.ndarray, face: np.ndarray) -> None:
    """Nostrils, folds above the eyes, brows and beard, painted on the face."""
    skin = np.array(who.skin, np.float32)
    for turn in (-1, 1):
        nostril = canvas.ellipse(turn * who.nose_half_width * 0.48, who.nose_y + 6, 5.2, 2.8, 1.3)
        mix(colour, skin * 0.22, 0.8 * nostril)
        wing = canvas.bump(turn * (who.nose_half_width + 1), who.nose_y + 1, 2.5, 8)
        mix(colour, skin * 0.45, 0.45 * wing)
        across = np.linspace(-1.15, 1.2, 15)
        fold_y = who.eye_y - who.eye_half_height * (1.75 - 0.9 * across**2)
        fold = np.stack([turn * (who.eye_x + across * who.eye_half_width), fold_y], -1)
        thick = np.concatenate([fold, fold[::-1] + np.array([0, 2.6])])
        mix(colour, skin * 0.42, 0.6 * canvas.polygon(thick, 1.3))
        # From the nose outwards: a brow rises, then falls and thins out.
        along = np.linspace(0, 1, 15)
        brow_x = turn * (who.eye_x - 27 + along * 58)
        brow_y = who.brow_y - 5 * np.sin(along * 2.6) - who.brow_tilt * along + 6 * along**3
        depth_y = who.brow_thickness * (1 - 0.75 * along**1.8)
        brow = np.concatenate([np.stack([brow_x, brow_y], -1), np.stack([brow_x, brow_y + depth_y], -1)[::-1]])
        mix(colour, np.minimum(strands, 120) * 0.62, 0.86 * canvas.polygon(brow, 1.4))
    if who.beard:
        down = np.clip((canvas.y - 48 - 0.15 * np.abs(canvas.x)) / 26, 0, 1)
        cheeks = 1 - canvas.bump(0, 20, 62, 34)
        lips = 1 - canvas.bump(0, who.mouth_y + 2, who.mouth_half_width * 0.62, 13)
        mix(colour, strands * 0.5 + skin * 0.14, who.beard * down * cheeks * lips * face)
    philtrum = canvas.bump(0, who.mouth_y - who.upper_lip - 9, 3.5, 7)
    mix(colour, skin * 0.6, 0.22 * philtrum)
