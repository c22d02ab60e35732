"""Films of grey squares on blue, each a face whose brightness tells how far its mouth is open, and who reads them.

Unlike coded films, the face is where and as large as its square, so that crops and sizes of pictures matter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from mytalk import media
from mytalk.face.detector import MARGIN, Region
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers.faces import FACE, opened

BLUE = (0, 0, 200)
GREY, PER_PX = 60, 8  # brightness of a closed mouth, and of each px of opening
LOW_2, HIGH_2 = FACE[:, :2].min(0), FACE[:, :2].max(0)
SIDE = float((HIGH_2 - LOW_2).max())
FACES = ((160, 120, 120),)  # centre x, y and side, px


def wave(frames: int, phase: float = 0.0) -> np.ndarray:
    """Openings in px that go up and down, (T,)."""
    return 7 + 4 * np.sin(np.arange(frames) / 2.5 + phase)


def film(openings_T: np.ndarray, size: tuple[int, int] = (320, 240), faces=FACES, zoom: float = 1) -> np.ndarray:
    """Pictures (T, H, W, 3) of these faces, all with the same mouth; everything enlarged by `zoom`."""
    width, height = (round(side * zoom) for side in size)
    frames = np.empty((len(openings_T), height, width, 3), np.uint8)
    frames[:] = BLUE
    level_T111 = (GREY + PER_PX * openings_T).round().astype(np.uint8)[:, None, None, None]
    for x, y, side in faces:
        (left, right), (top, bottom) = ((round((at - side / 2) * zoom), round((at + side / 2) * zoom)) for at in (x, y))
        frames[:, top:bottom, left:right] = level_T111
    return frames


def write(path: Path, frames_THW3: np.ndarray, fps: float = 25, speech_S: np.ndarray | None = None, sound=True) -> None:
    """A film with a sound as long as it is."""
    if speech_S is None:
        seconds = len(frames_THW3) / fps
        speech_S = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 25 * SAMPLES_PER_FRAME))
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(path, frames_THW3, fps, speech_S if sound else None)


class BoxReader:
    """A detector that takes every grey square for a face."""

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        return [Region(x, y, MARGIN * side, 0.0) for x, y, side, _ in boxes(frame_HW3)]

    def landmarks(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        seen = [box for box in boxes(frame_HW3) if abs(box[0] - region.x) + abs(box[1] - region.y) < region.side / 2]
        if not seen:
            return None
        x, y, side, level = min(seen, key=lambda box: abs(box[0] - region.x) + abs(box[1] - region.y))
        face = opened(np.array([max((level - GREY) / PER_PX, 0)]))[0]
        face = face * np.array([1, 1, 1]) - np.array([*(LOW_2 + HIGH_2) / 2, 0])
        return (face * (side / SIDE) + np.array([x, y, 0])).astype(np.float32)


def boxes(frame_HW3: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Centre x, y, side and brightness of each square."""
    colours = frame_HW3.astype(int)
    grey = (colours[..., 2] - colours[..., 0] < 60) & (colours[..., 0] > GREY // 2)
    labels, _ = ndimage.label(grey)
    found = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 20:
            continue
        x, y = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
        inner = frame_HW3[
            rows.start + height // 4 : rows.stop - height // 4, columns.start + width // 4 : columns.stop - width // 4
        ]
        found.append((x, y, float(max(height, width)), float(inner.mean())))
    return found
