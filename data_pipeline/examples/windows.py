"""The windows of every recipe: which frames of which clips a slot holds. No clip is read, torch is not loaded.

So `plan` is quick, and lists the slots of ten million clips in some hundred MB.
Shape suffixes: n selected clips.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_pipeline.examples.settings import RunSettings, window_config
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, Window, WindowConfig, Windows
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from mytalk.command import UserError

MIN_FRAMES, MAX_FRAMES = 24, 75  # of a clip, in an example of the identity encoder
FRAMES = 64  # of a clip, in an example of SyncNet
SORTED_ROWS = 1 << 19  # rows that are sorted at once
LOG_MEL = "mel"  # mytalk.networks.speech_features.MEL, whose module loads torch
PREDICTED = "predicted"  # column of landmarks that a motion model wrote
MIN_SOURCE_FRAMES = 10  # outside the target, in a person's only clip; with fewer the target is shortened


class IdentityWindows(Windows):
    """Slot -> window of a clip, of `min_frames` to `max_frames`: landmarks."""

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, min_frames: int, max_frames: int):
        columns = ("identity", "frames")
        super().__init__(manifest, sampling, columns, Purpose.IDENTITY_WINDOW, min_frames, max_frames)


class SpeechWindows(Windows):
    """Slot -> `frames` of a clip, or all of a shorter one: landmarks and speech, and an added column's `features`."""

    members: tuple[str, ...] = ("landmarks", "audio")

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, frames: int, features: str = ""):
        self.members = _with(features, manifest, self.members)
        super().__init__(manifest, sampling, ("frames",), Purpose.SYNC_WINDOW, frames, frames)


class SourcedWindows(Windows):
    """Slot -> window of a clip, and a source window of the same person.

    The source is drawn from the person's other clips. For a person of one clip it comes from that clip, outside the
    target: from a source that shows the true mouth with its speech, the model would learn to look it up. `features`
    names an added column's member that is read as well. Raises UserError where a person's only clip has one frame.
    """

    members: tuple[str, ...] = ("landmarks", "audio")

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, window: WindowConfig, features: str = ""):
        self.members = _with(features, manifest, self.members)
        columns = ("identity", "frames")
        super().__init__(manifest, sampling, columns, Purpose.WINDOW, window.min_frames, window.max_frames)
        self.source_frames = window.source_frames
        self.person_of, self.people = manifest.codes("identity")
        rows_n = self.selection.rows_n
        person_n = self.person_of[rows_n]
        self._by_person, self._first = grouped(rows_n, person_n, len(self.people))
        only_clips = rows_n[(np.diff(self._first) == 1)[person_n]]
        for row in only_clips[self.lengths[only_clips] < 2]:
            raise UserError(
                f"{manifest.folder}: clip {manifest.at(row, 'key')}, its person's only one in split "
                f"'{sampling.split}', has one frame, which cannot be target and source; extract longer clips, or "
                "leave it out with a filter"
            )

    def rows_of(self, row: int) -> np.ndarray:
        """The selected clips of the person whom a clip shows."""
        person = self.person_of[row]
        return self._by_person[self._first[person] : self._first[person + 1]]

    def first_rows(self) -> list[tuple[str, int]]:
        """The people by name, and the first selected clip of each."""
        people = np.flatnonzero(np.diff(self._first)).tolist()
        return sorted((self.people[person], int(self._by_person[self._first[person]])) for person in people)

    def example(self, slot: int, attempt: int = 0) -> Example:
        target = self.target(super().example(slot, attempt).window)
        return Example(target, self.source(slot, target))

    def target(self, window: Window) -> Window:
        """A window as a target: in a person's only clip it may be shortened, see `shorten_target`."""
        if len(self.rows_of(window.row)) > 1:
            return window
        row, first, last = self.whole(window.row)
        start, stop = shorten_target(window.start - first, window.stop - first, last - first, self.source_frames)
        return Window(row, first + start, first + stop)

    def source(self, slot: int, target: Window) -> Window:
        """The source window of a slot. In a person's only clip it lies on the longer free side of the target."""
        random = self.random(slot, Purpose.SOURCE)
        clips = self.rows_of(target.row)
        others = clips[clips != target.row]
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
        return Window(row, begin, begin + length)


