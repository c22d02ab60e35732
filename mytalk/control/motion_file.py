"""Motion as a file: the landmarks of a video's frames, to look at, to edit, and to be held to.

An npz with `frames`, numbers of frames at the video's own rate; `landmarks`, (M, 478, 3) px of the upright picture, z
in the same px; and `fps`. Shape suffixes: M frames, N landmarks (478), 3 = (x, y, z).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mytalk import atomic
from mytalk.command import UserError
from mytalk.face.landmarks import COUNT

RATE_TOLERANCE = 1e-3  # of fps, between a file and the video that it is used for


@dataclass(frozen=True)
class Keyframes:
    """Landmarks of some frames of a video, in the order of the frames."""

    frames_M: np.ndarray
    landmarks_MN3: np.ndarray
    fps: float

    def inside(self, start: int, stop: int) -> Keyframes:
        """Those of the frames [start, stop)."""
        inside_M = (self.frames_M >= start) & (self.frames_M < stop)
        return Keyframes(self.frames_M[inside_M], self.landmarks_MN3[inside_M], self.fps)


def write(path: Path, keyframes: Keyframes) -> None:
    """Write them, atomically. Raises OSError."""
    with atomic.file(path) as handle:
        np.savez(handle, frames=keyframes.frames_M, landmarks=keyframes.landmarks_MN3, fps=float(keyframes.fps))


def read(path: Path) -> Keyframes:
    """Read them. Raises UserError for what is no such file, OSError."""
    try:
        with np.load(path, allow_pickle=False) as held:
            frames_M, landmarks_MN3, fps = held["frames"], held["landmarks"], float(held["fps"])
    except (ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no motion file ({error}); python -m mytalk motion writes one") from error
    numbers = np.issubdtype(frames_M.dtype, np.integer) and np.issubdtype(landmarks_MN3.dtype, np.floating)
    if not numbers or frames_M.ndim != 1 or landmarks_MN3.shape != (len(frames_M), COUNT, 3):
        raise UserError(
            f"{path}: frames of shape {frames_M.shape} and landmarks of shape {landmarks_MN3.shape} do not fit; they "
            f"are to be M whole numbers and (M, {COUNT}, 3) px"
        )
    if not np.isfinite(landmarks_MN3).all() or not fps > 0:
        raise UserError(f"{path}: some landmarks or the fps are no numbers; write the file again")
    if len(frames_M) and (frames_M.min() < 0 or (np.diff(frames_M) <= 0).any()):
        raise UserError(f"{path}: the numbers of frames are to rise from 0 on")
    return Keyframes(frames_M.astype(np.int64), landmarks_MN3.astype(np.float32), fps)


def check_rate(keyframes: Keyframes, fps: Fraction) -> None:
    """Raise UserError where they number the frames of another rate than the video's."""
    if abs(keyframes.fps / float(fps) - 1) > RATE_TOLERANCE:
        raise UserError(
            f"the keyframes are of {keyframes.fps:g} frames a second and the video has {float(fps):g}: their numbers "
            "are of other times"
        )
