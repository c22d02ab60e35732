"""Slot -> which frames of which clip: the start of every recipe's examples. Nothing is read here.

A recipe whose examples need more (a source, a single frame) has its own kind of windows in data_pipeline/examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_pipeline.sample.order import Order
from data_pipeline.sample.selection import select
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.shards import reader
from data_pipeline.shards.layout import SYNC_OFFSET
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from mytalk.command import UserError
from mytalk.settings import Settings, setting


@dataclass(frozen=True)
class SamplingConfig:
    """Which clips a run draws, and how: the settings that all recipes share."""

    split: str = "train"
    seed: int = 0
    where: str = ""  # a filter over the manifest's columns, see data_pipeline/sample/filter.py
    repeats: Mapping[str, float] = field(default_factory=dict)  # of a corpus's clips (default 1; 0 leaves it out)
    shards_until: int = 0  # only shards below this number, as they were when the run began; 0: all
    once: bool = False  # for validation: slot n is the nth clip, so each comes once, and no clip replaces another


@dataclass
class WindowConfig(Settings):
    """How much of a clip an example of motion holds, in frames of 25 Hz."""

    part = "window"

    min_frames: int = setting(24, "the shortest stretch of a clip in an example", unit="frames", at_least=1)
    max_frames: int = setting(250, "the longest", unit="frames")
    source_frames: int = setting(75, "of the other stretch, which shows the person", unit="frames", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_frames <= self.max_frames:
            raise ValueError(
                f"window.min_frames {self.min_frames} must lie between 1 and window.max_frames {self.max_frames}"
            )


class Window(NamedTuple):
    """Frames [start, stop) of the clip in a row of the manifest."""

    row: int
    start: int
    stop: int


class Example(NamedTuple):
    """What a slot holds: the window that it shows, and the source window that comes with it (motion)."""

    window: Window
    source: Window | None = None


def draw(random: np.random.Generator, frames: int, shortest: int, longest: int) -> tuple[int, int]:
    """[start, stop) of a window of `shortest` to `longest` frames in a clip; all of a shorter clip."""
    length = min(int(random.integers(shortest, longest + 1)), frames)
    start = int(random.integers(frames - length + 1))
    return start, start + length


def draw_voice(random: np.random.Generator, stretch: float) -> float:
    """A factor for a voice's frequencies between 1 / (1 + stretch) and 1 + stretch, uniform in its logarithm."""
    return math.exp(math.log1p(stretch) * (2 * random.random() - 1))


class Windows:
    """Slot -> window of `shortest` to `longest` frames of a clip.

    `members` are read of each window. `columns` are the facts of the manifest that decide what an example holds; the
    selection's digest covers them. Where audio is read, clips without speech are left out, and a window lies where the
    clip holds it, by the annotated A/V offset. Raises UserError where no clip has `least_frames`, or the offset is not
    a number.
    """

    members: tuple[str, ...] = ("landmarks",)

    def __init__(
        self,
        manifest: Manifest,
        sampling: SamplingConfig,
        columns: Sequence[str],
        purpose: Purpose,
        shortest: int,
        longest: int,
        least_frames: int = 1,
    ):
        self.manifest, self.sampling, self.purpose = manifest, sampling, purpose
        self.shortest, self.longest = shortest, longest
        self.frames = self.lengths = manifest.column("frames")
        self.offset = None
        if "audio" in self.members and manifest.has(SYNC_OFFSET):
            columns = (*columns, SYNC_OFFSET)
            try:
                self.offset = manifest.column(SYNC_OFFSET).astype(np.float64)
            except (TypeError, ValueError):
                raise UserError(
                    f"{manifest.folder}: {SYNC_OFFSET} holds no numbers; write it again, in frames"
                ) from None
            late = np.where(np.isfinite(self.offset), self.offset, 0)
            self.lengths = self.frames - np.ceil(np.abs(late))
        usable = self.usable(least_frames)
        self.selection = select(
            manifest, sampling.split, columns, sampling.where, sampling.shards_until, sampling.repeats, usable
        )
        self.order = Order(self.selection, sampling.seed, repeats=sampling.repeats)

    def usable(self, least_frames: int) -> np.ndarray:
        """Which rows can be shown: bool (rows,)."""
        enough = self.lengths >= least_frames
        return enough & self.manifest.with_speech() if "audio" in self.members else enough

    def without_speech(self) -> dict[str, int]:
        """How many clips of the split are left out because they teach no speech, by reason."""
        if "audio" not in self.members:
            return {}
        return self.manifest.silent_by_reason(self.manifest.rows(self.sampling.split))

    def __len__(self) -> int:
        return len(self.selection)

    def random(self, slot: int, purpose: Purpose) -> np.random.Generator:
        """Random numbers of a slot for a purpose."""
        return slot_random(self.selection.digest, self.sampling.seed, slot, purpose)

    def row(self, slot: int, attempt: int = 0) -> int:
        """The clip of a slot; with `attempt` 1, 2, ... the clip that replaces one that is damaged."""
        if self.sampling.once:
            return int(self.selection.rows_n[slot])
        return self.order.substitute(slot, attempt) if attempt else self.order.row(slot)

    def whole(self, row: int) -> Window:
        """All frames of a clip; where audio is read, those whose audio the clip holds."""
        frames = int(self.frames[row])
        if self.offset is None:
            return Window(row, 0, frames)
        return Window(row, *reader.audible_frames(frames, self.offset[row]))

    def example(self, slot: int, attempt: int = 0) -> Example:
        """What a slot holds."""
        row, first, last = self.whole(self.row(slot, attempt))
        start, stop = draw(self.random(slot, self.purpose), last - first, self.shortest, self.longest)
        return Example(Window(row, first + start, first + stop))

    def length(self, slot: int) -> int:
        """Frames that a slot shows, those of its source too."""
        return sum(window.stop - window.start for window in self.example(slot) if window is not None)

    def requests(self, example: Example) -> list[ReadRequest]:
        """What is read for an example: its members, then those of its source."""
        windows = [window for window in example if window is not None]
        return [ReadRequest(row, member, start, stop) for row, start, stop in windows for member in self.members]
