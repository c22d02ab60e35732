"""Which stretch of which clip every slot is: what the examples of all recipes begin with. Nothing is read here.

Shape suffixes: n selected clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_pipeline.sample import order as slots
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import Want
from mytalk.command import UserError

GROUPED = 1 << 19  # rows that are sorted at once
MIN_SOURCE_FRAMES = 10  # beside the target, in a person's only clip: with fewer the target is cut


@dataclass(frozen=True)
class Drawn:
    """From which clips, and how, the slots of a run are drawn: what every recipe's user can say."""

    split: str = "train"
    seed: int = 0
    where: str = ""  # a filter over the manifest's columns, see data_pipeline/sample/filter.py
    repeats: Mapping[str, float] = field(default_factory=dict)  # of a corpus's clips (default 1; 0 leaves it out)
    shards_until: int = 0  # only shards below this number, as they were when the run began; 0: all
    once: bool = False  # slot n is the nth clip, for validation: each comes once, and none takes another's place


@dataclass
class WindowConfig:
    """How much of a clip an example holds, in frames of 25 Hz."""

    min_frames: int = 24
    max_frames: int = 250
    source_frames: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"window.min_frames {self.min_frames} must lie between 1 and window.max_frames {self.max_frames}"
            )
        if self.source_frames < 1:
            raise ValueError(f"window.source_frames must be 1 or more, not {self.source_frames}")


class Place(NamedTuple):
    """Frames [start, stop) of a clip."""

    row: int
    start: int
    stop: int


class Example(NamedTuple):
    """What a slot holds: the place it shows, and the place of the source that it is shown beside (motion)."""

    place: Place
    source: Place | None = None


def draw(random: np.random.Generator, frames: int, shortest: int, longest: int) -> tuple[int, int]:
    """[start, stop) of a window of `shortest` to `longest` frames in a clip; the whole of a shorter clip."""
    length = min(int(random.integers(shortest, longest + 1)), frames)
    start = int(random.integers(frames - length + 1))
    return start, start + length


def draw_voice(random: np.random.Generator, stretch: float) -> float:
    """A factor for a voice's frequencies between 1 / (1 + stretch) and 1 + stretch, even in its logarithm."""
    return math.exp(math.log1p(stretch) * (2 * random.random() - 1))


class Windows:
    """Slot -> window of a clip, of `shortest` to `longest` frames.

    `columns` are the facts of the manifest that decide what an example holds; the selection's digest covers them.
    Where the sound is `heard`, a window lies where the clip holds it, by the A/V offset that was annotated.
    """

    members: tuple[str, ...] = ("landmarks",)

    def __init__(
        self,
        manifest: Manifest,
        drawn: Drawn,
        columns: Sequence[str],
        purpose: int,
        shortest: int,
        longest: int,
        least_frames: int = 1,
    ):
        self.manifest, self.drawn, self.purpose = manifest, drawn, purpose
        self.shortest, self.longest = shortest, longest
        self.frames = self.lengths = manifest.column("frames")
        self.offset = None
        if "audio" in self.members and manifest.has(slots.OFFSET):
            columns = (*columns, slots.OFFSET)
            try:
                self.offset = manifest.column(slots.OFFSET).astype(np.float64)
            except (TypeError, ValueError):
                raise UserError(f"{manifest.folder}: {slots.OFFSET} holds no numbers; annotate it anew") from None
            late = np.where(np.isfinite(self.offset), self.offset, 0)
            self.lengths = self.frames - np.ceil(np.abs(late))
        usable = self.usable(least_frames)
        self.selection = slots.select(
            manifest, drawn.split, columns, drawn.where, drawn.shards_until, drawn.repeats, usable
        )
        self.order = slots.Order(self.selection, drawn.seed, repeats=drawn.repeats)

    def usable(self, least_frames: int) -> np.ndarray:
        """Which rows can be shown: (rows,) bool."""
        return self.lengths >= least_frames

    def __len__(self) -> int:
        return len(self.selection)

    def random(self, slot: int, purpose: int) -> np.random.Generator:
        """Random numbers of a slot for a purpose."""
        return slots.slot_random(self.selection.digest, self.drawn.seed, slot, purpose)

    def row(self, slot: int, attempt: int = 0) -> int:
        """The clip of a slot; after 0, the clips that take its place where it cannot be read."""
        if self.drawn.once:
            return int(self.selection.rows_n[slot])
        return self.order.substitute(slot, attempt) if attempt else self.order.row(slot)

    def whole(self, row: int) -> Place:
        """All of a clip that can be shown with its sound."""
        frames = int(self.frames[row])
        return Place(row, 0, frames) if self.offset is None else Place(row, *reader.heard(frames, self.offset[row]))

    def example(self, slot: int, attempt: int = 0) -> Example:
        """What a slot holds."""
        within = self.whole(self.row(slot, attempt))
        start, stop = draw(self.random(slot, self.purpose), within.stop - within.start, self.shortest, self.longest)
        return Example(Place(within.row, within.start + start, within.start + stop))

    def wants(self, example: Example) -> list[Want]:
        """What is read for an example."""
        places = [example.place] if example.source is None else [example.place, example.source]
        return [Want(place.row, member, place.start, place.stop) for place in places for member in self.members]


