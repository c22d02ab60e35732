"""Which stretches of a source become clips, by named rules.

A span is a piece of a run of frames that have a face and sound; a shot's end ends the run. Every span ends
in one state: `kept`, or the name of the first rule that rejects it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

KEPT = "kept"
TOO_SHORT = "too_short"
SMALL_FACE = "small_face"
SILENT = "silent"

SILENT_PEAK = 1e-3  # of full scale: no speech, nothing to learn lips from
JUMP = 0.5  # of the face's side, between two frames: no head moves so fast, it is another shot
ZOOM = 1.4  # ratio of face sides between two frames, likewise


@dataclass(frozen=True)
class Span:
    """Output frames [start, stop) of a source and the state they ended in."""

    start: int
    stop: int
    state: str = KEPT


def face_boxes(landmarks_TN2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (T, 2) and sides (T,) in px of the landmarks' bounding boxes."""
    low_T2, high_T2 = landmarks_TN2.min(axis=1), landmarks_TN2.max(axis=1)
    return (low_T2 + high_T2) / 2, (high_T2 - low_T2).max(axis=1)


def shot_starts(landmarks_TN2: np.ndarray, found_T: np.ndarray) -> np.ndarray:
    """(T,) bool: True where the face jumps or changes size as only a cut can make it."""
    centre_T2, side_T = face_boxes(landmarks_TN2)
    starts_T = np.zeros(len(found_T), bool)
    both = found_T[1:] & found_T[:-1]
    smaller = np.minimum(side_T[1:], side_T[:-1])
    jump = np.linalg.norm(centre_T2[1:] - centre_T2[:-1], axis=1) > JUMP * smaller
    zoom = np.maximum(side_T[1:], side_T[:-1]) > ZOOM * smaller
    starts_T[1:] = both & (jump | zoom)
    return starts_T


def runs(usable_T: np.ndarray, starts_T: np.ndarray) -> list[tuple[int, int]]:
    """Maximal [start, stop) with all frames usable and no shot starting inside."""
    out: list[tuple[int, int]] = []
    begun: int | None = None
    for index, (usable, starts) in enumerate(zip(usable_T, starts_T)):
        if begun is not None and (not usable or starts):
            out.append((begun, index))
            begun = None
        if usable and begun is None:
            begun = index
    if begun is not None:
        out.append((begun, len(usable_T)))
    return out


def pieces(start: int, stop: int, max_frames: int) -> list[tuple[int, int]]:
    """A run in as few pieces of at most `max_frames` as can be, as equal as can be: no short rest is lost."""
    count = -(-(stop - start) // max_frames)
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def judge(
    landmarks_TN2: np.ndarray,
    found_T: np.ndarray,
    audio_S: np.ndarray,
    samples_per_frame: int,
    min_frames: int,
    max_frames: int,
    min_face_px: float,
) -> list[Span]:
    """Every span of a source in order, with its state. Frames past the end of the audio have no sound."""
    sounding = np.arange(len(found_T)) < -(-len(audio_S) // samples_per_frame)
    starts_T = shot_starts(landmarks_TN2, found_T)
    _, side_T = face_boxes(landmarks_TN2)
    spans = []
    for run in runs(found_T & sounding, starts_T):
        for start, stop in pieces(*run, max_frames):
            state = KEPT
            if stop - start < min_frames:
                state = TOO_SHORT
            elif float(np.median(side_T[start:stop])) < min_face_px:
                state = SMALL_FACE
            elif np.abs(audio_S[start * samples_per_frame : stop * samples_per_frame]).max() < SILENT_PEAK:
                state = SILENT
            spans.append(Span(start, stop, state))
    return spans
