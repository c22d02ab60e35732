"""Pictures for TensorBoard: landmarks as dots, and curves."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mytalk import plot
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, MOUTH, opening

TRUTH, RESULT = (90, 200, 120), (255, 150, 60)
INK, GRID = (190, 190, 190), (60, 60, 60)
TILE_PX, CURVES_PX, COLUMNS = 192, 120, 6  # side of a face, height of the curves, faces beside each other


def landmark_tile(landmarks_N: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """One face as dots on black, the mouth coloured: (TILE_PX, TILE_PX, 3) uint8."""
    tile = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    places = np.round(np.asarray(landmarks_N)[:, :2] * (TILE_PX / CROP_PX)).astype(int)
    inside = ((places >= 0) & (places < TILE_PX)).all(axis=1)
    tile[places[inside, 1], places[inside, 0]] = (170, 170, 170)
    mouth = [index for index in MOUTH if inside[index]]
    tile[places[mouth, 1], places[mouth, 0]] = colour
    return tile


def compare(truth_TN3: np.ndarray, result_TN3: np.ndarray) -> np.ndarray:
    """A strip of moments, truth above, result below, and both mouth-opening curves: (H, W, 3) uint8."""
    moments = np.linspace(0, len(truth_TN3) - 1, COLUMNS).round().astype(int)
    rows = [
        np.concatenate([landmark_tile(landmarks[i], colour) for i in moments], axis=1)
        for landmarks, colour in ((truth_TN3, TRUTH), (result_TN3, RESULT))
    ]
    curves = {TRUTH: opening(truth_TN3), RESULT: opening(result_TN3)}
    return np.concatenate(
        [*rows, curve_plot(curves, np.arange(len(truth_TN3)) / FRAME_HZ, "s", rows[0].shape[1])], axis=0
    )


def curve_plot(curves: dict[tuple[int, int, int], np.ndarray], x_T: np.ndarray, unit: str, width_px: int) -> np.ndarray:
    """Curves, each with its colour, through values at `x_T` (in `unit`): (CURVES_PX, width_px, 3) uint8."""
    image = Image.new("RGB", (width_px, CURVES_PX))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    highest = max(float(curve.max()) for curve in curves.values())
    x = plot.axis(float(x_T[0]), float(x_T[-1]), 8, 34, width_px - 20)
    y = plot.rounded_axis(0, highest, 4, CURVES_PX - 22, 8)
    plot.draw_levels(draw, x, y, GRID, INK, font)
    plot.draw_below(draw, x, CURVES_PX - 22, unit, INK, font)
    for colour, curve in curves.items():
        plot.draw_curve(draw, x.px(x_T), y.px(curve), colour, 2)
    return np.asarray(image)
