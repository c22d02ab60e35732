"""What of a drawn person never changes: background, body, hair, and a shaded head without eyes and mouth.

Lengths as in `person`. Shape legend: H height, W width; a picture is (H, W, 3) and a sheet (H, W, 4) uint8,
blue, green, red and, for a sheet, alpha, which the colours are already multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline import brush
from data_pipeline import person as people
from data_pipeline.person import Colour, Person

CENTRE = (256.0, 264.0)  # of the face in the picture of 512 x 512
SKULL_TOP = -150.0


@dataclass(frozen=True)
class Portrait:
    """Static layers of one person at `scale` pixels per px at 512."""

    scene: np.ndarray  # background with neck, shoulders and clothes, (H, W, 3)
    head: np.ndarray  # sheet
    depth: np.ndarray  # how far the head stands out towards the camera, px at 512, (H, W) float32
    scale: float


def portrait(who: Person, size: int) -> Portrait:
    """Paint the static layers for pictures of size x size."""
    canvas = Canvas(size)
    random = np.random.default_rng(who.texture_seed)
    scene = _background(canvas, who, random)
    _body(canvas, scene, who, random)
    depth = _depth(canvas, who)
    head = cv2.GaussianBlur(_head(canvas, who, depth, random), (0, 0), 0.6 * canvas.scale)
    return Portrait(_bytes(scene), _bytes(head), depth, canvas.scale)


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


def _background(canvas: Canvas, who: Person, random: np.random.Generator) -> np.ndarray:
    """An out-of-focus room, (H, W, 3) float32."""
    base = np.array(people.hue(who.background_hue, 0.28, 0.62), np.float32)
    fall = 1.05 - 0.0009 * (canvas.y + 256) + 0.0006 * canvas.x * who.light_x
    scene = base * fall[..., None]
    light = np.minimum(base * 1.5 + 30, 250)
    if who.background == "window":
        for left in (-236, -150):
            pane = canvas.polygon([(left, -230), (left + 74, -230), (left + 74, 60), (left, 60)], 9)
            mix(scene, light, 0.7 * pane)
    elif who.background == "lights":
        for _ in range(14):
            x, y = random.uniform(-256, 256), random.uniform(-264, 60)
            glow = people.hue(random.random(), 0.35, 0.95)
            radius = random.uniform(10, 28)
            mix(scene, glow, 0.45 * canvas.ellipse(x, y, radius, radius, 4))
    elif who.background == "shelves":
        for y in (-170, -60, 50):
            for x in np.arange(-250, 250, 22):
                book = people.hue(random.random(), 0.4, 0.55)
                top = y - random.uniform(45, 80)
                mix(scene, book, 0.6 * canvas.polygon([(x, top), (x + 18, top), (x + 18, y), (x, y)]))
            mix(scene, base * 0.5, canvas.polygon([(-260, y), (260, y), (260, y + 9), (-260, y + 9)]))
        scene = cv2.GaussianBlur(scene, (0, 0), 7 * canvas.scale)
    return scene + canvas.noise(random, 90)[..., None] * 5


def _body(canvas: Canvas, scene: np.ndarray, who: Person, random: np.random.Generator) -> None:
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
    mix(scene, skin * np.clip(skin_shade * side, 0.32, 1.2)[..., None], canvas.polygon(right + left, 1))
    fold = 1 + 0.05 * canvas.noise(random, 40) - 0.10 * (canvas.x / wide) ** 2
    worn = cloth * (fold * side)[..., None]
    shirt = canvas.polygon([(neck_x * 1.06, 150), *right[2:], *left[:-2], (-neck_x * 1.06, 150)], 1)
    if who.clothes_style == "turtleneck":
        mix(scene, cloth * 0.7, canvas.ellipse(0, 196, neck_x * 1.6, 56, 2))
    hole = canvas.ellipse(0, 150, neck_x * 1.12, 50, 0.8)
    if who.clothes_style == "shirt":
        hole = canvas.polygon([(neck_x * 1.12, 140), (0, 236), (-neck_x * 1.12, 140)], 0.8)
    mix(scene, worn, shirt * (1 - hole))
    if who.clothes_style == "shirt":
        pale = np.minimum(cloth * 0.4 + 140, 245)
        for turn in (-1, 1):
            collar = [(turn * neck_x * 1.02, 148), (turn * neck_x * 1.42, 176), (turn * 36, 246), (turn * 1, 236)]
            mix(scene, pale * (0.92 + 0.06 * turn * who.light_x), canvas.polygon(collar, 0.7))
    elif who.clothes_style == "scarf":
        knit = 0.9 + 0.12 * np.sin(canvas.x / 5 + canvas.y / 9)
        mix(
            scene,
            np.minimum(cloth[::-1] * 0.8 + 40, 255) * knit[..., None],
            canvas.ellipse(0, 188, neck_x * 1.55, 34, 1.5),
        )
    else:
        ring = canvas.ellipse(0, 150, neck_x * 1.24, 60, 0.8) * (1 - hole) * shirt
        mix(scene, cloth * 0.78, ring)


def _depth(canvas: Canvas, who: Person) -> np.ndarray:
    """The relief of the head: skull, brow, nose, cheeks, chin, as a sum of hills. px, (H, W)."""
    across = canvas.x / (1.12 * who.half_width)
    along = np.where(canvas.y > 0, canvas.y / (1.14 * who.chin_y), canvas.y / (1.12 * SKULL_TOP))
    depth = 84 * np.sqrt(np.maximum(1 - across**2 - along**2, 0.02))
    down = np.clip((canvas.y - who.eye_y + 16) / (who.nose_y - who.eye_y + 16), 0, 1)
    end = np.clip((canvas.y - who.nose_y + 0.012 * canvas.x**2) / 15, 0, 1)
    ridge = 24 * down**1.2 * (1 - end**2 * (3 - 2 * end))
    breadth = (0.34 + 0.18 * down) * who.nose_half_width
    depth += ridge * np.exp(-0.5 * (canvas.x / breadth) ** 2)
    for turn in (-1, 1):
        depth += 8 * canvas.bump(turn * who.nose_half_width * 0.72, who.nose_y, 6, 6)
        depth += 6 * canvas.bump(turn * 40, who.brow_y + 8, 30, 10)
        depth -= 11 * canvas.bump(turn * who.eye_x, who.eye_y - 4, 25, 15)
        depth += 4 * canvas.bump(turn * who.eye_x, who.eye_y, 15, 9)
        depth += 9 * canvas.bump(turn * 54, 26, 26, 26)
        depth -= 3 * canvas.bump(turn * 52, who.mouth_y - 10, 7, 24)
    depth += 7 * canvas.bump(0, who.mouth_y, 40, 26)
    depth -= 2.5 * canvas.bump(0, (who.nose_y + who.mouth_y) / 2 + 3, 5, 9)
    depth -= 5 * canvas.bump(0, who.mouth_y + who.lower_lip + 9, 26, 6)
    depth += 9 * canvas.bump(0, who.chin_y - 18, 24, 14)
    return depth.astype(np.float32)


def _head(canvas: Canvas, who: Person, depth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sheet (H, W, 4) float32 of the head: hair behind, ears, face, brows, hair in front."""
    sheet = np.zeros((canvas.size, canvas.size, 4), np.float32)
    colour, alpha = sheet[..., :3], sheet[..., 3]

    def lay(what, weight: np.ndarray) -> None:
        mix(colour, what, weight)  # over nothing, which is black: so colours come out multiplied by alpha
        alpha[:] += (255 - alpha) * weight

    strands = _strands(canvas, who, random)
    back, front = _hair_masks(canvas, who, random)
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


def _strands(canvas: Canvas, who: Person, random: np.random.Generator) -> np.ndarray:
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


def _hair_masks(canvas: Canvas, who: Person, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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


def _bytes(picture: np.ndarray) -> np.ndarray:
    """A float picture as uint8."""
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def background_only(colour: Colour, size: int) -> np.ndarray:
    """A picture without a person, (H, W, 3): a lit wall."""
    canvas = Canvas(size)
    fall = 1 - 0.0007 * canvas.y + 0.0004 * canvas.x
    return _bytes(np.array(colour, np.float32) * fall[..., None])
