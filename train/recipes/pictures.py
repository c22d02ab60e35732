"""Pictures for TensorBoard: landmarks as dots, and curves."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mytalk import plot
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, MOUTH, opening

TRUTH, RESULT = (90, 200, 120), (255, 150, 60)
INK, GRID = (190, 190, 190), (60, 60, 60)


def landmark_tile(landmarks_N: np.ndarray, colour: tuple[int, int, int], size_px: int = 192) -> np.ndarray:
    """One face as dots on black, the mouth coloured: (size, size, 3) uint8."""
    tile = np.zeros((size_px, size_px, 3), np.uint8)
    places = np.round(np.asarray(landmarks_N)[:, :2] * (size_px / CROP_PX)).astype(int)
    inside = ((places >= 0) & (places < size_px)).all(axis=1)
    tile[places[inside, 1], places[inside, 0]] = (170, 170, 170)
    mouth = [index for index in MOUTH if inside[index]]
    tile[places[mouth, 1], places[mouth, 0]] = colour
    return tile


def compare(truth_TN3: np.ndarray, result_TN3: np.ndarray, columns: int = 6) -> np.ndarray:
    """A strip of moments, truth above, result below, and both mouth-opening curves: (H, W, 3) uint8."""
    moments = np.linspace(0, len(truth_TN3) - 1, columns).round().astype(int)
    rows = [
        np.concatenate([landmark_tile(landmarks[i], colour) for i in moments], axis=1)
        for landmarks, colour in ((truth_TN3, TRUTH), (result_TN3, RESULT))
    ]
    curves = {TRUTH: opening(truth_TN3), RESULT: opening(result_TN3)}
    return np.concatenate(
        [*rows, curve_plot(curves, np.arange(len(truth_TN3)) / FRAME_HZ, "s", rows[0].shape[1])], axis=0
    )


def curve_plot(
    curves: dict[tuple[int, int, int], np.ndarray], x_T: np.ndarray, unit: str, width_px: int, height_px: int = 120
) -> np.ndarray:
    """Curves, each with its colour, through values at `x_T` (in `unit`): (height, width, 3) uint8."""
    image = Image.new("RGB", (width_px, height_px))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    highest = max(float(curve.max()) for curve in curves.values())
    x = plot.axis(float(x_T[0]), float(x_T[-1]), 8, 34, width_px - 20)
    y = plot.rounded_axis(0, highest, 4, height_px - 22, 8)
    plot.draw_levels(draw, x, y, GRID, INK, font)
    plot.draw_below(draw, x, height_px - 22, unit, INK, font)
    for colour, curve in curves.items():
        plot.draw_curve(draw, x.px(x_T), y.px(curve), colour, 2)
    return np.asarray(image)
