"""Pictures for TensorBoard: drawn landmarks and curves, with nothing but numpy and pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mytalk.face.landmarks import CROP_PX, MOUTH, opening

TRUTH, RESULT = (90, 200, 120), (255, 150, 60)


def landmark_tile(landmarks_N2: np.ndarray, colour: tuple[int, int, int], size_px: int = 192) -> np.ndarray:
    """One face as dots on black, the mouth coloured: (size, size, 3) uint8."""
    tile = np.zeros((size_px, size_px, 3), np.uint8)
    places = np.round(np.asarray(landmarks_N2) * (size_px / CROP_PX)).astype(int)
    inside = ((places >= 0) & (places < size_px)).all(axis=1)
    tile[places[inside, 1], places[inside, 0]] = (170, 170, 170)
    mouth = [index for index in MOUTH if inside[index]]
    tile[places[mouth, 1], places[mouth, 0]] = colour
    return tile


def compare(truth_TN2: np.ndarray, result_TN2: np.ndarray, columns: int = 6) -> np.ndarray:
    """A strip of moments, truth above, result below, and both mouth-opening curves: (H, W, 3) uint8."""
    moments = np.linspace(0, len(truth_TN2) - 1, columns).round().astype(int)
    rows = [
        np.concatenate([landmark_tile(landmarks[i], colour) for i in moments], axis=1)
        for landmarks, colour in ((truth_TN2, TRUTH), (result_TN2, RESULT))
    ]
    curves = {TRUTH: opening(truth_TN2), RESULT: opening(result_TN2)}
    return np.concatenate([*rows, curve_plot(curves, rows[0].shape[1])], axis=0)


def curve_plot(curves: dict[tuple[int, int, int], np.ndarray], width_px: int, height_px: int = 120) -> np.ndarray:
    """Curves over time on one scale: (height, width, 3) uint8."""
    image = Image.new("RGB", (width_px, height_px))
    draw = ImageDraw.Draw(image)
    top = max(float(curve.max()) for curve in curves.values()) or 1.0
    for colour, curve in curves.items():
        x = np.linspace(4, width_px - 4, len(curve))
        y = height_px - 6 - (height_px - 12) * curve / top
        draw.line(list(zip(x.tolist(), y.tolist())), fill=colour, width=2)
    return np.asarray(image)
