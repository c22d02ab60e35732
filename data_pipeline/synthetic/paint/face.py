"""Draws a frame: a person, a mouth shape and a pose become a picture.

Eyes and mouth are painted on a copy of the head's sheet, in the head's own coordinates. One warp then turns,
nods, lowers the jaw, raises the brows and moves the head, and lays it over the static scene. Its map is
computed at every CELLth pixel only, where a field that smooth needs no more.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthetic.movement import Pose
from data_pipeline.synthetic.paint import brush, mouth
from data_pipeline.synthetic.paint.canvas import CENTRE
from data_pipeline.synthetic.paint.portrait import Portrait
from data_pipeline.synthetic.person import Person

CELL = 8  # px of the picture between computed points of the warp
JAW_SHARE = 0.55  # of the gap between the lips by which the chin goes down
WHITE = (214, 222, 226)


class Face:
    """Draws one person at one size. A frame depends on its arguments alone."""

    def __init__(self, who: Person, still: Portrait):
        self.who, self.still = who, still
        self.size = still.scene.shape[0]
        self.sheet = still.head.copy()
        ahead = CELL // 2 - 0.5
        at = np.arange(-1, self.size // CELL + 2, dtype=np.float32) * CELL + ahead
        self.grid_x, self.grid_y = np.meshgrid(at, at)
        self.mouth_box = self._box(-78, who.mouth_y - 45, 78, who.mouth_y + 88)
        reach_x, reach_y = who.eye_half_width + 9, who.eye_half_height + 9
        self.eye_boxes = [
            self._box(turn * who.eye_x - reach_x, who.eye_y - reach_y, turn * who.eye_x + reach_x, who.eye_y + reach_y)
            for turn in (-1, 1)
        ]

    def frame(self, shape: np.ndarray, pose: Pose) -> np.ndarray:
        """The picture (H, W, 3) uint8, blue green red, for a mouth shape (opening, width, rounding)."""
        edges = mouth.contours(self.who, *(float(value) for value in shape))
        self._paint_mouth(edges)
        for turn, box in zip((-1, 1), self.eye_boxes):
            self._paint_eye(turn, box, pose)
        map_x, map_y = self._warp(JAW_SHARE * edges.gap, pose)
        head = cv2.remap(self.sheet, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        colour = cv2.cvtColor(head, cv2.COLOR_BGRA2BGR)  # drops alpha: the sheet is already multiplied by it
        through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(head, 3)), cv2.COLOR_GRAY2BGR)
        return cv2.add(colour, cv2.multiply(self.still.scene, through, scale=1 / 255))

    def jaw_weight(self, x, y):
        """How much of the jaw's way a point (px at 512) goes down: 0 at the upper lip, 1 at the chin."""
        who = self.who
        down = np.clip((y - who.mouth_y + 12) / (who.chin_y - who.mouth_y + 12), 0, 1)
        # Half straight, half smooth: steeper, and the warp of a wide open mouth would fold the chin.
        return 0.5 * down * (1 + down * (3 - 2 * down)) * np.exp(-((np.abs(x) / (1.02 * who.half_width)) ** 4))

    def _paint_mouth(self, edges: mouth.Contours) -> None:
        box = self.mouth_box
        patch = self.sheet[box]
        patch[:] = self.still.head[box]
        jaw = JAW_SHARE * edges.gap
        corner = np.array([box[1].start, box[0].start])

        def to_px(points: np.ndarray) -> np.ndarray:
            # The warp takes what is shown at y from y - jaw * weight(y): painted there, it lands at y.
            source_y = points[:, 1] - jaw * self.jaw_weight(points[:, 0], points[:, 1])
            return self._pixels(np.stack([points[:, 0], source_y], -1)) - corner

        mouth.paint(patch, self.who, edges, to_px, self.still.scale)

    def _paint_eye(self, turn: int, box: tuple[slice, slice], pose: Pose) -> None:
        who, scale = self.who, self.still.scale
        patch = self.sheet[box]
        patch[:] = self.still.head[box]
        corner = np.array([box[1].start, box[0].start])

        def to_px(x, y) -> np.ndarray:
            return self._pixels(np.stack([x, y], -1)) - corner

        across = np.linspace(-1, 1, 17)
        x = turn * who.eye_x + across * who.eye_half_width
        arch = 1 - across**2
        level_y = who.eye_y - 1.5 * turn * across  # outer corners stand a little higher
        lower_y = level_y + 0.62 * who.eye_half_height * arch
        open_y = level_y - 1.05 * who.eye_half_height * arch**0.8
        upper_y = open_y + (lower_y - 1 - open_y) * pose.lids
        upper, lower, fold = to_px(x, upper_y), to_px(x, lower_y), to_px(x, open_y - 2)
        skin = np.array(who.skin)
        brush.fill(patch, np.concatenate([fold, upper[::-1]]), skin * 0.80)
        if pose.lids < 0.9:
            ball = self._eyeball(patch.shape, turn, pose, to_px)
            shade = np.concatenate([upper, to_px(x, upper_y + 4)[::-1]])
            brush.fill(ball, shade, np.array(who.iris) * 0.2 + 60)
            ball = cv2.GaussianBlur(ball, (0, 0), 0.9 * scale)
            brush.lay(ball, patch, brush.inside(patch.shape[0], patch.shape[1], np.concatenate([upper, lower[::-1]])))
        brush.line(patch, lower, skin * 0.45, scale)
        brush.line(patch, upper, np.array(who.hair) * 0.25 + 8, 2.6 * scale)

    def _eyeball(self, shape: tuple[int, ...], turn: int, pose: Pose, to_px) -> np.ndarray:
        """White, iris, pupil and a glint, (H, W, 4), before the lids cover them."""
        who, scale = self.who, self.still.scale
        ball = np.empty(shape, np.uint8)
        ball[:] = brush.opaque(WHITE)
        x, y = turn * who.eye_x + pose.gaze_x, who.eye_y - 1.5 + pose.gaze_y
        iris, radius = np.array(who.iris), 0.92 * who.eye_half_height * scale
        for share, tone in ((1.0, 0.45), (0.84, 1.0), (0.42, 0.08)):
            brush.disc(ball, to_px(x, y), (share * radius, share * radius), iris * tone)
        brush.disc(ball, to_px(x + 3 * np.sign(who.light_x), y - 3.5), (2 * scale, 2 * scale), (250, 250, 250))
        return ball

    def _warp(self, jaw_px: float, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """For every pixel of the picture the pixel (x, y) of the sheet that it shows, each (H, W) float32."""
        who, scale = self.who, self.still.scale
        # The pose undone: around a point below the chin, about which a head turns.
        pivot_x, pivot_y = 0.0, 90.0
        x = ((self.grid_x + 0.5) / scale - CENTRE[0] - pose.x - pivot_x) / pose.scale
        y = ((self.grid_y + 0.5) / scale - CENTRE[1] - pose.y - pivot_y) / pose.scale
        cos, sin = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
        x, y = x * cos + y * sin + pivot_x, y * cos - x * sin + pivot_y
        depth = self._depth_at(x, y)
        x = x - np.float32(pose.yaw) * depth
        y = y - np.float32(pose.pitch) * depth
        brow = np.exp(-0.5 * ((y - who.brow_y) / 13) ** 2) * np.exp(-((x / 88) ** 4))
        y = y - jaw_px * self.jaw_weight(x, y) + pose.brows * brow
        map_x = (x + CENTRE[0]) * scale - 0.5
        map_y = (y + CENTRE[1]) * scale - 0.5
        return self._fine(map_x), self._fine(map_y)

    def _depth_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        scale = self.still.scale
        map_x, map_y = (x + CENTRE[0]) * scale - 0.5, (y + CENTRE[1]) * scale - 0.5
        return cv2.remap(self.still.depth, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)

    def _fine(self, coarse: np.ndarray) -> np.ndarray:
        """A field at every pixel from its values at the grid, whose border of one cell is cut off."""
        side = coarse.shape[0] * CELL
        fine = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        return fine[CELL : CELL + self.size, CELL : CELL + self.size]

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return (points + CENTRE) * self.still.scale - 0.5

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """The pixels of a rectangle given in px at 512, as (rows, columns)."""
        low, high = self._pixels(np.array([[left, top], [right, bottom]]))
        return slice(int(low[1]), int(high[1]) + 1), slice(int(low[0]), int(high[0]) + 1)
