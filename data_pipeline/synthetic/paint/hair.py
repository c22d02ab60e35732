"""Hair of a drawn head: its strands, and where each style covers the head and what is behind it."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthetic import person as people
from data_pipeline.synthetic.paint.canvas import Canvas
from data_pipeline.synthetic.person import Person

SKULL_TOP = -150.0  # y of the crown, px at 512


def outline(who: Person, grow: float = 0.0) -> np.ndarray:
    """The contour of the face without ears, (M, 2), `grow` px outside of it."""
    turn = np.linspace(0, 1, 40)
    up = np.sin(turn * np.pi / 2)
    up_y = SKULL_TOP * up
    up_x = who.half_width * (1 - up**2.5) ** (1 / 2.1)
    down = np.sin(turn * np.pi / 2)
    down_x = who.half_width * (1 - down ** (2.1 + 0.9 * who.jaw)) ** (1 / (1.75 + 0.5 * who.jaw))
    x = np.concatenate([down_x[::-1], up_x[1:]])
    y = np.concatenate([down[::-1] * who.chin_y, up_y[1:]])
    right = np.stack([x, y], -1)
    return np.concatenate([right, right[::-1] * (-1, 1)]) * (1 + grow / 130)


def strands(canvas: Canvas, who: Person, random: np.random.Generator) -> np.ndarray:
    """Hair as a colour per pixel, (H, W, 3): strands that run away from the crown, with a band of shine."""
    grain = random.standard_normal((24, 720)).astype(np.float32)
    crown_y = SKULL_TOP - 20
    angle = np.arctan2(canvas.x, canvas.y - crown_y) / (2 * np.pi) + 0.5
    reach = np.hypot(canvas.x, canvas.y - crown_y) / 420
    strand = cv2.remap(grain, (angle * 719).astype(np.float32), (reach * 23).astype(np.float32), cv2.INTER_LINEAR)
    if who.hair_style == people.CURLS:
        strand = 0.4 * strand + canvas.noise(random, 9)
    shine = 0.35 * canvas.bump(60 * who.light_x, SKULL_TOP + 14, 70, 16)
    tone = np.clip(0.92 + 0.17 * strand + shine, 0.4, 1.9)
    return np.clip(np.array(who.hair, np.float32) * tone[..., None] + 8 * shine[..., None], 0, 250)


def masks(canvas: Canvas, who: Person, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where hair is behind the head and in front of it, each (H, W) from 0 to 1."""
    x, y, wide = canvas.x, canvas.y, who.half_width
    style = who.hair_style
    puff = {people.SHAVED: 2.0, people.CURLS: 26.0}.get(style, 16.0)
    skull = outline(who, puff)
    turn_t = np.linspace(0, 2 * np.pi, len(skull))
    if style == people.CURLS:
        skull *= (1 + 0.035 * np.sin(turn_t * 17 + 1) + 0.02 * np.sin(turn_t * 29))[:, None]
    cap = canvas.polygon(skull, 1.2)
    inside = np.minimum(np.abs(x) / wide, 1.05)
    line_y = {
        people.SIDE_PARTING: -104 + 26 * np.clip((x + 34) / 90, -0.5, 1) ** 2 + 34 * inside**4,
        people.FRINGE: -74 + 4 * np.sin(x / 6) + 14 * inside**2,
        people.LONG_HAIR: -112 + 95 * inside**2.2,
        people.BUN: -108 + 40 * inside**3,
        people.SHAVED: -104 + 30 * inside**4,
        people.CURLS: -98 + 5 * np.sin(x / 7) + 36 * inside**4,
    }.get(style, -102 + 5 * np.sin(x / 9) + 40 * inside**5)
    jitter = 2.5 * canvas.noise(random, 7)
    over = np.clip((line_y + jitter - y) / 5 + 0.5, 0, 1)
    temples = np.clip((inside - 0.90) / 0.06, 0, 1) * np.clip((-8 - y) / 10, 0, 1)
    front = cap * np.maximum(over, temples)
    back = np.zeros_like(cap)
    if style == people.SHAVED:
        front *= 0.55
    elif style == people.BUN:
        back = canvas.ellipse(0, SKULL_TOP - 34, 42, 36, 1.5)
    elif style in (people.LONG_HAIR, people.FRINGE):
        length = 190 if style == people.LONG_HAIR else 112
        outer = [(wide * 0.9, -120), (wide + 12, -80), (wide + 20, 0), (wide + 24, length * 0.7), (wide + 10, length)]
        inner = [(wide * 0.50, length - 6), (wide * 0.62, 60), (wide * 0.9, 0), (wide * 0.5, -120)]
        curtains = [canvas.polygon([(turn * px, py) for px, py in outer + inner], 2) for turn in (-1, 1)]
        back = np.maximum(*curtains)
        lock = [
            (wide * 0.8, -120),
            (wide + 12, -80),
            (wide + 20, 0),
            (wide + 20, 70),
            (wide + 4, 80),
            (wide * 0.95, 0),
            (wide * 0.88, -60),
        ]
        for turn in (-1, 1):
            front = np.maximum(front, canvas.polygon([(turn * px, py) for px, py in lock], 2))
    return back, np.clip(front, 0, 1)
