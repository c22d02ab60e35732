"""Cutting a source into spans, which become clips or are rejected by a named rule.

A span is a part of a run of frames with a face (and sound, where the source has any) within one shot.
Every span ends in one state: `kept`, or the name of the first rule that rejects it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from data_pipeline.shards.ledger import KEPT
from mytalk.face.shots import face_boxes, runs, shot_starts

TOO_SHORT = "too_short"
SMALL_FACE = "small_face"


@dataclass(frozen=True)
class Span:
    """Output frames [start, stop) of a source and the state they ended in."""

    start: int
    stop: int
    state: str = KEPT


def pieces(start: int, stop: int, max_frames: int) -> list[tuple[int, int]]:
    """A run in the fewest pieces of at most `max_frames`, of equal length: no short rest is lost."""
    count = -(-(stop - start) // max_frames)
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def judge(
    landmarks_TN3: np.ndarray,
    found_T: np.ndarray,
    sounding_T: np.ndarray,
    min_frames: int,
    max_frames: int,
    min_face_px: float,
) -> list[Span]:
    """Every span of a source in order, with its state. Frames that do not sound are past the end of its audio."""
    starts_T = shot_starts(landmarks_TN3, found_T)
    _, side_T = face_boxes(landmarks_TN3)
    spans = []
    for run in runs(found_T & sounding_T, starts_T):
        for start, stop in pieces(*run, max_frames):
            state = KEPT
            if stop - start < min_frames:
                state = TOO_SHORT
            elif float(np.median(side_T[start:stop])) < min_face_px:
                state = SMALL_FACE
            spans.append(Span(start, stop, state))
    return spans
