"""Draws a frame: a person, a mouth shape and a pose become a picture.

Eyes and mouth are painted on a copy of the head's sheet, in the head's own coordinates seen from the front. One warp
then lowers the jaw, raises the brows, and shows the sheet as it lies on the head's relief, which is turned and moved
in space (projection.py), over the static scene. Its map is computed on a coarse grid only: a field that smooth needs no
more.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthetic.movement import Pose
from data_pipeline.synthetic.paint import brush, mouth, projection
from data_pipeline.synthetic.paint.canvas import CENTRE
from data_pipeline.synthetic.paint.portrait import Portrait
from data_pipeline.synthetic.paint.relief import relief
from data_pipeline.synthetic.person import Person

CELL = 6  # px between computed points of the warp
JAW_SHARE = 0.55  # of the gap between the lips by which the chin goes down
WHITE = (214, 222, 226)


class Face:
    """Draws one person at one size. A frame depends on its arguments alone."""

    def __init__(self, who: Person, still: Portrait):
        self.who, self.still = who, still
        self.size = still.scene.shape[0]
        self.sheet = still.head.copy()
        self.cell = max(1, round(CELL * still.scale))
        # Nodes of the warp's grid in px at 512, along x and along y: one more than the picture needs on each side.
        at = (np.arange(-1, -(-self.size // self.cell) + 1) + 0.5) * self.cell / still.scale
        self.grid_x, self.grid_y = at - CENTRE[0], at - CENTRE[1]
        self.mouth_box = self._box(-78, who.mouth_y - 45, 78, who.mouth_y + 88)
        reach_x, reach_y = who.eye_half_width + 9, who.eye_half_height + 9
        self.eye_boxes = [
            self._box(turn * who.eye_x - reach_x, who.eye_y - reach_y, turn * who.eye_x + reach_x, who.eye_y + reach_y)
            for turn in (-1, 1)
        ]

    def frame(self, shape: np.ndarray, pose: Pose) -> np.ndarray:
        """The picture (H, W, 3) uint8, blue green red, for a mouth shape (opening, width, rounding)."""
        return brush.over(self.head(shape, pose), self.still.scene)

    def head(self, shape: np.ndarray, pose: Pose) -> np.ndarray:
        """The head alone, a sheet (H, W, 4) as in portrait.py."""
        edges = self.edges(shape)
        self._paint_mouth(edges)
        for turn, box in zip((-1, 1), self.eye_boxes):
            self._paint_eye(turn, box, pose)
        map_x, map_y = self._warp(JAW_SHARE * edges.gap, pose)
        return np.asarray(
            cv2.remap(self.sheet, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8
        )

    def edges(self, shape: np.ndarray) -> mouth.Contours:
        """The contours of the lips at a mouth shape (opening, width, rounding)."""
        return mouth.contours(self.who, *(float(value) for value in shape))

    def lay_mouth(self, patch: np.ndarray, edges: mouth.Contours, to_px: mouth.ToPixels) -> None:
        """Paint the mouth over the skin of a patch (H, W, 4), in place."""
        mouth.paint(patch, self.who, edges, to_px, self.still.scale)

    def jaw_weight(self, x, y):
        """How much of the jaw's way a point (px at 512) goes down: 0 at the upper lip, 1 at the chin."""
        who = self.who
        down = np.clip((y - who.mouth_y + 12) / (who.chin_y - who.mouth_y + 12), 0, 1)
        # Half straight, half smooth: steeper, and the warp of a wide open mouth would fold the chin.
        return 0.5 * down * (1 + down * (3 - 2 * down)) * np.exp(-(((x / (1.02 * who.half_width)) ** 2) ** 2))

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

        self.lay_mouth(patch, edges, to_px)

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

    def lips(self, shapes_TP: np.ndarray, poses_T: list[Pose]) -> np.ndarray:
        """Where the points mouth.LANDMARKS are drawn, (T, 6, 2) px from the picture's top left edge."""
        return np.stack([self._lips(shape, pose) for shape, pose in zip(shapes_TP, poses_T)])

    def _lips(self, shape: np.ndarray, pose: Pose) -> np.ndarray:
        edges = self.edges(shape)
        points_62 = mouth.landmarks(edges)
        rest_y = self._at_rest(points_62[:, 0], points_62[:, 1], JAW_SHARE * edges.gap, pose)
        z = relief(self.who, points_62[:, 0], rest_y)
        return (projection.shown_at(np.column_stack([points_62, z]), pose) + CENTRE) * self.still.scale

    def _warp(self, jaw_px: float, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """For every pixel of the picture the pixel (x, y) of the sheet that it shows, each (H, W) float32."""
        x, y = self.grid_x[None], self.grid_y[:, None]
        z = self._depth_at(*np.broadcast_arrays(x, self._at_rest(x, y, jaw_px, pose)))
        x, y = projection.seen_through(self.grid_x, self.grid_y, z, pose)
        sheet = self._pixels(np.stack([x, self._at_rest(x, y, jaw_px, pose)], -1))
        upright_x, upright_y = projection.upright(self.grid_x[None], self.grid_y[:, None], pose)
        sheet = _between(sheet, self._node(upright_x, self.grid_x), self._node(upright_y, self.grid_y))
        return self._fine(sheet[..., 0]), self._fine(sheet[..., 1])

    def _at_rest(self, x: np.ndarray, y: np.ndarray, jaw_px: float, pose: Pose) -> np.ndarray:
        """The y on the sheet of what jaw and brows have moved to (x, y)."""
        brow = np.exp(-0.5 * ((y - self.who.brow_y) / 13) ** 2) * np.exp(-(((x / 88) ** 2) ** 2))
        return y - jaw_px * self.jaw_weight(x, y) + pose.brows * brow

    def _depth_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        at = self._pixels(np.stack([x, y], -1)).astype(np.float32)
        return cv2.remap(
            self.still.depth, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float64)

    def _node(self, at: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Coordinates in px as fractional indices of the grid's nodes, cut off at its ends."""
        return np.clip((at - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1.001)

    def _fine(self, coarse: np.ndarray) -> np.ndarray:
        """A field at every pixel from its values at the grid, whose border of one cell is cut off."""
        side = coarse.shape[0] * self.cell
        fine = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        return fine[self.cell : self.cell + self.size, self.cell : self.cell + self.size]

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return (points + CENTRE) * self.still.scale - 0.5

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """The pixels of a rectangle given in px at 512, as (rows, columns)."""
        low, high = self._pixels(np.array([[left, top], [right, bottom]]))
        return slice(int(low[1]), int(high[1]) + 1), slice(int(low[0]), int(high[0]) + 1)


def _between(field: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of a field (G, G, 2) at fractional rows and columns; cv2.remap rounds these to 1/32."""
    left, top = column.astype(int), row.astype(int)
    right, down = (column - left)[..., None], (row - top)[..., None]
    upper = field[top, left] * (1 - right) + field[top, left + 1] * right
    lower = field[top + 1, left] * (1 - right) + field[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
