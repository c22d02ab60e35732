"""What stands still behind a drawn head: the room, neck, shoulders and clothes.

Lengths as in `person`; a picture is (H, W, 3) float32, blue green red.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthetic.paint.canvas import Canvas, as_bytes, mix
from data_pipeline.synthetic.person import Colour, Person, hue


def scene(canvas: Canvas, who: Person, random: np.random.Generator) -> np.ndarray:
    """The whole scene of a person without the head, (H, W, 3)."""
    picture = background(canvas, who, random)
    _body(canvas, picture, who, random)
    return picture


def body(canvas: Canvas, who: Person, texture_seed: int) -> np.ndarray:
    """Neck, shoulders and clothes alone, a sheet (H, W, 4) as in portrait.py.

    Painted on black and on white: the two differ by what shines through, and black leaves the colours as they are
    multiplied by alpha.
    """
    black, white = (np.full((canvas.size, canvas.size, 3), tone, np.float32) for tone in (0, 255))
    for ground in (black, white):
        _body(canvas, ground, who, np.random.default_rng(texture_seed))
    alpha = 255 - (white - black).mean(axis=-1, keepdims=True)
    return as_bytes(np.concatenate([black, alpha], axis=-1))


def background_only(colour: Colour, size: int) -> np.ndarray:
    """A picture without a person, (H, W, 3): a lit wall."""
    canvas = Canvas(size)
    fall = 1 - 0.0007 * canvas.y + 0.0004 * canvas.x
    return as_bytes(np.array(colour, np.float32) * fall[..., None])


def background(canvas: Canvas, who: Person, random: np.random.Generator) -> np.ndarray:
    """The person's room, out of focus, (H, W, 3) float32."""
    base = np.array(hue(who.background_hue, 0.28, 0.62), np.float32)
    fall = 1.05 - 0.0009 * (canvas.y + 256) + 0.0006 * canvas.x * who.light_x
    picture = base * fall[..., None]
    light = np.minimum(base * 1.5 + 30, 250)
    if who.background == "window":
        for left in (-236, -150):
            pane = canvas.polygon([(left, -230), (left + 74, -230), (left + 74, 60), (left, 60)], 9)
            mix(picture, light, 0.7 * pane)
    elif who.background == "lights":
        for _ in range(14):
            x, y = random.uniform(-256, 256), random.uniform(-264, 60)
            glow = hue(random.random(), 0.35, 0.95)
            radius = random.uniform(10, 28)
            mix(picture, glow, 0.45 * canvas.ellipse(x, y, radius, radius, 4))
    elif who.background == "shelves":
        for y in (-170, -60, 50):
            for x in np.arange(-250, 250, 22):
                book = hue(random.random(), 0.4, 0.55)
                top = y - random.uniform(45, 80)
                mix(picture, book, 0.6 * canvas.polygon([(x, top), (x + 18, top), (x + 18, y), (x, y)]))
            mix(picture, base * 0.5, canvas.polygon([(-260, y), (260, y), (260, y + 9), (-260, y + 9)]))
        picture = cv2.GaussianBlur(picture, (0, 0), 7 * canvas.scale)
    return picture + canvas.noise(random, 90)[..., None] * 5


def _body(canvas: Canvas, picture: np.ndarray, who: Person, random: np.random.Generator) -> None:
    """Neck, shoulders and clothes, painted over the scene."""
    skin, cloth = np.array(who.skin, np.float32), np.array(who.clothes, np.float32)
    side = 1 + 0.0016 * canvas.x * who.light_x
    neck_x, wide = 0.60 * who.half_width, 1.75 * who.half_width
    right = [
        (neck_x, 60),
        (neck_x * 1.02, 150),
        (neck_x * 1.2, 176),
        (wide * 0.80, 204),
        (wide * 0.97, 224),
        (wide, 300),
    ]
    left = [(-x, y) for x, y in right[::-1]]
    skin_shade = 0.46 + 0.34 * np.clip((canvas.y - who.chin_y) / 75, 0, 1) - 0.10 * (canvas.x / neck_x) ** 2
    mix(picture, skin * np.clip(skin_shade * side, 0.32, 1.2)[..., None], canvas.polygon(right + left, 1))
    fold = 1 + 0.05 * canvas.noise(random, 40) - 0.10 * (canvas.x / wide) ** 2
    worn = cloth * (fold * side)[..., None]
    shirt = canvas.polygon([(neck_x * 1.06, 150), *right[2:], *left[:-2], (-neck_x * 1.06, 150)], 1)
    if who.clothes_style == "turtleneck":
        mix(picture, cloth * 0.7, canvas.ellipse(0, 196, neck_x * 1.6, 56, 2))
    hole = canvas.ellipse(0, 150, neck_x * 1.12, 50, 0.8)
    if who.clothes_style == "shirt":
        hole = canvas.polygon([(neck_x * 1.12, 140), (0, 236), (-neck_x * 1.12, 140)], 0.8)
    mix(picture, worn, shirt * (1 - hole))
    if who.clothes_style == "shirt":
        pale = np.minimum(cloth * 0.4 + 140, 245)
        for turn in (-1, 1):
            collar = [(turn * neck_x * 1.02, 148), (turn * neck_x * 1.42, 176), (turn * 36, 246), (turn * 1, 236)]
            mix(picture, pale * (0.92 + 0.06 * turn * who.light_x), canvas.polygon(collar, 0.7))
    elif who.clothes_style == "scarf":
        knit = 0.9 + 0.12 * np.sin(canvas.x / 5 + canvas.y / 9)
        mix(
            picture,
            np.minimum(cloth[::-1] * 0.8 + 40, 255) * knit[..., None],
            canvas.ellipse(0, 188, neck_x * 1.55, 34, 1.5),
        )
    else:
        ring = canvas.ellipse(0, 150, neck_x * 1.24, 60, 0.8) * (1 - hole) * shirt
        mix(picture, cloth * 0.78, ring)
