"""Spans: parts of one track, cut out of its runs of frames as these end or grow too long.

A run is what follows each other of one face without a gap; a cut ends it, and so does a head that moves so far that
one crop would no longer hold it. Frames are at 25 Hz.

Shape suffixes: T frames, N landmarks, 2 = (x, y), 3 = (x, y, z) in px of the source.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from data_pipeline.extract.patches import Patch

MOST_MOVED = 0.5  # face sides from one end of a span's places to the other: so its patches hold its crop
MOST_ZOOM = 1.3  # of the face's side, likewise
MOST_BYTES = 640 << 20  # of all patches: two faces of any size for 11 s, four that are smaller than 250 px


@dataclass(frozen=True)
class Seen:
    """One face in one picture.

    `box_3`: centre x, y and side in px. `hand`: 1 where a hand covers the mouth, else 0; NaN where nobody looked.
    `faces`: how many are in the picture. `main`: alone, or by far the largest, or the one that a corpus's labels mean.
    `labelled`: whether they mean this one; None: they say nothing.
    """

    landmarks_N3: np.ndarray
    box_3: np.ndarray
    patch: Patch
    upside_down: bool
    hand: float
    faces: int
    main: bool
    labelled: bool | None = None


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


@dataclass
class Run:
    """Output frames of one track that follow each other, from `start` on; more may come."""

    track: int
    start: int
    seen_T: list[Seen] = field(default_factory=list)
    low_3: np.ndarray = field(default_factory=lambda: np.full(3, np.inf))  # of all boxes: centre x, y and side in px
    high_3: np.ndarray = field(default_factory=lambda: np.full(3, -np.inf))
    held_bytes: int = 0  # of its patches

    @property
    def stop(self) -> int:
        """The frame behind its last."""
        return self.start + len(self.seen_T)

    def add(self, seen: Seen) -> None:
        """Its next frame; of a picture that stands for several, the same `seen`."""
        if not self.seen_T or self.seen_T[-1] is not seen:
            self.low_3, self.high_3 = np.minimum(self.low_3, seen.box_3), np.maximum(self.high_3, seen.box_3)
            self.held_bytes += seen.patch.planes.nbytes
        self.seen_T.append(seen)

    def holds(self, box_3: np.ndarray) -> bool:
        """Whether a face in this box is near enough to where it was, and of like enough size, to be in one crop."""
        low_3, high_3 = np.minimum(self.low_3, box_3), np.maximum(self.high_3, box_3)
        moved = (high_3 - low_3)[:2].max() > MOST_MOVED * low_3[2]
        return not (moved or high_3[2] > MOST_ZOOM * low_3[2])

    def behind(self, frames: int) -> Run:
        """What is left behind its first `frames`."""
        rest = Run(self.track, self.start + frames)
        for seen in self.seen_T[frames:]:
            rest.add(seen)
        return rest


class Runs:
    """The open runs of a source, which hold at most `most + least` frames each, and give out spans of at most `most`.

    Cutting leaves no part shorter than `least` where `most` is at least `2 * least - 1`. Where all runs hold more than
    `most_bytes` of patches, the largest one is cut before its time.
    """

    def __init__(self, least: int, most: int, most_bytes: int = MOST_BYTES):
        self.least, self.most, self.most_bytes = least, most, most_bytes
        self.open: dict[int, Run] = {}

    def add(self, first: int, count: int, faces: Mapping[int, Seen]) -> Iterator[Span]:
        """Take the faces, by track, of a picture that stands for `count` frames; yield the spans that are complete."""
        for track in sorted(self.open.keys() - faces.keys()):
            yield from self.end(track)
        for track, seen in sorted(faces.items()):
            if track in self.open and self.going_on(track, first, seen.box_3) is None:
                yield from self.end(track)
            run = self.open.setdefault(track, Run(track, first))
            for _ in range(count):
                run.add(seen)
                if len(run.seen_T) == self.most + self.least:
                    yield self._cut(run, self.most)
                    run = self.open[track]
        while large := self._too_large():
            yield self._cut(large, len(large.seen_T) - self.least)

    def going_on(self, track: int, first: int, box_3: np.ndarray) -> Run | None:
        """The open run that a face at frame `first` in this box continues; None: it begins another."""
        run = self.open.get(track)
        return None if run is None or run.stop != first or not run.holds(box_3) else run

    def end(self, track: int | None = None) -> Iterator[Span]:
        """End a run, or all; yield its spans."""
        for number in [track] if track is not None else sorted(self.open):
            run = self.open.pop(number)
            for start, stop in pieces(len(run.seen_T), self.most):
                yield Span(number, run.start + start, run.seen_T[start:stop])

    def _cut(self, run: Run, frames: int) -> Span:
        """The first frames of an open run; the others are left open."""
        self.open[run.track] = run.behind(frames)
        return Span(run.track, run.start, run.seen_T[:frames])

    def _too_large(self) -> Run | None:
        """The largest run that can be cut in two, where all hold too much."""
        if sum(run.held_bytes for run in self.open.values()) <= self.most_bytes:
            return None
        long = [run for run in self.open.values() if len(run.seen_T) >= 2 * self.least]
        return max(long, key=lambda run: run.held_bytes, default=None)


def pieces(frames: int, most: int) -> list[tuple[int, int]]:
    """[start, stop) of the fewest parts of at most `most` frames, of equal length."""
    count = -(-frames // most)
    edges = [frames * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