def shorten_target(start: int, stop: int, frames: int, source_frames: int) -> tuple[int, int]:
    """The target [start, stop) of a person's only clip, cut where it leaves too little of the clip for a source.

    Unchanged while MIN_SOURCE_FRAMES are free on its longer side (or all that a source needs: `source_frames`, or a
    third of the clip); else that side grows to what a source needs. Needs two frames.
    """
    needed = min(source_frames, max(1, frames // 3))
    if max(start, frames - stop) >= min(MIN_SOURCE_FRAMES, needed):
        return start, stop
    return (needed, stop) if start >= frames - stop else (start, frames - needed)


def grouped(values_n: np.ndarray, group_n: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Values in the order of their groups, and where each group begins, (groups + 1,). A counting sort.

    Done in pieces, so that ten million values need no more memory than themselves once more.
    """
    pieces = [slice(at, at + SORTED_ROWS) for at in range(0, len(group_n), SORTED_ROWS)]
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


def _with(features: str, manifest: Manifest, members: tuple[str, ...]) -> tuple[str, ...]:
    """The members that are read, with an added column's if one is named; an unknown one is refused with the known."""
    if features:
        manifest.later(features)
        return (*members, features)
    return members


def _features(settings: RunSettings) -> str:
    """The column that the model of a run hears; empty: the sound."""
    features = str(settings.get("model", {}).get("features", LOG_MEL))
    return "" if features == LOG_MEL else features


class FrameWindows(Windows):
    """Slot -> one frame of a clip of two frames or more; all landmarks of the clip are read for it.

    With `predicted` the frame of the column PREDICTED too, and `around` frames on either side. Raises UserError where a
    clip that is selected lacks it.
    """

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, predicted: bool = False, around: int = 0):
        super().__init__(manifest, sampling, ("frames",), Purpose.WINDOW, 1, 1, least_frames=2)
        self.predicted, self.around = predicted, around
        if predicted:
            _refuse_without_predicted(manifest, self.selection.rows_n)

    def usable(self, least_frames: int) -> np.ndarray:
        """Validation leaves out clips without video; training refuses them, and the user filters them out."""
        enough = super().usable(least_frames)
        return enough & (self.manifest.column("video_size") > 0) if self.sampling.once else enough

    def requests(self, example: Example) -> list[ReadRequest]:
        row, start, stop = example.window
        frames = int(self.frames[row])
        near = max(start - self.around, 0), min(stop + self.around, frames)
        predicted = [ReadRequest(row, PREDICTED, *near)] if self.predicted else []
        return [ReadRequest(row, "landmarks", 0, frames), *predicted]


def _refuse_without_predicted(manifest: Manifest, rows_n: np.ndarray) -> None:
    known = PREDICTED in manifest.header.get("members", {})
    lacking = rows_n[manifest.column(f"{PREDICTED}_size")[rows_n] == 0] if known else rows_n
    if len(lacking):
        raise UserError(
            f"{manifest.folder}: {len(lacking)} clips have no predicted landmarks; write them with: python -m "
            f"data_pipeline column {manifest.folder} {PREDICTED} --model FOLDER"
        )


def _identity(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> IdentityWindows:
    """The windows of a training run, for `plan`. Raises UserError for impossible settings."""
    defaults = {"min_frames": MIN_FRAMES, "max_frames": MAX_FRAMES}
    sizes = {name: settings.get(name, default) for name, default in defaults.items()}
    window = window_config(**{**sizes, **settings.sizes})
    return IdentityWindows(manifest, sampling, window.min_frames, window.max_frames)


def _syncnet(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> SpeechWindows:
    """The windows of a training run, for `plan`. Raises UserError for impossible settings and an unknown column."""
    frames = settings.sizes.get("max_frames", settings.get("frames", FRAMES))
    window_config(min_frames=frames, max_frames=frames)
    return SpeechWindows(manifest, sampling, frames, _features(settings))


def _motion(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> SourcedWindows:
    """The windows of a training run, for `plan`. Raises UserError for impossible settings and an unknown column."""
    window = window_config(**{**settings.get("window", {}), **settings.sizes})
    return SourcedWindows(manifest, sampling, window, _features(settings))


def _appearance(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> FrameWindows:
    """The windows of a training run, for `plan`. Raises UserError where a column is missing."""
    around = settings.get("model", {}).get("landmark_frames", 1) // 2
    return FrameWindows(manifest, sampling, settings.get("predicted_landmarks", 0.0) > 0, around)


def _reader(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> FrameWindows:
    """The windows of a training run, for `plan`."""
    return FrameWindows(manifest, sampling)


# Recipe -> the windows of a training run with these settings. `plan` reads it.
PLANNED: dict[str, Callable[[Manifest, SamplingConfig, RunSettings], Windows]] = {
    "identity": _identity,
    "syncnet": _syncnet,
    "motion": _motion,
    "distil": _motion,
    "reader": _reader,
    "appearance": _appearance,
}