class HeardWindows(Windows):
    """Slot -> window of landmarks and its sound."""

    members: tuple[str, ...] = ("landmarks", "audio")


class FrameWindows(Windows):
    """Slot -> one frame of a clip of two frames or more, for which all its landmarks are read."""

    def __init__(self, manifest: Manifest, drawn: Drawn):
        super().__init__(manifest, drawn, ("frames",), slots.WINDOW, 1, 1, least_frames=2)

    def usable(self, least_frames: int) -> np.ndarray:
        """In validation clips without a video are left out too; in training they are refused, and filters are there."""
        enough = super().usable(least_frames)
        return enough & (self.manifest.column("video_size") > 0) if self.drawn.once else enough

    def wants(self, example: Example) -> list[Want]:
        row = example.place.row
        return [Want(row, "landmarks", 0, int(self.frames[row]))]


def grouped(values_n: np.ndarray, group_n: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Values in the order of their groups, and where each group begins, (groups + 1,). A counting sort.

    Piece by piece, so that ten million values take no more than themselves again.
    """
    pieces = [slice(at, at + GROUPED) for at in range(0, len(group_n), GROUPED)]
    counts = sum((np.bincount(group_n[piece], minlength=groups) for piece in pieces), np.zeros(groups, np.int64))
    first = np.concatenate([[0], np.cumsum(counts)])
    sorted_n, free = np.empty_like(values_n), first[:-1].copy()
    for piece in pieces:
        order = np.argsort(group_n[piece], kind="stable")
        group = group_n[piece][order]
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        lengths = np.diff(np.append(begins, len(group)))
        within = np.arange(len(group)) - np.repeat(begins, lengths)
        sorted_n[free[group] + within] = values_n[piece][order]
        free[group[begins]] += lengths
    return sorted_n, first


def spared(start: int, stop: int, frames: int, source_frames: int) -> tuple[int, int]:
    """The target [start, stop) of a person's only clip, cut where it leaves too little of the clip for a source.

    Left as it is while MIN_SOURCE_FRAMES are free on its longer side (or all that is asked for: `source_frames`, or
    a third of the clip); else that side grows to what is asked for. Needs two frames.
    """
    wanted = min(source_frames, max(1, frames // 3))
    if max(start, frames - stop) >= min(MIN_SOURCE_FRAMES, wanted):
        return start, stop
    return (wanted, stop) if start >= frames - stop else (start, frames - wanted)


class SourcedWindows(Windows):
    """Slot -> window of a clip, and a source window of the same person.

    The source is drawn from the person's other clips. A person of one clip gives it from that clip, outside the
    target: a source that shows the true mouth with its speech would teach to look it up. `features` names a later
    column's member that is read as well. Raises UserError where a person's only clip has one frame.
    """

    members: tuple[str, ...] = ("landmarks", "audio")

    def __init__(self, manifest: Manifest, drawn: Drawn, window: WindowConfig, features: str = ""):
        if features:
            manifest.later(features)  # says what columns there are
            self.members = ("landmarks", "audio", features)
        super().__init__(manifest, drawn, ("identity", "frames"), slots.WINDOW, window.min_frames, window.max_frames)
        self.source_frames = window.source_frames
        self.person_of, self.people = manifest.codes("identity")
        rows_n = self.selection.rows_n
        person_n = self.person_of[rows_n]
        self._by_person, self._first = grouped(rows_n, person_n, len(self.people))
        lone = rows_n[(np.diff(self._first) == 1)[person_n]]
        for row in lone[self.lengths[lone] < 2]:
            raise UserError(
                f"{manifest.folder}: clip {manifest.at(row, 'key')}, its person's only one in split "
                f"'{drawn.split}', has one frame, which cannot be target and source; extract longer clips, or "
                "leave it out with a filter"
            )

    def rows_of(self, row: int) -> np.ndarray:
        """The selected clips of the person whom a clip shows."""
        person = self.person_of[row]
        return self._by_person[self._first[person] : self._first[person + 1]]

    def first_rows(self) -> list[tuple[str, int]]:
        """The people by name, and the first selected clip of each."""
        there = np.flatnonzero(np.diff(self._first)).tolist()
        return sorted((self.people[person], int(self._by_person[self._first[person]])) for person in there)

    def example(self, slot: int, attempt: int = 0) -> Example:
        place = self.target(super().example(slot, attempt).place)
        return Example(place, self.source(slot, place))

    def target(self, place: Place) -> Place:
        """A window as a target: cut in a person's only clip, see `spared`."""
        if len(self.rows_of(place.row)) > 1:
            return place
        first, last = self.whole(place.row)[1:]
        start, stop = spared(place.start - first, place.stop - first, last - first, self.source_frames)
        return Place(place.row, first + start, first + stop)

    def source(self, slot: int, target: Place) -> Place:
        """The source window of a slot. In a person's only clip it lies on the target's longer free side."""
        random = self.random(slot, slots.SOURCE)
        own = self.rows_of(target.row)
        others = own[own != target.row]
        if len(others):
            row, first, last = self.whole(int(others[int(random.integers(len(others)))]))
        else:
            row, first, last = self.whole(target.row)
            if target.start - first >= last - target.stop:
                last = target.start
            else:
                first = target.stop
        length = min(self.source_frames, last - first)
        begin = first + int(random.integers(last - first - length + 1))
        return Place(row, begin, begin + length)
