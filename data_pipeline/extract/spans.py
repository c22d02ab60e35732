"""Spans: parts of one track, cut out of its runs of frames as these end or grow too long.

A run is what follows each other of one face without a gap; a cut ends it, and so does a head that moves so far that
one crop would no longer hold it. Frames are at 25 Hz.

Shape suffixes: T frames, N landmarks, 2 = (x, y), 3 = (x, y, z) in px of the source.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.extract.patches import Patch

MOST_MOVED = 0.5  # face sides from one end of a span's places to the other: so its patches hold its crop
MOST_ZOOM = 1.3  # of the face's side, likewise


@dataclass(frozen=True)
class Seen:
    """One face in one picture.

    `box_3`: centre x, y and side in px. `hand`: 1 where a hand covers the mouth, else 0; NaN where nobody looked.
    `faces`: how many are in the picture. `main`: alone, or by far the largest.
    """

    landmarks_N3: np.ndarray
    box_3: np.ndarray
    patch: Patch
    upside_down: bool
    hand: float
    faces: int
    main: bool


@dataclass(frozen=True)
class Span:
    """Output frames of one track from `start` on, each as it was seen."""

    track: int
    start: int
    seen_T: list[Seen]

    @property
    def stop(self) -> int:
        """The frame behind its last."""
        return self.start + len(self.seen_T)

    @property
    def box_3(self) -> np.ndarray:
        """The median box of the face: centre x, y and side in px."""
        return np.median([seen.box_3 for seen in self.seen_T], axis=0)


class Runs:
    """The open runs of a source, which hold at most `most + least` frames each, and give out spans of at most `most`.

    Cutting leaves no part shorter than `least` where `most` is twice as long or more.
    """

    def __init__(self, least: int, most: int):
        self.least, self.most = least, most
        self.open: dict[int, Span] = {}

    def add(self, first: int, count: int, faces: Mapping[int, Seen]) -> Iterator[Span]:
        """Take the faces, by track, of a picture that stands for `count` frames; yield the spans that are complete."""
        for track in sorted(self.open.keys() - faces.keys()):
            yield from self.end(track)
        for track, seen in sorted(faces.items()):
            if track in self.open and self.going_on(track, first, seen.box_3) is None:
                yield from self.end(track)
            run = self.open.setdefault(track, Span(track, first, []))
            for _ in range(count):
                run.seen_T.append(seen)
                if len(run.seen_T) == self.most + self.least:
                    yield Span(track, run.start, run.seen_T[: self.most])
                    run = self.open[track] = Span(track, run.start + self.most, run.seen_T[self.most :])

    def going_on(self, track: int, first: int, box_3: np.ndarray) -> Span | None:
        """The open run that a face at frame `first` in this box continues; None: it begins another."""
        run = self.open.get(track)
        return None if run is None or run.stop != first or _moves_away(run, box_3) else run

    def end(self, track: int | None = None) -> Iterator[Span]:
        """End a run, or all; yield its spans."""
        for number in [track] if track is not None else sorted(self.open):
            run = self.open.pop(number)
            for start, stop in pieces(len(run.seen_T), self.most):
                yield Span(number, run.start + start, run.seen_T[start:stop])


def pieces(frames: int, most: int) -> list[tuple[int, int]]:
    """[start, stop) of the fewest parts of at most `most` frames, of equal length."""
    count = -(-frames // most)
    edges = [frames * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def _moves_away(run: Span, box_3: np.ndarray) -> bool:
    """Whether a run's face would be too far from where it was, or of too different a size, to be in one crop."""
    boxes_T3 = np.array([*(one.box_3 for one in run.seen_T), box_3])
    sides_T = boxes_T3[:, 2]
    moved = np.ptp(boxes_T3[:, :2], axis=0).max() > MOST_MOVED * sides_T.min()
    return bool(moved or sides_T.max() > MOST_ZOOM * sides_T.min())
