"""The contact sheet: a picture of the faces of a video with their numbers, to choose one with --face."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from mytalk import atomic
from mytalk.dub.faces import Face
from mytalk.dub.tracks import SHOWN_AT, SHOWN_PX
from mytalk.progress import clock

MOST_ROWS = 20  # faces, the largest first
MARGIN_PX, TEXT_PX, LINE_PX = 8, 420, 26
PAPER, INK = 250, (30, 30, 30)


def beside(out: Path) -> Path:
    """Where the sheet of a dub to `out` lies."""
    return out.with_name(f"{out.stem[: atomic.LONGEST_NAME_BYTES // 4 - 10]}.faces.png")


def write(path: Path, faces: list[Face], fps: Fraction) -> None:
    """Write the faces as a PNG, a row each: pictures, the number to type, and when and where each is seen. Atomic.

    Raises OSError.
    """
    import cv2

    rows = [_row(face, fps) for face in faces[:MOST_ROWS]]
    written, png = cv2.imencode(".png", np.concatenate(rows)[..., ::-1])
    assert written
    atomic.write_bytes(path, png.tobytes())


def _row(face: Face, fps: Fraction) -> np.ndarray:
    import cv2

    side, step = SHOWN_PX, SHOWN_PX + MARGIN_PX
    row = np.full((side + 2 * MARGIN_PX, len(SHOWN_AT) * step + MARGIN_PX + TEXT_PX, 3), PAPER, np.uint8)
    pictures = [picture for track in face.tracks for picture in track.pictures]
    for column, picture in enumerate(pictures[: len(SHOWN_AT)]):
        left = MARGIN_PX + column * step
        row[MARGIN_PX : MARGIN_PX + side, left : left + side] = picture
    for number, line in enumerate(_lines(face, fps)):
        at = (len(SHOWN_AT) * step + 2 * MARGIN_PX, MARGIN_PX + (number + 1) * LINE_PX)
        cv2.putText(row, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
    return row


def _lines(face: Face, fps: Fraction) -> list[str]:
    x, y, side = np.median([box_3 for track in face.tracks for box_3 in track.boxes], axis=0).round().astype(int)
    first, last = min(track.frames[0] for track in face.tracks), max(track.frames[-1] for track in face.tracks)
    others = sorted({track.number for track in face.tracks} - {face.number})
    also = f"with tracks {', '.join(map(str, others[:8]))}{' ...' if len(others) > 8 else ''}"
    lines = [
        f"--face track:{face.number}",
        f"{face.frames} frames, {clock(float(first / fps))} to {clock(float((last + 1) / fps))}",
        f"{side} px wide, about x {x}, y {y}",
    ]
    return lines + [also] * bool(others)
